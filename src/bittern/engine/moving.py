"""Carries torrents' files from folder to folder: of finished ones, of a seed rule, of who asks for it.

Where a torrent is to lie is a wish in its record (`moving_to`) until it lies there, so that a crash costs nothing but
time. What is complete is served from the old folder meanwhile; what is not rests, for what arrives would be written to
files that are gone. A copy goes slice by slice, and gives way: while peers are served it takes half of the time.
"""

import contextlib
import time
from collections.abc import Iterator
from typing import Final, Protocol

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.mover import Move, all_there
from bittern.disk.resume import ResumeRecord
from bittern.engine.check_queue import CheckQueue
from bittern.engine.events import Moved, Sink, Warned
from bittern.engine.flusher import Flusher
from bittern.engine.holds import Holds
from bittern.engine.opening import Opened, Opener
from bittern.engine.supervision import Supervisor, is_bug
from bittern.engine.swarms import Swarms
from bittern.engine.territory import Territory
from bittern.engine.torrent import State, Torrent
from bittern.engine.whereabouts import Whereabouts
from bittern.errors import PlaceGone, StorageError

COPIES_AT_ONCE: Final = 3
"""A large one does not hold up small ones behind it, and a spinning disk does not seek all the time."""

BUSY_PER_S: Final = 100_000.0
"""With so much going over the wire a copy takes breaks."""

BREAK_MOST_S: Final = 1.0

ENDS_WITHIN_S: Final = 30.0
"""Who removes a torrent waits so long for its copy to end: on a dead mount it may never."""


class MovingHost(Protocol):
    """What moving needs of the lifecycle."""

    disk: DiskGate
    opener: Opener
    flusher: Flusher
    checks: CheckQueue
    holds: Holds
    supervisor: Supervisor
    sink: Sink
    swarms: Swarms
    whereabouts: Whereabouts

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    def finishing(self, torrent: Torrent) -> bool:
        """Are the last steps of its download under way?"""

    def place_changed(self, torrent: Torrent) -> None:
        """What kept it from running in its old folder is of no account any more."""

    def data_moved(self, torrent: Torrent, opened: Opened) -> None:
        """Its files lie elsewhere now: who reads them must read there."""

    def go_on(self, torrent: Torrent) -> None:
        """It runs, unless something keeps it waiting."""

    def torrent_failed(self, torrent: Torrent, error: Exception) -> None:
        """It cannot go on."""


class _Job:
    """One torrent's move under way."""

    __slots__ = ("called_off", "ended", "move", "relocates", "waiting")

    def __init__(self, *, relocates: bool) -> None:
        self.relocates = relocates
        self.called_off = False
        self.move: Move | None = None
        self.waiting = trio.CancelScope()
        """For its turn."""
        self.ended = trio.Event()


