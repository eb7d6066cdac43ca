"""Receipts: beside `X.torrent` the file `X.torrent.status.json` says what has become of it.

It is for whoever dropped the file and sees the folder only. A receipt is written when what it says has changed, at most
once a second, whole or not at all; a folder that cannot be written, or hangs, costs its receipts and nobody else. The
torrent's record knows its receipt, so a restart goes on with it. The last word is `"final": true`; when the file was
tied to its torrent the receipt goes with it.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import trio

from bittern.control.views import torrent_view
from bittern.daemon.below import opened, read_plain, write_new
from bittern.daemon.config import Config
from bittern.daemon.listing import DEEPEST, SUBFOLDERS_AT_MOST, list_subfolders
from bittern.daemon.logs import get_log
from bittern.daemon.sweep import is_magnet_name
from bittern.engine.beats import next_beat
from bittern.engine.events import Event, Removed
from bittern.engine.session import Session
from bittern.engine.supervision import Supervisor
from bittern.engine.torrent import Torrent
from bittern.terms import InfoHash

EVERY_S: Final = 1.0
AT_ONCE: Final = 200
"""Written in one thread hop, some 30 ms; the others wait for the next second."""

AGAIN_S: Final = 60.0
"""After a folder refused."""

SUFFIX: Final = ".status.json"
LINKS_SHOWN: Final = 1000
"""Of a .magnet; how many there are is told of all."""

LINK_S: Final = 0.002
"""So much longer a receipt of many links waits for its next turn, for each of them."""

THREADS: Final = 4
MAX_RECEIPT_BYTES: Final = 1024 * 1024
MAX_WORD_CHARACTERS: Final = 8192
"""Of what a receipt says of a torrent that is gone; a path has no more."""

ORPHANS_READ_BYTES: Final = 64 * 1024 * 1024
"""At the start, of receipts of torrents that are gone."""

_MAX_NAME_BYTES: Final = 255

_FIELDS: Final = (
    "info_hash",
    "name",
    "state",
    "error",
    "label",
    "labels",
    "size_bytes",
    "left_bytes",
    "folder",
    "path",
)

log = get_log()


@dataclass(frozen=True, slots=True)
class _Write:
    """One receipt as it is to be; `said` None: away with it."""

    drop: str
    root: str
    """The watched folder that it lies in or below."""
    said: dict[str, Any] | None
    info_hash: InfoHash | None = None


class Receipts:
    """Follows the torrents of watched folders with `receipts = true`; an ENGINE service."""

    def __init__(self, config: Config, session: Session, supervisor: Supervisor) -> None:
        self._session = session
        self._supervisor = supervisor
        self._folders = _folders_of(config)
        self._at: dict[InfoHash, tuple[str, bool]] = {}
        """Each torrent's drop, and whether it goes with it."""
        self._whose: dict[str, InfoHash] = {}
        """Drops of one name may have brought several torrents, one after the other: the receipt is the last one's."""
        self._links: dict[str, dict[InfoHash, None]] = {}
        """Of a .magnet all of its torrents."""
        self._dirty: dict[str, InfoHash | None] = {}
        self._last_words: dict[str, dict[str, Any] | None] = {}
        self._not_before: dict[str, float] = {}
        self._told: dict[InfoHash, int] = {}
        """How many pieces of a download its receipt knows of."""
        self._busy: set[str] = set()
        self._threads = trio.CapacityLimiter(THREADS)

    def apply(self, config: Config) -> None:
        """From now on these folders have receipts."""
        self._folders = _folders_of(config)
        for torrent in self._session.torrents.values():
            self.changed(torrent)

    # -- what has changed -----------------------------------------------------------------------------------

    def noted(self, event: Event) -> None:
        """From the engine's sink."""
        facts = getattr(event, "facts", None)
        if facts is None:
            return
        torrent = self._session.torrents.get(facts.info_hash)
        if torrent is not None:
            self.changed(torrent)
        elif isinstance(event, Removed):
            self._removed(event)

    def changed(self, torrent: Torrent) -> None:
        """Something of it may be otherwise than its receipt says."""
        drop, info_hash = torrent.record.receipt, torrent.info_hash
        before = self._at.get(info_hash)
        if before is not None and before[0] != drop:
            # it was dropped again under another name
            self._leave(info_hash, None)
        if not drop or not self._root_of(drop):
            return
        if not is_magnet_name(drop) and not self._is_its_own(drop, torrent):
            return
        self._at[info_hash] = (drop, torrent.record.tie)
        if is_magnet_name(drop):
            self._links.setdefault(drop, {})[info_hash] = None
        self._dirty[drop] = info_hash
        self._last_words.pop(drop, None)

    def taken(self, info_hashes: Sequence[InfoHash]) -> None:
        """A file that was dropped brought these torrents, also such as were known."""
        for info_hash in info_hashes:
            torrent = self._session.torrents.get(info_hash)
            if torrent is not None:
                if self._whose.get(torrent.record.receipt) != info_hash:
                    self._give_up(torrent.record.receipt)
                self.changed(torrent)

    def rejected(self, drop: str, reason: str, moved_to: str) -> None:
        """A dropped file that nothing comes of."""
        if self._root_of(drop):
            self._give_up(drop)
            self._say_last(drop, {"drop": drop, "state": "rejected", "error": reason, "path": moved_to})

    def _removed(self, event: Removed) -> None:
        facts = event.facts
        self._leave(
            facts.info_hash,
            {
                "info_hash": facts.info_hash.hex(),
                "name": facts.name,
                "state": "removed",
                "error": "",
                "reason": event.reason,
                "label": facts.label,
                "labels": list(facts.labels),
                "size_bytes": facts.size_bytes,
                "folder": facts.folder,
                "path": facts.path,
                "removed_at": event.at_wall,
            },
        )

    def _leave(self, info_hash: InfoHash, last: dict[str, Any] | None) -> None:
        drop, tied = self._at.pop(info_hash, ("", False))
        self._told.pop(info_hash, None)
        if not drop:
            return
        self._whose.pop(drop, None)
        others = self._links.get(drop)
        if others is not None:
            others.pop(info_hash, None)
            if others:
                self._dirty[drop] = next(iter(others))
                return
            del self._links[drop]
        self._say_last(drop, None if tied or last is None else {"drop": drop, **last})

    def _say_last(self, drop: str, said: dict[str, Any] | None) -> None:
        self._dirty[drop] = None
        self._last_words[drop] = said and {**said, "final": True}

    def _root_of(self, drop: str) -> str:
        """The watched folder that it lies in or below; "": it is not followed."""
        return next((folder[:-1] or "/" for folder in self._folders if drop.startswith(folder)), "")

    def _is_its_own(self, drop: str, torrent: Torrent) -> bool:
        """Of a new one at a path that is taken too; after a restart of the one that was added last."""
        other = self._session.torrents.get(self._whose.get(drop, torrent.info_hash))
        if other is not None and other.record.number > torrent.record.number:
            return False
        if other is not torrent:
            self._give_up(drop)
        self._whose[drop] = torrent.info_hash
        return True

    def _give_up(self, drop: str) -> None:
        """Another file has been dropped under that name."""
        before = self._whose.pop(drop, None)
        if before is not None:
            self._at.pop(before, None)
            self._told.pop(before, None)

    # -- saying it ------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. All torrents are known when it starts."""
        for torrent in self._session.torrents.values():
            self.changed(torrent)
        async with trio.open_nursery() as nursery:
            task_status.started()
            for folder, subfolders in self._folders.items():
                nursery.start_soon(self._settle_orphans, folder, subfolders)
            while True:
                self._look_at_downloads()
                self._say(nursery)
                await next_beat(EVERY_S)

    def _look_at_downloads(self) -> None:
        """Of the others nothing changes without a word."""
        if not self._at:
            return
        for info_hash in self._session.swarms.live:
            torrent = self._session.torrents.get(info_hash)
            if torrent is None or info_hash not in self._at or torrent.have is None or torrent.complete:
                continue
            if self._told.get(info_hash) != torrent.have.count:
                self._told[info_hash] = torrent.have.count
                self._dirty.setdefault(self._at[info_hash][0], info_hash)

    def _say(self, nursery: trio.Nursery) -> None:
        now = trio.current_time()
        turns: dict[str, list[str]] = {}
        for drop in self._dirty:
            folder = drop.rpartition("/")[0]
            if (
                folder not in self._busy
                and max(self._not_before.get(one, 0.0) for one in (drop, folder)) <= now
            ):
                turn = turns.setdefault(folder, [])
                if len(turn) < AT_ONCE:
                    turn.append(drop)
        for folder, drops in turns.items():
            writes = [self._as_it_stands(drop) for drop in drops]
            self._busy.add(folder)
            nursery.start_soon(self._write_contained, folder, writes)

    def _as_it_stands(self, drop: str) -> _Write:
        info_hash = self._dirty.pop(drop)
        self._not_before.pop(drop, None)
        root = self._root_of(drop)
        links = self._links.get(drop)
        if links is not None:
            self._not_before[drop] = trio.current_time() + EVERY_S + LINK_S * len(links)
            return _Write(drop, root, self._of_links(drop, links), info_hash)
        torrent = self._session.torrents.get(info_hash) if info_hash is not None else None
        if torrent is None:
            return _Write(drop, root, self._last_words.pop(drop, None))
        return _Write(drop, root, {"drop": drop, **self._of_torrent(torrent), "final": False}, info_hash)

    def _of_links(self, drop: str, links: Mapping[InfoHash, None]) -> dict[str, Any]:
        torrents = [self._session.torrents[one] for one in links if one in self._session.torrents]
        complete = sum(torrent.record.state == "complete" for torrent in torrents)
        shown = [self._of_torrent(torrent) for torrent in torrents[:LINKS_SHOWN]]
        counts = {"links": len(torrents), "complete": complete}
        return {"drop": drop, **counts, "torrents": shown, "final": False}

    def _of_torrent(self, torrent: Torrent) -> dict[str, Any]:
        view = torrent_view(self._session, torrent, (*_FIELDS, "progress", "added_at", "completed_at"))
        # never rounded up to what is not reached
        percent = math.floor(view.pop("progress") * 1000) / 10
        return {**{key: view.pop(key) for key in ("info_hash", "name", "state")}, "percent": percent, **view}

    async def _write_contained(self, folder: str, writes: Sequence[_Write]) -> None:
        try:
            await self._supervisor.contain(
                f"receipts in {folder}",
                partial(self._write, folder, writes),
                lambda _: None,
                remedy="these receipts are written when they change again",
            )
        finally:
            self._busy.discard(folder)

    async def _write(self, folder: str, writes: Sequence[_Write]) -> None:
        work = partial(write_receipts, writes)
        refused = await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
        for write, error in refused:
            if isinstance(error, IsADirectoryError | NotADirectoryError | FileNotFoundError):
                # something else stands in its place, or the folder is gone: there is nobody to tell
                log.debug("receipt.not_written", path=write.drop, reason=error.strerror)
                continue
            if folder not in self._not_before:
                log.warning(
                    "receipt.not_written",
                    path=error.filename or write.drop,
                    reason=error.strerror,
                    remedy="let bittern write there, or set receipts = false; it is tried again each minute",
                )
            self._not_before[folder] = trio.current_time() + AGAIN_S
            if write.drop not in self._dirty:
                self._put_back(write)
        if not refused:
            self._not_before.pop(folder, None)

    def _put_back(self, write: _Write) -> None:
        said = write.said
        if said is None or said["final"]:
            self._dirty[write.drop], self._last_words[write.drop] = None, said
        else:
            self._dirty[write.drop] = write.info_hash

    async def _settle_orphans(self, folder: str, subfolders: bool) -> None:
        """Receipts of torrents that were removed in the last moment of an earlier run."""
        known = {drop for drop, _ in self._at.values()}
        work = partial(orphans, folder[:-1] or "/", known, subfolders=subfolders)
        try:
            found = await trio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=self._threads)
        except OSError:
            return
        for said in found:
            if said["drop"] not in self._dirty:
                self._say_last(said["drop"], {**said, "state": "removed"})


