"""Calls in threads."""

import threading
from functools import partial

import pytest
import trio
import trio.testing

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
        patch.setattr(trio.lowlevel, "start_thread_soon", none_left)
        with pytest.raises(RuntimeError, match="new thread"):
            await in_thread(limiter, len, "abc")
    with trio.fail_after(60):
        assert await in_thread(limiter, partial(len, "abc")) == 3
