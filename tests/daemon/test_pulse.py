"""The watchdog is fed while beats come back from everywhere, and from nowhere else."""

import threading

import trio
from trio.testing import MockClock

from bittern.daemon.pulse import BEAT_EVERY_S, Pulse, Station
from bittern.disk.buffers import PieceBuffers
from bittern.disk.disk import CALL_THREADS, Disk
from bittern.net.listener import Listener


async def test_a_station_that_hangs_is_named_after_its_patience_and_forgiven_when_it_comes_back(
    autojump_clock: MockClock,
) -> None:
    hangs, goes_on = False, trio.Event()

    async def sometimes() -> None:
        if hangs:
            await goes_on.wait()

    async def slowly() -> None:
        await trio.sleep(90)

    pulse = Pulse([Station("disk", slowly, 100.0), Station("network", sometimes, 60.0)])
    async with trio.open_nursery() as nursery:
        await nursery.start(pulse.run)
        for _ in range(1000):
            await trio.sleep(1)
            assert not pulse.stuck(), "slow is not hung"
        hangs = True
        await trio.sleep(59)
        assert not pulse.stuck()
        await trio.sleep(2 * BEAT_EVERY_S + 2)
        assert pulse.stuck() == ["network"]
        hangs = False
        goes_on.set()
        await trio.sleep(1)
        assert not pulse.stuck()
        nursery.cancel_scope.cancel()


async def test_a_disk_all_of_whose_threads_hang_lets_no_beat_through() -> None:
    disk, go_on = Disk(PieceBuffers(1 << 20)), threading.Event()
    begun = threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        go_on.wait(30)

    async with trio.open_nursery() as nursery:
        await nursery.start(disk.run)
        with trio.fail_after(20):
            await disk.pulse()
        threads = disk._call_threads.total_tokens
        assert threads >= CALL_THREADS
        for _ in range(int(threads)):
            nursery.start_soon(disk.call, hang)
        for _ in range(int(threads)):
            await trio.to_thread.run_sync(begun.acquire)
        with trio.move_on_after(0.1) as waited:
            await disk.pulse()
        assert waited.cancelled_caught
        async with trio.open_nursery() as beating:
            beating.start_soon(disk.pulse)
            go_on.set()
        nursery.cancel_scope.cancel()


async def test_a_door_that_nobody_answers_lets_no_beat_through() -> None:
    door = Listener(("127.0.0.1",), 0, lambda handshake, transport: None, taken=lambda reason: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(door.run)
        with trio.fail_after(20):
            await door.knock()
        nursery.cancel_scope.cancel()
    shut = Listener(("0.0.0.0",), 0, lambda handshake, transport: None, taken=lambda reason: None)
    sockets = shut._bind_now()
    with trio.move_on_after(0.1) as waited:
        await shut.knock()
    assert waited.cancelled_caught
    for one in sockets:
        one.close()