def _folders_of(config: Config) -> dict[str, bool]:
    """With a slash at the end; are their sub-folders looked into?"""
    return {f"{str(one.folder).rstrip('/')}/": one.subfolders for one in config.watch if one.receipts}


# -------------------------------------------------------------------------------------------- in threads


def receipt_path(drop: str) -> str:
    """Where the receipt of a dropped file lies; of a name that is too long the end is cut."""
    folder, _, name = drop.rpartition("/")
    cut = os.fsdecode(os.fsencode(name)[: _MAX_NAME_BYTES - len(SUFFIX) - len("..tmp")])
    return f"{folder}/{cut}{SUFFIX}"


def write_receipts(writes: Sequence[_Write]) -> list[tuple[_Write, OSError]]:
    """Those that could not be written, and why."""
    refused = []
    for write in writes:
        try:
            _write_one(write)
        except OSError as error:
            refused.append((write, error))
    return refused


def _write_one(write: _Write) -> None:
    folder, _, name = receipt_path(write.drop).rpartition("/")
    with opened(folder or "/", write.root) as fd:
        if write.said is None:
            _unlink(name, fd)
            return
        # ASCII: a name that is not UTF-8 travels as lone surrogates, which only escapes can carry
        blob = json.dumps(write.said, indent=1).encode() + b"\n"
        if read_plain(name, MAX_RECEIPT_BYTES, fd) == blob:
            return
        temporary = f".{name}.tmp"
        # What lies there is a leftover, or a trap that somebody has put into the folder: it is not followed.
        _unlink(temporary, fd)
        try:
            write_new(temporary, blob, fd, mode=0o644)
            os.replace(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)
        except OSError:
            _unlink(temporary, fd)
            raise


