"""Writes resume records: the only one who does, so that an older state never replaces a newer one.

Invariant: a record claims a piece only after the file system said that its bytes are on the disk. So each flush
takes a snapshot of what is written, syncs the files that were written to, and only then writes the records, all in
one thread hop.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Final, Protocol

import trio

from bittern.disk.attempt import JobCrashed, attempt
from bittern.disk.disk import DiskGate
from bittern.disk.resume import ResumeRecord
from bittern.disk.stamps import FileStamp
from bittern.disk.storage import Storage
from bittern.engine.beats import next_beat
from bittern.engine.events import Sink, Warned
from bittern.engine.store import PackedRecord, Store
from bittern.engine.supervision import Supervisor
from bittern.engine.torrent import Torrent
from bittern.errors import StorageError
from bittern.proto.bitfield import Bitfield

FLUSH_EVERY_S: Final = 15.0
"""Half of the 30 s that a record may be old: a flush itself may take a while on a slow disk."""

BATCH_AT_MOST: Final = 500

HOPELESS: Final = 8
"""Records of a batch that are refused one by one before it is the folder that cannot be written."""


class FlushHost(Protocol):
    """What the flusher tells."""

    def torrent_failed(self, torrent: Torrent, error: Exception) -> None:
        """Its files cannot be synced."""

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""


@dataclasses.dataclass(slots=True, eq=False)
class _Ticket:
    """One who waits for a record to be durable."""

    settled: bool = False
    given_up: bool = False
    """It was cancelled; it may be part of a batch that is not written yet."""
    error: StorageError | None = None
    news: trio.Event = dataclasses.field(default_factory=trio.Event)
    """It is settled, or whoever waits with it is to write."""


@dataclasses.dataclass(slots=True, eq=False)
class _Job:
    """One torrent's part of a flush: the snapshot that will become its record, and what became of that."""

    torrent: Torrent
    record: ResumeRecord
    storage: Storage | None
    files: set[int]
    tickets: list[_Ticket]
    stamps_before: tuple[FileStamp | None, ...]
    suspect: bool
    """Its record could not be written the last time: it is written apart from the others."""
    unsynced: StorageError | JobCrashed | None = None
    refused: StorageError | JobCrashed | None = None
    """Why its record could not be packed or written."""


