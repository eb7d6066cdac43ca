"""Transmission's RPC (docs/rpc-spec.md): the classic protocol (`result`, `arguments`, `tag`) and the JSON-RPC of 4.1.

What bittern does not have is answered so: with an error that says it, not with a success that is none. All names of
arguments are taken in either spelling, `download-dir` or `download_dir`.
"""

import hmac
import http
import json
import math
import secrets
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from bittern.control.access import MAY_STEER
from bittern.control.body import read_body
from bittern.control.files import Files
from bittern.control.ports import Daemon
from bittern.control.transmission_fields import snake, snaked
from bittern.control.transmission_folders import RpcFolders
from bittern.control.transmission_session import RPC_SEMVER, SessionCalls
from bittern.control.transmission_torrents import TorrentCalls
from bittern.control.transmission_words import INVALID_PARAMS, NO_SUCH_METHOD, Arguments, RpcError, is_name
from bittern.control.turns import Turns, is_long, text_of
from bittern.engine.session import Session
from bittern.errors import FileSelectionError, MagnetError, MetainfoError, StorageError, TrackerListError
from bittern.proto.metainfo import MAX_METAINFO_BYTES

SESSION_HEADER: Final = "X-Transmission-Session-Id"
VERSION_HEADER: Final = "X-Transmission-Rpc-Version"
"""By this clients of 4.1 know that they may speak JSON-RPC."""

BODY_BYTES_AT_MOST: Final = MAX_METAINFO_BYTES * 4 // 3 + 65536
BODY_OF_READERS_BYTES_AT_MOST: Final = 1 << 20
"""Of who may only look, and has no .torrent to bring."""

ARGUMENTS_AT_MOST: Final = 1000

READING: Final = frozenset(
    {"torrent_get", "session_get", "session_stats", "free_space", "port_test", "group_get"}
)


class Rpc:
    """The endpoint `/transmission/rpc`."""

    def __init__(self, session: Session, daemon: Daemon) -> None:
        self._session_id = secrets.token_hex(24)
        self._files = Files(session)
        folders = RpcFolders(daemon)
        torrents = TorrentCalls(session, daemon, self._files, folders)
        self._of_readers = {"torrent_get": torrents.get_discreetly}
        self._methods = {
            **torrents.methods(),
            **SessionCalls(session, daemon, folders, self._session_id).methods(),
        }

    async def answer(self, request: Request) -> Response:
        """The handler of the route."""
        told = request.headers.get(SESSION_HEADER, "")
        if not hmac.compare_digest(told.encode(), self._session_id.encode()):
            # so that no page of another site can ask: it may not send this header (rpc-spec §2.3.1)
            return Response(
                f"409: send {SESSION_HEADER}: {self._session_id}\n",
                http.HTTPStatus.CONFLICT,
                {SESSION_HEADER: self._session_id, VERSION_HEADER: RPC_SEMVER},
            )
        if request.method != "POST":
            # Sonarr and Radarr come so for their session id, and get it above
            return Response("POST your question\n", http.HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "POST"})
        may_steer = request.scope.get(MAY_STEER, True)
        body = await read_body(request, BODY_BYTES_AT_MOST if may_steer else BODY_OF_READERS_BYTES_AT_MOST)
        return await self._answer(body, may_steer=may_steer)

    async def _answer(self, body: bytes | None, *, may_steer: bool) -> Response:
        try:
            asked = json.loads(body) if body is not None else None
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            return _json({"result": "no JSON object, or too large a one", "arguments": {}})
        modern = asked.get("jsonrpc") == "2.0"
        method, arguments = asked.get("method"), asked.get("params" if modern else "arguments")
        try:
            told = await self._do(method, arguments, may_steer=may_steer)
        except RpcError as error:
            if modern:
                failure = {"code": error.code, "message": str(error), "data": {"error_string": str(error)}}
                return _json({"jsonrpc": "2.0", "error": failure, "id": _mark(asked.get("id"))})
            return _json(_tagged({"result": str(error), "arguments": {}}, asked))
        if modern:
            if "id" not in asked:
                return Response(status_code=http.HTTPStatus.NO_CONTENT)
            text = await self._told(told, modern=True)
            return _text(f'{{"jsonrpc": "2.0", "result": {text}, "id": {json.dumps(_mark(asked["id"]))}}}')
        rest = json.dumps(_tagged({"result": "success"}, asked))
        return _text(f'{rest[:-1]}, "arguments": {await self._told(told, modern=False)}}}')

    async def _told(self, told: Arguments, *, modern: bool) -> str:
        """As JSON; a list of torrents one by one."""
        if "torrents" not in told:
            return json.dumps(snaked(told) if modern else told)
        rows, turns = [], Turns()
        for row in told["torrents"]:
            await turns.next()

            def text(row: Any = row) -> str:
                return text_of(snaked(row) if modern else row)

            # of a short one the encoder makes a text in one go, in a third of the time
            short = not is_long(row)
            rows.append(json.dumps(snaked(row) if modern else row) if short else await self._files.work(text))
        rest = {key: value for key, value in told.items() if key != "torrents"}
        return f'{json.dumps(rest)[:-1]}{", " * bool(rest)}"torrents": [{", ".join(rows)}]}}'

    async def _do(self, method: object, arguments: object, *, may_steer: bool) -> Arguments:
        name = snake(method) if is_name(method) else ""
        if name not in self._methods:
            raise RpcError("no method name" if not name else "method name not recognized", NO_SUCH_METHOD)
        if arguments is None or (name in READING and isinstance(arguments, int)):
            # tremc sends a number along where it has nothing to say
            arguments = {}
        if not isinstance(arguments, dict):
            raise RpcError("the arguments are no object", INVALID_PARAMS)
        if len(arguments) > ARGUMENTS_AT_MOST or not all(map(is_name, arguments)):
            raise RpcError("nobody knows arguments so long, or so many", INVALID_PARAMS)
        if name not in READING and not may_steer:
            raise RpcError('this is for looking only: write web.access = "full" to change that')
        methods = self._methods if may_steer else self._methods | self._of_readers
        try:
            return await methods[name]({snake(key): value for key, value in arguments.items()})
        except (FileSelectionError, MetainfoError, MagnetError, StorageError, TrackerListError) as error:
            raise RpcError(str(error)) from error


def _mark(value: object) -> object:
    """By which a client knows its answer again; of JSON's other kinds none can be one."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | str) else None


def _tagged(told: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    if "tag" in asked:
        told["tag"] = _mark(asked["tag"])
    return told


def _json(value: Any) -> Response:
    return _text(json.dumps(value))


def _text(text: str) -> Response:
    return Response(text, headers={"Cache-Control": "no-store"}, media_type="application/json")
