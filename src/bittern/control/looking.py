"""The native API's answers to whoever only looks."""

import http
import json
from typing import Final

import trio
from starlette.requests import Request
from starlette.responses import Response

from bittern.control.access import MAY_STEER
from bittern.control.answers import Refused, answer, json_answer
from bittern.control.explaining import explain_view, limits_view
from bittern.control.files import Files
from bittern.control.meant import meant, several
from bittern.control.metrics import CONTENT_TYPE, Metrics
from bittern.control.pieces import pieces_view
from bittern.control.ports import Daemon
from bittern.control.sse import SILENT, EventStream, message
from bittern.control.stream import Stream
from bittern.control.turns import Turns, text_of
from bittern.control.updates import READERS_AT_MOST, Looks, Updates
from bittern.control.views import (
    FIELDS,
    LISTED,
    file_views,
    peer_views,
    session_view,
    torrent_view,
    tracker_views,
)
from bittern.control.volumes import volume_views
from bittern.engine.session import Session
from bittern.errors import StorageError

SILENCE_S: Final = 15.0
"""A stream without news says that it lives, so that one whose reader is gone is noticed."""

BEAT_LATE_S: Final = 10.0
"""The engine beats once a second."""


class Looking:
    """The handlers, and what they look at."""

    def __init__(self, session: Session, daemon: Daemon, stream: Stream) -> None:
        self._session = session
        self._daemon = daemon
        self._stream = stream
        self._file_work = Files(session)
        self._looks = Looks(session, lambda: daemon.data_folders)
        self._metrics = Metrics(session, daemon, stream)

    async def health(self, request: Request) -> Response:
        """Does the process live?"""
        return answer({"alive": True})

    async def ready(self, request: Request) -> Response:
        """Does the engine beat?"""
        age = trio.current_time() - self._session.heartbeat.last_beat_at
        if age > BEAT_LATE_S:
            raise Refused(
                http.HTTPStatus.SERVICE_UNAVAILABLE, "late", f"the engine's last beat was {age:.0f} s ago"
            )
        return answer({"ready": True})

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def session(self, request: Request) -> Response:
        """The daemon, and all torrents together."""
        daemon = self._daemon
        return answer(
            {
                "version": daemon.version,
                "port": daemon.port,
                "state_folder": daemon.state_folder,
                "downloads": daemon.data_folders[0],
                "folders": list(daemon.data_folders),
                "volumes": volume_views(self._session, daemon.data_folders),
                "limits": dict(daemon.limits()),
                "overrides": sorted(daemon.overrides()),
                **session_view(self._session),
            }
        )

    async def list_torrents(self, request: Request) -> Response:
        """Torrents: all, or those that are picked out."""
        fields, passkeys = _fields(request), _may_steer(request)
        chosen = await several(self._session, request.query_params.getlist("select"))
        texts, turns = [], Turns()
        for torrent in chosen:
            await turns.next()
            texts.append(json.dumps(torrent_view(self._session, torrent, fields, passkeys=passkeys)))
        return json_answer(f'{{"torrents": [{", ".join(texts)}]}}')

    async def show(self, request: Request) -> Response:
        """Everything of one torrent."""
        torrent = meant(self._session, request)
        return answer(torrent_view(self._session, torrent, passkeys=_may_steer(request)))

    async def files(self, request: Request) -> Response:
        """Its files, and what of each is there."""
        torrent = meant(self._session, request)
        try:
            text = await self._file_work.look(
                torrent,
                lambda opened, have, complete: text_of(
                    {"files": file_views(opened, have, complete=complete)}
                ),
            )
        except StorageError as error:
            raise Refused(http.HTTPStatus.CONFLICT, "no-files", str(error)) from error
        return json_answer(text)

    async def peers(self, request: Request) -> Response:
        """Who is connected for it."""
        return answer({"peers": peer_views(self._session, meant(self._session, request))})

    async def trackers(self, request: Request) -> Response:
        """Its trackers, and how it stands with each. Their whole URLs, with passkeys, are for who may steer."""
        torrent = meant(self._session, request)
        return answer({"trackers": tracker_views(torrent, passkeys=_may_steer(request))})

    async def pieces(self, request: Request) -> Response:
        """Its pieces: which are there, and how many peers have each."""
        return answer(pieces_view(self._session, meant(self._session, request)))

    async def limits(self, request: Request) -> Response:
        """Its own limits."""
        return answer(limits_view(meant(self._session, request)))

    async def explain(self, request: Request) -> Response:
        """Why it does what it does."""
        return answer(explain_view(self._session, meant(self._session, request)))

    async def events(self, request: Request) -> Response:
        """What happens, as it happens: server-sent events, an object each, named by `event`."""
        self._need_room()
        return _Told(self._stream)

    async def updates(self, request: Request) -> Response:
        """What the page is fed, as server-sent events: all torrents once, then those that change."""
        self._need_room()
        if self._looks.readers >= READERS_AT_MOST:
            raise Refused(http.HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many pages are open; close some")
        return Updates(self._session, self._looks, self._stream, may_steer=_may_steer(request))

    def _need_room(self) -> None:
        if self._stream.full:
            raise Refused(http.HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many listen already; close some")


def _may_steer(request: Request) -> bool:
    return bool(request.scope.get(MAY_STEER, True))


def _fields(request: Request) -> tuple[str, ...]:
    wanted = request.query_params.get("fields")
    if wanted is None:
        return LISTED
    fields = tuple(dict.fromkeys(wanted.split(",")))
    unknown = [field for field in fields if field not in FIELDS]
    if unknown:
        raise Refused(
            http.HTTPStatus.BAD_REQUEST,
            "bad-field",
            f"no field {unknown[0]!r}; there are {', '.join(FIELDS)}",
        )
    return fields


class _Told(EventStream):
    """What happens, to one listener."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self._stream = stream

    async def tell(self) -> None:
        with self._stream.listening() as listener:
            await self.say(b": listening\n\n")
            while True:
                told = await listener.hear(SILENCE_S)
                await self.say(b"".join(map(message, told)) or SILENT)
