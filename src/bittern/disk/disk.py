"""The one gate from the loop to the disk: verify and write, hash, and any other call, in threads of our own.

A finished piece is handed over with its buffer. A worker takes all waiting jobs up to some MiB in one thread
hop (a hop costs 124 µs, an eighth of hashing 1 MiB), checks each against its SHA-1 in memory and writes the
good ones once. Back on the loop the buffers are released and the jobs' callbacks run. Nothing is shared with
a thread: a job and its buffer belong to the worker from `submit` until `done`.

The queue has no limit of its own; whoever submits holds a granted buffer, and those are limited.
"""

import enum
import hashlib
import math
import os
import queue
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple

import trio

from bittern.disk.attempt import JobCrashed, attempt
from bittern.disk.background import BackgroundThreads
from bittern.disk.buffers import PieceBuffers
from bittern.disk.hashing import READ_BYTES, hash_range_or_raise
from bittern.disk.storage import Storage
from bittern.disk.threads import in_thread
from bittern.errors import StorageError

HOP_BYTES: Final = 4 << 20
"""As much as one hop takes: several pieces to make the hop cheap, few enough that the other worker gets
some too.
"""

SMALL_BYTES: Final = 1 << 20
LINGER_S: Final = 0.004
"""While another worker runs, a worker that finds less than `SMALL_BYTES` waiting gives more jobs so long to come: a
hop for each piece of 64 KiB would cost more than hashing it. Alone, nobody lingers.
"""

MOVES_AT_ONCE: Final = 4
"""One more than there are long copies at once."""

