"""One dropped file: look at it, hand its bytes to the session, then move, keep or delete it; or set it aside.

The dropped file is touched only when the session holds its bytes durably, or it is refused. Everything that
waits for a disk runs in threads of the folder's own, so that a dead mount holds up nobody else. Nothing is
overwritten.
"""

import errno
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias, TypeVar

import trio

from bittern.daemon.aside import ACCEPTED, REJECTED, Put, place_aside, put_all_aside, set_lines_aside
from bittern.daemon.chronicle import Chronicle
from bittern.daemon.config_reader import one_line
from bittern.daemon.deciding import Deciding
from bittern.daemon.drop_terms import AddResult, TakesTorrents, Terms, WritesReceipts
from bittern.daemon.logs import get_log
from bittern.daemon.looks import Look, look_at, look_at_all, told
from bittern.daemon.magnet_lines import MAX_LINES, magnet_lines, too_many_lines
from bittern.daemon.profile_schema import Sidecar
from bittern.daemon.refusals import Refusal, refusal_id
from bittern.daemon.sidecars import NO_SIDECAR, SidecarError, look_at_sidecar, sidecar_path
from bittern.daemon.sweep import FolderState, Stamp, is_magnet_name
from bittern.disk.attempt import JobCrashed
from bittern.disk.together import Together
from bittern.engine.supervision import Supervisor, is_bug
from bittern.errors import MagnetError, MetainfoError, MetainfoTruncated, StorageError
from bittern.proto.magnet import Magnet, parse_magnet
from bittern.proto.metainfo import Metainfo, parse_metainfo
from bittern.terms import InfoHash

AT_ONCE: Final = 128
"""Files of one folder that are taken in at once: they share thread hops and syncs. Two teams of 64 make torrents
durable; with 128 in hand both are full, and all threads together wait for the interpreter a quarter less often.
"""

LINKS_AT_ONCE: Final = 32
"""Of one file."""

TOGETHER: Final = 64
"""Files that one thread hop reads, or puts aside."""

THREADS: Final = 8

BIG_BYTES: Final = 512 * 1024
"""Larger files are read and taken in one at a time: many at once would hold too much memory."""

_THEIR_FAULT: Final = (MagnetError, SidecarError)
REASONS_SHOWN: Final = 3
"""Of a file all of whose lines are refused, in one line of the log; each has its own line too."""

log = get_log()
T = TypeVar("T")
TellsHooks: TypeAlias = Callable[[Refusal], Awaitable[bool]]
"""Of a file that is about to be set aside; True once that is durable."""


