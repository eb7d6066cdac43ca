"""Memory that a burst of new torrents leaves behind, given back to the system when it is over.

Many a .torrent is larger than what Python keeps house over itself, and goes through the C library's heaps, one for each
thread if it is let. What is free in the middle of them stays ours until somebody asks for it: after two thousand
torrents of a thousand pieces each that was 8 of 77 MiB. And what was given back by one heap is of no use to another's
thread: with one for all a torrent of a thousand pieces costs 4.3 KB instead of 8.1, as they come (500 to 2 000).
"""

import ctypes
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from bittern.engine.events import Added, Checked, Completed, Event

QUIET_S: Final = 5.0
WORTH_IT: Final = 100
"""Events: fewer leave next to nothing."""


ARENA_MAX: Final = -8
"""M_ARENA_MAX of glibc's malloc.h."""


def keep_one_heap() -> None:
    """From now on; before there are threads. The interpreter's lock keeps them apart anyway."""
    # glibc's; others need no such thing
    option = getattr(ctypes.CDLL(None), "mallopt", None)
    if option is not None:
        option(ARENA_MAX, 1)


async def give_back() -> None:
    """Looks through all heaps, so it has a thread."""
    await trio.to_thread.run_sync(_trim)


def _trim() -> None:
    # glibc's; others need no such thing
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Slack:
    """Hears of what the engine does."""

    def __init__(self, trim: Callable[[], Awaitable[None]] = give_back) -> None:
        self._trim = trim
        self._burst = 0
        self._news = trio.Event()

    def noted(self, event: Event) -> None:
        """Cheap, for it hears of everything."""
        if isinstance(event, Added | Checked | Completed):
            self._burst += 1
            self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._news.wait()
            while self._news.is_set():
                self._news = trio.Event()
                await trio.sleep(QUIET_S)
            if self._burst >= WORTH_IT:
                self._burst = 0
                await self._trim()