class Flusher:
    """A FOUNDATION service: it outlives the engine, so that the last state reaches the disk."""

    def __init__(
        self, store: Store, disk: DiskGate, host: FlushHost, supervisor: Supervisor, sink: Sink
    ) -> None:
        self._store = store
        self._disk = disk
        self._host = host
        self._supervisor = supervisor
        self._sink = sink
        self._dirty: set[Torrent] = set()
        self._urgent: dict[Torrent, list[_Ticket]] = {}
        self._lock = trio.Lock()
        self._led = False
        """Somebody who waits for a record writes, or is about to."""
        self._complained = False
        self._suspects: set[Torrent] = set()
        """Whose record could not be written, while others could; told once."""
        self._farewells: list[str] = []
        self.beside: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """What else is out of date by now, and is written after the records."""

    def drop_farewell(self, event_id: str) -> None:
        """What was noted of a torrent that was removed is needed no longer; it goes within the interval."""
        self._farewells.append(event_id)

    def mark(self, torrent: Torrent) -> None:
        """The torrent's record is out of date; it is written within the interval."""
        self._dirty.add(torrent)

    async def durable(self, torrent: Torrent) -> None:
        """Returns when the torrent's present state is on the disk; `StorageError` when it may not be.

        One writes for all who wait, and all of them go on in the same turn of the loop: a thousand additions cost a
        few batches.
        """
        ticket = _Ticket()
        # who gives up waiting leaves it to the next flush
        self._dirty.add(torrent)
        self._urgent.setdefault(torrent, []).append(ticket)
        try:
            while not ticket.settled:
                if self._led:
                    ticket.news = trio.Event()
                    await ticket.news.wait()
                else:
                    await self._lead(torrent, ticket)
        finally:
            ticket.given_up = not ticket.settled
            waiting = self._urgent.get(torrent, [])
            if ticket in waiting:
                waiting.remove(ticket)
                if not waiting:
                    del self._urgent[torrent]
            if not self._led:
                # it may have been the one who was to write, and is cancelled
                self._pass_on()
        if ticket.error is not None:
            raise ticket.error
        if not self._host.known(torrent):
            raise StorageError("the torrent was removed meanwhile")

    async def _lead(self, torrent: Torrent, ticket: _Ticket) -> None:
        """Writes for all who wait by then."""
        self._led = True
        try:
            async with self._lock:
                if not ticket.settled:
                    await self._flush([torrent, *(other for other in self._urgent if other is not torrent)])
        finally:
            self._led = False

    def _pass_on(self) -> None:
        """Who has waited longest writes next."""
        for tickets in self._urgent.values():
            tickets[0].news.set()
            return

    async def remove(self, torrent: Torrent, farewell: tuple[str, bytes]) -> None:
        """Forgets a torrent durably, after any write under way; `farewell` as `Store.forget` has it."""
        async with self._lock:
            try:
                await self._disk.call(self._store.forget, torrent.info_hash, farewell)
            except StorageError:
                self._dirty.add(torrent)
                self.drop_farewell(farewell[0])
                raise
            self._dirty.discard(torrent)
            self._suspects.discard(torrent)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Flushes what is dirty, every few seconds, until cancelled."""
        task_status.started()
        while True:
            await next_beat(FLUSH_EVERY_S)
            await self.flush_dirty()

    async def flush_dirty(self) -> None:
        """Writes the records that are out of date now; what becomes so meanwhile waits for the next time."""
        if self._farewells:
            told, self._farewells = self._farewells, []
            await self._disk.call(self._store.drop_farewells, told)
        waiting = list(self._dirty)
        while waiting:
            batch, waiting = waiting[:BATCH_AT_MOST], waiting[BATCH_AT_MOST:]
            async with self._lock:
                still = [torrent for torrent in batch if torrent in self._dirty]
                if still and not await self._flush(still):
                    return
        await self._supervisor.contain(
            "kept peers", self.beside, lambda _: None, remedy="a restart waits for those who name peers"
        )

    async def _flush(self, torrents: list[Torrent]) -> bool:
        """One batch, under the lock; False when the state folder cannot be written."""
        jobs = self._snapshots(torrents[:BATCH_AT_MOST])
        try:
            await self._disk.call(_write, self._store, jobs)
        except BaseException:
            # Cancelled before the thread began: all of it is still to be written, by whoever comes next.
            for job in jobs:
                self._put_back(job)
                if waiting := [ticket for ticket in job.tickets if not ticket.given_up]:
                    self._urgent.setdefault(job.torrent, [])[:0] = waiting
            if not self._led:
                self._pass_on()
            raise
        written = any(job.unsynced is None and job.refused is None for job in jobs)
        if written:
            self._complained = False
        folder_fails = not written and self._is_the_folders(jobs)
        for job in jobs:
            self._supervisor.guard(
                f"record of {job.torrent.record.name!r}",
                partial(self._settle, job, told=folder_fails),
                lambda _: None,
                remedy="it is written again when it changes",
            )
            # whatever happened above: nobody waits for ever, and nobody takes for durable what is not
            _tell(job.tickets, job.unsynced or job.refused)
        return not folder_fails

    def _snapshots(self, torrents: Iterable[Torrent]) -> list[_Job]:
        jobs = []
        for torrent in torrents:
            if not self._host.known(torrent):
                # A torrent that was removed must not come back by a record that somebody still wanted written.
                self._dirty.discard(torrent)
                _tell(self._urgent.pop(torrent, []), StorageError("the torrent was removed meanwhile"))
                continue
            job = attempt(self._snapshot, torrent)
            if isinstance(job, JobCrashed):
                _tell(self._urgent.pop(torrent, []), job)
                self._suspect(torrent, job)
            else:
                jobs.append(job)
        return jobs

    def _snapshot(self, torrent: Torrent) -> _Job:
        """Taken in one go: pieces written after this moment belong to the next flush."""
        if torrent.whole and torrent.record.state == "complete":
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
            torrent.unsynced_files or set(),
            self._urgent.pop(torrent, []),
            torrent.record.stamps,
            torrent in self._suspects,
        )
        self._dirty.discard(torrent)
        torrent.unsynced_storage = torrent.unsynced_files = None
        return job

    def _put_back(self, job: _Job) -> None:
        torrent = job.torrent
        self._dirty.add(torrent)
        if job.storage is not None and torrent.unsynced_storage in (None, job.storage):
            torrent.unsynced_storage = job.storage
            torrent.unsynced_files = job.files.union(torrent.unsynced_files or ())

    def _settle(self, job: _Job, *, told: bool) -> None:
        torrent = job.torrent
        if job.unsynced is not None:
            self._put_back(job)
            self._dirty.discard(torrent)
            # The kernel forgets what it failed to write: only what an earlier flush claimed is still believed.
            if torrent.have is not None and torrent.record.state != "complete":
                size, claimed = len(torrent.have), torrent.record.have
                torrent.have = Bitfield.from_bytes(size, claimed) if claimed else Bitfield(size)
            if isinstance(job.unsynced, JobCrashed):
                self._supervisor.report(
                    f"sync of {torrent.record.name!r}",
                    job.unsynced,
                    "the torrent is in error and tried again later",
                )
            self._host.torrent_failed(torrent, job.unsynced)
        elif job.refused is not None:
            self._put_back(job)
            if not told or isinstance(job.refused, JobCrashed):
                self._suspect(torrent, job.refused)
        else:
            self._suspects.discard(torrent)
            torrent.record.have = job.record.have
            if torrent.record.stamps is job.stamps_before:
                # else somebody has looked since, and knows better
                torrent.record.stamps = job.record.stamps

    def _suspect(self, torrent: Torrent, error: StorageError | JobCrashed) -> None:
        """The torrent's record cannot be written, others can: it goes on, and that is told once."""
        if torrent in self._suspects:
            return
        self._suspects.add(torrent)
        if isinstance(error, JobCrashed):
            self._supervisor.report(
                f"record of {torrent.record.name!r}", error, "the torrent goes on, its record stays as it was"
            )
        else:
            self._sink(Warned(what="state.unwritable", detail=str(error)))

    def _is_the_folders(self, jobs: Sequence[_Job]) -> bool:
        """Nothing could be written: is it the folder, and not only records that could not be before?"""
        refused = [job.refused for job in jobs if isinstance(job.refused, StorageError) and not job.suspect]
        if refused and not self._complained:
            self._complained = True
            self._sink(Warned(what="state.unwritable", detail=str(refused[0])))
        return bool(refused)


