"""What it means for a torrent that it is known what of it lies on disk: it is complete, rests, or downloads what lacks.

A first check counts only when all that follows from it has been done: until then the record does not say that the
torrent was checked, and after a failure or a restart all of it is done again. Whether the missing pieces may be written
is found out now and not when the first one comes, and the record says that files may be ahead of it before the first
byte is written.
"""

import contextlib
import time
from typing import Protocol

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.resume import ResumeRecord
from bittern.disk.stamps import FileStamp
from bittern.engine.apart import Apart
from bittern.engine.events import Checked, CompletedReason, Sink
from bittern.engine.failures import Failures
from bittern.engine.flusher import Flusher
from bittern.engine.guard import Guard
from bittern.engine.last_steps import LastSteps
from bittern.engine.moving import Moving
from bittern.engine.opening import Opener
from bittern.engine.swarms import Swarms
from bittern.engine.torrent import Torrent
from bittern.engine.whereabouts import Whereabouts
from bittern.errors import StorageError
from bittern.proto.bitfield import Bitfield


class FindingsHost(Protocol):
    """What this needs of the lifecycle."""

    disk: DiskGate
    opener: Opener
    flusher: Flusher
    swarms: Swarms
    guard: Guard
    whereabouts: Whereabouts
    failures: Failures
    moving: Moving
    last_steps: LastSteps
    apart: Apart
    sink: Sink

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    def go_on(self, torrent: Torrent) -> None:
        """It runs, unless something keeps it waiting."""


class Findings:
    """Of all checks."""

    def __init__(self, host: FindingsHost) -> None:
        self._host = host
        self.preallocate = False
        self._unprepared: set[Torrent] = set()
        """Their files could not be made or written to when this was last tried."""

    def forget(self, torrent: Torrent) -> None:
        """That its files could not be written to is of no account any more."""
        self._unprepared.discard(torrent)

    async def checked(
        self,
        torrent: Torrent,
        have: Bitfield,
        stamps: tuple[FileStamp | None, ...],
        hashed: int,
        *,
        synced: bool = False,
    ) -> None:
        """What lies on disk is known: go on from there. `synced`: all of it was, too."""
        if not self._host.known(torrent):
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
        # where nothing was found the folder may have yet to be made: after a stop before that nobody else would make it
        record.checked = done or not first or any(stamps)
        if stamps != record.stamps:
            record.stamps = stamps
            self._host.flusher.mark(torrent)
        if committed and done:
            self._still_complete(torrent, have, hashed)
            return
        record.state = "downloading"
        torrent.have = have
        if done:
            if first or hashed:
                self._tell_checked(torrent, hashed, complete=True)
            reason: CompletedReason = "already-complete" if found else "downloaded"
            await self._host.last_steps.found(torrent, reason, synced=synced)
            return
        if committed:
            self._host.swarms.stop(torrent)
        await self._host.guard.measure(torrent, have, anything=any(stamps))
        if not self._host.known(torrent):
            return
        if self._host.guard.gate(torrent) is not None:
            self._leave_unprepared(torrent, first=first)
            self._host.go_on(torrent)
            return
        await self._prepare(torrent, have, first=first)
        if first and self.preallocate:
            # its room is its own now, and not to be counted twice
            await self._host.guard.measure(torrent, have, anything=True)
        # From here on files may be ahead of the record; it has to say so before the first byte is written.
        record.clean = False
        await self._host.flusher.durable(torrent)
        if not self._host.known(torrent):
            return
        self._host.whereabouts.leave_left(torrent)
        torrent.retried_at = trio.current_time()
        if first or hashed:
            self._tell_checked(torrent, hashed, complete=False)
        if torrent in self._unprepared:
            self._unprepared.discard(torrent)
            self._host.failures.recovered(torrent)
        self._host.go_on(torrent)

    def unchanged(self, torrent: Torrent) -> None:
        """A complete torrent, of which every piece is there, looks as its record says."""
        torrent.believed = False
        self._goes_on(torrent, torrent.untold_hashed_bytes)

    def _still_complete(self, torrent: Torrent, have: Bitfield, hashed: int) -> None:
        if have != torrent.pieces:
            # of files that are not wanted any more something may be gone
            self._host.flusher.mark(torrent)
        torrent.have = None if have.all else have
        self._goes_on(torrent, hashed)

    def _goes_on(self, torrent: Torrent, hashed: int) -> None:
        self._host.apart.drop_soon(torrent)
        if hashed:
            self._tell_checked(torrent, hashed, complete=True)
        self._host.failures.recovered(torrent)
        self._host.go_on(torrent)

    async def _prepare(self, torrent: Torrent, have: Bitfield, *, first: bool) -> None:
        """Finds out now, and not when the first piece comes, whether the missing ones may be written."""
        record, folder = torrent.record, torrent.data_folder
        try:
            stamps = await self._host.disk.call(self._make_ready, record, folder, have.copy(), first)
            # not sooner: a kill before the folder was made leaves a record after which it is made
            record.checked = True
            if first and self.preallocate:
                # not later: what a kill leaves of that, which may take long, would be taken for somebody else's data
                await self._host.flusher.durable(torrent)
                stamps = await self._host.disk.call(self._allocate, record, folder)
        except StorageError:
            if not self._host.known(torrent):
                # it was removed meanwhile, and nothing of it is kept
                raise
            self._unprepared.add(torrent)
            self._leave_unprepared(torrent, first=first)
            if first:
                with contextlib.suppress(StorageError):
                    record.stamps = await self._host.disk.call(self._stamps, record, folder)
            raise
        if first:
            # what was made just now is not to be taken for somebody else's change at the next start
            record.stamps = stamps
            if self._host.known(torrent):
                # who wanted it elsewhere meanwhile has it moved
                self._host.moving.found(torrent, anything=True)

    def _leave_unprepared(self, torrent: Torrent, *, first: bool) -> None:
        """Also after a restart all of it has yet to be done. Until then what is as we leave it now needs no second
        look.
        """
        if first:
            torrent.record.checked = False
            self._host.flusher.mark(torrent)

    def _make_ready(
        self, record: ResumeRecord, folder: str, have: Bitfield, first: bool
    ) -> tuple[FileStamp | None, ...]:
        """In a thread."""
        opened = self._host.opener.open(record, folder, record.root)
        layout, storage = opened.layout, opened.storage
        try:
            if first:
                # Only now: a folder that vanishes later is an unmounted disk, and nothing is made in its place.
                storage.prepare(preallocate=False)
            storage.require_writable(
                index
                for index in range(len(layout.lengths))
                if not all(have[piece] for piece in layout.pieces_of_file(index))
            )
            return tuple(storage.stamps()) if first else ()
        finally:
            storage.close()

    def _allocate(self, record: ResumeRecord, folder: str) -> tuple[FileStamp | None, ...]:
        """In a thread."""
        storage = self._host.opener.open(record, folder, record.root).storage
        try:
            storage.prepare(preallocate=True)
            return tuple(storage.stamps())
        finally:
            storage.close()

    def _stamps(self, record: ResumeRecord, folder: str) -> tuple[FileStamp | None, ...]:
        """In a thread."""
        return tuple(self._host.opener.open(record, folder, record.root).storage.stamps())

    def _tell_checked(self, torrent: Torrent, hashed: int, *, complete: bool) -> None:
        torrent.first_check, torrent.untold_hashed_bytes = False, 0
        self._host.sink(
            Checked(facts=torrent.facts(), complete=complete, hashed_bytes=hashed, at_wall=time.time())
        )


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
