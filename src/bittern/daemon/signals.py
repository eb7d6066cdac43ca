"""Signals that come before the daemon can act on them wait for it.

Starting takes some tenths of a second, most of them imports, and a signal's own way of ending a program is not an
orderly one. So this imports nothing but what it is about, not even `typing`.
"""

import signal

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def keep_signals() -> list[int]:
    """From here on none of `HEARD` ends the process; each is appended to the list. Main thread only."""
    early: list[int] = []
    for number in HEARD:
        signal.signal(number, lambda number, _frame: early.append(number))
    return early
