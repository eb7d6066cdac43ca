"""One dropped file: look at it, hand its bytes to the session, then move, keep or delete it; or set it aside.

The dropped file is touched only when the session holds its bytes durably, or it is refused. Everything that
waits for a disk runs in threads of the folder's own, so that a dead mount holds up nobody else. Nothing is
overwritten.
"""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, Protocol, TypeVar

import trio

from bittern.daemon.config_reader import one_line
from bittern.daemon.logs import get_log
from bittern.daemon.sweep import FolderState, Stamp
from bittern.disk.attempt import JobCrashed, attempt
from bittern.disk.together import Together
from bittern.engine.supervision import Supervisor, is_bug
from bittern.errors import MetainfoError, MetainfoTruncated, StorageError
from bittern.proto.metainfo import MAX_METAINFO_BYTES
from bittern.terms import InfoHash

ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"

AT_ONCE: Final = 64
"""Files of one folder that are taken in at once: they share thread hops and syncs."""

LOOKS_TOGETHER: Final = 16
MOVES_TOGETHER: Final = 64
"""Files that one thread hop reads, or puts aside."""

THREADS: Final = 8

BIG_BYTES: Final = 1024 * 1024
"""Larger files are read and taken in one at a time: many at once would hold too much memory."""

_MAX_NAME_BYTES: Final = 255

log = get_log()
T = TypeVar("T")


class AddResult(Protocol):
    """What became of a torrent handed in: "added", "known", or "merged" (known, with new trackers)."""

    @property
    def kind(self) -> Literal["added", "known", "merged"]:
        """What it came to."""
        ...

    @property
    def info_hash(self) -> InfoHash:
        """Whose bytes these are."""
        ...

    @property
    def name(self) -> str:
        """As the torrent calls itself."""
        ...


class TakesTorrents(Protocol):
    """The session, as the watch folders know it."""

    async def add(
        self,
        blob: bytes,
        *,
        downloads: str,
        incomplete: str = "",
        label: str = "",
        tie: bool = False,
        drop_path: str = "",
    ) -> AddResult:
        """Durable when it returns; `MetainfoError`, `StorageError`."""
        ...

    async def remove(self, info_hash: InfoHash, *, reason: str) -> bool:
        """Stops and forgets a torrent; its data stays."""
        ...

    def tied(self) -> Mapping[str, InfoHash]:
        """Path of the dropped file -> torrent, for those that go when their file goes."""
        ...

    async def is_ours(self, path: str) -> bool:
        """Does a torrent's data lie at this path? Not said before all torrents are known."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """On what terms files of one folder are taken in."""

    folder: str
    after_add: Literal["move", "keep", "delete"]
    downloads: str
    incomplete: str
    label: str
    tie: bool


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: the bytes, or why there are none."""

    found: Literal["bytes", "big", "changed", "gone", "odd", "too big", "unreadable"]
    stamp: Stamp | None = None
    blob: bytes = b""
    reason: str = ""


