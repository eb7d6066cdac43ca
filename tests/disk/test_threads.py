"""Calls in threads."""

import gc
import os
import signal
import threading
import time
from contextlib import suppress
from functools import partial
from typing import cast

import pytest
import trio
import trio.testing

from bittern.disk import threads
from bittern.disk.threads import in_thread


async def test_what_is_returned_and_what_is_raised() -> None:
    limiter = trio.CapacityLimiter(1)
    assert await in_thread(limiter, divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await in_thread(limiter, divmod, 7, 0)
    assert await in_thread(limiter, threading.get_ident) != threading.get_ident()
    assert limiter.borrowed_tokens == 0


async def test_no_more_than_so_many_at_once() -> None:
    limiter = trio.CapacityLimiter(2)
    go = threading.Event()
    began: list[int] = []

    def work(number: int) -> None:
        began.append(number)
        go.wait(60)

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(in_thread, limiter, work, number)
            await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(60):
            while len(began) < 2:
                await trio.sleep(0.001)
        assert sorted(began) == [0, 1]
        assert limiter.statistics().tasks_waiting == 2
        go.set()
    assert sorted(began) == [0, 1, 2, 3]
    assert limiter.borrowed_tokens == 0


async def test_what_has_begun_is_waited_for_and_what_has_not_is_not_begun() -> None:
    limiter = trio.CapacityLimiter(1)
    go = threading.Event()
    done: list[str] = []

    def work(name: str) -> None:
        go.wait(60)
        done.append(name)

    scopes: list[trio.CancelScope] = []

    async def call(name: str) -> None:
        with trio.CancelScope() as scope:
            scopes.append(scope)
            if name == "late":
                scope.cancel()
            await in_thread(limiter, work, name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, "begun")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(call, "waiting")
        await trio.testing.wait_all_tasks_blocked()
        for scope in scopes:
            scope.cancel()
        nursery.start_soon(call, "late")
        await trio.testing.wait_all_tasks_blocked()
        assert done == []
        assert len(nursery.child_tasks) == 1
        go.set()
    await call("late")
    assert done == ["begun"]
    assert limiter.borrowed_tokens == 0


async def test_without_a_thread_nobody_s_turn_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = trio.CapacityLimiter(1)

    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threads, "_stays", threads._Stays())
        patch.setattr(threading.Thread, "start", none_left)
        for _ in range(2):
            with pytest.raises(RuntimeError, match="new thread"):
                await in_thread(limiter, len, "abc")
        patch.setattr(threads._stays, "_free", [])
        patch.setattr(trio.lowlevel, "start_thread_soon", none_left)
        with pytest.raises(RuntimeError, match="new thread"):
            await in_thread(limiter, len, "abc")
    with trio.fail_after(60):
        assert await in_thread(limiter, partial(len, "abc")) == 3


async def test_who_comes_one_after_the_other_has_the_same_thread_and_it_stays() -> None:
    limiter = trio.CapacityLimiter(8)
    first = await in_thread(limiter, threading.current_thread)
    for _ in range(10):
        assert await in_thread(limiter, threading.current_thread) is first
    assert first.name == "bittern disk"


async def test_who_comes_while_it_is_at_work_has_another() -> None:
    limiter = trio.CapacityLimiter(8)
    go = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(in_thread, limiter, go.wait, 60)
        await trio.testing.wait_all_tasks_blocked()
        others = {await in_thread(limiter, threading.current_thread) for _ in range(3)}
        go.set()
    assert all(other.name != "bittern disk" for other in others)


async def test_what_was_raised_is_not_held_by_itself() -> None:
    class Odd(Exception):
        pass

    def fails() -> None:
        raise Odd

    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with suppress(Odd):
                await in_thread(trio.CapacityLimiter(1), fails)
        assert not [one for one in gc.get_objects() if type(one) is Odd]
    finally:
        gc.enable()


def test_a_process_that_was_forked_off_has_a_thread_of_its_own() -> None:
    async def call() -> str:
        return (await in_thread(trio.CapacityLimiter(2), threading.current_thread)).name

    assert trio.run(call) == "bittern disk"
    # an alarm ends who waits for a thread that is not there
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)
        os._exit(0 if trio.run(call) == "bittern disk" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_who_is_interrupted_waits_for_what_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a key, of whoever runs a session of ours in a program of his own."""
    done: list[str] = []
    takes = threads._stays.takes

    def takes_and_is_interrupted(call: threads._Call) -> bool:
        taken = takes(call)
        signal.raise_signal(signal.SIGINT)
        return taken

    async def main() -> None:
        limiter = trio.CapacityLimiter(1)
        with monkeypatch.context() as patch:
            patch.setattr(threads._stays, "takes", takes_and_is_interrupted)
            await in_thread(limiter, done.append, "it")
        assert done == ["it"]
        assert limiter.borrowed_tokens == 0
        done.append("waited for")
        await trio.sleep_forever()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trio.run(main)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["it", "waited for"]


def test_a_loop_that_broke_down_leaves_the_thread_to_others() -> None:
    go = threading.Event()

    class Broken:
        def run(self) -> None:
            go.wait(60)

        def tell(self) -> None:
            raise trio.RunFinishedError

    stays, broken = threads._Stays(), cast("threads._Call", Broken())
    assert stays.takes(broken)
    assert not stays.takes(broken)
    go.set()
    told = threading.Event()
    call = threads._Call(lambda: 7)
    call.tell = told.set
    while not stays.takes(call):
        time.sleep(0.001)
    assert told.wait(60)
    assert call.result() == 7
