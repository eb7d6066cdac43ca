"""Moves torrents from state to state: what follows when one is checked, fails, recovers, is downloaded.

Every transition is one synchronous step; what must be durable around it is awaited in the torrent's own job, which
is contained: a torrent that cannot go on ends in `ERROR` with a time to try again, and nobody else notices.
"""

import random
import time
from collections.abc import Callable, Mapping
from typing import Final

import trio

from bittern.discovery.announcer import Announcer
from bittern.disk.disk import DiskGate
from bittern.disk.storage import Storage
from bittern.engine.apart import Apart
from bittern.engine.check_queue import CheckQueue
from bittern.engine.completion import Completion
from bittern.engine.edits import Edits
from bittern.engine.events import (
    Added,
    Arrived,
    Completed,
    Downloaded,
    PeerBanned,
    Sink,
    Started,
    new_event_id,
)
from bittern.engine.failures import Failures
from bittern.engine.findings import Findings
from bittern.engine.flusher import Flusher
from bittern.engine.guard import Guard
from bittern.engine.holds import Holds
from bittern.engine.last_steps import LastSteps
from bittern.engine.magnets import Magnets
from bittern.engine.moving import Moving
from bittern.engine.opening import Opened, Opener, unsorted
from bittern.engine.peer_sources import PeerSources
from bittern.engine.queue import Queue
from bittern.engine.renaming import Renames
from bittern.engine.seeding import Seeding
from bittern.engine.supervision import Supervisor
from bittern.engine.swarms import Swarms
from bittern.engine.territory import Territory
from bittern.engine.torrent import State, Torrent
from bittern.engine.totals import Totals
from bittern.engine.whereabouts import Whereabouts
from bittern.errors import MetainfoError
from bittern.terms import InfoHash

LAST_PIECE: Final = frozenset({State.DOWNLOADING, State.HELD})
"""A torrent may get its last piece in these; in others it is found out later that it has."""

GOING_ON: Final = {
    "metadata": State.METADATA,
    "downloading": State.DOWNLOADING,
    "complete": State.SEEDING,
}


