"""A disk gate without threads, for tests in virtual time, with faults to order.

It does the real file work, on the loop, in order, one job at a time; trio's autojump clock does not see
threads, but it sees this. It passes the same conformance suite as `Disk` (tests/disk/test_disk.py).
"""

import os
from collections import deque
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

from bittern.disk.buffers import PieceBuffers
from bittern.disk.disk import Job, PieceOutcome, Verdict, do, finish, job_bytes
from bittern.disk.storage import Storage
from bittern.errors import StorageError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class InlineDisk:
    """`DiskGate` on the loop. Knobs: `delay_s` per job and call, and the methods that order faults."""

    def __init__(self, buffers: PieceBuffers, *, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s
        self.jobs_done = 0
        self.calls_done = 0
        self._buffers = buffers
        self._waiting: deque[Job] = deque()
        self._under_way: list[Job] = []
        self._news = trio.lowlevel.ParkingLot()
        self._drained = trio.lowlevel.ParkingLot()
        self._unfinished = 0
        self._pending_bytes = 0
        self._failures: deque[int] = deque()
        self._call_failures: deque[int] = deque()
        self._corruptions = 0

    def fail_next(self, errno: int, count: int = 1) -> None:
        """The next `count` jobs end with this errno."""
        self._failures.extend([errno] * count)

    def fail_calls(self, errno: int, count: int = 1) -> None:
        """The next `count` calls raise a `StorageError` with this errno, without being made."""
        self._call_failures.extend([errno] * count)

    def corrupt_next(self, count: int = 1) -> None:
        """The next `count` jobs with an expected hash find the bytes wrong."""
        self._corruptions += count

    @property
    def pending_bytes(self) -> int:
        return self._pending_bytes

    def submit(self, job: Job) -> None:
        self._waiting.append(job)
        self._unfinished += 1
        self._pending_bytes += job_bytes(job)
        self._news.unpark()

    async def call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        # Like a thread that has begun: waited for, whatever happens meanwhile.
        with trio.CancelScope(shield=True):
            await self._pause()
        self.calls_done += 1
        if self._call_failures:
            raise _failure(self._call_failures.popleft())
        return fn(*args)

    call_in_background = call
    call_to_move = call
    call_or_abandon = call

    async def settled(self, storage: Storage) -> None:
        await self.drain()

    async def drain(self, of: bytes | None = None) -> None:
        while self._unfinished if of is None else self._has_jobs(of):
            await self._drained.park()

    def _has_jobs(self, of: bytes) -> bool:
        return any(job.storage.of == of for job in (*self._waiting, *self._under_way))

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            while not self._waiting:
                await self._news.park()
            await trio.lowlevel.checkpoint_if_cancelled()
            job = self._waiting.popleft()
            self._under_way.append(job)
            with trio.CancelScope(shield=True):
                await self._pause()
            outcome = self._outcome(job)
            self._under_way.clear()
            self.jobs_done += 1
            self._unfinished -= 1
            self._pending_bytes -= job_bytes(job)
            finish(self._buffers, [job], [outcome])
            self._drained.unpark_all()

    async def _pause(self) -> None:
        if self.delay_s:
            await trio.sleep(self.delay_s)
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _outcome(self, job: Job) -> PieceOutcome:
        if self._failures:
            return _failure(self._failures.popleft())
        if self._corruptions and job.expected is not None:
            self._corruptions -= 1
            return Verdict.CORRUPT
        return do(job)


def _failure(errno: int) -> StorageError:
    return StorageError(f"made to fail ({os.strerror(errno)})", errno=errno)
