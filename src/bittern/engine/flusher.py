"""Writes resume records: the only one who does, so that an older state never replaces a newer one.

Invariant: a record claims a piece only after the file system said that its bytes are on the disk. So each flush
takes a snapshot of what is written, syncs the files that were written to, and only then writes the records, all in
one thread hop.
"""

import dataclasses
from typing import Final, Protocol

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.resume import ResumeRecord
from bittern.disk.storage import Storage
from bittern.engine.events import Sink, Warned
from bittern.engine.store import Store
from bittern.engine.torrent import Torrent
from bittern.errors import StorageError
from bittern.proto.bitfield import Bitfield

FLUSH_EVERY_S: Final = 15.0
"""Half of the 30 s that a record may be old: a flush itself may take a while on a slow disk."""

BATCH_AT_MOST: Final = 500


class FlushHost(Protocol):
    """What the flusher tells."""

    def torrent_failed(self, torrent: Torrent, error: Exception) -> None:
        """Its files cannot be synced."""

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""


@dataclasses.dataclass(slots=True)
class _Job:
    """One torrent's part of a flush: the snapshot that will become its record."""

    torrent: Torrent
    record: ResumeRecord
    storage: Storage | None
    files: set[int]
    waited_for: bool
    error: StorageError | None = None


class Flusher:
    """A FOUNDATION service: it outlives the engine, so that the last state reaches the disk."""

    def __init__(self, store: Store, disk: DiskGate, host: FlushHost, sink: Sink) -> None:
        self._store = store
        self._disk = disk
        self._host = host
        self._sink = sink
        self._dirty: set[Torrent] = set()
        self._urgent: set[Torrent] = set()
        self._failed: dict[Torrent, StorageError] = {}
        """What `durable` has yet to raise."""
        self._lock = trio.Lock()
        self._complained = False

    def mark(self, torrent: Torrent) -> None:
        """The torrent's record is out of date; it is written within the interval."""
        self._dirty.add(torrent)

    async def durable(self, torrent: Torrent) -> None:
        """Returns when the torrent's present state is on the disk; `StorageError` when it may not be.

        Whoever holds the lock writes for all who wait: a thousand additions cost a few batches.
        """
        self._urgent.add(torrent)
        async with self._lock:
            if torrent in self._urgent:
                await self._flush([torrent, *(other for other in self._urgent if other is not torrent)])
        error = self._failed.pop(torrent, None)
        if error is not None:
            raise error
        if not self._host.known(torrent):
            raise StorageError("the torrent was removed meanwhile")

    async def remove(self, torrent: Torrent) -> None:
        """Forgets a torrent durably, after any write under way."""
        async with self._lock:
            self._dirty.discard(torrent)
            self._urgent.discard(torrent)
            await self._disk.call(self._store.forget, torrent.info_hash)
            self._dirty.discard(torrent)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flushes what is dirty, every few seconds, until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(FLUSH_EVERY_S)
            await self.flush_dirty()

    async def flush_dirty(self) -> None:
        """Writes the records that are out of date now; what becomes so meanwhile waits for the next time."""
        waiting = list(self._dirty)
        while waiting:
            batch, waiting = waiting[:BATCH_AT_MOST], waiting[BATCH_AT_MOST:]
            async with self._lock:
                still = [torrent for torrent in batch if torrent in self._dirty]
                if still and not await self._flush(still):
                    return

    async def _flush(self, torrents: list[Torrent]) -> bool:
        """One batch, under the lock; False when the state folder cannot be written."""
        jobs = [self._snapshot(torrent) for torrent in torrents[:BATCH_AT_MOST]]
        # A torrent that was removed must not come back by a record that somebody still wanted written.
        jobs = [job for job in jobs if self._host.known(job.torrent)]
        try:
            await self._disk.call(_write, self._store, jobs)
        except StorageError as error:
            self._unwritable(jobs, error)
            return False
        except trio.Cancelled:
            # Raised only before the thread began: all of it is still to be written, by whoever comes next.
            for job in jobs:
                self._put_back(job, None)
            raise
        self._complained = False
        for job in jobs:
            if job.error is not None:
                self._put_back(job, job.error)
                self._dirty.discard(job.torrent)
                # The kernel forgets what it failed to write: only what an earlier flush claimed is still believed.
                if job.torrent.have is not None and job.torrent.record.state != "complete":
                    size = len(job.torrent.have)
                    claimed = job.torrent.record.have
                    job.torrent.have = Bitfield.from_bytes(size, claimed) if claimed else Bitfield(size)
                self._host.torrent_failed(job.torrent, job.error)
            else:
                job.torrent.record.have = job.record.have
                job.torrent.record.stamps = job.record.stamps
        return True

    def _snapshot(self, torrent: Torrent) -> _Job:
        """Taken in one go: pieces written after this moment belong to the next flush."""
        waited_for = torrent in self._urgent
        self._dirty.discard(torrent)
        self._urgent.discard(torrent)
        if torrent.record.state == "complete":
            have = b""
        elif torrent.have is None:
            # Not checked in this run: what the record claims is all that is known.
            have = torrent.record.have
        else:
            have = torrent.have.to_bytes()
        job = _Job(
            torrent,
            dataclasses.replace(torrent.record, have=have),
            torrent.unsynced_storage,
            torrent.unsynced_files,
            waited_for,
        )
        torrent.unsynced_storage, torrent.unsynced_files = None, set()
        return job

    def _put_back(self, job: _Job, error: StorageError | None) -> None:
        torrent = job.torrent
        self._dirty.add(torrent)
        if job.storage is not None and torrent.unsynced_storage in (None, job.storage):
            torrent.unsynced_storage = job.storage
            torrent.unsynced_files |= job.files
        if job.waited_for and error is None:
            self._urgent.add(torrent)
        elif job.waited_for and error is not None:
            self._failed[torrent] = error

    def _unwritable(self, jobs: list[_Job], error: StorageError) -> None:
        for job in jobs:
            self._put_back(job, error)
        if not self._complained:
            self._complained = True
            self._sink(Warned(what="state.unwritable", detail=str(error)))


def _write(store: Store, jobs: list[_Job]) -> None:
    """In a thread: sync data, take stamps, write records. One torrent's bad disk is only its own."""
    for job in jobs:
        if job.storage is not None:
            try:
                job.storage.sync(job.files)
                job.record.stamps = tuple(job.storage.stamps())
            except StorageError as error:
                job.error = error
    store.write([job.record for job in jobs if job.error is None])