class Intake:
    """Takes in the files of one folder."""

    def __init__(
        self, terms: Terms, state: FolderState, session: TakesTorrents, supervisor: Supervisor
    ) -> None:
        self.terms = terms
        self.state = state
        self._session = session
        self._supervisor = supervisor
        self._threads = trio.CapacityLimiter(THREADS)
        self._look = Together(self._look_at_all, at_most=LOOKS_TOGETHER)
        # One after the other, so that two files cannot choose the same new name.
        self._put_aside = Together(self._put_all_aside, at_most=MOVES_TOGETHER)
        self._big = trio.Lock()
        self._told: set[str] = set()

    async def take_in(self, name: str) -> None:
        """One look, and all that follows from it; what fails in an unforeseen way costs this file only."""
        path = str(Path(self.terms.folder, name))
        seen: list[Stamp] = []

        def failed(error: Exception) -> None:
            stamp, now = seen[-1] if seen else None, trio.current_time()
            if is_bug(error):
                self.state.baffled(name, stamp, now)
            elif self.state.trouble(name, stamp, now):
                log.warning("drop.waiting", path=path, reason=str(error))

        await self._supervisor.contain(
            f"taking in {path}",
            partial(self._take_in, name, path, seen),
            failed,
            remedy="the file stays where it is, and is looked at again when it changes",
        )

    async def _take_in(self, name: str, path: str, seen: list[Stamp]) -> None:
        if await self._session.is_ours(path):
            if self._once(f"ours {name}"):
                log.info("drop.ignored", path=path, reason="it is data of a torrent, not a drop")
            return
        look = await self._look(path)
        if look.stamp is not None:
            seen.append(look.stamp)
        if look.found == "big":
            async with self._big:
                await self._judge(name, path, await self.in_thread(look_at, path))
        else:
            await self._judge(name, path, look)

    async def in_thread(self, work: Callable[..., T], *args: object) -> T:
        """Reading only: when we are cancelled a call that hangs is left behind."""
        return await trio.to_thread.run_sync(
            partial(work, *args), abandon_on_cancel=True, limiter=self._threads
        )

    async def _look_at_all(self, paths: list[str]) -> list[Look | JobCrashed]:
        look = partial(look_at, at_most_bytes=BIG_BYTES)
        return await self.in_thread(lambda: [attempt(look, path) for path in paths])

    async def _put_all_aside(self, puts: "list[_Put]") -> list[str | Exception | None]:
        """Not left behind when we are cancelled."""
        return await trio.to_thread.run_sync(
            lambda: [attempt(_put_aside_or_error, *put) for put in puts], limiter=self._threads
        )

    async def _judge(self, name: str, path: str, look: Look) -> None:
        now = trio.current_time()
        match look:
            case Look("bytes", Stamp() as stamp, blob):
                if blob:
                    await self._hand_over(name, path, stamp, blob)
                elif self.state.short(name, stamp, now):
                    await self._refuse(name, path, stamp, "the file is empty")
            case Look("too big", Stamp() as stamp):
                if self.state.faulty(name, stamp, now):
                    await self._refuse(name, path, stamp, look.reason)
            case Look("changed"):
                self.state.unsteady(name, now)
            case Look("unreadable"):
                if self.state.trouble(name, look.stamp, now):
                    log.warning("drop.unreadable", path=path, reason=look.reason)
            case _:
                # Gone, or something else by now: the next listing says so.
                self.state.left(name)

    async def _hand_over(self, name: str, path: str, stamp: Stamp, blob: bytes) -> None:
        terms = self.terms
        before = self._session.tied().get(path) if terms.tie else None
        try:
            result = await self._session.add(
                blob,
                downloads=terms.downloads,
                incomplete=terms.incomplete,
                label=terms.label,
                tie=terms.tie,
                drop_path=path,
            )
        except MetainfoTruncated as error:
            if self.state.short(name, stamp, trio.current_time()):
                await self._refuse(name, path, stamp, str(error))
        except MetainfoError as error:
            if self.state.faulty(name, stamp, trio.current_time()):
                await self._refuse(name, path, stamp, str(error))
        except StorageError as error:
            if self.state.trouble(name, stamp, trio.current_time()):
                log.warning("drop.waiting", path=path, reason=str(error))
        else:
            await self._put_away(name, path, stamp, result)
            if before is not None and before != result.info_hash:
                await self._session.remove(before, reason="its .torrent was replaced by another one")

    async def _put_away(self, name: str, path: str, stamp: Stamp, result: AddResult) -> None:
        self.state.kept(name, stamp, result.info_hash)
        facts = {"info_hash": result.info_hash.hex(), "name": result.name, "was": result.kind}
        if self.terms.after_add == "keep":
            # Each start meets all of them again.
            (log.debug if result.kind == "known" else log.info)("drop.accepted", path=path, **facts)
            return
        try:
            to = await self._settle(path, stamp, None if self.terms.after_add == "delete" else ACCEPTED)
        except OSError as error:
            self._cannot(self.terms.after_add, path, error)
        else:
            if to is None:
                self.state.unsteady(name, trio.current_time())
                return
            self.state.left(name)
            log.info("drop.accepted", path=path, moved_to=to or None, **facts)

    async def _refuse(self, name: str, path: str, stamp: Stamp, reason: str) -> None:
        reason = one_line(reason)
        self.state.kept(name, stamp, None)
        try:
            to = await self._settle(path, stamp, REJECTED, reason)
        except OSError as error:
            log.warning("drop.rejected", path=path, reason=reason)
            self._cannot("move", path, error)
        else:
            if to is None:
                self.state.unsteady(name, trio.current_time())
                return
            self.state.left(name)
            log.warning("drop.rejected", path=path, reason=reason, moved_to=to)

    async def _settle(self, path: str, stamp: Stamp, subfolder: str | None, reason: str = "") -> str | None:
        """Where it went ("": deleted), None when another file is there by now. `OSError`."""
        return await self._put_aside((path, stamp, subfolder, reason))

    def _cannot(self, what: str, path: str, error: OSError) -> None:
        if self._once(f"cannot {what}"):
            log.warning(
                "watch.read_only",
                path=path,
                reason=f"cannot {what} it: {told(error)}",
                remedy=f"{_remedy(error, self.terms.folder)}; until then such files stay where they are",
            )

    def _once(self, what: str) -> bool:
        if what in self._told:
            return False
        self._told.add(what)
        return True