def _tell(tickets: Iterable[_Ticket], error: StorageError | JobCrashed | None) -> None:
    """Whoever waits is told of a bug as of any other trouble: it was reported already."""
    for ticket in tickets:
        ticket.settled = True
        ticket.news.set()
        if isinstance(error, JobCrashed):
            ticket.error = StorageError(f"its record could not be written, internal error: {error}")
        else:
            ticket.error = error


def _write(store: Store, jobs: list[_Job]) -> None:
    """In a thread: sync data, take stamps, write records. One torrent's bad disk or record is only its own."""
    ready: list[_Ready] = []
    for job in jobs:
        try:
            job.unsynced = attempt(_sync, job)
        except StorageError as error:
            job.unsynced = error
        if job.unsynced is None:
            packed = attempt(store.packed, job.record)
            if isinstance(packed, JobCrashed):
                job.refused = packed
            else:
                ready.append((job, packed))
    batch = [one for one in ready if not one[0].suspect]
    trouble = _write_records(store, batch)
    if len(batch) == 1:
        batch[0][0].refused, trouble = trouble, None
    _write_singly(store, [one for one in ready if one[0].suspect or trouble is not None])


def _sync(job: _Job) -> None:
    if job.storage is not None:
        job.storage.sync(job.files)
        job.record.stamps = tuple(job.storage.stamps())


_Ready = tuple[_Job, PackedRecord]


def _write_records(store: Store, ready: Sequence[_Ready]) -> StorageError | JobCrashed | None:
    if not ready:
        return None
    try:
        return attempt(store.write, [packed for _, packed in ready])
    except StorageError as error:
        return error


def _write_singly(store: Store, ready: Sequence[_Ready]) -> None:
    failures, written = 0, False
    trouble: StorageError | JobCrashed | None = None
    for job, packed in ready:
        if written or failures < HOPELESS:
            trouble = _write_records(store, [(job, packed)])
        job.refused = trouble
        failures += trouble is not None
        written = written or trouble is None
