"""A call in a thread, by a shorter way than trio's own.

`trio.to_thread.run_sync` lets the thread call back, gives it a name for the time of the call (two system calls, each of
which gives the interpreter's lock away), copies the context, and goes round the loop once before the thread begins.
Nothing that is done here needs any of it, and all of it is more than a hop itself: 80 us, without it 48.

One thread stays: trio's end after ten seconds without work, and to start one for who comes after a quiet minute takes
longer (0.6 ms) than what most want of it. Whoever finds it at work is given one of trio's.
"""

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@trio.lowlevel.enable_ki_protection
async def in_thread(limiter: trio.CapacityLimiter, fn: Callable[[*Ts], T], *args: *Ts) -> T:
    """What `fn` returns or raises. Cancelled before its turn it is not done; once begun it is always waited for."""
    await trio.lowlevel.checkpoint_if_cancelled()
    turn = object()
    try:
        limiter.acquire_on_behalf_of_nowait(turn)
    except trio.WouldBlock:
        await limiter.acquire_on_behalf_of(turn)
    resume = trio.lowlevel.current_trio_token().run_sync_soon
    task = trio.lowlevel.current_task()
    call = _Call(partial(fn, *args))
    call.tell = partial(resume, _back, limiter, turn, task)
    try:
        if not _stays.takes(call):
            trio.lowlevel.start_thread_soon(call.run, call.ended)
    except BaseException:
        # no thread can be had
        limiter.release_on_behalf_of(turn)
        raise
    await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
    result: T = call.result()
    return result


def _back(limiter: trio.CapacityLimiter, turn: object, task: trio.lowlevel.Task) -> None:
    limiter.release_on_behalf_of(turn)
    trio.lowlevel.reschedule(task)


class _Call:
    """Goes to a thread and comes back; whoever has it is alone with it."""

    __slots__ = ("_error", "_fn", "_value", "tell")

    def __init__(self, fn: Callable[[], Any]) -> None:
        self._fn: Callable[[], Any] | None = fn
        self._value: Any = None
        self._error: BaseException | None = None
        self.tell: Callable[[], object]
        """That it is done."""

    def run(self) -> None:
        assert self._fn is not None
        try:
            self._value = self._fn()
        except BaseException as error:
            # raised by `result`, on the loop
            self._error = error
        # what it was called with is not kept until the loop comes to it
        self._fn = None

    def ended(self, _: object) -> None:
        self.tell()

    def result(self) -> Any:
        error, self._error = self._error, None
        try:
            if error is not None:
                raise error
            return self._value
        finally:
            # or it would hold itself, by its traceback
            del error


class _Stays:
    """The thread that stays, and who has it; started when it is first wanted. From any thread."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Also in a process that was forked off: it has none of our threads, and perhaps locks that they held."""
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._free = [True]
        """Empty while it is at work; taken and given back in one step each."""
        self._started = False

    def takes(self, call: _Call) -> bool:
        """Does it do that now?"""
        try:
            self._free.pop()
        except IndexError:
            return False
        if not self._started:
            try:
                threading.Thread(target=self._work, name="bittern disk", daemon=True).start()
            except BaseException:
                self._free.append(True)
                raise
            self._started = True
        self._calls.put(call)
        return True

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            call.run()
            # before it is told: whoever hears of it may have the next one
            self._free.append(True)
            # a loop that broke down has nobody left to hear it
            with suppress(trio.RunFinishedError):
                call.tell()
            del call


_stays: Final = _Stays()
os.register_at_fork(after_in_child=_stays.begin)
