"""From the last verified piece to the commit: sync, move, one record. Any step may be repeated after a crash.

sync every file → note where we move to → move → one record that says complete, with the event's id
"""

import random
import time
from collections.abc import Callable
from typing import Final, Protocol

from bittern.disk.attempt import attempt
from bittern.disk.disk import DiskGate
from bittern.disk.resume import ResumeRecord
from bittern.disk.stamps import FileStamp
from bittern.disk.together import Together
from bittern.engine.events import Added, Arrived, Completed, CompletedReason, Sink, new_event_id
from bittern.engine.flusher import Flusher
from bittern.engine.moving import Moving
from bittern.engine.opening import Opened, Opener
from bittern.engine.seeding import Seeding
from bittern.engine.torrent import State, Torrent
from bittern.engine.untold import is_told
from bittern.errors import StorageError
from bittern.proto.bitfield import Bitfield

Wall = Callable[[], float]

SMALL_BYTES: Final = 4 * 1024 * 1024
SMALL_TEAM: Final = 16
"""So many torrents up to that size are synced in one thread hop, when many are finished at once."""

_Finished = tuple[ResumeRecord, str, CompletedReason]
_Durable = tuple[Opened, tuple[FileStamp | None, ...]]


class CompletionHost(Protocol):
    """What completing needs of the session."""

    disk: DiskGate
    opener: Opener
    flusher: Flusher
    sink: Sink
    rng: random.Random
    asked_for: Callable[[Added | Arrived | Completed], bool]
    moving: Moving
    seeding: Seeding

    def moves_on(self, torrent: Torrent) -> None:
        """Its files are moved from now on, and served meanwhile."""

    def committed(self, torrent: Torrent) -> None:
        """The record says complete: the torrent seeds now, if it may."""


class Completion:
    """Carries torrents over the line. Raises `StorageError`; the torrent's state tells how far it came."""

    def __init__(self, host: CompletionHost, *, wall: Wall = time.time) -> None:
        self._host = host
        self._wall = wall
        self._sync_small = Together(self._sync_all, at_most=SMALL_TEAM)

    async def finish(self, torrent: Torrent, reason: CompletedReason, *, synced: bool = False) -> None:
        """Everything between the last piece and `torrent.completed`. `synced`: whoever has found the data did that, and
        the record has the stamps.
        """
        record, host = torrent.record, self._host
        if record.completed_reason != reason:
            record.completed_reason = reason
        if record.incomplete_folder or not synced:
            try:
                opened, stamps = await self._make_durable(record, torrent.data_folder, reason)
            except _Unsynced as unsynced:
                self._not_durable(torrent, reason)
                raise unsynced.error from None
            record.stamps = stamps
        moves = bool(record.incomplete_folder)
        if moves:
            torrent.state = State.MOVING
            # by its stamps the files are known where they come to lie
            record.moving_to = record.folder
            arrived = self._arrives(torrent)
            await host.flusher.durable(torrent)
            if arrived is not None:
                host.sink(arrived)
            host.moves_on(torrent)
            opened = await host.moving.carry(torrent, opened)
            record.stamps = tuple(await host.disk.call(opened.storage.stamps))
        torrent.unsynced_storage = torrent.unsynced_files = None
        now = self._wall()
        before = (record.completed_event_id, record.completed_spooled, record.growth)
        # nothing of it was wanted: there is nothing to tell
        told = not torrent.wants_nothing
        arrived = self._arrives(torrent) if told and not moves else None
        record.state = "complete"
        record.clean = True
        if told:
            record.completed_wall = now
            # A torrent that was repaired after it had been complete keeps its event: its hook has run. One of which
            # more was wanted later, and came, has another.
            if not record.completed_event_id or record.growth == "got":
                record.completed_event_id, record.completed_spooled = new_event_id(now, host.rng), False
            record.growth = ""
        # all that follows at once and is to be on record is said by this write: thousands that come at once have one
        host.seeding.foretell(torrent)
        completed = _completed(torrent, reason, now) if told else None
        for event in (arrived, completed):
            if event is not None and not host.asked_for(event):
                is_told(torrent, event.event_id)
        try:
            await host.flusher.durable(torrent)
        except BaseException:
            # Not committed: the same torrent comes this way again, and it must not look complete until it is.
            record.state = "downloading"
            record.completed_event_id, record.completed_spooled, record.growth = before
            if arrived is not None:
                record.downloaded_event_id, record.downloaded_told = arrived.event_id, False
            host.seeding.take_back(torrent)
            raise
        if moves:
            opened.storage.close()
        if torrent.whole:
            torrent.have = None
        host.committed(torrent)
        host.seeding.take_back(torrent)
        if arrived is not None:
            host.sink(arrived)
        if completed is not None:
            host.sink(completed)

    def _arrives(self, torrent: Torrent) -> Arrived | None:
        """What hooks are told once the record says so; None when they were, or when nothing was downloaded."""
        record, now = torrent.record, self._wall()
        # one that is on record may never have come so far: the record could not be written, say
        untold = record.downloaded_event_id and record.growth != "got"
        if not untold:
            if record.completed_reason != "downloaded" or (record.downloaded_told and record.growth != "got"):
                return None
            record.downloaded_told = False
            record.downloaded_event_id = new_event_id(now, self._host.rng)
        return Arrived(facts=torrent.facts(), event_id=record.downloaded_event_id, at_wall=now)

    async def _make_durable(self, record: ResumeRecord, folder: str, reason: CompletedReason) -> _Durable:
        if record.total_bytes <= SMALL_BYTES:
            return await self._sync_small((record, folder, reason))
        [durable] = await self._sync_all([(record, folder, reason)])
        if isinstance(durable, Exception):
            raise durable
        return durable

    async def _sync_all(self, finished: list[_Finished]) -> list[_Durable | Exception]:
        return await self._host.disk.call(lambda: [attempt(self._sync, *one) for one in finished])

    def _sync(self, record: ResumeRecord, folder: str, reason: CompletedReason) -> _Durable | Exception:
        """All of a torrent's data, in a thread."""
        try:
            opened = self._host.opener.open(record, folder, record.root)
            if not record.shared:
                _sync_data(opened, reason, record.made)
            self._host.opener.keep_paths(record, opened)
            stamps = tuple(opened.storage.stamps())
            # here, for on the loop each call into the kernel may have to wait for a thread to yield
            opened.storage.close()
            return opened, stamps
        except (StorageError, _Unsynced) as error:
            return error

    def _not_durable(self, torrent: Torrent, reason: CompletedReason) -> None:
        """The kernel may have forgotten what it could not sync."""
        if reason == "downloaded":
            # Only what the record claims is still believed.
            size, claimed = torrent.record.piece_count, torrent.record.have
            torrent.have = Bitfield.from_bytes(size, claimed) if claimed else Bitfield(size)
        else:
            torrent.have, torrent.record.checked = None, False


class _Unsynced(Exception):
    """The data may not be on the disk."""

    def __init__(self, error: StorageError) -> None:
        self.error = error


def _completed(torrent: Torrent, reason: CompletedReason, at_wall: float) -> Completed:
    event_id = torrent.record.completed_event_id
    return Completed(facts=torrent.facts(), event_id=event_id, reason=reason, at_wall=at_wall)


def _sync_data(opened: Opened, reason: CompletedReason, made: bytes) -> None:
    try:
        if reason == "downloaded":
            opened.storage.finish(made)
        else:
            # What was found is left as it is; only empty files may have to be made.
            opened.storage.prepare(preallocate=False)
            opened.storage.sync(range(len(opened.paths)))
    except StorageError as error:
        raise _Unsynced(error) from error
