"""For how long bittern has run, over all its runs: what seed times are counted on.

It stands still while bittern is down, and no change of the wall clock moves it. So the seed time of ten thousand idle
torrents is kept by one number that is written now and then, and not by ten thousand records.
"""

from typing import Final

import trio

BEGINNING_S: Final = 1.0
"""0 says in a record that something has not happened."""


class RunClock:
    """Seconds; `start` first."""

    def __init__(self) -> None:
        self._ahead_s = 0.0

    def start(self, noted_s: float) -> None:
        """Goes on where it stood when that was noted."""
        self._ahead_s = max(noted_s, BEGINNING_S) - trio.current_time()

    def at_least(self, seconds: float) -> None:
        """A record knows that it has been so late: the note was older."""
        self._ahead_s += max(0.0, seconds - self.now())

    def now(self) -> float:
        """What it shows."""
        return trio.current_time() + self._ahead_s

    def at(self, now: float) -> float:
        """What it shows at that time of trio's clock."""
        return now + self._ahead_s
