"""Signals that come before the daemon can act on them wait for it.

Starting takes some tenths of a second, most of them imports, and a signal's own way of ending a program is not an
orderly one. So this imports nothing that is slow.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

HEARD: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def kept_signals() -> Iterator[list[int]]:
    """Within, none of `HEARD` ends the process; each is appended to the list. Main thread only."""
    early: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        early.append(number)

    before = {number: signal.signal(number, note) for number in HEARD}
    try:
        yield early
    finally:
        for number, action in before.items():
            signal.signal(number, action)
