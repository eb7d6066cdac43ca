"""One dropped file: look at it, hand its bytes to the session, then move, keep or delete it; or set it aside.

The dropped file is touched only when the session holds its bytes durably, or it is refused. Everything that
waits for a disk runs in threads of the folder's own, so that a dead mount holds up nobody else. Nothing is
overwritten.
"""

import errno
import os
import stat
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeVar

import trio

from bittern.daemon.config_reader import one_line
from bittern.daemon.logs import get_log
from bittern.daemon.profile_schema import Sidecar
from bittern.daemon.profiles import Decision, Profiles, facts_of
from bittern.daemon.refusals import Refusal, refusal_id
from bittern.daemon.sidecars import NO_SIDECAR, SidecarError, look_at_sidecar, sidecar_path
from bittern.daemon.sweep import FolderState, Stamp, is_magnet_name
from bittern.disk.attempt import JobCrashed, attempt
from bittern.disk.together import Together
from bittern.engine.supervision import Supervisor, is_bug
from bittern.errors import MagnetError, MetainfoError, MetainfoTruncated, StorageError
from bittern.policy.limits import NO_LIMITS, Limits
from bittern.policy.selection import Choice
from bittern.proto.magnet import Magnet, parse_magnet
from bittern.proto.metainfo import MAX_METAINFO_BYTES, Metainfo, parse_metainfo
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
_THEIR_FAULT: Final = (MagnetError, SidecarError)
MAX_LINKS_BYTES: Final = 8 * 1024 * 1024
"""Of a .magnet: some twenty thousand links."""

MAX_LINES: Final = 50_000
"""Each that is no link has a line in the log, and 8 MiB may have four million."""

REASONS_SHOWN: Final = 3
"""Of a file all of whose lines are refused, in one line of the log; each has its own line too."""

log = get_log()
T = TypeVar("T")
TellsHooks: TypeAlias = Callable[[Refusal], Awaitable[bool]]
"""Of a file that is about to be set aside; True once that is durable."""


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


