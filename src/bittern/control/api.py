"""The native API: JSON over HTTP, below `/api/v1`.

Answers are objects; a refusal is `{"error": {"code", "message"}}` with the status that fits. Torrents are named by
their info hash in hexadecimal digits, or the beginning of it.
"""

import http
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bittern.control.access import MAY_STEER
from bittern.control.body import read_body
from bittern.control.choosing import api_choice
from bittern.control.explaining import explain_view, limits_view
from bittern.control.files import Files
from bittern.control.folders import Folders
from bittern.control.metrics import CONTENT_TYPE, Metrics
from bittern.control.page import page_routes
from bittern.control.ports import Daemon
from bittern.control.selection import SelectionError, one, select
from bittern.control.sse import SILENT, EventStream, message
from bittern.control.stream import Stream
from bittern.control.tracker_changes import TRACKERS_AT_MOST_BYTES, tracker_change
from bittern.control.transmission import Rpc
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
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent
from bittern.errors import FileSelectionError, MagnetError, MetainfoError, StorageError, TrackerListError
from bittern.policy.labels import as_text, checked
from bittern.proto.metainfo import MAX_METAINFO_BYTES
from bittern.terms import InfoHash

SILENCE_S: Final = 15.0
"""A stream without news says that it lives, so that one whose reader is gone is noticed."""

MAGNET: Final = b"magnet:"

BEAT_LATE_S: Final = 10.0
"""The engine beats once a second."""

LABELS_BYTES_AT_MOST: Final = 64 * 1024
LIMITS_BYTES_AT_MOST: Final = 4096


CHOICE_AT_MOST_BYTES: Final = 1024 * 1024


