"""Threads for long work that gives way: checks, which would hash on all cores for hours.

A thread of trio's own could not do it: without privileges a thread that made itself modest can never take that
back, and trio hands its threads to whoever comes next.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple

import trio

NICENESS: Final = 10
"""A tenth of a core beside what is in a hurry, and all of it where nothing else is. Without it whoever waits for a
packet while all cores hash comes 1 ms late in one case of a hundred; with it, 0.3 ms.
"""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class BackgroundThreads:
    """At most `count` at work, started when first needed; callers are served in turn."""

    def __init__(self, count: int) -> None:
        self._turns = trio.Semaphore(count)
        self._threads = ThreadPoolExecutor(count, "background", initializer=_give_way)

    @trio.lowlevel.enable_ki_protection
    async def call(self, fn: Callable[[*Ts], T], *args: *Ts) -> T:
        """Runs `fn` in one of them; what it raises is raised here. Once begun it is always waited for."""
        async with self._turns:
            resume = trio.lowlevel.current_trio_token().run_sync_soon
            task = trio.lowlevel.current_task()
            work = self._threads.submit(fn, *args)
            work.add_done_callback(lambda _: resume(trio.lowlevel.reschedule, task))
            await trio.lowlevel.wait_task_rescheduled(lambda _: trio.lowlevel.Abort.FAILED)
            return work.result()


def _give_way() -> None:
    """Linux counts niceness by thread, and lets nobody take back any of it."""
    me = threading.get_native_id()
    os.setpriority(os.PRIO_PROCESS, me, max(NICENESS, os.getpriority(os.PRIO_PROCESS, me)))
