"""The `torrent-*` and `queue-*` calls of Transmission's RPC."""

import base64
import binascii
import contextlib
from collections import deque
from typing import Any, Final

import trio

from bittern.control.choosing import RPC_LISTS, of_listed, rpc_choice
from bittern.control.files import Files
from bittern.control.ports import Daemon
from bittern.control.transmission_fields import BY_SNAKE, FIELDS, OF_FILES, Seen, files_told, snake
from bittern.control.transmission_folders import RpcFolders
from bittern.control.transmission_limits import NAMES, limit_changes
from bittern.control.transmission_words import (
    INVALID_PARAMS,
    Arguments,
    Method,
    RpcError,
    is_name,
    refuse,
    refuse_unknown,
)
from bittern.control.turns import Turns
from bittern.engine.adding import AddResult
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent
from bittern.errors import MetainfoError, StorageError
from bittern.policy.limits import NO_LIMITS, changed
from bittern.policy.ordering import Step
from bittern.policy.selection import Choice
from bittern.proto.metainfo import parse_metainfo
from bittern.terms import InfoHash

NAMES_AT_MOST: Final = 1000
RECENT: Final = ("recently_active", "recently-active")
RECENT_S: Final = 60.0
REMOVED_AT_MOST: Final = 10_000
MOVED_AT_MOST: Final = 100


