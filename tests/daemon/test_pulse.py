"""The watchdog is fed while beats come back from everywhere, and from nowhere else."""

import socket
import threading

import pytest
import trio
import trio.testing
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
        go_on.wait(120)

    async with trio.open_nursery() as nursery:
        await nursery.start(disk.run)
        with trio.fail_after(60):
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
        passed = trio.Event()

        async def beat() -> None:
            await disk.pulse()
            passed.set()

        nursery.start_soon(beat)
        await trio.testing.wait_all_tasks_blocked(0.01)
        with trio.move_on_after(0.01):
            await disk.call(hang)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not passed.is_set(), "who waits no more for a thread is no thread that came back"
        async with trio.open_nursery() as beating:
            beating.start_soon(disk.pulse)
            go_on.set()
        nursery.cancel_scope.cancel()


async def test_a_door_that_nobody_answers_lets_no_beat_through() -> None:
    door = Listener(("127.0.0.1",), 0, lambda handshake, transport: None, taken=lambda reason: None)
    async with trio.open_nursery() as nursery:
        await nursery.start(door.run)
        with trio.fail_after(60):
            await door.knock()
        nursery.cancel_scope.cancel()
    shut = Listener(("0.0.0.0",), 0, lambda handshake, transport: None, taken=lambda reason: None)
    sockets = shut._bind_now()
    with trio.move_on_after(0.1) as waited:
        await shut.knock()
    assert waited.cancelled_caught
    for one in sockets:
        one.close()


def nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(self: object, address: object) -> None:
        await trio.sleep_forever()

    with trio.socket.socket() as one:
        monkeypatch.setattr(type(one), "connect", never)


async def test_a_crowd_before_the_door_that_is_let_in_is_answer_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nobody_answers(monkeypatch)
    door = Listener(("127.0.0.1",), 0, lambda handshake, transport: None, taken=lambda reason: None)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(door.run)
        with trio.fail_after(60):
            async with trio.open_nursery() as knocking:
                knocking.start_soon(door.knock)
                await trio.testing.wait_all_tasks_blocked(0.01)
                stranger = socket.create_connection(("127.0.0.1", port))
        stranger.close()
        nursery.cancel_scope.cancel()


async def test_nobody_knocks_at_an_address_that_is_not_ours_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    nobody_answers(monkeypatch)
    door = Listener(("192.0.2.77",), 0, lambda handshake, transport: None, taken=lambda reason: None)
    door.port = 9
    with trio.fail_after(60):
        await door.knock()
