"""A call in one of trio's threads, by a shorter way than trio's own.

`trio.to_thread.run_sync` lets the thread call back, gives it a name for the time of the call (two system calls, each of
which gives the interpreter's lock away), copies the context, and goes round the loop once before the thread begins.
Nothing that is done here needs any of it, and all of it is more than a hop itself: 80 us, without it 48.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def in_thread(limiter: trio.CapacityLimiter, fn: Callable[[*Ts], T], *args: *Ts) -> T:
    """What `fn` returns or raises. Cancelled before its turn it is not done; once begun it is always waited for."""
    await trio.lowlevel.checkpoint_if_cancelled()
    turn = object()
    try:
        limiter.acquire_on_behalf_of_nowait(turn)
    except trio.WouldBlock:
        await limiter.acquire_on_behalf_of(turn)
    resume = trio.lowlevel.current_trio_token().run_sync_soon
    back = partial(_back, limiter, turn, trio.lowlevel.current_task())
    try:
        trio.lowlevel.start_thread_soon(partial(fn, *args), lambda outcome: resume(back, outcome))
    except BaseException:
        # no thread can be had
        limiter.release_on_behalf_of(turn)
        raise
    done: T = await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
    return done


def _back(limiter: trio.CapacityLimiter, turn: object, task: trio.lowlevel.Task, outcome: Any) -> None:
    limiter.release_on_behalf_of(turn)
    trio.lowlevel.reschedule(task, outcome)
