"""Threads that give way."""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio
import trio.testing

from bittern.disk.background import NICENESS, BackgroundThreads


def my_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_the_work_is_modest_and_nobody_else_is() -> None:
    threads = BackgroundThreads(1)
    usual = my_niceness()
    assert await threads.call(my_niceness) == max(usual, NICENESS)
    assert my_niceness() == usual
    assert await trio.to_thread.run_sync(my_niceness) == usual


async def test_what_it_raises_is_raised_here() -> None:
    threads = BackgroundThreads(1)
    with pytest.raises(ValueError, match="invalid literal"):
        await threads.call(int, "many")
    assert await threads.call(int, "2") == 2


async def test_no_more_than_so_many_at_once_and_in_turn() -> None:
    threads = BackgroundThreads(2)
    go = threading.Event()
    began: list[int] = []

    def work(number: int) -> None:
        began.append(number)
        go.wait(60)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(threads.call, work, number)
            await trio.testing.wait_all_tasks_blocked()
        await _until(lambda: len(began) == 2)
        assert sorted(began) == [0, 1]
        go.set()
    assert sorted(began) == [0, 1, 2, 3]


def test_who_is_interrupted_by_key_waits_for_what_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    submit = ThreadPoolExecutor.submit

    def submit_and_be_interrupted(*args: Any) -> Any:
        work = submit(*args)
        signal.raise_signal(signal.SIGINT)
        return work

    async def main() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(ThreadPoolExecutor, "submit", submit_and_be_interrupted)
            await BackgroundThreads(1).call(done.append, "it")
        done.append("waited for")
        await trio.sleep_forever()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["it", "waited for"]


async def test_work_that_has_begun_is_waited_for_and_what_has_not_is_not() -> None:
    threads = BackgroundThreads(1)
    began, go = threading.Event(), threading.Event()
    ended: list[str] = []

    def work(name: str) -> None:
        began.set()
        go.wait(60)
        ended.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.call, work, "first")
        await _until(began.is_set)
        nursery.start_soon(threads.call, work, "second")
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            assert not ended
        go.set()
    assert ended == ["first"]
    assert await threads.call(int, "3") == 3


async def _until(true: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not true():
            await trio.sleep(0.001)