def _unlink(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass


def orphans(root: str, known: set[str], *, subfolders: bool = False) -> list[dict[str, Any]]:
    """What receipts say that are not final, of no drop that is known: strangers may have written them. `OSError`."""
    names = {receipt_path(drop) for drop in known}
    found: list[dict[str, Any]] = []
    places, seen, read_bytes = [root], 0, 0
    while places and seen < SUBFOLDERS_AT_MOST:
        place = places.pop(0)
        seen += 1
        with opened(place, root) as fd, os.scandir(fd) as entries:
            for entry in entries:
                path = f"{place.rstrip('/')}/{entry.name}"
                if not entry.name.endswith(SUFFIX) or entry.name.startswith(".") or path in names:
                    continue
                blob = read_plain(entry.name, MAX_RECEIPT_BYTES, fd) or b"null"
                read_bytes += len(blob)
                if read_bytes > ORPHANS_READ_BYTES:
                    return found
                if said := _open_words(blob, path):
                    found.append(said)
        if subfolders and place.count("/") - root.count("/") < DEEPEST:
            places += [f"{place.rstrip('/')}/{name}" for name in list_subfolders(place, root)]
    return found


def _open_words(blob: bytes, path: str) -> dict[str, Any] | None:
    """What that receipt says, unless that is its last word; not more than a receipt of one torrent may say."""
    try:
        said = json.loads(blob)
        if isinstance(said, dict) and said.get("final") is False and _is_of(said.get("drop"), path):
            return {
                key: said[key]
                for key in ("drop", *_FIELDS)
                if isinstance(said.get(key), str | int) and len(str(said[key])) <= MAX_WORD_CHARACTERS
            }
    except (ValueError, RecursionError):
        pass
    return None


def _is_of(drop: object, path: str) -> bool:
    return isinstance(drop, str) and "\0" not in drop and receipt_path(drop) == path
