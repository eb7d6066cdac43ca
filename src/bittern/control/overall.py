"""Endpoints about all torrents together: their limits, their queue, what became of hooks, and what happened lately."""

import http
import json
from collections.abc import Mapping
from typing import Any, Final, cast, get_args

from starlette.requests import Request
from starlette.responses import Response

from bittern.control.access import MAY_STEER
from bittern.control.answers import Refused, answer, json_answer, whole_body
from bittern.control.common_limits import common_changes
from bittern.control.ports import Daemon
from bittern.control.selection import HASH_DIGITS
from bittern.control.stream import Stream
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent
from bittern.errors import StorageError
from bittern.policy.ordering import MOVED_AT_MOST, Step
from bittern.terms import InfoHash

BODY_BYTES_AT_MOST: Final = 16 * 1024
STEPS: Final = get_args(Step)
DELIVERY_STATES: Final = ("pending", "done", "dead")
DELIVERIES: Final = 100
DELIVERIES_AT_MOST: Final = 1000


class Overall:
    """The handlers."""

    def __init__(self, session: Session, daemon: Daemon, stream: Stream) -> None:
        self._session = session
        self._daemon = daemon
        self._stream = stream

    async def limits(self, request: Request) -> Response:
        """Limits for all torrents, and which of them the configuration does not say."""
        return self._limits()

    async def limit(self, request: Request) -> Response:
        """Sets limits for all torrents: they hold at once, and over restarts."""
        try:
            changes = common_changes(await _table(request, "limits"))
        except ValueError as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-limits", str(error)) from error
        try:
            await self._daemon.set_limits(changes)
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error)) from error
        return self._limits()

    async def line_up(self, request: Request) -> Response:
        """Moves torrents in the queue, together."""
        told = await _table(request, "torrents and where they go")
        hashes, step = told.get("torrents"), told.get("to")
        if told.keys() - {"torrents", "to"} or not isinstance(hashes, list) or step not in STEPS:
            raise Refused(
                http.HTTPStatus.BAD_REQUEST,
                "bad-queue",
                f"torrents is a list of info hashes, and to is {', '.join(STEPS)}",
            )
        if len(hashes) > MOVED_AT_MOST:
            message = f"at most {MOVED_AT_MOST} torrents are moved at once"
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-queue", message)
        chosen = _named(self._session, hashes)
        try:
            await self._session.queue.step(chosen, cast("Step", step))
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error)) from error
        places = {one.info_hash.hex(): self._session.queue.place(one) for one in chosen}
        return answer({"places": places})

    async def deliveries(self, request: Request) -> Response:
        """Calls of hooks, the newest first. What they were given and what they printed is for who may steer."""
        state = request.query_params.get("state")
        if state is not None and state not in DELIVERY_STATES:
            message = f"state is one of {', '.join(DELIVERY_STATES)}"
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-state", message)
        written = request.query_params.get("limit", str(DELIVERIES))
        # as many digits as it may have, and ASCII ones
        if not written.isdecimal() or len(written) > 4 or not 0 <= int(written) <= DELIVERIES_AT_MOST:
            message = f"limit is a number from 0 to {DELIVERIES_AT_MOST}"
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-limit", message)
        try:
            found = await self._daemon.deliveries(state, int(written))
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-read", str(error)) from error
        full = request.scope.get(MAY_STEER, True)
        shown = [one if full else _discreet(one) for one in found.newest]
        return answer({"counts": dict(found.counts), "deliveries": shown})

    async def replay(self, request: Request) -> Response:
        """Tells a delivery that is over once more, within seconds."""
        delivery_id = request.path_params["delivery"]
        try:
            asked = await self._daemon.replay(delivery_id)
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error)) from error
        if asked is None:
            raise Refused(http.HTTPStatus.NOT_FOUND, "no-delivery", "there is no delivery of that id")
        if not asked:
            message = "it is pending, and will be told by itself"
            raise Refused(http.HTTPStatus.CONFLICT, "pending", message)
        return answer({"id": delivery_id})

    async def log(self, request: Request) -> Response:
        """What happened lately, the oldest first: a thousand events at most, since the daemon started."""
        of = request.query_params.get("torrent", "").lower()
        if len(of) > HASH_DIGITS:
            raise Refused(
                http.HTTPStatus.BAD_REQUEST, "bad-parameter", f"an info hash has {HASH_DIGITS} digits"
            )
        told = (
            one
            for one in self._stream.recent
            if not of or ("info_hash" in one and str(one["info_hash"]).startswith(of))
        )
        return json_answer(f'{{"events": [{", ".join(map(json.dumps, told))}]}}')

    def _limits(self) -> Response:
        daemon = self._daemon
        return answer({"limits": dict(daemon.limits()), "overrides": sorted(daemon.overrides())})


def _named(session: Session, hashes: list[Any]) -> list[Torrent]:
    """Each once."""
    found: dict[Torrent, None] = {}
    for digits in hashes:
        try:
            found[session.torrents[InfoHash(bytes.fromhex(digits))]] = None
        except (ValueError, TypeError, KeyError):
            message = "of the info hashes one is no torrent's"
            raise Refused(http.HTTPStatus.NOT_FOUND, "no-torrent", message) from None
    return list(found)


async def _table(request: Request, of: str) -> Mapping[str, Any]:
    try:
        told = json.loads(await whole_body(request, BODY_BYTES_AT_MOST))
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-body", f"the body is a JSON object of {of}")
    return told


def _discreet(delivery: Mapping[str, Any]) -> dict[str, Any]:
    """Without what may be secret: arguments may hold tokens, and a program prints what it likes."""
    hooks = [
        {**hook, "target": hook["target"].partition(" ")[0], "command": hook["command"][:1], "output": ""}
        for hook in delivery["hooks"]
    ]
    return {**delivery, "hooks": hooks}
