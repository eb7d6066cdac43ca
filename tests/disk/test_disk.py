"""The disk gate: one suite for the real one and for the fake that tests of the engine use."""

import errno
import hashlib
import os
import random
import threading

import pytest
import trio

from bittern.disk.buffers import PieceBuffers
from bittern.disk.disk import Disk, HashJob, Verdict, WriteJob
from bittern.disk.files import OpenFiles
from bittern.disk.storage import Storage
from bittern.disk.threads import in_thread
from bittern.errors import StorageError
from bittern.proto.layout import Layout
from tests.fakes.inline_disk import InlineDisk

KIB = 1024
PIECE = 64 * KIB
PIECES = 32


class Bench:
    """A gate, its buffers, one torrent, and what became of its jobs."""

    def __init__(self, gate_class, folder):
        self.buffers = PieceBuffers(PIECES * PIECE)
        self.gate = gate_class(self.buffers)
        self.files = OpenFiles(4)
        self.layout = Layout(PIECE, PIECE * PIECES, (PIECE * PIECES // 2 + 7, PIECE * PIECES // 2 - 7))
        self.storage = Storage(self.files, str(folder), ["r/a", "r/b"], self.layout)
        self.payload = random.Random(5).randbytes(PIECE * PIECES)
        self.outcomes = {}
        self.order = []

    def buffer_available(self):
        pass

    def piece(self, index):
        return self.payload[index * PIECE : (index + 1) * PIECE]

    def body(self, index):
        view = self.buffers.request(self, PIECE)
        view[:] = self.piece(index)
        return view

    def done(self, job, outcome):
        assert threading.current_thread() is threading.main_thread()
        self.outcomes[job.tag] = outcome
        self.order.append((job.tag, self.buffers.in_use_bytes))

    def write_job(self, index, *, expected="right", storage=None):
        digest = hashlib.sha1(self.piece(index)).digest() if expected == "right" else expected
        return WriteJob(storage or self.storage, index * PIECE, self.body(index), digest, self.done, index)

    def hash_job(self, first, count, tag):
        body = self.payload[first * PIECE : (first + count) * PIECE]
        return HashJob(self.storage, first * PIECE, len(body), hashlib.sha1(body).digest(), self.done, tag)


@pytest.fixture(params=[Disk, InlineDisk], ids=["threads", "inline"])
async def bench(request, tmp_path, nursery):
    bench = Bench(request.param, tmp_path)
    await nursery.start(bench.gate.run)
    yield bench
    bench.files.close_all()
    nursery.cancel_scope.cancel()


async def test_good_pieces_are_written_and_their_buffers_come_back(bench, tmp_path):
    for index in range(PIECES):
        bench.gate.submit(bench.write_job(index))
    assert not bench.outcomes
    assert bench.gate.pending_bytes == PIECE * PIECES
    await bench.gate.drain()
    assert bench.outcomes == dict.fromkeys(range(PIECES), Verdict.VERIFIED)
    assert bench.buffers.in_use_bytes == 0
    assert bench.gate.pending_bytes == 0
    assert (tmp_path / "r/a").read_bytes() + (tmp_path / "r/b").read_bytes() == bench.payload


async def test_the_buffer_is_back_before_done_is_told(bench):
    bench.gate.submit(bench.write_job(0))
    await bench.gate.drain()
    assert bench.order == [(0, 0)]


async def test_a_corrupt_piece_is_not_written(bench, tmp_path):
    bench.gate.submit(bench.write_job(0, expected=b"?" * 20))
    await bench.gate.drain()
    assert bench.outcomes == {0: Verdict.CORRUPT}
    assert not list(tmp_path.iterdir())
    assert bench.buffers.in_use_bytes == 0


async def test_a_large_piece_goes_in_spans_and_is_hashed_from_the_file(bench):
    for index in range(4):
        bench.gate.submit(bench.write_job(index, expected=None))
    await bench.gate.drain()
    bench.gate.submit(bench.hash_job(0, 4, "whole"))
    await bench.gate.drain()
    assert bench.outcomes["whole"] is Verdict.VERIFIED
    bench.storage.write(100, memoryview(b"poison"))
    bench.gate.submit(bench.hash_job(0, 4, "poisoned"))
    await bench.gate.drain()
    assert bench.outcomes["poisoned"] is Verdict.CORRUPT


async def test_hashing_what_is_not_there_is_a_storage_error(bench):
    bench.gate.submit(bench.hash_job(0, 4, "x"))
    await bench.gate.drain()
    assert isinstance(bench.outcomes["x"], StorageError)


async def test_one_jobs_trouble_is_its_own(bench, tmp_path, monkeypatch):
    broken = Storage(bench.files, str(tmp_path / "gone"), ["r/a", "r/b"], bench.layout)
    bench.gate.submit(bench.write_job(0))
    bench.gate.submit(bench.write_job(1, storage=broken))
    bench.gate.submit(bench.write_job(2))
    await bench.gate.drain()
    assert bench.outcomes[0] is Verdict.VERIFIED
    assert bench.outcomes[2] is Verdict.VERIFIED
    assert bench.outcomes[1].errno == errno.ENOENT
    assert bench.buffers.in_use_bytes == 0


async def test_done_may_submit_more_and_drain_waits_for_it(bench):
    plain_done = bench.done

    def done(job, outcome):
        plain_done(job, outcome)
        if job.tag < 5:
            bench.gate.submit(bench.write_job(job.tag + 1))

    bench.done = done
    bench.gate.submit(bench.write_job(0))
    await bench.gate.drain()
    assert set(bench.outcomes) == set(range(6))


async def test_drain_of_an_idle_gate_returns(bench):
    await bench.gate.drain()


@pytest.mark.parametrize("how", ["call", "call_in_background"])
async def test_a_call_gives_its_result_or_its_error(bench, how):
    call = getattr(bench.gate, how)
    assert await call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await call(divmod, 7, 0)


async def test_calls_run_while_jobs_do(bench):
    for index in range(8):
        bench.gate.submit(bench.write_job(index))
    assert await bench.gate.call(len, "abc") == 3
    await bench.gate.drain()


async def test_a_waiting_swarm_gets_the_buffer_of_a_written_piece(bench):
    held = [bench.body(index) for index in range(PIECES - 1)]
    job = bench.write_job(31)
    got = []

    class Waiting:
        def buffer_available(self):
            got.append(bench.buffers.request(self, PIECE))

    assert bench.buffers.request(Waiting(), PIECE) is None
    bench.gate.submit(job)
    await bench.gate.drain()
    assert [len(view) for view in got] == [PIECE]
    for view in (*held, *got):
        bench.buffers.release(view)


@pytest.mark.parametrize("gate_class", [Disk, InlineDisk])
async def test_a_cancelled_service_leaves_no_job_half_told(gate_class, tmp_path):
    bench = Bench(gate_class, tmp_path)
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.gate.run)
        for index in range(PIECES):
            bench.gate.submit(bench.write_job(index))
        await trio.sleep(0)
        nursery.cancel_scope.cancel()
    told = len(bench.outcomes)
    assert bench.buffers.in_use_bytes == (PIECES - told) * PIECE == bench.gate.pending_bytes
    # Nothing was lost: a service started again does the rest.
    async with trio.open_nursery() as nursery:
        await nursery.start(bench.gate.run)
        await bench.gate.drain()
        nursery.cancel_scope.cancel()
    assert len(bench.outcomes) == PIECES
    bench.files.close_all()


async def test_many_jobs_share_a_thread_hop(tmp_path, monkeypatch):
    bench = Bench(lambda buffers: Disk(buffers, workers=1), tmp_path)
    hops = []

    async def counted(limiter, fn, batch):
        hops.append(len(batch))
        return await in_thread(limiter, fn, batch)

    monkeypatch.setattr("bittern.disk.disk.in_thread", counted)
    async with trio.open_nursery() as nursery:
        for index in range(PIECES):
            bench.gate.submit(bench.write_job(index))
        await nursery.start(bench.gate.run)
        await bench.gate.drain()
        nursery.cancel_scope.cancel()
    assert hops == [PIECES]
    bench.files.close_all()


async def test_the_loop_runs_on_while_threads_work(tmp_path, nursery):
    bench = Bench(Disk, tmp_path)
    await nursery.start(bench.gate.run)
    release = threading.Event()
    nursery.start_soon(bench.gate.call, release.wait)
    bench.gate.submit(bench.write_job(0))
    await bench.gate.drain()
    release.set()
    nursery.cancel_scope.cancel()
    bench.files.close_all()


async def test_inline_faults(tmp_path, nursery, autojump_clock):
    bench = Bench(InlineDisk, tmp_path)
    await nursery.start(bench.gate.run)
    bench.gate.fail_next(errno.ENOSPC)
    bench.gate.corrupt_next()
    bench.gate.delay_s = 2.0
    started = trio.current_time()
    for index in range(3):
        bench.gate.submit(bench.write_job(index))
    await bench.gate.drain()
    assert trio.current_time() - started == 6.0
    assert bench.outcomes[0].errno == errno.ENOSPC
    assert bench.outcomes[1] is Verdict.CORRUPT
    assert bench.outcomes[2] is Verdict.VERIFIED
    bench.gate.fail_calls(errno.EIO)
    with pytest.raises(StorageError):
        await bench.gate.call(os.getpid)
    assert await bench.gate.call(os.getpid) == os.getpid()
    nursery.cancel_scope.cancel()
    bench.files.close_all()