class Moving:
    """All moves. `reserve_bytes` stays free on the disk that a torrent is moved to."""

    def __init__(self, host: MovingHost, territory: Territory) -> None:
        self._host = host
        self._territory = territory
        self._jobs: dict[Torrent, _Job] = {}
        self._asked: set[Torrent] = set()
        """Somebody wants these moved, and no rule."""
        self._turns = trio.CapacityLimiter(COPIES_AT_ONCE)
        self.nursery: trio.Nursery | None = None
        """Where moves that somebody asks for are carried out."""
        self.reserve_bytes = 0

    # -- what others ask ------------------------------------------------------------------------------------

    def relocates(self, torrent: Torrent) -> bool:
        """Is it on its way to another folder? (Not: from the incomplete one to its own.)"""
        job = self._jobs.get(torrent)
        return job is not None and job.relocates

    def busy(self, torrent: Torrent) -> bool:
        """Is anything moved for it, or renamed?"""
        return torrent in self._jobs

    def call_off(self, torrent: Torrent) -> None:
        """Its move is undone as soon as may be, or ended if that is nearer."""
        if torrent in self._jobs:
            self._jobs[torrent].called_off = True
            self._jobs[torrent].waiting.cancel()

    async def ended(self, torrent: Torrent) -> None:
        """Returns when nothing is moved for it any more."""
        with trio.move_on_after(ENDS_WITHIN_S):
            while torrent in self._jobs:
                await self._jobs[torrent].ended.wait()

    def forget(self, torrent: Torrent) -> None:
        """It is removed."""
        self._asked.discard(torrent)

    async def ask(self, torrent: Torrent, folder: str) -> None:
        """It is to lie in that folder (an absolute path), from when it may be; durable when this returns.

        `StorageError`: it cannot.
        """
        record = torrent.record
        self._refuse(torrent, folder)
        before = record.folder, record.moving_to
        if folder == record.folder:
            self.call_off(torrent)
            await self.ended(torrent)
            self._drop_wish(torrent)
        elif self._nothing_lies_there(torrent):
            self._drop_wish(torrent)
            self._is_to_lie_in(torrent, folder)
        else:
            self._drop_wish(torrent)
            record.moving_to = folder
            self._host.whereabouts.claim(torrent)
        try:
            await self._host.flusher.durable(torrent)
        except StorageError:
            if self._host.known(torrent) and torrent not in self._jobs:
                self._drop_wish(torrent)
                record.folder, record.moving_to = before
                self._host.whereabouts.claim(torrent)
            raise
        if torrent.state is State.STOPPED or torrent not in self._host.checks:
            # else when it is checked
            if record.moving_to and self._host.known(torrent):
                self._asked.add(torrent)
            self.take_up(torrent)

    async def look_in(self, torrent: Torrent, folder: str) -> None:
        """Its files lie in that folder, says somebody: they are looked for there, and hashed."""
        record = torrent.record
        if record.state == "metadata":
            await self.ask(torrent, folder)
            return
        if torrent in self._jobs or self._host.finishing(torrent):
            raise StorageError(f"the files of {record.root!r} are being moved; try again when that is done")
        if folder != record.folder and self._host.whereabouts.contested(torrent, folder):
            raise StorageError(f"{record.root!r} in {folder} belongs to another torrent or to bittern itself")
        self._drop_wish(torrent)
        for left in {record.folder, record.incomplete_folder or record.folder}:
            self._territory.leave(left, record.root, record.info_hash)
        record.folder, record.incomplete_folder = folder, ""
        # what lies there was there before us
        record.made, record.stamps, record.clean = b"", (), True
        if record.state != "complete":
            torrent.have = None
        torrent.unsynced_storage = torrent.unsynced_files = None
        record.shared = False
        self._host.place_changed(torrent)
        self._host.whereabouts.claim(torrent)
        self._host.swarms.stop(torrent)
        torrent.ready, torrent.retry_at = False, None
        torrent.state = State.QUEUED
        self._host.checks.submit_anew(torrent)
        await self._host.flusher.durable(torrent)

    def _refuse(self, torrent: Torrent, folder: str) -> None:
        record = torrent.record
        if self._host.finishing(torrent) or (torrent in self._jobs and folder != record.folder):
            raise StorageError(f"the files of {record.root!r} are being moved; try again when that is done")
        if record.state == "metadata" or folder == record.folder:
            return
        if record.shared or self._territory.shared(record.folder, record.root, record.info_hash):
            raise StorageError(
                f"{record.root!r} in {record.folder} belongs to another torrent too, and stays there"
            )
        if self._host.whereabouts.contested(torrent, folder):
            raise StorageError(f"{record.root!r} in {folder} belongs to another torrent or to bittern itself")

    def _nothing_lies_there(self, torrent: Torrent) -> bool:
        """In its final folder; what there is lies in the other one until it is whole."""
        record = torrent.record
        if record.state == "metadata":
            return True
        if record.checked:
            return bool(record.incomplete_folder)
        # while it is checked for the first time nobody knows
        return torrent not in self._host.checks

    def found(self, torrent: Torrent, *, anything: bool) -> None:
        """What lies on disk was found out for the first time: a move that was asked for meanwhile is not needed where
        nothing lies in the final folder.
        """
        record = torrent.record
        if record.moving_to not in {"", record.folder} and (record.incomplete_folder or not anything):
            self._is_to_lie_in(torrent, record.moving_to)
            self._host.flusher.mark(torrent)

    def _is_to_lie_in(self, torrent: Torrent, folder: str) -> None:
        record = torrent.record
        self._territory.leave(record.folder, record.root, record.info_hash)
        record.folder, record.moving_to = folder, ""
        self._host.whereabouts.claim(torrent)

    def _drop_wish(self, torrent: Torrent) -> None:
        record = torrent.record
        wished, record.moving_to = record.moving_to, ""
        if wished and wished not in {record.folder, record.incomplete_folder}:
            self._territory.leave(wished, record.root, record.info_hash)

    def take_up(self, torrent: Torrent) -> None:
        """It may be that it is to lie elsewhere, and can go there now."""
        record = torrent.record
        if (
            not record.moving_to
            or record.incomplete_folder
            or record.moving_to == record.folder
            or torrent in self._jobs
            or self.nursery is None
            or torrent.state in {State.METADATA, State.OFFLINE, State.MOVING, State.CHECKING}
        ):
            return
        self.nursery.start_soon(self._relocate_told, torrent)

    async def _relocate_told(self, torrent: Torrent) -> None:
        try:
            await self._relocate(torrent)
        except StorageError as error:
            if self._host.known(torrent):
                self._host.sink(
                    Warned(what="torrent.move_failed", detail=f"{torrent.record.name!r}: {error}")
                )

    async def relocate(self, torrent: Torrent, folder: str) -> None:
        """Moves a seeding torrent's files to that folder; peers are served meanwhile. `StorageError`: it stays."""
        record = torrent.record
        if torrent.state is not State.SEEDING or folder == record.folder:
            return
        self._refuse(torrent, folder)
        record.moving_to = folder
        self._host.whereabouts.claim(torrent)
        await self._relocate(torrent)

    # -- moving ---------------------------------------------------------------------------------------------

    async def _relocate(self, torrent: Torrent) -> None:
        """`StorageError`: it stays where it is, and goes on there."""
        failures: list[Exception] = []
        if torrent in self._jobs or not self._host.known(torrent):
            return
        source, target = torrent.record.folder, torrent.record.moving_to
        with self.job(torrent, relocates=True) as job:
            try:
                await self._host.supervisor.contain(
                    f"move of {torrent.record.name!r}",
                    lambda: self._carry_over(torrent),
                    failures.append,
                    remedy="its files stay where they are",
                )
            finally:
                # also when the bug is raised on, as in tests
                job.relocates = False
                self._asked.discard(torrent)
                if failures and self._host.known(torrent):
                    with trio.CancelScope(shield=True):
                        await self._stay(torrent, job, target, failures[0])
        if not failures:
            self._host.whereabouts.leave_left(torrent)
            self._host.sink(Moved(facts=torrent.facts(), source=source, at_wall=time.time()))
            self.resume(torrent)
        elif is_bug(failures[0]):
            raise StorageError(f"a bug ended its move: {failures[0]!r}")
        else:
            raise StorageError(str(failures[0]))

    async def _carry_over(self, torrent: Torrent) -> None:
        record, host = torrent.record, self._host
        torrent.state = State.MOVING
        if record.state != "complete":
            # what has arrived is written first: it would be written to files that are gone
            live = host.swarms.live.get(torrent.info_hash)
            host.swarms.stop(torrent)
            if live is not None:
                await host.disk.settled(live.storage)
        await host.flusher.durable(torrent)
        opened = await host.disk.call(host.opener.open, record, record.folder, record.root)
        record.stamps = tuple(await host.disk.call(opened.storage.stamps))
        await host.flusher.durable(torrent)
        await self.carry(torrent, opened)

    async def _stay(self, torrent: Torrent, job: _Job, target: str, error: Exception) -> None:
        """A move failed. While every file is where it was, the torrent goes on there; else the move has to be ended."""
        record, host = torrent.record, self._host
        undone: list[bool] = []

        async def undo() -> None:
            undone.append(
                record.folder != target and (job.move is None or await host.disk.call(job.move.undo))
            )

        await host.supervisor.contain(
            f"move of {record.name!r}", undo, lambda _: None, remedy="it is ended at the next try"
        )
        if isinstance(error, PlaceGone) and error.path == record.folder:
            # its disk is away: it is moved when that is back
            host.torrent_failed(torrent, error)
        elif undone == [True]:
            self._drop_wish(torrent)
            host.flusher.mark(torrent)
            self.resume(torrent)
        else:
            host.torrent_failed(torrent, StorageError(f"its move to {target} could not be ended: {error}"))

    def resume(self, torrent: Torrent) -> None:
        """Nothing is moved for it any more."""
        if not self._host.known(torrent):
            return
        waits = self._host.holds.state_of(torrent)
        if waits is State.STOPPED or (torrent.record.state == "complete" and not torrent.error):
            self._host.go_on(torrent)
        else:
            # from here as after a restart, but nothing that is known has to be hashed
            torrent.ready, torrent.retry_at = False, None
            torrent.state = State.QUEUED
            self._host.checks.submit(torrent)

    async def take_stock(self, torrent: Torrent) -> None:
        """After a restart, or a failure: ends a move that can only be ended. One that can as well go on while peers
        are served does so later.
        """
        record, host = torrent.record, self._host
        source = record.incomplete_folder or record.folder
        opened = await host.disk.call(host.opener.open, record, source, record.root)
        if source == record.moving_to or not await host.disk.call(
            all_there, opened.paths, _sizes(record, opened), source, host.opener.places
        ):
            await self.carry(torrent, opened)

    async def carry(self, torrent: Torrent, opened: Opened | None = None) -> Opened:
        """Moves the files to `record.moving_to`, or goes on with a move that was interrupted."""
        record, host = torrent.record, self._host
        if opened is None:
            opened = await host.disk.call(host.opener.open, record, torrent.data_folder, record.root)
        source, target = record.incomplete_folder or record.folder, record.moving_to
        if source != target:
            opened.storage.close()
            with self.job(torrent, relocates=False) as job:
                host.opener.places.require_above(target)
                job.move = Move(
                    opened.paths,
                    source,
                    target,
                    record.root,
                    _sizes(record, opened),
                    places=host.opener.places,
                    # what goes to its final folder was given its room when it began
                    reserve_bytes=self.reserve_bytes if job.relocates else 0,
                    rights=opened.storage.rights,
                    made=record.made,
                )
                await self._steps(torrent, job, job.move)
            # all of it was synced before the move was noted, and no file is left at the old place to sync
            torrent.unsynced_storage = torrent.unsynced_files = None
        left = source if source != target else ""
        record.folder, record.incomplete_folder, record.moving_to = target, "", ""
        if self.relocates(torrent) and torrent not in self._asked:
            # the next rule that is met is another event
            record.seeding_done_id = ""
        if left:
            host.whereabouts.has_left(torrent, left)
        moved = await host.disk.call(host.opener.open, record, record.folder, record.root)
        host.data_moved(torrent, moved)
        await host.flusher.durable(torrent)
        return moved

    async def _steps(self, torrent: Torrent, job: _Job, move: Move) -> None:
        disk, taken = self._host.disk, False
        record = torrent.record
        try:
            while True:
                if (
                    job.relocates
                    and not move.deleting
                    and self._territory.shared(record.folder, record.root, record.info_hash)
                    and await disk.call(move.undo)
                ):
                    raise StorageError(
                        f"{record.root!r} in {record.folder} belongs to another torrent too by now, and stays there"
                    )
                if job.called_off and not move.deleting and await disk.call(move.undo):
                    raise StorageError("its move was called off")
                began = trio.current_time()
                if await disk.call_to_move(move.step) is None:
                    return
                if move.copied_bytes and not taken and not job.called_off:
                    # files that are only renamed wait for nobody, and who calls it off does not wait for others' copies
                    with trio.CancelScope() as job.waiting:
                        await self._turns.acquire_on_behalf_of(move)
                        taken = True
                elif self._is_busy():
                    await trio.sleep(min(trio.current_time() - began, BREAK_MOST_S))
        finally:
            move.pause()
            if taken:
                self._turns.release_on_behalf_of(move)

    def _is_busy(self) -> bool:
        now, swarms = trio.current_time(), self._host.swarms
        return swarms.down.rate(now) + swarms.up.rate(now) > BUSY_PER_S

    @contextlib.contextmanager
    def job(self, torrent: Torrent, *, relocates: bool) -> Iterator[_Job]:
        """The torrent's, one inside the other."""
        found = self._jobs.get(torrent)
        if found is not None:
            yield found
            return
        job = self._jobs[torrent] = _Job(relocates=relocates)
        try:
            yield job
        finally:
            del self._jobs[torrent]
            job.ended.set()


def _sizes(record: ResumeRecord, opened: Opened) -> tuple[int | None, ...]:
    """What each file has to have where it lies; None: it need not be there."""
    if len(record.stamps) == len(opened.paths):
        return tuple([None if stamp is None else stamp.size for stamp in record.stamps])
    return opened.layout.lengths
