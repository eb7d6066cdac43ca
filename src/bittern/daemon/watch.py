"""The watched folders: the listing is the truth, hints only say when to look.

Each folder has one task, its own threads and its own `FolderState`, so that a dead mount holds up nobody else; and its
own supervision: a bug that one trips lets that one pause.
A folder is swept at the start, at each hint, after `SWEEP_S` in any case, and sooner while something in it is
unsettled or the folder is missing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import trio

from bittern.daemon.chronicle import Chronicle
from bittern.daemon.config import Config, Watch
from bittern.daemon.config_reader import one_line
from bittern.daemon.drop_terms import TakesTorrents, Terms, WritesReceipts
from bittern.daemon.folder_memory import FolderMemory
from bittern.daemon.hints import Hints
from bittern.daemon.intake import AT_ONCE, Intake, TellsHooks
from bittern.daemon.listing import DEEPEST, SUBFOLDERS_AT_MOST, list_folder, list_subfolders, make_folder
from bittern.daemon.logs import get_log
from bittern.daemon.looks import told
from bittern.daemon.profiles import Profiles
from bittern.daemon.sweep import BAFFLED_S, FolderState, Identity, Listing
from bittern.engine.supervision import Supervisor, is_bug
from bittern.terms import InfoHash

SWEEP_S: Final = 60.0
"""A folder without working hints is swept so often."""

MISSING_S: Final = 5.0
"""A folder that is away is looked for so often."""

MIN_GAP_S: Final = 0.05
"""Between two sweeps of a folder, however many hints come; a large one gets three times what listing it
took."""

SERVED_WITHIN_S: Final = 5.0
"""The daemon does not wait longer for a first listing: a dead mount must not keep it from being ready."""

log = get_log()


LATE_S: Final = 5.0

CROWD: Final = 100
"""Of so many files that are taken in together each that moves would give a hint: three threads would wake for it, and
the folder is listed afterwards anyway. Of a thousand drops hints took a fifteenth of the CPU time.
"""


class Watcher:
    """Serves all watched folders; an ENGINE service."""

    def __init__(
        self,
        config: Config,
        session: TakesTorrents,
        supervisor: Supervisor,
        *,
        tell_hooks: TellsHooks | None = None,
        receipts: WritesReceipts | None = None,
        chronicle: Chronicle | None = None,
        sweep_s: float = SWEEP_S,
    ) -> None:
        self._session = session
        self._supervisor = supervisor
        self._tell_hooks = tell_hooks
        self._receipts = receipts
        self._chronicle = chronicle
        self._sweep_s = sweep_s
        self._hints = Hints()
        self._memory = FolderMemory(Path(config.paths.state))
        self._terms = _terms_of(config)
        self._folders: dict[str, _Folder] = {}
        self._too_many: set[str] = set()
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Started when each folder has been listed once, or found missing."""
        self._hints = Hints()
        await trio.to_thread.run_sync(self._memory.load)
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                for terms in self._terms.values():
                    self._open(terms)
                # One that falls at once is not waited for.
                with trio.move_on_after(SERVED_WITHIN_S):
                    for folder in list(self._folders.values()):
                        await folder.served.wait()
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            self._folders.clear()
            with trio.move_on_after(2, shield=True):
                await trio.to_thread.run_sync(self._hints.stop, abandon_on_cancel=True)

    def poke(self) -> None:
        """Sweeps every folder now."""
        for folder in self._folders.values():
            folder.poke()

    async def pulse(self) -> None:
        """Returns when no folder is late to look again. One that is in the middle of it may be a dead mount's, and one
        that fell is started again in its time: the process is not ended for those.
        """
        while self._late():  # noqa: ASYNC110 — whatever sets an event may be what is broken
            await trio.sleep(1)

    def _late(self) -> bool:
        now = trio.current_time()
        return any(now > folder.due_at + LATE_S for folder in self._folders.values())

    def apply(self, config: Config) -> None:
        """Takes up folders and terms of a new configuration; what they have in hand goes on."""
        self._terms = _terms_of(config)
        for path, folder in list(self._folders.items()):
            terms = self._terms_at(path, folder.terms.root)
            if terms is None:
                self._folders.pop(path).scope.cancel()
            elif folder.terms != terms:
                folder.apply(terms)
        for path, terms in self._terms.items():
            if path not in self._folders:
                self._open(terms)

    def _terms_at(self, path: str, root: str) -> Terms | None:
        """Of a watched folder, or of one below; None: it is not watched any more."""
        if not root:
            return self._terms.get(path)
        above = self._terms.get(root)
        return replace(above, folder=path, root=root) if above is not None and above.subfolders else None

    def _lies_below(self, terms: Terms, names: Sequence[str]) -> None:
        """Those are the sub-folders of a folder now; each is served as a folder of its own."""
        root = terms.root or terms.folder
        paths = {f"{terms.folder.rstrip('/')}/{name}" for name in names}
        for path, folder in list(self._folders.items()):
            gone = folder.terms.root == root and path not in paths and path.rpartition("/")[0] == terms.folder
            if gone:
                for below in [one for one in self._folders if one == path or one.startswith(f"{path}/")]:
                    self._folders.pop(below).scope.cancel()
        for path in sorted(paths - self._folders.keys()):
            if sum(folder.terms.root == root for folder in self._folders.values()) >= SUBFOLDERS_AT_MOST:
                if root not in self._too_many:
                    self._too_many.add(root)
                    reason = (
                        f"it has more than {SUBFOLDERS_AT_MOST} sub-folders; the others are not looked into"
                    )
                    log.warning("watch.too_many", folder=root, reason=reason)
                return
            found = self._terms_at(path, root)
            if found is not None and path.count("/") - root.count("/") <= DEEPEST:
                self._open(found)

    def _open(self, terms: Terms) -> None:
        if self._nursery is not None:
            folder = _Folder(
                terms,
                self._lies_below,
                self._session,
                self._supervisor,
                self._tell_hooks,
                self._receipts,
                self._chronicle,
                self._hints,
                self._memory,
                self._sweep_s,
            )
            self._folders[terms.folder] = folder
            self._nursery.start_soon(folder.run)