CALL_THREADS: Final = 8
"""Cold reads wait for the disk and not for a processor, so more of them than processors may be under way."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Verdict(enum.Enum):
    """What became of a job that the disk did not refuse."""

    VERIFIED = "verified"
    """The bytes are the expected ones and written. A job without `expected` has nothing to be compared:
    written.
    """
    CORRUPT = "corrupt"
    """They are not; nothing was written."""


PieceOutcome = Verdict | StorageError | JobCrashed


@dataclass(slots=True, eq=False)
class WriteJob:
    """A whole piece, or (without `expected`) a span of a large one: to be verified from memory and written.

    `body` is a granted buffer; the disk releases it, right before `done`.
    """

    storage: Storage
    offset: int
    body: memoryview
    expected: bytes | None
    done: "Callable[[WriteJob, PieceOutcome], None]"
    tag: Any
    kept: bool = True
    """Does it stay in memory, because somebody will read it soon?"""
    digest: "hashlib._Hash | None" = None
    """Of a large piece so far: it takes in this span too."""


@dataclass(slots=True, eq=False)
class HashJob:
    """A large piece whose spans were all written: what was not hashed before is to be read back and hashed."""

    storage: Storage
    offset: int
    length: int
    expected: bytes
    done: "Callable[[HashJob, PieceOutcome], None]"
    tag: Any
    digest: "hashlib._Hash | None" = None
    """Of what comes before `offset` in the piece."""


Job = WriteJob | HashJob


class DiskGate(Protocol):
    """What the engine sees of the disk. All methods belong to the loop thread."""

    @property
    def pending_bytes(self) -> int:
        """Bytes of jobs that are waiting or running."""

    def submit(self, job: Job) -> None:
        """Queues a job; never waits. `job.done(job, outcome)` runs on the loop later, never from inside
        this call.
        """

    async def call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs other file work in a thread; what it raises is raised here. Once begun it is always waited
        for.
        """

    async def call_in_background(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """The same for work that is long and in no hurry, and gives way to all other."""

    async def call_to_move(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """The same for steps of moves, which do not take checks' turns."""

    async def call_or_abandon(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """The same for what a dead mount may hang for ever: cancelled, it is left behind, and holds up nobody."""

    async def settled(self, storage: Storage) -> None:
        """Returns when no job of that storage is waiting or running."""

    async def drain(self, of: bytes | None = None) -> None:
        """Returns when no job is waiting or running; `of`: no write to that torrent's files (`Storage.of`)."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The service; jobs are done while it runs."""


class Disk:
    """The real gate: `workers` threads for jobs, and some more for calls.

    `done` callbacks must be short and contain themselves: what they raise ends the process.
    """

    def __init__(self, buffers: PieceBuffers, *, workers: int | None = None) -> None:
        self._buffers = buffers
        self._workers = workers or os.cpu_count() or 1
        self._job_threads = trio.CapacityLimiter(self._workers)
        self._call_threads = trio.CapacityLimiter(max(CALL_THREADS, self._workers))
        self._background = BackgroundThreads(os.cpu_count() or 1)
        self._moving = BackgroundThreads(MOVES_AT_ONCE)
        # those that hang keep their place, and nobody may have to wait for it
        self._abandoned_threads = trio.CapacityLimiter(math.inf)
        self._waiting: deque[Job] = deque()
        self._idle = trio.lowlevel.ParkingLot()
        self._progress = trio.lowlevel.ParkingLot()
        self._unfinished = 0
        self._calls_done = self._jobs_done = 0
        self._of_storage: Counter[Storage] = Counter()
        """Of those that have any: how many jobs are waiting or running."""
        self._pending_bytes = 0
        self._waiting_bytes = 0
        self._running = 0
        """Workers whose thread is at work."""

    @property
    def pending_bytes(self) -> int:
        """Bytes of jobs that are waiting or running."""
        return self._pending_bytes

    def submit(self, job: Job) -> None:
        """Queues a job; never waits."""
        size = job_bytes(job)
        self._waiting.append(job)
        self._unfinished += 1
        self._of_storage[job.storage] += 1
        self._pending_bytes += size
        self._waiting_bytes += size
        self._idle.unpark()

    async def call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs other file work in one thread hop."""
        called_off = False
        try:
            return await in_thread(self._call_threads, fn, *args)
        except trio.Cancelled:
            # it had not begun: no thread has come back
            called_off = True
            raise
        finally:
            if not called_off:
                self._calls_done += 1
                self._progress.unpark_all()

    async def call_in_background(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs work that is in no hurry in one thread hop."""
        return await self._background.call(fn, *args)

    async def call_to_move(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs a step of a move in one thread hop."""
        return await self._moving.call(fn, *args)

    async def call_or_abandon(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs what may hang in a thread of its own."""
        return await trio.to_thread.run_sync(
            fn, *args, abandon_on_cancel=True, limiter=self._abandoned_threads
        )

    async def pulse(self) -> None:
        """Returns when a thread of each pool has come back, whatever it did: at once, unless all of them hang."""
        calls = self._calls_done
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.call, _nothing)
            while self._calls_done == calls:
                await self._progress.park()
            nursery.cancel_scope.cancel()
        jobs = self._jobs_done
        while self._unfinished and self._jobs_done == jobs:
            await self._progress.park()

    async def settled(self, storage: Storage) -> None:
        """Returns when no job of that storage is waiting or running."""
        while storage in self._of_storage:
            await self._progress.park()

    async def drain(self, of: bytes | None = None) -> None:
        """Returns when no job is waiting or running, of all or of those for one torrent's files."""
        while self._unfinished if of is None else self._has_jobs(of):
            await self._progress.park()

    def _has_jobs(self, of: bytes) -> bool:
        return any(storage.of == of for storage in self._of_storage)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The service: the workers."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._workers):
                nursery.start_soon(self._work)
            task_status.started()

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                await self._idle.park()
            if self._running and self._waiting_bytes < SMALL_BYTES:
                await trio.sleep(LINGER_S)
                if not self._waiting:
                    continue
            batch = self._take()
            self._running += 1
            try:
                outcomes = await in_thread(self._job_threads, _do_all, batch)
            except trio.Cancelled:
                # Raised only before the thread began; once begun, the thread is waited for.
                self._waiting.extendleft(reversed(batch))
                self._waiting_bytes += sum(map(job_bytes, batch))
                raise
            finally:
                self._running -= 1
            self._finish(batch, outcomes)

    def _take(self) -> list[Job]:
        """The jobs of one hop: this worker's share of what waits, and not more than `HOP_BYTES`."""
        share = max(SMALL_BYTES, self._waiting_bytes // (self._workers - self._running))
        batch: list[Job] = []
        size = 0
        while self._waiting:
            more = job_bytes(self._waiting[0])
            if batch and size + more > min(share, HOP_BYTES):
                break
            batch.append(self._waiting.popleft())
            size += more
        self._waiting_bytes -= size
        return batch

    def _finish(self, batch: list[Job], outcomes: list[PieceOutcome]) -> None:
        self._unfinished -= len(batch)
        self._jobs_done += len(batch)
        self._pending_bytes -= sum(map(job_bytes, batch))
        finish(self._buffers, batch, outcomes)
        for job in batch:
            left = self._of_storage[job.storage] - 1
            if left:
                self._of_storage[job.storage] = left
            else:
                del self._of_storage[job.storage]
        self._progress.unpark_all()


def job_bytes(job: Job) -> int:
    """How much a job moves."""
    return len(job.body) if isinstance(job, WriteJob) else job.length


def do(job: Job) -> PieceOutcome:
    """Does one job, in a thread. Trouble of the disk is this job's outcome only, and so is a bug."""
    try:
        return attempt(_verify_and_write, job) if isinstance(job, WriteJob) else attempt(_verify, job)
    except StorageError as error:
        return error


def _verify_and_write(job: WriteJob) -> Verdict:
    if job.expected is not None and hashlib.sha1(job.body).digest() != job.expected:
        return Verdict.CORRUPT
    if job.digest is not None:
        job.digest.update(job.body)
    job.storage.write(job.offset, job.body, kept=job.kept)
    return Verdict.VERIFIED


def _verify(job: HashJob) -> Verdict:
    buffer = _borrow_buffer()
    try:
        found = hash_range_or_raise(job.storage, job.offset, job.length, buffer, job.digest)
    finally:
        _read_buffers.put(buffer)
    return Verdict.VERIFIED if found == job.expected else Verdict.CORRUPT


def finish(buffers: PieceBuffers, batch: list[Job], outcomes: list[PieceOutcome]) -> None:
    """Gives the buffers back and tells the jobs' owners, on the loop."""
    buffers.release(*(job.body for job in batch if isinstance(job, WriteJob)))
    for job, outcome in zip(batch, outcomes, strict=True):
        if isinstance(job, WriteJob):
            job.done(job, outcome)
        else:
            job.done(job, outcome)


def _nothing() -> None:
    """All that has to be done is to come back."""


def _do_all(batch: list[Job]) -> list[PieceOutcome]:
    return [do(job) for job in batch]


_read_buffers: "queue.SimpleQueue[bytearray]" = queue.SimpleQueue()
"""Recycled read buffers of hash jobs, one per thread that ever ran one at the same time."""


def _borrow_buffer() -> bytearray:
    try:
        return _read_buffers.get_nowait()
    except queue.Empty:
        return bytearray(READ_BYTES)
