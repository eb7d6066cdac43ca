"""Transmission's RPC (docs/rpc-spec.md): the classic protocol (`result`, `arguments`, `tag`) and the JSON-RPC of 4.1.

What bittern does not have is answered so: with an error that says it, not with a success that is none. All names of
arguments are taken in either spelling, `download-dir` or `download_dir`.
"""

import base64
import binascii
import contextlib
import hmac
import http
import json
import math
import os
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, Final, TypeAlias

import trio
from starlette.requests import Request
from starlette.responses import Response

from bittern.control.access import MAY_STEER
from bittern.control.body import read_body
from bittern.control.files import Files
from bittern.control.folders import Folders
from bittern.control.ports import Daemon
from bittern.control.transmission_fields import BY_SNAKE, FIELDS, OF_FILES, Seen, files_told, snake, snaked
from bittern.control.turns import Turns, is_long, text_of
from bittern.engine.adding import AddResult
from bittern.engine.session import Session
from bittern.engine.torrent import State, Torrent
from bittern.engine.uploads import QUEUE_LIMIT
from bittern.errors import MagnetError, MetainfoError, StorageError
from bittern.proto.metainfo import MAX_METAINFO_BYTES
from bittern.terms import InfoHash

Arguments: TypeAlias = dict[str, Any]
Method: TypeAlias = Callable[[Arguments], Awaitable[Arguments]]

SESSION_HEADER: Final = "X-Transmission-Session-Id"
RPC_VERSION: Final = 18
RPC_VERSION_MINIMUM: Final = 14
RPC_SEMVER: Final = "6.0.0"
BODY_BYTES_AT_MOST: Final = MAX_METAINFO_BYTES * 4 // 3 + 65536
BODY_OF_READERS_BYTES_AT_MOST: Final = 1 << 20
"""Of who may only look, and has no .torrent to bring."""

NAMES_AT_MOST: Final = 1000
NAME_CHARACTERS_AT_MOST: Final = 100
RECENT_S: Final = 60.0
REMOVED_AT_MOST: Final = 10_000
KB: Final = 1000
"""Of Transmission's speeds: it is what it tells us of in `units`."""

READING: Final = frozenset(
    {"torrent_get", "session_get", "session_stats", "free_space", "port_test", "group_get"}
)
ROOM_WORDS: Final = ("KB", "MB", "GB", "TB")

PARSE_ERROR, INVALID_REQUEST, NO_SUCH_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602
FAILED: Final = 4
"""For all that went wrong otherwise."""