# -------------------------------------------------------------------------------------------- in threads


_Put = tuple[str, Stamp, str | None, str]


def _put_aside_or_error(path: str, stamp: Stamp, subfolder: str | None, reason: str) -> str | OSError | None:
    try:
        return put_aside(path, stamp, subfolder, reason)
    except OSError as error:
        return error


def look_at(path: str, *, at_most_bytes: int = MAX_METAINFO_BYTES) -> Look:
    """Reads the file if it has no more bytes; whatever lies there, nothing hangs but a dead mount."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return Look("gone")
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            return Look("odd")
        return Look("unreadable", _stamp_at(path), reason=told(error))
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            return Look("odd")
        stamp = stamp_of(before)
        if before.st_size > MAX_METAINFO_BYTES:
            limit = MAX_METAINFO_BYTES // 1024**2
            return Look(
                "too big",
                stamp,
                reason=f"{before.st_size} bytes are more than a .torrent may have ({limit} MiB)",
            )
        if before.st_size > at_most_bytes:
            return Look("big", stamp)
        chunks = []
        length = 0
        while length <= before.st_size:
            chunk = os.read(fd, before.st_size + 1 - length)
            if not chunk:
                break
            chunks.append(chunk)
            length += len(chunk)
        if length != before.st_size or stamp_of(os.fstat(fd)) != stamp:
            return Look("changed")
        return Look("bytes", stamp, b"".join(chunks))
    except OSError as error:
        return Look("unreadable", reason=told(error))
    finally:
        os.close(fd)


def _stamp_at(path: str) -> Stamp | None:
    try:
        return stamp_of(Path(path).stat())
    except OSError:
        return None


def told(error: OSError) -> str:
    """The kernel's word for it."""
    return error.strerror or str(error)


def _remedy(error: OSError, folder: str) -> str:
    if error.errno == errno.EROFS:
        return f'run "systemctl edit bittern" and add a [Service] section with ReadWritePaths={folder}'
    return f'let bittern write to {folder}, or watch it with after_add = "keep"'


def stamp_of(status: os.stat_result) -> Stamp:
    """What changes when that file does."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)


def put_aside(path: str, stamp: Stamp, subfolder: str | None, reason: str = "") -> str | None:
    """Moves the file of that stamp into `subfolder` beside it, or deletes it (None); a reason goes first.

    Returns the new path, "" when deleted, None when it is not that file any more. `OSError`.
    """
    drop = Path(path)
    try:
        if stamp_of(drop.stat()) != stamp:
            return None
    except FileNotFoundError:
        return None
    if subfolder is None:
        drop.unlink()
        return ""
    folder = drop.parent / subfolder
    folder.mkdir(exist_ok=True)
    to = _free_path(folder, drop.name)
    note = folder / f"{to.name}.reason.txt"
    if reason:
        note.write_text(reason + "\n", encoding="utf-8", errors="backslashreplace")
    try:
        drop.rename(to)
    except OSError:
        if reason:
            note.unlink()
        raise
    return str(to)


def _free_path(folder: Path, name: str) -> Path:
    """`NAME.torrent`, or `NAME.1.torrent` and so on where that is taken; room is left for `.reason.txt`."""
    stem, extension = name[:-8], name[-8:]
    number = 0
    while True:
        tail = f".{number}{extension}" if number else extension
        room = _MAX_NAME_BYTES - len(os.fsencode(tail)) - len(".reason.txt")
        # A character that the cut breaks apart stays as surrogates, as any name that is not UTF-8.
        path = folder / (os.fsdecode(os.fsencode(stem)[:room]) + tail)
        if not os.path.lexists(path):
            return path
        number += 1