class Lifecycle:
    """The state machine's driver. What is declared here without a value is set by the session."""

    swarms: Swarms
    announcer: Announcer
    sources: PeerSources
    flusher: Flusher
    seeding: Seeding
    guard: Guard
    magnets: Magnets
    queue: Queue
    totals: Totals

    def __init__(
        self,
        *,
        disk: DiskGate,
        opener: Opener,
        supervisor: Supervisor,
        territory: Territory,
        sink: Sink,
        rng: random.Random,
        torrents: Mapping[InfoHash, Torrent],
    ) -> None:
        self._torrents = torrents
        self.checks = CheckQueue()
        self.disk = disk
        self.opener = opener
        self.supervisor = supervisor
        self.sink = sink
        self.rng = rng
        self.asked_for: Callable[[Added | Arrived | Completed], bool] = lambda _: True
        """Does somebody have to hear of that event for sure, and calls `delivered`? Else no record has to keep it."""
        self.last_steps = LastSteps(self, Completion(self))
        self.apart = Apart(self)
        self.edits = Edits()
        self.whereabouts = Whereabouts(self, territory, torrents)
        self.holds = Holds(self)
        self.moving = Moving(self, territory)
        self.renames = Renames(self, territory)
        self.failures = Failures(self)
        self.findings = Findings(self)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The nursery of the completion jobs."""
        async with trio.open_nursery() as nursery:
            self.last_steps.nursery = self.apart.nursery = self.moving.nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self.last_steps.nursery = self.apart.nursery = self.moving.nursery = None

    # -- going on -------------------------------------------------------------------------------------------

    def go_on(self, torrent: Torrent) -> None:
        """It is checked, and its record says how far it is: it runs, unless something keeps it waiting."""
        if not self.last_steps.under_way(torrent) and _outgrown(torrent):
            # while it was moved
            torrent.state = State.QUEUED
            self.reselected(torrent)
            return
        waits = self.holds.state_of(torrent)
        torrent.ready = waits is State.QUEUED
        if waits is not None:
            torrent.state = waits
            self.halt(torrent)
            self.moving.take_up(torrent)
            return
        torrent.state = GOING_ON[torrent.record.state]
        if torrent.state is State.DOWNLOADING and not torrent.record.started:
            self._tell_started(torrent)
        self.sources.add(torrent)
        if torrent.state is State.METADATA or (torrent.resting and not torrent.complete):
            self.swarms.wake(torrent)
        self.moving.take_up(torrent)

    def _tell_started(self, torrent: Torrent) -> None:
        now = time.time()
        torrent.record.started, torrent.record.started_event_id = True, new_event_id(now, self.rng)
        self.flusher.mark(torrent)
        self.sink(Started(facts=torrent.facts(), event_id=torrent.record.started_event_id, at_wall=now))

    def halt(self, torrent: Torrent) -> None:
        """Nobody is talked to about it any more, until it goes on."""
        torrent.record.started = False
        self.failures.not_again(torrent)
        self.swarms.stop(torrent)
        self.sources.remove(torrent)

    def reselected(self, torrent: Torrent) -> None:
        """Its record says that other files are wanted than before: its bytes are sorted anew, and it goes on with
        those. While something is under way that must be ended first, this is asked once more at its end.
        """
        record = torrent.record
        if record.state == "metadata" or self._gone(torrent) or self._ends_something(torrent):
            return
        if record.state == "complete" and not torrent.satisfied_by(torrent.pieces):
            record.growth = record.growth or "wanted"
            self._halt_for_check(torrent)
            torrent.have, record.state = torrent.pieces, "downloading"
            torrent.believed = True
            self.announcer.wants_more(torrent)
        if torrent.state is State.HELD:
            # how much room it needs is another question now
            self.guard.forget_need(torrent)
        if torrent.state not in {State.STOPPED, State.OFFLINE, State.ERROR}:
            self._halt_for_check(torrent)
            self.checks.submit_again(torrent)

    def _ends_something(self, torrent: Torrent) -> bool:
        return torrent.state is State.MOVING or self.last_steps.under_way(torrent)

    def _halt_for_check(self, torrent: Torrent) -> None:
        self.swarms.stop(torrent)
        torrent.ready = False
        if torrent.state not in {State.STOPPED, State.OFFLINE, State.ERROR}:
            torrent.state = State.QUEUED

    def recheck(self, torrent: Torrent) -> bool:
        """Every piece is to be hashed again; peers wait meanwhile. False while the torrent is being moved, and before
        its pieces are known.
        """
        if (
            torrent.state is State.MOVING
            or self.last_steps.under_way(torrent)
            or torrent.record.state == "metadata"
        ):
            return False
        if torrent.state is State.OFFLINE:
            # when its disk is back
            self.checks.want_anew(torrent)
            return True
        self.swarms.stop(torrent)
        torrent.ready = False
        if torrent.state is not State.ERROR:
            torrent.state = State.QUEUED
        self.checks.submit_anew(torrent)
        return True

    def finishing(self, torrent: Torrent) -> bool:
        """Are its last steps under way?"""
        return self.last_steps.under_way(torrent)

    def place_changed(self, torrent: Torrent) -> None:
        """What kept it from running in its old folder is of no account any more."""
        self.guard.forget(torrent)
        self.findings.forget(torrent)

    async def relocate(self, torrent: Torrent, folder: str) -> None:
        """Moves a seeding torrent's files to that folder; `StorageError`: it stays."""
        await self.moving.relocate(torrent, folder)

    async def take_stock(self, torrent: Torrent) -> None:
        """Ends what a stop interrupted: a renaming, and a move if it can only be ended."""
        if torrent.record.renaming:
            await self.renames.settle(torrent)
        if torrent.record.moving_to:
            await self.moving.take_stock(torrent)

    # -- downloading ----------------------------------------------------------------------------------------

    def piece_written(self, torrent: Torrent, index: int, storage: Storage, files: range) -> None:
        """A piece is verified and written."""
        if torrent.have is None or self._gone(torrent):
            return
        had_all = torrent.complete
        torrent.have.set(index)
        if torrent.record.growth == "wanted":
            torrent.record.growth, torrent.record.completed_reason = "got", ""
        self.bytes_written(torrent, storage, files)
        if not had_all and torrent.complete and (torrent.state in LAST_PIECE or torrent.ready):
            self._downloaded(torrent)
        self.failures.wrote(torrent)

    def bytes_written(self, torrent: Torrent, storage: Storage, files: range) -> None:
        """Something was written to these files: the next flush syncs them and notes how they look."""
        torrent.unsynced_storage = storage
        if torrent.unsynced_files is None:
            torrent.unsynced_files = set(files)
        else:
            torrent.unsynced_files.update(files)
        self.flusher.mark(torrent)

    def payload_moved(self, torrent: Torrent) -> None:
        """Its counters are out of date in the record."""
        self.flusher.mark(torrent)

    def uploaded(self, torrent: Torrent, now: float) -> None:
        self.seeding.uploaded(torrent, now)
        self.queue.progress(torrent, now)

    def got(self, torrent: Torrent, now: float) -> None:
        self.queue.progress(torrent, now)

    def _downloaded(self, torrent: Torrent) -> None:
        """The last piece is verified and written; told from here, because its swarm may be gone by now."""
        torrent.record.completed_reason = "downloaded"
        self.last_steps.downloaded(torrent)
        self.sink(Downloaded(facts=torrent.facts(), at_wall=time.time()))

    def stop(self) -> None:
        """Bittern stops: no move is begun any more."""
        self.moving.nursery = None

    def moves_on(self, torrent: Torrent) -> None:
        """Its files are moved from now on, and served meanwhile: after a restart nobody knows of it yet."""
        if self.holds.state_of(torrent) is None:
            self.sources.add(torrent)

    def data_moved(self, torrent: Torrent, opened: Opened) -> None:
        """The torrent's files lie elsewhere now."""
        self.swarms.data_moved(torrent, opened)

    def committed(self, torrent: Torrent) -> None:
        """The record says complete."""
        self.apart.drop_soon(torrent)
        self.whereabouts.leave_left(torrent)
        if torrent.record.completed_reason == "downloaded" and torrent.whole:
            self.announcer.completed(torrent)
        self.go_on(torrent)

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""
        return self._torrents.get(torrent.info_hash) is torrent

    def _gone(self, torrent: Torrent) -> bool:
        """Was it removed meanwhile? Then what was under way for it comes to nothing."""
        return not self.known(torrent)

    def forget(self, torrent: Torrent) -> None:
        """The torrent is being removed: it stops here and now, and nothing under way for it counts any more. Its
        places are its own until its record is gone.
        """
        self.failures.forget(torrent)
        self.edits.forget(torrent.info_hash)
        self.findings.forget(torrent)
        self.apart.forget(torrent)
        self.moving.forget(torrent)
        self.guard.forget(torrent)
        self.checks.forget(torrent)
        self.moving.call_off(torrent)
        self.swarms.stop(torrent)
        self.sources.remove(torrent)

    async def metadata_found(self, torrent: Torrent, info: bytes) -> None:
        """Peers have given the torrent's info dictionary, and its hash is right."""
        await self.magnets.found(torrent, info)

    def useless_metadata(self, torrent: Torrent, error: MetainfoError) -> None:
        """It is right, and we can do nothing with it: perhaps a later version can."""
        self.failures.useless_metadata(torrent, error)

    def described(self, torrent: Torrent) -> None:
        """Its record says what it is: it goes the way of all torrents from here."""
        self.swarms.stop(torrent)
        self.failures.not_again(torrent)
        self.sources.told_private(torrent)
        self.whereabouts.claim(torrent)
        if torrent.state not in {State.STOPPED, State.OFFLINE}:
            torrent.state = State.QUEUED
            self.checks.submit(torrent)

    def peer_banned(self, torrent: Torrent, host: str, piece: int | None) -> None:
        self.sink(PeerBanned(facts=torrent.facts(), host=host, piece=piece))

    def hungry(self, torrent: Torrent) -> None:
        self.sources.need_peers(torrent)

    # -- failing ----------------------------------------------------------------------------------------------

    def torrent_failed(self, torrent: Torrent, error: Exception, *, sure: bool = False) -> None:
        """It cannot go on. `sure`: its disk is there."""
        self.failures.failed(torrent, error, sure=sure)

    def swarm_fell(self, torrent: Torrent, error: Exception) -> None:
        """A swarm ended by an error."""
        self.failures.fell(torrent, error)


def _outgrown(torrent: Torrent) -> bool:
    """Does it count as complete, and more is wanted than it has?"""
    if torrent.have is None or torrent.record.state != "complete":
        return False
    return not torrent.satisfied_by(torrent.have) or unsorted(torrent.record)