class RpcError(Exception):
    """Told to the client."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.code = code


class Rpc:
    """The endpoint `/transmission/rpc`."""

    def __init__(self, session: Session, daemon: Daemon) -> None:
        self._session = session
        self._daemon = daemon
        self._files = Files(session)
        self._folders = Folders()
        self._session_id = secrets.token_hex(24)
        self._began = time.time()
        self._known: set[int] = set()
        self._removed: deque[tuple[float, int]] = deque(maxlen=REMOVED_AT_MOST)
        self._marks: dict[int, tuple[tuple[object, ...], float]] = {}
        """How a torrent looked when it was last asked for as recently active, and since when."""
        self._comparing = trio.Lock()
        self._methods: dict[str, Method] = {
            "torrent_get": self._torrent_get,
            "torrent_add": self._torrent_add,
            "torrent_remove": self._torrent_remove,
            "torrent_start": self._torrent_start,
            "torrent_start_now": self._torrent_start,
            "torrent_stop": self._torrent_stop,
            "torrent_verify": self._torrent_verify,
            "torrent_reannounce": self._torrent_reannounce,
            "torrent_set": self._torrent_set,
            "torrent_set_location": self._refuse("bittern does not move torrents on demand"),
            "torrent_rename_path": self._refuse("bittern does not rename what a torrent names"),
            "queue_move_top": self._queue_move,
            "queue_move_up": self._queue_move,
            "queue_move_down": self._queue_move,
            "queue_move_bottom": self._queue_move,
            "session_get": self._session_get,
            "session_set": self._session_set,
            "session_stats": self._session_stats,
            "session_close": self._refuse("bittern is stopped by whoever started it: systemctl stop bittern"),
            "free_space": self._free_space,
            "port_test": self._refuse("bittern asks no service on the internet whether its port is open"),
            "blocklist_update": self._refuse("bittern has no blocklist"),
            "group_get": self._group_get,
            "group_set": self._refuse("bittern has no bandwidth groups"),
        }

    async def answer(self, request: Request) -> Response:
        """The handler of the route."""
        told = request.headers.get(SESSION_HEADER, "")
        if not hmac.compare_digest(told.encode(), self._session_id.encode()):
            # so that no page of another site can ask: it may not send this header (rpc-spec §2.3.1)
            return Response(
                f"409: send {SESSION_HEADER}: {self._session_id}\n",
                http.HTTPStatus.CONFLICT,
                {SESSION_HEADER: self._session_id},
            )
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

            rows.append(await self._files.work(text) if is_long(row) else text())
        rest = {key: value for key, value in told.items() if key != "torrents"}
        return f'{json.dumps(rest)[:-1]}{", " * bool(rest)}"torrents": [{", ".join(rows)}]}}'

    async def _do(self, method: object, arguments: object, *, may_steer: bool) -> Arguments:
        name = snake(method) if _is_name(method) else ""
        if name not in self._methods:
            raise RpcError("no method name" if not name else "method name not recognized", NO_SUCH_METHOD)
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise RpcError("the arguments are no object", INVALID_PARAMS)
        if len(arguments) > NAMES_AT_MOST or not all(map(_is_name, arguments)):
            raise RpcError("nobody knows arguments so long, or so many", INVALID_PARAMS)
        if name not in READING and not may_steer:
            raise RpcError('this is for looking only: write web.access = "full" to change that')
        try:
            return await self._methods[name]({snake(key): value for key, value in arguments.items()})
        except (MetainfoError, MagnetError, StorageError) as error:
            raise RpcError(str(error)) from error

    @staticmethod
    def _refuse(sentence: str) -> Method:
        async def refuse(arguments: Arguments) -> Arguments:
            raise RpcError(sentence)

        return refuse

    # -- which torrents -------------------------------------------------------------------------------------

    def _meant(self, arguments: Arguments) -> list[Torrent]:
        everyone = self._session.torrents
        ids = arguments.get("ids")
        if ids is None or ids in ([], "recently_active", "recently-active"):
            return list(everyone.values())
        wanted = ids if isinstance(ids, list) else [ids]
        if not all(isinstance(one, int | str) and not isinstance(one, bool) for one in wanted):
            raise RpcError("ids are numbers or info hashes", INVALID_PARAMS)
        numbers = {one for one in wanted if isinstance(one, int)}
        hashes = {one.lower() for one in wanted if isinstance(one, str)}
        if not numbers and len(hashes) < 100:
            found = (everyone.get(_info_hash(one)) for one in hashes)
            return [torrent for torrent in found if torrent is not None]
        return [
            torrent
            for torrent in everyone.values()
            if torrent.record.number in numbers or torrent.info_hash.hex() in hashes
        ]

    async def _recent(self) -> tuple[list[Torrent], list[int]]:
        """Those that changed within a minute or are about something, and the numbers of those that went."""
        async with self._comparing:
            now, turns = trio.current_time(), Turns()
            marks: dict[int, tuple[tuple[object, ...], float]] = {}
            active = []
            for torrent in list(self._session.torrents.values()):
                if not await self._is_ours(torrent, turns):
                    continue
                record = torrent.record
                have = torrent.have.count if torrent.have is not None else 0
                look = (torrent.state, torrent.error, have, record.uploaded_bytes, record.label)
                before, since = self._marks.get(record.number, (None, now))
                marks[record.number] = (look, since if look == before else now)
                if now - marks[record.number][1] < RECENT_S or torrent.info_hash in self._session.swarms.live:
                    active.append(torrent)
            self._removed.extend((now, number) for number in self._marks.keys() - marks.keys())
            while self._removed and now - self._removed[0][0] > RECENT_S:
                self._removed.popleft()
            self._marks = marks
            return active, [number for _, number in self._removed]

    # -- torrents -------------------------------------------------------------------------------------------

    async def _torrent_get(self, arguments: Arguments) -> Arguments:
        wanted = arguments.get("fields")
        if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
            raise RpcError("no fields specified", INVALID_PARAMS)
        # an unknown one is left out: clients ask for what some version has
        names = {
            one: BY_SNAKE[snake(one)]
            for one in wanted[:NAMES_AT_MOST]
            if _is_name(one) and snake(one) in BY_SNAKE
        }
        told: Arguments = {}
        if arguments.get("ids") in ("recently_active", "recently-active"):
            torrents, told["removed"] = await self._recent()
        else:
            torrents = self._meant(arguments)
        rows, turns = [], Turns()
        for torrent in torrents:
            await turns.next()
            files: list[dict[str, Any]] = []
            if not OF_FILES.isdisjoint(names.values()):
                # of a magnet link nobody has told them yet; or its .torrent is gone, and it is in error
                with contextlib.suppress(StorageError):
                    files = await self._files.look(torrent, files_told)
            seen = Seen(self._session, torrent, files)
            rows.append({one: FIELDS[name](seen) for one, name in names.items()})
        if arguments.get("format") == "table":
            told["torrents"] = [list(names), *([row[one] for one in names] for row in rows)] if rows else []
        else:
            told["torrents"] = rows
        return told

    async def _torrent_add(self, arguments: Arguments) -> Arguments:
        named, blob = arguments.get("filename"), b""
        link = named if isinstance(named, str) else ""
        if "metainfo" in arguments:
            try:
                blob = base64.b64decode(arguments["metainfo"], validate=False)
            except (binascii.Error, ValueError, TypeError):
                raise RpcError("metainfo is no base64", INVALID_PARAMS) from None
        elif not link.lower().startswith("magnet:"):
            raise RpcError(
                "bittern takes magnet links, and the .torrent itself as metainfo: let your client read it"
            )
        labels = arguments.get("labels") or [""]
        if not isinstance(labels, list) or not all(_is_label(one) for one in labels) or len(labels) > 1:
            raise RpcError("bittern takes one label, without commas", INVALID_PARAMS)
        self._refuse_unknown(
            {key: value for key, value in arguments.items() if value not in ([], None, 0, "")},
            {"metainfo", "labels", "download_dir", "paused", "cookies", "peer_limit", "filename"},
        )
        folder = await self._folder(arguments.get("download_dir"))
        terms: dict[str, Any] = {
            "downloads": folder,
            "incomplete": self._daemon.incomplete_folder,
            "label": labels[0],
        }
        added = await (self._session.add(blob, **terms) if blob else self._session.add_magnet(link, **terms))
        if arguments.get("paused") is True and added.kind == "added":
            await self._session.pause(added.info_hash)
        key = "torrent-added" if added.kind == "added" else "torrent-duplicate"
        return {key: self._brief(added)}

    def _brief(self, added: AddResult) -> Arguments:
        torrent = self._session.torrents.get(added.info_hash)
        number = torrent.record.number if torrent is not None else 0
        return {"id": number, "name": added.name, "hashString": added.info_hash.hex()}

    async def _folder(self, wanted: object) -> str:
        allowed = self._daemon.data_folders
        if wanted is None or wanted == "":
            return allowed[0]
        folder = await self._folders.within(wanted, allowed) if isinstance(wanted, str) else None
        if folder is None:
            raise RpcError(f"data is put into {' or '.join(allowed)} only", INVALID_PARAMS)
        return folder

    async def _torrent_remove(self, arguments: Arguments) -> Arguments:
        with_data = arguments.get("delete_local_data", False) in (True, 1)
        turns = Turns()
        for torrent in self._named(arguments):
            if not await self._is_ours(torrent, turns):
                continue
            await self._session.remove(torrent.info_hash, reason="asked for", with_data=with_data)
        return {}

    async def _is_ours(self, torrent: Torrent, turns: Turns) -> bool:
        """Still, when it is its turn? Meanwhile somebody may have removed it."""
        await turns.next()
        return self._session.torrents.get(torrent.info_hash) is torrent

    def _named(self, arguments: Arguments) -> list[Torrent]:
        """For what must not happen to all torrents because of a client's slip."""
        if "ids" not in arguments or arguments["ids"] in ([], None):
            raise RpcError("say which torrents: ids", INVALID_PARAMS)
        return self._meant(arguments)

    async def _torrent_start(self, arguments: Arguments) -> Arguments:
        turns = Turns()
        for torrent in self._meant(arguments):
            if not await self._is_ours(torrent, turns):
                continue
            if torrent.record.stopped:
                await self._session.resume(torrent.info_hash)
        return {}

    async def _torrent_stop(self, arguments: Arguments) -> Arguments:
        turns = Turns()
        for torrent in self._meant(arguments):
            if not await self._is_ours(torrent, turns):
                continue
            await self._session.pause(torrent.info_hash)
        return {}

    async def _torrent_verify(self, arguments: Arguments) -> Arguments:
        turns = Turns()
        for torrent in self._meant(arguments):
            if not await self._is_ours(torrent, turns):
                continue
            self._session.recheck(torrent)
        return {}

    async def _torrent_reannounce(self, arguments: Arguments) -> Arguments:
        turns = Turns()
        for torrent in self._meant(arguments):
            if not await self._is_ours(torrent, turns):
                continue
            self._session.reannounce(torrent)
        return {}

    async def _torrent_set(self, arguments: Arguments) -> Arguments:
        """What is as it is anyway may be set so; for the rest bittern has its configuration."""
        harmless: dict[str, tuple[object, ...]] = {
            "bandwidth_priority": (0,),
            "download_limited": (False,),
            "upload_limited": (False,),
            "honors_session_limits": (True,),
            "seed_ratio_mode": (0,),
            "seed_idle_mode": (0,),
            "sequential_download": (False,),
            "files_unwanted": ([],) if self._meant(arguments) else (),
            "group": ("",),
        }
        for key, value in arguments.items():
            if key == "ids" or (key in harmless and value in harmless[key]) or key == "files_wanted":
                continue
            raise RpcError(f"bittern does not set {key} of a single torrent")
        return {}

    async def _queue_move(self, arguments: Arguments) -> Arguments:
        """Nobody waits in a queue: all run at once, so each is at its top and its bottom."""
        self._meant(arguments)
        return {}

    # -- the session ----------------------------------------------------------------------------------------

    async def _session_get(self, arguments: Arguments) -> Arguments:
        everything = self._session_facts()
        wanted = arguments.get("fields")
        if isinstance(wanted, list):
            chosen = {snake(one) for one in wanted if isinstance(one, str)}
            return {key: value for key, value in everything.items() if snake(key) in chosen}
        return everything

    def _session_facts(self) -> Arguments:
        settings = self._session.settings
        down, up = settings.download_rate, settings.upload_rate
        incomplete = self._daemon.incomplete_folder
        return {
            "alt-speed-down": 0,
            "alt-speed-enabled": False,
            "alt-speed-time-begin": 0,
            "alt-speed-time-day": 127,
            "alt-speed-time-enabled": False,
            "alt-speed-time-end": 0,
            "alt-speed-up": 0,
            "blocklist-enabled": False,
            "blocklist-size": 0,
            "blocklist-url": "",
            "cache-size-mb": settings.piece_memory >> 20,
            "config-dir": self._daemon.state_folder,
            "default-trackers": "",
            "dht-enabled": settings.dht,
            "download-dir": self._daemon.data_folders[0],
            "download-dir-free-space": -1,
            "download-queue-enabled": False,
            "download-queue-size": 0,
            "encryption": "tolerated",
            "idle-seeding-limit": 30,
            "idle-seeding-limit-enabled": False,
            "incomplete-dir": incomplete or self._daemon.data_folders[0],
            "incomplete-dir-enabled": bool(incomplete),
            "lpd-enabled": settings.lsd,
            "peer-limit-global": settings.max_peers,
            "peer-limit-per-torrent": settings.max_peers_per_torrent,
            "peer-port": self._daemon.port,
            "peer-port-random-on-start": False,
            "pex-enabled": settings.pex,
            "port-forwarding-enabled": False,
            "queue-stalled-enabled": False,
            "queue-stalled-minutes": 0,
            "rename-partial-files": False,
            "reqq": QUEUE_LIMIT,
            "rpc-version": RPC_VERSION,
            "rpc-version-minimum": RPC_VERSION_MINIMUM,
            "rpc-version-semver": RPC_SEMVER,
            "script-torrent-added-enabled": False,
            "script-torrent-added-filename": "",
            "script-torrent-done-enabled": False,
            "script-torrent-done-filename": "",
            "script-torrent-done-seeding-enabled": False,
            "script-torrent-done-seeding-filename": "",
            "seed-queue-enabled": False,
            "seed-queue-size": 0,
            "seedRatioLimit": 0.0,
            "seedRatioLimited": False,
            "session-id": self._session_id,
            "speed-limit-down": round((down or 0) / KB),
            "speed-limit-down-enabled": down is not None,
            "speed-limit-up": round((up or 0) / KB),
            "speed-limit-up-enabled": up is not None,
            "start-added-torrents": True,
            "tcp-enabled": True,
            "trash-original-torrent-files": False,
            "units": {
                "speed-units": [f"{word}/s" for word in ROOM_WORDS],
                "speed-bytes": KB,
                "size-units": list(ROOM_WORDS),
                "size-bytes": KB,
                "memory-units": ["KiB", "MiB", "GiB", "TiB"],
                "memory-bytes": 1024,
            },
            "utp-enabled": False,
            "version": f"{self._daemon.version} (bittern)",
        }

    async def _session_set(self, arguments: Arguments) -> Arguments:
        """Rate limits hold until the configuration is read again; what is so already may be said."""
        now = {snake(key): value for key, value in self._session_facts().items()}
        rates = dict(now)
        for key, value in arguments.items():
            if key in {"speed_limit_down", "speed_limit_up"}:
                if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 10**9:
                    raise RpcError(f"{key} is a number of KB/s", INVALID_PARAMS)
            elif key in {"speed_limit_down_enabled", "speed_limit_up_enabled"}:
                if not isinstance(value, bool):
                    raise RpcError(f"{key} is true or false", INVALID_PARAMS)
            elif key not in now:
                raise RpcError(f"bittern has no {key}", INVALID_PARAMS)
            elif now[key] != value:
                raise RpcError(f"{key} is set in bittern's configuration file")
            rates[key] = value
        if any(key.startswith("speed_limit") for key in arguments):
            down, up = (
                float(rates[f"speed_limit_{way}"] * KB) or None
                if rates[f"speed_limit_{way}_enabled"]
                else None
                for way in ("down", "up")
            )
            self._session.apply(replace(self._session.settings, download_rate=down, upload_rate=up))
        return {}

    async def _session_stats(self, arguments: Arguments) -> Arguments:
        session = self._session
        counts = session.counts()
        torrents = session.torrents.values()
        seconds = round(time.time() - self._began)
        swarms = session.swarms
        current = {
            "uploadedBytes": swarms.up.total,
            "downloadedBytes": swarms.down.total,
            "filesAdded": 0,
            "sessionCount": 1,
            "secondsActive": seconds,
        }
        cumulative = {
            **current,
            "uploadedBytes": sum(torrent.record.uploaded_bytes for torrent in torrents),
            "downloadedBytes": sum(torrent.record.downloaded_bytes for torrent in torrents),
        }
        return {
            "activeTorrentCount": sum(torrent.reachable for torrent in torrents),
            "pausedTorrentCount": sum(torrent.state is State.STOPPED for torrent in torrents),
            "torrentCount": counts.torrents,
            "downloadSpeed": round(counts.download_rate),
            "uploadSpeed": round(counts.upload_rate),
            "current-stats": current,
            "cumulative-stats": cumulative,
        }

    async def _free_space(self, arguments: Arguments) -> Arguments:
        path = arguments.get("path")
        folder = await self._folder(path)
        try:
            found = await self._folders.ask(lambda: os.statvfs(folder))
        except OSError as error:
            raise RpcError(error.strerror or str(error)) from error
        size = found.f_frsize
        return {
            "path": path or folder,
            "size-bytes": found.f_bavail * size,
            "total_size": found.f_blocks * size,
        }

    async def _group_get(self, arguments: Arguments) -> Arguments:
        return {"group": []}

    @staticmethod
    def _refuse_unknown(arguments: Iterable[str], known: set[str]) -> None:
        for key in arguments:
            if key not in known:
                raise RpcError(f"bittern does not take {key}")


def _is_label(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 255 and "," not in value and value.isprintable()


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= NAME_CHARACTERS_AT_MOST


def _mark(value: object) -> object:
    """By which a client knows its answer again; of JSON's other kinds none can be one."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int | str) else None


def _info_hash(digits: str) -> InfoHash:
    try:
        return InfoHash(bytes.fromhex(digits))
    except ValueError:
        return InfoHash(b"")


def _tagged(told: dict[str, Any], asked: dict[str, Any]) -> dict[str, Any]:
    if "tag" in asked:
        told["tag"] = _mark(asked["tag"])
    return told


def _json(value: Any) -> Response:
    return _text(json.dumps(value))


def _text(text: str) -> Response:
    return Response(text, headers={"Cache-Control": "no-store"}, media_type="application/json")