class _Folder:
    """One watched folder."""

    def __init__(
        self,
        terms: Terms,
        lies_below: Callable[[Terms, Sequence[str]], None],
        session: TakesTorrents,
        supervisor: Supervisor,
        tell_hooks: TellsHooks | None,
        receipts: WritesReceipts | None,
        chronicle: Chronicle | None,
        hints: Hints,
        memory: FolderMemory,
        sweep_s: float,
    ) -> None:
        self.terms = terms
        self._lies_below = lies_below
        self.scope = trio.CancelScope()
        self.served = trio.Event()
        self.due_at = math.inf
        """When it is to be looked at again; infinity while that is under way, or after a fall."""
        self._session = session
        self._supervisor = supervisor
        self._tell_hooks = tell_hooks
        self._receipts = receipts
        self._chronicle = chronicle
        self._warn = (chronicle or Chronicle(log)).warn
        self._hints = hints
        self._memory = memory
        self._sweep_s = sweep_s
        self._intake: Intake
        self._listed: Listing | None
        self._hinted: Identity | None
        self._hint = trio.Event()
        self._hint_comes = False
        """From the thread that gives hints."""
        self._away = False
        self._new = not terms.root
        self._baffling: dict[InfoHash, float] = {}
        """Torrents whose removal tripped a bug, and when it is tried again."""
        self._token = trio.lowlevel.current_trio_token()

    def poke(self) -> None:
        self._hint.set()

    def apply(self, terms: Terms) -> None:
        """What was kept under the old terms is looked at again under the new ones."""
        if terms.subfolders != self.terms.subfolders:
            # the kernel is asked anew: for hints of folders too, or no more
            self._hinted = None
        self.terms = terms
        self._intake = self._new_intake()
        self.poke()

    async def run(self) -> None:
        """Until its scope is cancelled. A bug costs a pause of this folder: no other one waits for it."""
        with self.scope:
            where = f"watched folder {one_line(self.terms.folder)}"
            await self._supervisor.serve(where, self._serve, dispensable=True)
        with trio.move_on_after(2, shield=True):
            await trio.to_thread.run_sync(self._hints.unwatch, self.terms.folder, abandon_on_cancel=True)

    async def _serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._begin()
        try:
            while True:
                self._hint = trio.Event()
                self.due_at = math.inf
                pause_s = await self._sweep()
                self.served.set()
                task_status.started()
                self.due_at = trio.current_time() + max(pause_s, self._gap_s)
                # Counted from here: the hint that ends a quiet time is followed at once.
                not_before = trio.current_time() + self._gap_s
                with trio.move_on_after(pause_s):
                    await self._hint.wait()
                await trio.sleep_until(not_before)
        finally:
            self.due_at = math.inf
            self.served.set()

    def _begin(self) -> None:
        """Knowing nothing of what lies there: what is known may be what it fell over."""
        self._intake = self._new_intake()
        self._listed = self._hinted = None
        self._gap_s = MIN_GAP_S

    def _new_intake(self) -> Intake:
        state = FolderState(remembered=self._memory.of(self.terms.folder))
        return Intake(
            self.terms,
            state,
            self._session,
            self._supervisor,
            self._tell_hooks,
            self._receipts,
            self._chronicle,
        )

    def _poke_from_thread(self) -> None:
        # After what is on its way, or was heard and not followed yet, the folder is listed: that shows this change too.
        # Each file that is dropped, and then moved, gives hints, and to wake the loop for one costs more than a look.
        if self._hint_comes or self._hint.is_set():
            return
        self._hint_comes = True
        try:
            self._token.run_sync_soon(self._hear)
        except trio.RunFinishedError:
            pass

    def _hear(self) -> None:
        self._hint_comes = False
        self.poke()

    # ---------------------------------------------------------------------------------------- one sweep

    async def _sweep(self) -> float:
        """Lists, decides, acts; returns in how many seconds to sweep again unless hinted."""
        intake = self._intake
        folder = self.terms.folder
        started_at = trio.current_time()
        try:
            if self._new:
                # Only now: a folder that vanishes later is to come back as it was, not to be made anew.
                self._new = False
                await intake.in_thread(make_folder, folder)
            listing = await intake.in_thread(list_folder, folder, self.terms.root, self._listed)
            if listing.identity != self._hinted:
                # From here on a change gives a hint, so what came before it must be listed after it.
                await self._watch_anew(listing.identity)
                listing = await intake.in_thread(list_folder, folder, self.terms.root, listing)
            self._listed = listing
            if self.terms.subfolders:
                self._lies_below(self.terms, await intake.in_thread(list_subfolders, folder, self.terms.root))
        except OSError as error:
            await self._is_away(error)
            return MISSING_S
        self._is_back()
        self._gap_s = max(MIN_GAP_S, 3 * (trio.current_time() - started_at))
        self.served.set()
        plan = intake.state.sweep(listing, self._tied(), trio.current_time())
        for name, kind in plan.odd:
            self._warn("drop.ignored", path=str(Path(folder, name)), reason=f"a {kind}, not a file")
        if len(plan.look) >= CROWD and self.terms.after_add != "keep":
            await self._watch_no_more()
            # what comes meanwhile is seen by the next sweep, which watches again before it lists
            self.poke()
        await self._take_in(intake, plan.look)
        await self._let_go(plan.gone)
        if tied := self._tied():
            await self._memory.remember(folder, intake.state.home(tied))
        return max(0.0, min(self._sweep_s, intake.state.next_at() - trio.current_time()))

    async def _take_in(self, intake: Intake, names: Sequence[str]) -> None:
        waiting = iter(names)

        async def work() -> None:
            for name in waiting:
                await intake.take_in(name)

        async with trio.open_nursery() as nursery:
            for _ in range(min(AT_ONCE, len(names))):
                nursery.start_soon(work)

    async def _let_go(self, gone: Sequence[InfoHash]) -> None:
        for info_hash in gone:
            if self._baffling.get(info_hash, -math.inf) < trio.current_time():
                await self._supervisor.contain(
                    f"removing {info_hash.hex()}, whose .torrent is gone from {self.terms.folder}",
                    partial(self._remove, info_hash),
                    partial(self._cannot_remove, info_hash),
                    remedy="that torrent stays, and its removal is tried again in an hour",
                )

    async def _remove(self, info_hash: InfoHash) -> None:
        await self._session.remove(info_hash, reason="its .torrent was removed from the watch folder")

    def _cannot_remove(self, info_hash: InfoHash, error: Exception) -> None:
        if is_bug(error):
            self._baffling[info_hash] = trio.current_time() + BAFFLED_S
        else:
            # It is still tied, and still missing: the next sweep tries again.
            log.warning("watch.cannot_remove", info_hash=info_hash, reason=str(error))

    def _tied(self) -> Mapping[str, tuple[InfoHash, ...]]:
        if not self.terms.tie:
            return {}
        prefix = self.terms.folder.rstrip("/") + "/"
        cut = len(prefix)
        return {
            path[cut:]: info_hashes
            for path, info_hashes in self._session.tied().items()
            if path.startswith(prefix) and "/" not in path[cut:]
        }

    async def _watch_anew(self, identity: Identity) -> None:
        self._hinted = identity
        watch = partial(
            self._hints.watch, self.terms.folder, self._poke_from_thread, folders=self.terms.subfolders
        )
        try:
            await trio.to_thread.run_sync(watch, abandon_on_cancel=True)
        except OSError as error:
            log.warning(
                "watch.no_hints",
                folder=self.terms.folder,
                reason=told(error),
                remedy=f"it is swept every {self._sweep_s:g} s instead; "
                "sysctl fs.inotify.max_user_watches and max_user_instances raise the limits",
            )

    async def _is_away(self, error: OSError) -> None:
        self._intake.state.away()
        if not self._away and not self.terms.root:
            log.warning(
                "watch.missing",
                folder=self.terms.folder,
                reason=told(error),
                remedy=f"make it, mount it, or let bittern read it; it is looked for every {MISSING_S:g} s",
            )
        self._away = True
        await self._watch_no_more()

    async def _watch_no_more(self) -> None:
        """Until it is listed next."""
        if self._hinted is not None:
            self._hinted = None
            await trio.to_thread.run_sync(self._hints.unwatch, self.terms.folder, abandon_on_cancel=True)

    def _is_back(self) -> None:
        if self._away and not self.terms.root:
            log.info("watch.returned", folder=self.terms.folder)
        self._away = False


def _terms_of(config: Config) -> dict[str, Terms]:
    profiles = Profiles.of(config)
    return {str(watch.folder): _terms(watch, config, profiles) for watch in config.watch}


def _terms(watch: Watch, config: Config, profiles: Profiles) -> Terms:
    return Terms(
        folder=str(watch.folder),
        after_add=watch.after_add,
        downloads=str(watch.downloads or config.paths.downloads),
        incomplete=str(config.paths.incomplete),
        label=watch.label,
        priority=watch.priority,
        tie=watch.tie,
        receipts=watch.receipts,
        subfolders=watch.subfolders,
        sidecar_grace_s=watch.sidecar_grace,
        profiles=profiles,
    )