class Refused(Exception):
    """Answered with a status and one line."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Api:
    """The handlers, and what they look at."""

    def __init__(self, session: Session, daemon: Daemon, stream: Stream) -> None:
        self._session = session
        self._daemon = daemon
        self._stream = stream
        self._file_work = Files(session)
        self._looks = Looks(session)
        self._folders = Folders()
        self._metrics = Metrics(session, daemon, stream)

    def app(self) -> Starlette:
        """The ASGI application."""
        rpc = Rpc(self._session, self._daemon).answer
        routes = [
            Route("/healthz", self._health),
            Route("/readyz", self._ready),
            Route("/metrics", self._show_metrics),
            Route("/api/v1/session", self._show_session),
            Route("/api/v1/torrents", self._list),
            Route("/api/v1/torrents", self._add, methods=["POST"]),
            Route("/api/v1/torrents/{torrent}", self._show),
            Route("/api/v1/torrents/{torrent}", self._remove, methods=["DELETE"]),
            Route("/api/v1/torrents/{torrent}/files", self._files),
            Route("/api/v1/torrents/{torrent}/files", self._choose, methods=["PATCH"]),
            Route("/api/v1/torrents/{torrent}/peers", self._peers),
            Route("/api/v1/torrents/{torrent}/trackers", self._trackers),
            Route("/api/v1/torrents/{torrent}/trackers", self._retier, methods=["PATCH"]),
            Route("/api/v1/torrents/{torrent}/recheck", self._recheck, methods=["POST"]),
            Route("/api/v1/torrents/{torrent}/reannounce", self._reannounce, methods=["POST"]),
            Route("/api/v1/torrents/{torrent}/pause", self._pause, methods=["POST"]),
            Route("/api/v1/torrents/{torrent}/resume", self._resume, methods=["POST"]),
            Route("/api/v1/torrents/{torrent}/limits", self._limits),
            Route("/api/v1/torrents/{torrent}/limits", self._limit, methods=["PATCH"]),
            Route("/api/v1/torrents/{torrent}/labels", self._set_labels, methods=["PUT"]),
            Route("/api/v1/torrents/{torrent}/explain", self._explain),
            Route("/api/v1/torrents/{torrent}/move", self._move, methods=["POST"]),
            Route("/api/v1/events", self._events),
            Route("/api/v1/updates", self._updates),
            *page_routes(),
            # transmission-remote asks with a slash behind it, others without
            Route("/transmission/rpc", rpc, methods=["GET", "POST"]),
            Route("/transmission/rpc/", rpc, methods=["GET", "POST"]),
        ]
        return Starlette(
            routes=routes,
            exception_handlers={Refused: _refusal, HTTPException: _http_refusal, Exception: _bug},
        )

    # -- looking --------------------------------------------------------------------------------------------

    async def _health(self, request: Request) -> Response:
        return _answer({"alive": True})

    async def _ready(self, request: Request) -> Response:
        age = trio.current_time() - self._session.heartbeat.last_beat_at
        if age > BEAT_LATE_S:
            raise Refused(
                http.HTTPStatus.SERVICE_UNAVAILABLE, "late", f"the engine's last beat was {age:.0f} s ago"
            )
        return _answer({"ready": True})

    async def _show_metrics(self, request: Request) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)

    async def _show_session(self, request: Request) -> Response:
        daemon = self._daemon
        return _answer(
            {
                "version": daemon.version,
                "port": daemon.port,
                "state_folder": daemon.state_folder,
                "downloads": daemon.data_folders[0],
                "limits": dict(daemon.limits()),
                "overrides": sorted(daemon.overrides()),
                **session_view(self._session),
            }
        )

    async def _list(self, request: Request) -> Response:
        fields = _fields(request)
        chosen = await self._select(request.query_params.getlist("select"))
        texts, turns = [], Turns()
        for torrent in chosen:
            await turns.next()
            texts.append(json.dumps(torrent_view(self._session, torrent, fields)))
        return _json(f'{{"torrents": [{", ".join(texts)}]}}')

    async def _show(self, request: Request) -> Response:
        return _answer(torrent_view(self._session, self._one(request)))

    async def _files(self, request: Request) -> Response:
        torrent = self._one(request)
        try:
            text = await self._file_work.look(
                torrent,
                lambda opened, have, complete: text_of(
                    {"files": file_views(opened, have, complete=complete)}
                ),
            )
        except StorageError as error:
            raise Refused(http.HTTPStatus.CONFLICT, "no-files", str(error)) from error
        return _json(text)

    async def _peers(self, request: Request) -> Response:
        return _answer({"peers": peer_views(self._session, self._one(request))})

    async def _trackers(self, request: Request) -> Response:
        return _answer({"trackers": tracker_views(self._one(request))})

    async def _limits(self, request: Request) -> Response:
        return _answer(limits_view(self._one(request)))

    async def _explain(self, request: Request) -> Response:
        return _answer(explain_view(self._session, self._one(request)))

    async def _events(self, request: Request) -> Response:
        self._need_room()
        return _Told(self._stream)

    async def _updates(self, request: Request) -> Response:
        self._need_room()
        if self._looks.readers >= READERS_AT_MOST:
            raise Refused(http.HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many pages are open; close some")
        return Updates(self._session, self._looks, self._stream, may_steer=request.scope.get(MAY_STEER, True))

    def _need_room(self) -> None:
        if self._stream.full:
            raise Refused(http.HTTPStatus.SERVICE_UNAVAILABLE, "busy", "too many listen already; close some")

    # -- steering -------------------------------------------------------------------------------------------

    async def _add(self, request: Request) -> Response:
        label = as_text(_labels([one for one in request.query_params.getlist("label") if one]))
        folder = await self._folder(request.query_params.get("downloads", ""))
        blob = await _body(request, MAX_METAINFO_BYTES)
        terms: dict[str, Any] = {
            "downloads": folder,
            "incomplete": self._daemon.incomplete_folder,
            "label": label,
            "sequential": _flag(request, "sequential"),
        }
        try:
            asked = request.query_params
            terms["selection"] = api_choice(
                {key: asked.getlist(key) for key in ("only", "skip") if key in asked}
            )
            if blob[: len(MAGNET)].lower() == MAGNET:
                added = await self._session.add_magnet(blob.decode("utf-8", "replace"), **terms)
            else:
                added = await self._session.add(blob, **terms)
        except (MetainfoError, MagnetError) as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-torrent", str(error)) from error
        except FileSelectionError as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-selection", str(error)) from error
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error)) from error
        status = http.HTTPStatus.CREATED if added.kind == "added" else http.HTTPStatus.OK
        told = {"info_hash": added.info_hash.hex(), "name": added.name, "result": added.kind}
        return _answer(told, status)

    async def _choose(self, request: Request) -> Response:
        """Which files are wanted, and how soon."""
        torrent = self._one(request)
        try:
            told = json.loads(await _body(request, CHOICE_AT_MOST_BYTES))
            if not isinstance(told, dict) or not isinstance(told.get("sequential", False), bool):
                raise FileSelectionError("a JSON object with lists of files by what is to become of them")
            sequential = told.pop("sequential", None)
            await self._session.select(torrent.info_hash, api_choice(told), sequential=sequential)
        except (FileSelectionError, ValueError, RecursionError) as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-selection", str(error)) from error
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error)) from error
        return _answer(torrent_view(self._session, torrent, ("info_hash", "name", "state")))

    async def _folder(self, wanted: str) -> str:
        """Only folders of the configuration, and what lies in them: others are the administrator's to name."""
        allowed = self._daemon.data_folders
        folder = await self._folders.within(wanted, allowed) if wanted else allowed[0]
        if folder is None:
            raise Refused(
                http.HTTPStatus.FORBIDDEN,
                "foreign-folder",
                f"downloads must lie in {' or '.join(allowed)}",
            )
        return folder

    async def _remove(self, request: Request) -> Response:
        torrent = self._one(request)
        try:
            await self._session.remove(
                torrent.info_hash, reason="asked for", with_data=_flag(request, "data")
            )
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error)) from error
        return _answer({"info_hash": torrent.info_hash.hex(), "name": torrent.record.name})

    async def _recheck(self, request: Request) -> Response:
        torrent = self._one(request)
        if not self._session.recheck(torrent):
            raise Refused(
                http.HTTPStatus.CONFLICT,
                "not-now",
                "its files are being moved, or not known yet; try again later",
            )
        return _answer(torrent_view(self._session, torrent, ("info_hash", "name", "state")))

    async def _reannounce(self, request: Request) -> Response:
        torrent = self._one(request)
        self._session.reannounce(torrent)
        return _answer(torrent_view(self._session, torrent, ("info_hash", "name", "state")))

    async def _pause(self, request: Request) -> Response:
        return await self._lasting(self._one(request), self._session.pause)

    async def _resume(self, request: Request) -> Response:
        return await self._lasting(self._one(request), self._session.resume)

    async def _move(self, request: Request) -> Response:
        torrent = self._one(request)
        wanted = request.query_params.get("folder", "")
        if not wanted.startswith("/"):
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-folder", "folder is an absolute path")
        folder = await self._folder(wanted)
        try:
            await self._session.move(torrent.info_hash, folder, only_look=_flag(request, "look"))
        except StorageError as error:
            raise Refused(http.HTTPStatus.CONFLICT, "not-moved", str(error)) from error
        return _answer(torrent_view(self._session, torrent, ("info_hash", "name", "state", "moving_to")))

    async def _limit(self, request: Request) -> Response:
        """Some of the fields, each with its new value."""
        torrent = self._one(request)
        try:
            changes = json.loads(await _body(request, LIMITS_BYTES_AT_MOST))
        except (ValueError, RecursionError):
            changes = None
        if not isinstance(changes, dict):
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-limits", "the body is a JSON object of limits")
        try:
            await self._session.limit(torrent.info_hash, **changes)
        except ValueError as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-limits", str(error)) from error
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error)) from error
        return _answer(limits_view(torrent))

    async def _retier(self, request: Request) -> Response:
        """Other trackers: all of them anew (`tiers`), or some more or fewer (`add`, `remove`)."""
        torrent = self._one(request)
        try:
            change = tracker_change(await _body(request, TRACKERS_AT_MOST_BYTES))
            await self._session.set_trackers(torrent.info_hash, change)
        except TrackerListError as error:
            raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-trackers", str(error)) from error
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error)) from error
        return _answer({"trackers": tracker_views(torrent)})

    async def _set_labels(self, request: Request) -> Response:
        torrent = self._one(request)
        try:
            labels = _labels(json.loads(await _body(request, LABELS_BYTES_AT_MOST)))
            await self._session.set_labels(torrent.info_hash, labels)
        except (ValueError, RecursionError) as error:
            raise Refused(
                http.HTTPStatus.BAD_REQUEST, "bad-label", "the body is a JSON list of labels"
            ) from error
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error)) from error
        return _answer(torrent_view(self._session, torrent, ("info_hash", "name", "labels")))

    async def _lasting(self, torrent: Torrent, change: Callable[[InfoHash], Awaitable[object]]) -> Response:
        """What holds after a restart too, from when it is answered."""
        try:
            await change(torrent.info_hash)
        except StorageError as error:
            raise Refused(http.HTTPStatus.INSUFFICIENT_STORAGE, "not-stored", str(error)) from error
        return _answer(torrent_view(self._session, torrent, ("info_hash", "name", "state")))

    # -- who is meant ---------------------------------------------------------------------------------------

    def _one(self, request: Request) -> Torrent:
        try:
            return one(self._session.torrents.values(), request.path_params["torrent"])
        except SelectionError as error:
            raise Refused(http.HTTPStatus.NOT_FOUND, "no-torrent", str(error)) from error

    async def _select(self, patterns: list[str]) -> list[Torrent]:
        everyone = self._session.torrents.values()
        try:
            return await select(everyone, patterns) if patterns else list(everyone)
        except SelectionError as error:
            raise Refused(http.HTTPStatus.NOT_FOUND, "no-torrent", str(error)) from error


