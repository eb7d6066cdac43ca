"""Moves torrents from state to state: what follows when one is checked, fails, recovers, is downloaded.

Every transition is one synchronous step; what must be durable around it is awaited in the torrent's own job, which
is contained: a torrent that cannot go on ends in `ERROR` with a time to try again, and nobody else notices.
"""

import contextlib
import random
import time
from collections.abc import Mapping
from typing import Final

import trio

from bittern.discovery.announcer import Announcer
from bittern.disk.disk import DiskGate
from bittern.disk.parts import pack_files, unpack_files
from bittern.disk.resume import ResumeRecord
from bittern.disk.storage import FileStamp, Storage
from bittern.engine.check_queue import CheckQueue
from bittern.engine.completion import Completion
from bittern.engine.edits import Edits
from bittern.engine.events import (
    Checked,
    CompletedReason,
    Downloaded,
    PeerBanned,
    Sink,
    Started,
    new_event_id,
)
from bittern.engine.failures import Failures
from bittern.engine.flusher import Flusher
from bittern.engine.guard import Guard
from bittern.engine.holds import Holds
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
from bittern.errors import MetainfoError, StorageError
from bittern.proto.bitfield import Bitfield
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
        self._completion = Completion(self)
        self._finishing: set[Torrent] = set()
        """Those whose last steps are under way."""
        self._emptied: set[Torrent] = set()
        """None of their bytes lie apart any more; their records may not say so yet."""
        self.edits = Edits()
        self.whereabouts = Whereabouts(self, territory, torrents)
        self.holds = Holds(self)
        self.moving = Moving(self, territory)
        self.renames = Renames(self, territory)
        self.preallocate = False
        self.failures = Failures(self)
        self._unprepared: set[Torrent] = set()
        """Their files could not be made or written to when this was last tried."""
        self._jobs: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The nursery of the completion jobs."""
        async with trio.open_nursery() as nursery:
            self._jobs = self.moving.nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._jobs = self.moving.nursery = None

    # -- checked --------------------------------------------------------------------------------------------

    async def checked(
        self, torrent: Torrent, have: Bitfield, stamps: tuple[FileStamp | None, ...], hashed: int
    ) -> None:
        """What lies on disk is known: go on from there."""
        if self._gone(torrent):
            return
        record = torrent.record
        done = torrent.satisfied_by(have)
        if record.shared and not have.all:
            # before anything of it is believed: the next try has to find out anew
            raise StorageError(
                f"{record.root!r} in {record.folder} is shared with another torrent and has been changed; "
                "put it back, or remove the torrent and drop it again"
            )
        if torrent.first_check:
            record.made = _with_missing(record.made, stamps)
        torrent.believed = False
        # not what the record says: a first check whose consequences failed is still the first when tried again
        first, committed = torrent.first_check, record.state == "complete"
        # nor was anything downloaded under a record that had to be made anew
        found = first or not record.checked or record.completed_reason == "already-complete"
        # what earlier tries have read is told together with the one that leads to something
        torrent.untold_hashed_bytes += hashed
        hashed = torrent.untold_hashed_bytes
        record.checked = True
        if stamps != record.stamps:
            record.stamps = stamps
            self.flusher.mark(torrent)
        if committed and done:
            self._still_complete(torrent, have, hashed)
            return
        record.state = "downloading"
        torrent.have = have
        if done:
            if first or hashed:
                self._tell_checked(torrent, hashed, complete=True)
            await self._finish_found(torrent, "already-complete" if found else "downloaded")
            return
        if committed:
            self.swarms.stop(torrent)
        await self.guard.measure(torrent, have, anything=any(stamps))
        if self._gone(torrent):
            return
        if self.guard.gate(torrent) is not None:
            self._leave_unprepared(torrent, first=first)
            self.go_on(torrent)
            return
        await self._prepare(torrent, have, first=first)
        if first and self.preallocate:
            # its room is its own now, and not to be counted twice
            await self.guard.measure(torrent, have, anything=True)
        # From here on files may be ahead of the record; it has to say so before the first byte is written.
        record.clean = False
        await self.flusher.durable(torrent)
        if self._gone(torrent):
            return
        self.whereabouts.leave_left(torrent)
        torrent.retried_at = trio.current_time()
        if first or hashed:
            self._tell_checked(torrent, hashed, complete=False)
        if torrent in self._unprepared:
            self._unprepared.discard(torrent)
            self.failures.recovered(torrent)
        self.go_on(torrent)

    async def _finish_found(self, torrent: Torrent, reason: CompletedReason) -> None:
        if torrent.record.incomplete_folder and self._jobs is not None:
            # its files may have to be copied, and others wait to be checked
            self._jobs.start_soon(self._finish_contained, torrent, reason)
        else:
            await self._finish(torrent, reason)

    def _still_complete(self, torrent: Torrent, have: Bitfield, hashed: int) -> None:
        if have != torrent.pieces:
            # of files that are not wanted any more something may be gone
            self.flusher.mark(torrent)
        self._drop_parts_soon(torrent)
        torrent.have = None if have.all else have
        if hashed:
            self._tell_checked(torrent, hashed, complete=True)
        self.failures.recovered(torrent)
        self.go_on(torrent)

    def go_on(self, torrent: Torrent) -> None:
        """It is checked, and its record says how far it is: it runs, unless something keeps it waiting."""
        if torrent not in self._finishing and _outgrown(torrent):
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

    async def _prepare(self, torrent: Torrent, have: Bitfield, *, first: bool) -> None:
        """Finds out now, and not when the first piece comes, whether the missing ones may be written."""
        record, folder = torrent.record, torrent.data_folder
        try:
            stamps = await self.disk.call(self._make_ready, record, folder, have.copy(), first)
        except StorageError:
            self._unprepared.add(torrent)
            self._leave_unprepared(torrent, first=first)
            if first:
                with contextlib.suppress(StorageError):
                    record.stamps = await self.disk.call(self._stamps, record, folder)
            raise
        if first:
            # what was made just now is not to be taken for somebody else's change at the next start
            record.stamps = stamps

    def _leave_unprepared(self, torrent: Torrent, *, first: bool) -> None:
        """Also after a restart all of it has yet to be done. Until then what is as we leave it now needs no second
        look.
        """
        if first:
            torrent.record.checked = False
            self.flusher.mark(torrent)

    def _make_ready(
        self, record: ResumeRecord, folder: str, have: Bitfield, first: bool
    ) -> tuple[FileStamp | None, ...]:
        """In a thread."""
        opened = self.opener.open(record, folder, record.root)
        layout, storage = opened.layout, opened.storage
        try:
            if first:
                # Only now: a folder that vanishes later is an unmounted disk, and nothing is made in its place.
                storage.prepare(preallocate=self.preallocate)
            storage.require_writable(
                index
                for index in range(len(layout.lengths))
                if not all(have[piece] for piece in layout.pieces_of_file(index))
            )
            return tuple(storage.stamps()) if first else ()
        finally:
            storage.close()

    def _stamps(self, record: ResumeRecord, folder: str) -> tuple[FileStamp | None, ...]:
        """In a thread."""
        return tuple(self.opener.open(record, folder, record.root).storage.stamps())

    def _tell_checked(self, torrent: Torrent, hashed: int, *, complete: bool) -> None:
        torrent.first_check, torrent.untold_hashed_bytes = False, 0
        self.sink(Checked(facts=torrent.facts(), complete=complete, hashed_bytes=hashed, at_wall=time.time()))

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
        return torrent.state is State.MOVING or torrent in self._finishing

    def _halt_for_check(self, torrent: Torrent) -> None:
        self.swarms.stop(torrent)
        torrent.ready = False
        if torrent.state not in {State.STOPPED, State.OFFLINE, State.ERROR}:
            torrent.state = State.QUEUED

    def sorted_out(
        self, torrent: Torrent, apart: frozenset[int], found: frozenset[int], file_count: int
    ) -> None:
        """The bytes of files `apart` lie apart from now on; others did so and were `found` at their places, where
        somebody else had put them: these are not deleted as ours.
        """
        parted, record = pack_files(apart, file_count), torrent.record
        if found and record.made:
            record.made = pack_files(unpack_files(record.made, file_count) - found, file_count)
        if parted != record.parted:
            if parted:
                self._emptied.discard(torrent)
            else:
                self._emptied.add(torrent)
            record.parted = parted
            self.flusher.mark(torrent)
            # who is there reads where they were
            self.swarms.stop(torrent)

    def recheck(self, torrent: Torrent) -> bool:
        """Every piece is to be hashed again; peers wait meanwhile. False while the torrent is being moved, and before
        its pieces are known.
        """
        if torrent.state is State.MOVING or torrent in self._finishing or torrent.record.state == "metadata":
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
        return torrent in self._finishing

    def place_changed(self, torrent: Torrent) -> None:
        """What kept it from running in its old folder is of no account any more."""
        self.guard.forget(torrent)
        self._unprepared.discard(torrent)

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
        if self._jobs is not None:
            # runs later; asked for first, for there is no other last piece to ask for it
            self._jobs.start_soon(self._finish_downloaded, torrent)
        self.sink(Downloaded(facts=torrent.facts(), at_wall=time.time()))

    async def _finish_downloaded(self, torrent: Torrent) -> None:
        if torrent not in self.checks:
            # else other files were chosen a moment ago, or it is hashed again: its check tells whether it is complete
            await self._finish_contained(torrent, "downloaded")

    async def _finish_contained(self, torrent: Torrent, reason: CompletedReason) -> None:
        await self.supervisor.contain(
            f"completion of {torrent.record.name!r}",
            lambda: self._finish(torrent, reason),
            lambda error: self.torrent_failed(torrent, error),
            remedy="the torrent is in error and tried again later",
        )

    async def _finish(self, torrent: Torrent, reason: CompletedReason) -> None:
        if torrent in self._finishing or not torrent.complete:
            # more is wanted than a moment ago; or it was stopped and let go: two would move its files at once
            return
        self._finishing.add(torrent)
        selection = torrent.record.selection
        try:
            known_reason = torrent.record.completed_reason
            await self._completion.finish(torrent, "downloaded" if known_reason == "downloaded" else reason)
            self.failures.recovered(torrent)
        finally:
            self._finishing.discard(torrent)
            if torrent.record.selection != selection:
                self.reselected(torrent)

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
        self._drop_parts_soon(torrent)
        self.whereabouts.leave_left(torrent)
        if torrent.record.completed_reason == "downloaded" and torrent.whole:
            self.announcer.completed(torrent)
        self.go_on(torrent)

    def _drop_parts_soon(self, torrent: Torrent) -> None:
        if torrent in self._emptied and self._jobs is not None:
            self._jobs.start_soon(self._drop_parts, torrent)

    async def _drop_parts(self, torrent: Torrent) -> None:
        with contextlib.suppress(StorageError):
            # first the record has to say that nothing lies there
            await self.flusher.durable(torrent)
            if torrent in self._emptied:
                self._emptied.discard(torrent)
                await self.disk.call(self.opener.drop_parts, torrent.record)

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
        self._unprepared.discard(torrent)
        self._emptied.discard(torrent)
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


def _with_missing(made: bytes, stamps: tuple[FileStamp | None, ...]) -> bytes:
    """One bit a file: also those set that are not there now. What was found at an earlier try may be that try's."""
    bits = (
        Bitfield(len(stamps))
        if len(made) != (len(stamps) + 7) // 8
        else Bitfield.from_bytes(len(stamps), made)
    )
    for index, stamp in enumerate(stamps):
        if stamp is None:
            bits.set(index)
    return bits.to_bytes()