class WritesReceipts(Protocol):
    """Who tells what has become of dropped files, beside them."""

    def taken(self, info_hashes: Sequence[InfoHash]) -> None:
        """Their records know now which dropped file they came from."""
        ...

    def rejected(self, drop: str, reason: str, moved_to: str) -> None:
        """It cannot be used, and lies there now."""
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
        priority: int = 0,
        tie: bool = False,
        drop_path: str = "",
        watch: str = "",
        receipt: str = "",
        hooks: tuple[str, ...] = (),
        limits: Limits = NO_LIMITS,
        selection: Choice | None = None,
    ) -> AddResult:
        """Durable when it returns; `MetainfoError`, `StorageError`."""
        ...

    async def remove(self, info_hash: InfoHash, *, reason: str) -> bool:
        """Stops and forgets a torrent; its data stays."""
        ...

    async def add_magnet(
        self,
        link: str,
        *,
        downloads: str,
        incomplete: str = "",
        label: str = "",
        priority: int = 0,
        tie: bool = False,
        drop_path: str = "",
        watch: str = "",
        receipt: str = "",
        hooks: tuple[str, ...] = (),
        limits: Limits = NO_LIMITS,
        selection: Choice | None = None,
    ) -> AddResult:
        """Durable when it returns; `MagnetError`, `StorageError`."""
        ...

    def tied(self) -> Mapping[str, tuple[InfoHash, ...]]:
        """Path of the dropped file -> torrents, for those that go when their file goes."""
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
    priority: int = 0
    tie: bool
    receipts: bool = False
    subfolders: bool = False
    root: str = ""
    """Of a sub-folder the watched folder that it lies in."""
    sidecar_grace_s: float = 0.0
    profiles: Profiles | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: the bytes, or why there are none."""

    found: Literal["bytes", "big", "changed", "gone", "odd", "too big", "unreadable"]
    stamp: Stamp | None = None
    blob: bytes = b""
    reason: str = ""
    sidecar: bool = False
    """Does something lie beside it that is called as its sidecar?"""


class Intake:
    """Takes in the files of one folder."""

    def __init__(
        self,
        terms: Terms,
        state: FolderState,
        session: TakesTorrents,
        supervisor: Supervisor,
        tell_hooks: TellsHooks | None = None,
        receipts: WritesReceipts | None = None,
    ) -> None:
        self.terms = terms
        self.state = state
        self._session = session
        self._supervisor = supervisor
        self._tell_hooks = tell_hooks
        self._receipts = receipts
        self._threads = trio.CapacityLimiter(THREADS)
        self._look = Together(self._look_at_all, at_most=LOOKS_TOGETHER)
        # One after the other, so that two files cannot choose the same new name.
        self._put_aside = Together(self._put_all_aside, at_most=MOVES_TOGETHER)
        self._big = trio.Lock()
        self._told: set[str] = set()
        self._first_seen: dict[str, float] = {}
        """Drops that wait for a sidecar."""
        self._with_sidecar: set[str] = set()

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
                self._has_sidecar(name, look.sidecar)
                if blob and is_magnet_name(name):
                    await self._hand_over_links(name, path, stamp, blob)
                elif blob:
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
        before = self._session.tied().get(path, ()) if terms.tie else ()
        try:
            sidecar = await self._sidecar(name, path)
            if sidecar is None:
                return
            source = None
            if terms.profiles is not None and terms.profiles.look_inside(terms.folder):
                source = await self.in_thread(parse_metainfo, blob)
            result = await self._session.add(
                blob,
                **await self._terms_of(source, sidecar[0]),
                incomplete=terms.incomplete,
                tie=terms.tie,
                drop_path=path,
                watch=terms.folder,
                receipt=path if terms.receipts else "",
            )
        except MetainfoTruncated as error:
            if self.state.short(name, stamp, trio.current_time()):
                await self._refuse(name, path, stamp, str(error))
        except (MetainfoError, SidecarError) as error:
            if self.state.faulty(name, stamp, trio.current_time()):
                await self._refuse(name, path, stamp, str(error))
        except StorageError as error:
            if self.state.trouble(name, stamp, trio.current_time()):
                log.warning("drop.waiting", path=path, reason=str(error))
        else:
            await self._put_away(name, path, stamp, result)
            await self._let_go(name, before, (result.info_hash,), "its .torrent was replaced by another one")

    async def _sidecar(self, name: str, path: str) -> tuple[Sidecar | None] | None:
        """What lies beside it, None for nothing; or None altogether: it is looked at again later. `SidecarError`.

        A file that is tied has been taken in already: its sidecar counts no more.
        """
        terms = self.terms
        if terms.profiles is None or (terms.tie and path in self._session.tied()):
            return (None,)
        now = trio.current_time()
        look = NO_SIDECAR
        try:
            if name in self._with_sidecar:
                look = await self.in_thread(look_at_sidecar, path)
        except OSError as error:
            if self.state.trouble(name, None, now):
                log.warning("drop.waiting", path=sidecar_path(path), reason=told(error))
            return None
        grace_ends = self._first_seen.setdefault(name, now) + terms.sidecar_grace_s
        if look.found == "unsettled" or (look is NO_SIDECAR and now < grace_ends):
            self.state.unsteady(name, now)
            return None
        self._first_seen.pop(name, None)
        return (look.sidecar,)

    def _has_sidecar(self, name: str, there: bool) -> None:
        if there:
            self._with_sidecar.add(name)
        else:
            self._with_sidecar.discard(name)

    async def _terms_of(self, source: Metainfo | Magnet | None, sidecar: Sidecar | None) -> dict[str, Any]:
        """On what terms a torrent is taken in. `SidecarError`."""
        terms = self.terms
        own = {"downloads": terms.downloads, "label": terms.label, "priority": terms.priority}
        if terms.profiles is None:
            return own
        facts = facts_of(terms.folder, source)
        decide: Callable[[], Decision] = partial(terms.profiles.decide, facts, sidecar, **own)  # type: ignore[arg-type]
        # whoever names a folder has to have it looked at
        return (decide() if sidecar is None else await self.in_thread(decide)).terms

    async def _let_go(
        self, name: str, before: Sequence[InfoHash], now: Sequence[InfoHash], reason: str
    ) -> None:
        """Torrents that were tied to the file and are not in it any more; of those in other files the sweep decides."""
        for info_hash in before:
            if info_hash not in now and not self.state.may_be_elsewhere(name, info_hash):
                await self._session.remove(info_hash, reason=reason)

    async def _hand_over_links(self, name: str, path: str, stamp: Stamp, blob: bytes) -> None:
        """Each line has its own verdict. Text does not say where it ends: it has to stay as it is for a moment."""
        now = trio.current_time()
        if blob.count(b"\n") + blob.count(b"\r") > 2 * MAX_LINES or len(blob.splitlines()) > MAX_LINES:
            if self.state.faulty(name, stamp, now):
                reason = f"more than {MAX_LINES} lines, which no .magnet may have"
                await self._refuse(name, path, stamp, reason)
            return
        links = magnet_lines(blob)
        if not links:
            if self.state.short(name, stamp, now):
                await self._refuse(name, path, stamp, "there is no magnet link in it")
            return
        if not self.state.faulty(name, stamp, now):
            return
        before = self._session.tied().get(path, ()) if self.terms.tie else ()
        try:
            sidecar = await self._sidecar(name, path)
            if sidecar is None:
                return
            # one that may not have its way is refused with all of its links
            await self._terms_of(None, sidecar[0])
        except SidecarError as error:
            await self._refuse(name, path, stamp, str(error))
            return
        verdicts = await self._take_links(path, links, sidecar[0])
        refused = [(line, str(one)) for line, one in verdicts if isinstance(one, _THEIR_FAULT)]
        trouble = next((str(one) for _, one in verdicts if isinstance(one, StorageError)), None)
        if trouble is not None:
            # those that went well are known when it is tried again
            if self.state.trouble(name, stamp, now):
                log.warning("drop.waiting", path=path, reason=trouble)
            return
        await self._tell_refused(path, refused)
        told_of = [f"line {line}: {one_line(reason)}" for line, reason in refused]
        taken = [one for _, one in verdicts if not isinstance(one, Exception)]
        if not taken:
            await self._refuse(name, path, stamp, *told_of)
            return
        if refused and not await self._hooks_know(
            name, path, stamp, one_line("; ".join(told_of[:REASONS_SHOWN]))
        ):
            return
        await self._set_lines_aside(path, [links[line] for line, _ in refused], told_of)
        for result in taken:
            (log.debug if result.kind == "known" else log.info)("drop.link", path=path, **_facts(result))
        await self._put_away(name, path, stamp, *taken)
        await self._let_go(
            name, before, [one.info_hash for one in taken], "its link was taken out of the file"
        )

    async def _tell_refused(self, path: str, refused: Sequence[tuple[int, str]]) -> None:
        """By line. Of very many, so others have their turn in between."""
        for line, reason in refused:
            log.warning("drop.rejected", path=f"{path}:{line}", reason=one_line(reason))
            await trio.lowlevel.checkpoint()

    async def _take_links(
        self, path: str, links: Mapping[int, str], sidecar: Sidecar | None
    ) -> list[tuple[int, AddResult | MagnetError | SidecarError | StorageError]]:
        """By line. Many at once, so that they share what makes them durable."""
        terms, waiting = self.terms, iter(links.items())
        verdicts: list[tuple[int, AddResult | MagnetError | SidecarError | StorageError]] = []

        async def work() -> None:
            for line, link in waiting:
                try:
                    taken = await self._session.add_magnet(
                        link,
                        **await self._terms_of(self._looked_into(link), sidecar),
                        incomplete=terms.incomplete,
                        tie=terms.tie,
                        drop_path=path,
                        watch=terms.folder,
                        receipt=path if terms.receipts else "",
                    )
                except (MagnetError, SidecarError, StorageError) as error:
                    verdicts.append((line, error))
                    # who is refused at once has waited for nothing
                    await trio.lowlevel.checkpoint()
                else:
                    verdicts.append((line, taken))

        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_ONCE, len(links))):
                nursery.start_soon(work)
        return sorted(verdicts, key=lambda verdict: verdict[0])

    def _looked_into(self, link: str) -> Magnet | None:
        """`MagnetError`."""
        terms = self.terms
        look_inside = terms.profiles is not None and terms.profiles.look_inside(terms.folder)
        return parse_magnet(link) if look_inside else None

    async def _set_lines_aside(self, path: str, lines: Sequence[str], reasons: Sequence[str]) -> None:
        """What could not be used of a file whose other lines could."""
        if not lines:
            return
        try:
            await self.in_thread(set_lines_aside, path, list(lines), list(reasons))
        except OSError as error:
            self._cannot("write", path, error)

    async def _put_away(self, name: str, path: str, stamp: Stamp, *results: AddResult) -> None:
        self.state.kept(name, stamp, *(result.info_hash for result in results))
        if self.terms.receipts and self._receipts is not None:
            self._receipts.taken([result.info_hash for result in results])
        facts = {"links": len(results)} if is_magnet_name(name) else _facts(results[0])
        if self.terms.after_add == "keep":
            # Each start meets all of them again.
            known = all(result.kind == "known" for result in results)
            (log.debug if known else log.info)("drop.accepted", path=path, **facts)
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

    async def _refuse(self, name: str, path: str, stamp: Stamp, *reasons: str) -> None:
        reason = one_line("; ".join(reasons[:REASONS_SHOWN]))
        if not await self._hooks_know(name, path, stamp, reason):
            return
        self.state.kept(name, stamp)
        try:
            to = await self._settle(path, stamp, REJECTED, "\n".join(map(one_line, reasons)))
        except OSError as error:
            log.warning("drop.rejected", path=path, reason=reason)
            self._cannot("move", path, error)
            self._note_rejected(path, reason, path)
        else:
            if to is None:
                self.state.unsteady(name, trio.current_time())
                return
            self.state.left(name)
            log.warning("drop.rejected", path=path, reason=reason, moved_to=to)
            self._note_rejected(path, reason, to)

    def _note_rejected(self, path: str, reason: str, to: str) -> None:
        if self.terms.receipts and self._receipts is not None:
            self._receipts.rejected(path, reason, to)

    async def _hooks_know(self, name: str, path: str, stamp: Stamp, reason: str) -> bool:
        """Before the file is touched, or a crash in between would leave nobody told. False: not yet."""
        if self._tell_hooks is None:
            return True
        try:
            to = await self.in_thread(place_aside, path, REJECTED)
        except OSError:
            to = path
        refusal = Refusal(
            path=to,
            drop_path=path,
            reason=reason,
            watch=self.terms.folder,
            label=self.terms.label,
            size_bytes=stamp.size,
            event_id=refusal_id(path, stamp.size, stamp.mtime_ns, stamp.inode),
            at_wall=time.time(),
        )
        durable = await self._tell_hooks(refusal)
        if not durable and self.state.trouble(name, stamp, trio.current_time()):
            what = (
                "it is to be refused, and hooks cannot be told of that until the state folder can be written"
            )
            log.warning("drop.waiting", path=path, reason=what)
        return durable

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


def _facts(result: AddResult) -> dict[str, str]:
    return {"info_hash": result.info_hash.hex(), "name": result.name, "was": result.kind}


def magnet_lines(blob: bytes) -> dict[int, str]:
    """The lines of a .magnet that are to be links, by their numbers: not those that are empty or comments."""
    found = {}
    for number, line in enumerate(blob.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        text = line.decode("utf-8", "replace").strip()
        if text and not text.startswith("#"):
            found[number] = text
    return found


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
        magnets = is_magnet_name(path)
        limit = MAX_LINKS_BYTES if magnets else MAX_METAINFO_BYTES
        if before.st_size > limit:
            what = ".magnet" if magnets else ".torrent"
            return Look(
                "too big",
                stamp,
                reason=f"{before.st_size} bytes are more than a {what} may have ({limit >> 20} MiB)",
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
        return Look("bytes", stamp, b"".join(chunks), sidecar=os.path.lexists(sidecar_path(path)))
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
    sidecar = Path(sidecar_path(path))
    if subfolder is None:
        drop.unlink()
        _follow(sidecar, None)
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
    _follow(sidecar, to.with_suffix(".toml"))
    return str(to)


def _follow(sidecar: Path, to: Path | None) -> None:
    """It goes where its drop has gone; what cannot go stays, and means nothing without it."""
    try:
        if not sidecar.is_file() or sidecar.is_symlink():
            return
        if to is None:
            sidecar.unlink()
        else:
            sidecar.rename(_free_path(to.parent, to.name))
    except OSError as error:
        log.debug("sidecar.stays", path=str(sidecar), reason=told(error))


def place_aside(path: str, subfolder: str) -> str:
    """Where that file would be put now. `OSError`: it cannot be."""
    drop = Path(path)
    folder = drop.parent / subfolder
    folder.mkdir(exist_ok=True)
    for one in (drop.parent, folder):
        if not os.access(one, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), str(one))
    return str(_free_path(folder, drop.name))


def set_lines_aside(path: str, lines: list[str], reasons: list[str]) -> str:
    """Some lines of that file into `rejected` beside it, with their reasons; once, when it is seen again and again.
    Gives where they are. `OSError`.
    """
    drop = Path(path)
    folder = drop.parent / REJECTED
    folder.mkdir(exist_ok=True)
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
    before = folder / drop.name
    if before.is_file() and before.stat().st_size == len(text) and before.read_bytes() == text:
        return str(before)
    to = _free_path(folder, drop.name)
    note = folder / f"{to.name}.reason.txt"
    note.write_text("\n".join(reasons) + "\n", encoding="utf-8", errors="backslashreplace")
    to.write_bytes(text)
    return str(to)


def _free_path(folder: Path, name: str) -> Path:
    """`NAME.torrent`, or `NAME.1.torrent` and so on where that is taken; room is left for `.reason.txt`."""
    stem, dot, extension = name.rpartition(".")
    extension = dot + extension
    number = 0
    while True:
        tail = f".{number}{extension}" if number else extension
        room = _MAX_NAME_BYTES - len(os.fsencode(tail)) - len(".reason.txt")
        # A character that the cut breaks apart stays as surrogates, as any name that is not UTF-8.
        path = folder / (os.fsdecode(os.fsencode(stem)[:room]) + tail)
        if not os.path.lexists(path):
            return path
        number += 1
