"""Which torrents a request of the native API means."""

import http
from collections.abc import Sequence

from starlette.requests import Request

from bittern.control.answers import Refused
from bittern.control.selection import SelectionError, one, select
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent


def meant(session: Session, request: Request) -> Torrent:
    """That of its path."""
    try:
        return one(session.torrents.values(), request.path_params["torrent"])
    except SelectionError as error:
        raise Refused(http.HTTPStatus.NOT_FOUND, "no-torrent", str(error)) from error


async def several(session: Session, patterns: Sequence[str]) -> list[Torrent]:
    """Those whom the patterns pick out; all without any."""
    everyone = session.torrents.values()
    try:
        return await select(everyone, patterns) if patterns else list(everyone)
    except SelectionError as error:
        raise Refused(http.HTTPStatus.NOT_FOUND, "no-torrent", str(error)) from error