class TorrentCalls:
    """Looks at torrents, adds, removes and steers them."""

    def __init__(self, session: Session, daemon: Daemon, files: Files, folders: RpcFolders) -> None:
        self._session = session
        self._daemon = daemon
        self._files = files
        self._folders = folders
        self._removed: deque[tuple[float, int]] = deque(maxlen=REMOVED_AT_MOST)
        self._marks: dict[int, tuple[tuple[object, ...], float]] = {}
        """How a torrent looked when it was last asked for as recently active, and since when."""
        self._comparing = trio.Lock()

    def methods(self) -> dict[str, Method]:
        """By their names in snake_case."""
        return {
            "torrent_get": self._torrent_get,
            "torrent_add": self._torrent_add,
            "torrent_remove": self._torrent_remove,
            "torrent_start": self._torrent_start,
            "torrent_start_now": self._torrent_start_now,
            "torrent_stop": self._torrent_stop,
            "torrent_verify": self._torrent_verify,
            "torrent_reannounce": self._torrent_reannounce,
            "torrent_set": self._torrent_set,
            "torrent_set_location": self._torrent_set_location,
            "torrent_rename_path": refuse("bittern does not rename what a torrent names"),
            "queue_move_top": self._queue_move("top"),
            "queue_move_up": self._queue_move("up"),
            "queue_move_down": self._queue_move("down"),
            "queue_move_bottom": self._queue_move("bottom"),
        }

    # -- which torrents -------------------------------------------------------------------------------------

    def _meant(self, arguments: Arguments) -> list[Torrent]:
        everyone = self._session.torrents
        ids = arguments.get("ids")
        if ids in RECENT:
            raise RpcError(
                "the recently active ones can be asked for, not steered: name them", INVALID_PARAMS
            )
        if ids is None or ids == []:
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
                told = (record.uploaded_bytes, record.label, record.limits, record.priority, record.rank)
                look = (torrent.state, torrent.error, have, told)
                before, since = self._marks.get(record.number, (None, now))
                marks[record.number] = (look, since if look == before else now)
                if now - marks[record.number][1] < RECENT_S or torrent.info_hash in self._session.swarms.live:
                    active.append(torrent)
            self._removed.extend((now, number) for number in self._marks.keys() - marks.keys())
            while self._removed and now - self._removed[0][0] > RECENT_S:
                self._removed.popleft()
            self._marks = marks
            return active, [number for _, number in self._removed]

    # -- looking and adding --------------------------------------------------------------------------------

    async def _torrent_get(self, arguments: Arguments) -> Arguments:
        wanted = arguments.get("fields")
        if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
            raise RpcError("no fields specified", INVALID_PARAMS)
        # an unknown one is left out: clients ask for what some version has
        names = {
            one: BY_SNAKE[snake(one)]
            for one in wanted[:NAMES_AT_MOST]
            if is_name(one) and snake(one) in BY_SNAKE
        }
        told: Arguments = {}
        if arguments.get("ids") in RECENT:
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
        refuse_unknown(
            {key: value for key, value in arguments.items() if value not in ([], None, 0, "")},
            {
                "metainfo",
                "labels",
                "download_dir",
                "paused",
                "cookies",
                "filename",
                "sequential_download",
                *RPC_LISTS,
                *NAMES,
            },
        )
        selection = rpc_choice({key: arguments[key] for key in RPC_LISTS if arguments.get(key)})
        if blob and not selection.empty:
            selection = await self._files.work(lambda: _of_listed_in(selection, blob))
        folder = await self._folders.wanted(arguments.get("download_dir"))
        terms: dict[str, Any] = {
            "downloads": folder,
            "incomplete": self._daemon.incomplete_folder,
            "label": labels[0],
            "limits": changed(NO_LIMITS, limit_changes(arguments)),
            "selection": selection,
            "sequential": arguments.get("sequential_download") in (True, 1),
        }
        added = await (self._session.add(blob, **terms) if blob else self._session.add_magnet(link, **terms))
        if arguments.get("paused") in (True, 1) and added.kind == "added":
            await self._session.pause(added.info_hash)
        key = "torrent-added" if added.kind == "added" else "torrent-duplicate"
        return {key: self._brief(added)}

    def _brief(self, added: AddResult) -> Arguments:
        torrent = self._session.torrents.get(added.info_hash)
        number = torrent.record.number if torrent is not None else 0
        return {"id": number, "name": added.name, "hashString": added.info_hash.hex()}

    # -- steering ------------------------------------------------------------------------------------------

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

    async def _torrent_start_now(self, arguments: Arguments) -> Arguments:
        """It waits for no turn, until it is stopped by this protocol."""
        turns = Turns()
        for torrent in self._meant(arguments):
            if not await self._is_ours(torrent, turns):
                continue
            await self._session.set_place(torrent.info_hash, forced=True)
            if torrent.record.stopped:
                await self._session.resume(torrent.info_hash)
        return {}

    async def _torrent_stop(self, arguments: Arguments) -> Arguments:
        turns = Turns()
        for torrent in self._meant(arguments):
            if not await self._is_ours(torrent, turns):
                continue
            await self._session.pause(torrent.info_hash)
            if torrent.record.forced:
                await self._session.set_place(torrent.info_hash, forced=False)
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

    async def _torrent_set_location(self, arguments: Arguments) -> Arguments:
        """`move`: else its files lie there already."""
        refuse_unknown(arguments, {"ids", "location", "move"})
        location, move = arguments.get("location"), arguments.get("move", False)
        if not isinstance(location, str) or not location.startswith("/"):
            raise RpcError("location is an absolute path", INVALID_PARAMS)
        if not isinstance(move, bool):
            raise RpcError("move is true or false", INVALID_PARAMS)
        folder, turns = await self._folders.wanted(location), Turns()
        for torrent in self._named(arguments):
            if await self._is_ours(torrent, turns):
                await self._session.move(torrent.info_hash, folder, only_look=not move)
        return {}

    async def _torrent_set(self, arguments: Arguments) -> Arguments:
        """Limits and files of its own; of the rest, what is as it is anyway may be set so."""
        limits, choice = limit_changes(arguments), rpc_choice(arguments)
        sequential = arguments.get("sequential_download")
        if sequential is not None and sequential not in (True, False):
            raise RpcError("sequential_download is true or false", INVALID_PARAMS)
        harmless: dict[str, tuple[object, ...]] = {"group": ("",)}
        for key, value in arguments.items():
            if key in {"ids", "sequential_download", *RPC_LISTS} or (
                key in harmless and value in harmless[key]
            ):
                continue
            if key not in NAMES and key != "queue_position":
                raise RpcError(f"bittern does not set {key} of a single torrent")
        place = _place(arguments.get("queue_position"))
        # all of it is looked at before any of it holds
        chosen = [] if choice.empty and sequential is None and place is None else self._named(arguments)
        if place is not None:
            self._few(arguments)
        turns = Turns()
        for torrent in self._meant(arguments) if limits else []:
            if await self._is_ours(torrent, turns):
                await self._session.limit(torrent.info_hash, **limits)
        for torrent in [] if choice.empty and sequential is None else chosen:
            if await self._is_ours(torrent, turns):
                await self._select(torrent, choice, None if sequential is None else bool(sequential))
        if place is not None:
            for offset, torrent in enumerate(chosen):
                if await self._is_ours(torrent, turns):
                    await self._session.queue.move_to(torrent, place + offset)
        return {}

    async def _select(self, torrent: Torrent, choice: Choice, sequential: bool | None) -> None:
        if not choice.empty and torrent.record.state != "metadata":
            choice = await self._files.look(
                torrent, lambda opened, have, whole: of_listed(choice, opened.pads, len(opened.names))
            )
        await self._session.select(torrent.info_hash, choice, sequential=sequential)

    def _few(self, arguments: Arguments) -> list[Torrent]:
        """Each that is moved is compared with all the others."""
        chosen = self._named(arguments)
        if len(chosen) > MOVED_AT_MOST:
            raise RpcError(f"at most {MOVED_AT_MOST} torrents are moved in the queue at once", INVALID_PARAMS)
        return chosen

    def _queue_move(self, step: Step) -> Method:
        async def move(arguments: Arguments) -> Arguments:
            if len(self._meant(arguments)) < len(self._session.torrents):
                await self._session.queue.step(self._few(arguments), step)
            # all of them together stand where they stood
            return {}

        return move


def _of_listed_in(choice: Choice, blob: bytes) -> Choice:
    """In a thread. Of what is no torrent somebody else will say so."""
    try:
        files = parse_metainfo(blob).files
    except MetainfoError:
        return choice
    return of_listed(choice, frozenset(index for index, file in enumerate(files) if file.pad), len(files))


def _is_label(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 255 and "," not in value and value.isprintable()


def _place(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise RpcError("queue_position is a place, from 0 on", INVALID_PARAMS)
    return value


def _info_hash(digits: str) -> InfoHash:
    try:
        return InfoHash(bytes.fromhex(digits))
    except ValueError:
        return InfoHash(b"")