def _labels(said: object) -> tuple[str, ...]:
    try:
        return checked(said)
    except ValueError as error:
        raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-label", str(error)) from error


def _flag(request: Request, name: str) -> bool:
    written = request.query_params.get(name, "false")
    if written not in {"true", "false"}:
        raise Refused(http.HTTPStatus.BAD_REQUEST, "bad-flag", f"{name} is true or false")
    return written == "true"


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


async def _body(request: Request, at_most: int) -> bytes:
    body = await read_body(request, at_most)
    if body is None:
        status = http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        raise Refused(status, "too-large", f"more than {at_most} bytes")
    return body


def _answer(value: Any, status: int = http.HTTPStatus.OK) -> Response:
    return _json(json.dumps(value), status)


def _json(text: str, status: int = http.HTTPStatus.OK) -> Response:
    # escapes carry names that are not UTF-8, so the text is ASCII
    return Response(text, status, {"Cache-Control": "no-store"}, media_type="application/json")


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


async def _refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _answer({"error": {"code": error.code, "message": str(error)}}, error.status)


async def _http_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = http.HTTPStatus(error.status_code)
    response = _answer({"error": {"code": code.name.lower().replace("_", "-"), "message": code.phrase}}, code)
    response.headers.update(error.headers or {})
    return response


async def _bug(request: Request, error: Exception) -> Response:
    """The server tells of it as well."""
    message = "a bug in bittern: its log says more"
    return _answer({"error": {"code": "bug", "message": message}}, http.HTTPStatus.INTERNAL_SERVER_ERROR)