class _Drop(NamedTuple):
    """A dropped file as it was looked at last."""

    name: str
    path: str
    stamp: Stamp
    sidecar: bool
    """Did something lie beside it, called as its sidecar?"""


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
        chronicle: Chronicle | None = None,
    ) -> None:
        self.terms = terms
        self.state = state
        self._warn = (chronicle or Chronicle(log)).warn
        self._session = session
        self._supervisor = supervisor
        self._tell_hooks = tell_hooks
        self._receipts = receipts
        self._above = str(Path(terms.folder))
        self._prefix = f"{self._above.rstrip('/')}/"
        self._threads = trio.CapacityLimiter(THREADS)
        self._deciding = Deciding(terms, self.in_thread)
        self._look = Together(self._look_at_all, at_most=TOGETHER)
        # One after the other, so that two files cannot choose the same new name.
        self._put_aside = Together(self._put_all_aside, at_most=TOGETHER)
        self._big = trio.Lock()
        self._told: set[str] = set()

    async def take_in(self, name: str) -> None:
        """One look, and all that follows from it; what fails in an unforeseen way costs this file only."""
        path = self._prefix + name
        seen: list[Stamp] = []

        def failed(error: Exception) -> None:
            stamp, now = seen[-1] if seen else None, trio.current_time()
            if is_bug(error):
                self.state.baffled(name, stamp, now)
            elif self.state.trouble(name, stamp, now):
                self._warn("drop.waiting", path=path, reason=str(error))

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
        look = await self._look(name)
        if look.stamp is not None:
            seen.append(look.stamp)
        if look.found == "big":
            async with self._big:
                await self._judge(name, path, await self.in_thread(look_at, path, self.terms.root))
        else:
            await self._judge(name, path, look)

    async def in_thread(self, work: Callable[..., T], *args: object) -> T:
        """Reading only: when we are cancelled a call that hangs is left behind."""
        return await trio.to_thread.run_sync(
            partial(work, *args), abandon_on_cancel=True, limiter=self._threads
        )

    async def _look_at_all(self, names: list[str]) -> list[Look | JobCrashed]:
        look = partial(look_at_all, at_most_bytes=BIG_BYTES, root=self.terms.root)
        return await self.in_thread(look, self._above, names)

    async def _put_all_aside(self, puts: list[Put]) -> list[str | OSError | JobCrashed | None]:
        """Not left behind when we are cancelled."""
        return await trio.to_thread.run_sync(
            put_all_aside, self._above, self.terms.root, puts, limiter=self._threads
        )

    async def _judge(self, name: str, path: str, look: Look) -> None:
        now = trio.current_time()
        match look:
            case Look("bytes", Stamp() as stamp, blob):
                drop = _Drop(name, path, stamp, look.sidecar)
                if blob and is_magnet_name(name):
                    await self._hand_over_links(drop, blob)
                elif blob:
                    await self._hand_over(drop, blob)
                elif self.state.short(name, stamp, now):
                    await self._refuse(drop, "the file is empty")
            case Look("too big", Stamp() as stamp):
                if self.state.faulty(name, stamp, now):
                    await self._refuse(_Drop(name, path, stamp, look.sidecar), look.reason)
            case Look("changed"):
                self.state.unsteady(name, now)
            case Look("unreadable"):
                if self.state.trouble(name, look.stamp, now):
                    self._warn("drop.unreadable", path=path, reason=look.reason)
            case _:
                # Gone, or something else by now: the next listing says so.
                self.state.left(name)

    async def _hand_over(self, drop: _Drop, blob: bytes) -> None:
        terms = self.terms
        before = self._session.tied().get(drop.path, ()) if terms.tie else ()
        try:
            sidecar = await self._sidecar(drop)
            if sidecar is None:
                return
            source = None
            if self._deciding.looks_inside:
                source = await self.in_thread(parse_metainfo, blob)
            result = await self._session.add(
                blob, await self._deciding.terms_of(drop.path, source, sidecar[0])
            )
        except MetainfoTruncated as error:
            if self.state.short(drop.name, drop.stamp, trio.current_time()):
                await self._refuse(drop, str(error))
        except MetainfoError as error:
            if self.state.faulty(drop.name, drop.stamp, trio.current_time()):
                await self._refuse(drop, str(error))
        except SidecarError as error:
            if await self._has_been_taken(drop, partial(parse_metainfo, blob)):
                return
            if self.state.faulty(drop.name, drop.stamp, trio.current_time()):
                await self._refuse(drop, str(error))
        except StorageError as error:
            if self.state.trouble(drop.name, drop.stamp, trio.current_time()):
                self._warn("drop.waiting", path=drop.path, reason=str(error))
        else:
            await self._put_away(drop, result)
            await self._let_go(
                drop.name, before, (result.info_hash,), "its .torrent was replaced by another one"
            )

    async def _sidecar(self, drop: _Drop) -> tuple[Sidecar | None] | None:
        """What lies beside it, None for nothing; or None altogether: it is looked at again later. `SidecarError`.

        A file that is tied has been taken in already: its sidecar counts no more.
        """
        name, path, stamp, beside = drop
        terms = self.terms
        if terms.profiles is None or (terms.tie and path in self._session.tied()):
            return (None,)
        now = trio.current_time()
        look = NO_SIDECAR
        try:
            if beside:
                look = await self.in_thread(look_at_sidecar, path, terms.root)
        except OSError as error:
            if self.state.trouble(name, None, now):
                self._warn("drop.waiting", path=sidecar_path(path), reason=told(error))
            return None
        grace_ends = self.state.first_seen(name, stamp, now) + terms.sidecar_grace_s
        # one that was there a moment ago may be on its way to a new name
        if look.found == "unsettled" or (look is NO_SIDECAR and (beside or now < grace_ends)):
            self.state.unsteady(name, now)
            return None
        return (look.sidecar,)

    async def _has_been_taken(self, drop: _Drop, *sources: Callable[[], Metainfo | Magnet]) -> bool:
        """A file that stays is met again at each start: by then its sidecar has had its word, and may be anything."""
        if self.terms.after_add != "keep" or self.terms.tie:
            return False
        try:
            found = [one.info_hash for one in await self.in_thread(lambda: [read() for read in sources])]
        except (MetainfoError, MagnetError):
            return False
        if not all(one in self._session.torrents for one in found):
            return False
        self.state.kept(drop.name, drop.stamp, *found)
        return True

    async def _let_go(
        self, name: str, before: Sequence[InfoHash], now: Sequence[InfoHash], reason: str
    ) -> None:
        """Torrents that were tied to the file and are not in it any more; of those in other files the sweep decides."""
        for info_hash in before:
            if info_hash not in now and not self.state.may_be_elsewhere(name, info_hash):
                await self._session.remove(info_hash, reason=reason)

    async def _hand_over_links(self, drop: _Drop, blob: bytes) -> None:
        """Each line has its own verdict. Text does not say where it ends: it has to stay as it is for a moment."""
        name, path, stamp, _ = drop
        now = trio.current_time()
        if too_many_lines(blob):
            if self.state.faulty(name, stamp, now):
                reason = f"more than {MAX_LINES} lines, which no .magnet may have"
                await self._refuse(drop, reason)
            return
        links = magnet_lines(blob)
        if not links:
            if self.state.short(name, stamp, now):
                await self._refuse(drop, "there is no magnet link in it")
            return
        if not self.state.faulty(name, stamp, now):
            return
        before = self._session.tied().get(path, ()) if self.terms.tie else ()
        try:
            sidecar = await self._sidecar(drop)
            if sidecar is None:
                return
            # one that may not have its way is refused with all of its links
            await self._deciding.terms_of(path, None, sidecar[0])
        except SidecarError as error:
            if not await self._has_been_taken(drop, *(partial(parse_magnet, one) for one in links.values())):
                await self._refuse(drop, str(error))
            return
        verdicts = await self._take_links(path, links, sidecar[0])
        refused = [(line, str(one)) for line, one in verdicts if isinstance(one, _THEIR_FAULT)]
        trouble = next((str(one) for _, one in verdicts if isinstance(one, StorageError)), None)
        if trouble is not None:
            # those that went well are known when it is tried again
            if self.state.trouble(name, stamp, now):
                self._warn("drop.waiting", path=path, reason=trouble)
            return
        told_of = [f"line {line}: {one_line(reason)}" for line, reason in refused]
        if refused and not await self._hooks_know(drop, _in_short(told_of)):
            return
        await self._tell_refused(path, refused)
        taken = [one for _, one in verdicts if not isinstance(one, Exception)]
        if not taken:
            await self._set_refused_aside(drop, told_of)
            return
        await self._set_lines_aside(path, [links[line] for line, _ in refused], told_of)
        for result in taken:
            (log.debug if result.kind == "known" else log.info)("drop.link", path=path, **_facts(result))
        await self._put_away(drop, *taken)
        await self._let_go(
            name, before, [one.info_hash for one in taken], "its link was taken out of the file"
        )

    async def _tell_refused(self, path: str, refused: Sequence[tuple[int, str]]) -> None:
        """By line. Of very many, so others have their turn in between; who only reads along hears of the first ones:
        one file may hold more lines than are remembered of all that happens.
        """
        for count, (line, reason) in enumerate(refused):
            warn = self._warn if count < REASONS_SHOWN else log.warning
            warn("drop.rejected", path=f"{path}:{line}", reason=one_line(reason))
            await trio.lowlevel.checkpoint()

    async def _take_links(
        self, path: str, links: Mapping[int, str], sidecar: Sidecar | None
    ) -> list[tuple[int, AddResult | MagnetError | SidecarError | StorageError]]:
        """By line. Many at once, so that they share what makes them durable."""
        waiting = iter(links.items())
        verdicts: list[tuple[int, AddResult | MagnetError | SidecarError | StorageError]] = []

        async def work() -> None:
            for line, link in waiting:
                try:
                    source = parse_magnet(link) if self._deciding.looks_inside else None
                    terms = await self._deciding.terms_of(path, source, sidecar)
                    taken = await self._session.add_magnet(link, terms)
                except (MagnetError, SidecarError, StorageError) as error:
                    verdicts.append((line, error))
                    # who is refused at once has waited for nothing
                    await trio.lowlevel.checkpoint()
                else:
                    verdicts.append((line, taken))

        async with trio.open_nursery() as nursery:
            for _ in range(min(LINKS_AT_ONCE, len(links))):
                nursery.start_soon(work)
        return sorted(verdicts, key=lambda verdict: verdict[0])

    async def _set_lines_aside(self, path: str, lines: Sequence[str], reasons: Sequence[str]) -> None:
        """What could not be used of a file whose other lines could."""
        if not lines:
            return
        try:
            await self.in_thread(set_lines_aside, path, list(lines), list(reasons), self.terms.root)
        except OSError as error:
            self._cannot("write", path, error)

    async def _put_away(self, drop: _Drop, *results: AddResult) -> None:
        name, path, stamp, _ = drop
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
            to = await self._settle(drop, None if self.terms.after_add == "delete" else ACCEPTED)
        except OSError as error:
            self._cannot(self.terms.after_add, path, error)
        else:
            if to is None:
                self.state.unsteady(name, trio.current_time())
                return
            self.state.left(name)
            log.info("drop.accepted", path=path, moved_to=to or None, **facts)

    async def _refuse(self, drop: _Drop, *reasons: str) -> None:
        if await self._hooks_know(drop, _in_short(reasons)):
            await self._set_refused_aside(drop, reasons)

    async def _set_refused_aside(self, drop: _Drop, reasons: Sequence[str]) -> None:
        name, path, stamp, _ = drop
        reason = _in_short(reasons)
        self.state.kept(name, stamp)
        try:
            to = await self._settle(drop, REJECTED, "\n".join(map(one_line, reasons)))
        except OSError as error:
            self._warn("drop.rejected", path=path, reason=reason)
            self._cannot("move", path, error)
            self._note_rejected(path, reason, path)
        else:
            if to is None:
                self.state.unsteady(name, trio.current_time())
                return
            self.state.left(name)
            self._warn("drop.rejected", path=path, reason=reason, moved_to=to)
            self._note_rejected(path, reason, to)

    def _note_rejected(self, path: str, reason: str, to: str) -> None:
        if self.terms.receipts and self._receipts is not None:
            self._receipts.rejected(path, reason, to)

    async def _hooks_know(self, drop: _Drop, reason: str) -> bool:
        """Before the file is touched, or a crash in between would leave nobody told. False: not yet."""
        name, path, stamp, _ = drop
        if self._tell_hooks is None:
            return True
        try:
            to = await self.in_thread(place_aside, path, REJECTED, self.terms.root)
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
            self._warn("drop.waiting", path=path, reason=what)
        return durable

    async def _settle(self, drop: _Drop, subfolder: str | None, reason: str = "") -> str | None:
        """Where it went ("": deleted), None when another file is there by now. `OSError`."""
        return await self._put_aside(Put(drop.name, drop.stamp, subfolder, reason, drop.sidecar))

    def _cannot(self, what: str, path: str, error: OSError) -> None:
        if self._once(f"cannot {what}"):
            self._warn(
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


def _in_short(reasons: Sequence[str]) -> str:
    return one_line("; ".join(reasons[:REASONS_SHOWN]))


def _facts(result: AddResult) -> dict[str, str]:
    return {"info_hash": result.info_hash.hex(), "name": result.name, "was": result.kind}


def _remedy(error: OSError, folder: str) -> str:
    if error.errno == errno.EROFS:
        return f'run "systemctl edit bittern" and add a [Service] section with ReadWritePaths={folder}'
    return f'let bittern write to {folder}, or watch it with after_add = "keep"'
