"""Rates: a bucket that limits them, a meter that measures them. Both take the time as an argument.

A limit has to hold over ten seconds and to look even over one. So the bucket keeps two accounts and grants what both
allow. The long one grows at the limit and decides what moves in the long run; what it has saved is at most
`SAVED_S`, be it from a pause or because the caller came late. The short one grows a little faster and holds next to
nothing; it lets savings be used up only slowly. In any second at most 1.02 s' worth moves, and a portion and 20 ms.
"""

from typing import Final

SAVED_S: Final = 0.15
"""How much of an unused limit may be made up for: 1.5 % of ten seconds."""

HASTE: Final = 1.02
"""How much faster than the limit it is made up for."""

LATE_S: Final = 0.02
"""A caller that comes this late after its sleep loses nothing: threads that hold the interpreter cost it 5 ms."""

PORTION_S: Final = 1 / 64
LEAST_PORTION: Final = 512
MOST_PORTION: Final = 128 * 1024
"""What is moved at a time: 16 ms' worth, but no packets of a few bytes, and no more system calls than it takes."""

LEAST_PORTION_S: Final = 0.5
"""Whoever wants less than 1 KiB/s gets it twice a second."""

ROUNDING_S: Final = 1e-6
"""So that a sleep of exactly `wait_s` is enough in floating point too."""

METER_SLOTS: Final = 5
"""Seconds that a meter looks back."""


class TokenBucket:
    """`rate_per_s` bytes a second, more than 0."""

    __slots__ = ("_at", "_long", "_long_most", "_rate", "_short", "_short_most", "portion")

    def __init__(self, rate_per_s: float, now: float) -> None:
        self._at = now
        self._long = self._short = 0.0
        self.set_rate(rate_per_s, now)

    def set_rate(self, rate_per_s: float, now: float) -> None:
        """From now on; of what was saved under the old rate nothing is left but what the new one lets save."""
        if now > self._at:
            self._earn(now)
        self._rate = rate_per_s
        self.portion = portion_bytes(rate_per_s)
        self._short_most = self.portion + LATE_S * rate_per_s
        self._long_most = max(SAVED_S * rate_per_s, self._short_most)
        self._cap()

    def take(self, wanted: int, now: float) -> int:
        """0, or 1..`wanted`: a portion, or all of it where that leaves no crumbs."""
        self._earn(now)
        granted = wanted if wanted <= self.portion * 5 // 4 else self.portion
        # A little too much now is paid back by the next wait: nothing has to be cut in two for it.
        if min(self._long, self._short) < min(granted, self.portion):
            return 0
        self._long -= granted
        self._short -= granted
        return granted

    def give_back(self, unused: int) -> None:
        """Granted, and not moved."""
        self._long += unused
        self._short += unused

    def wait_s(self, wanted: int, now: float) -> float:
        """How long until `take` gives something."""
        self._earn(now)
        needed = min(wanted, self.portion)
        missing = max(needed - self._long, (needed - self._short) / HASTE)
        return missing / self._rate + ROUNDING_S if missing > 0 else 0.0

    def _earn(self, now: float) -> None:
        passed = now - self._at
        if passed > 0:
            self._at = now
            self._long += passed * self._rate
            self._short += passed * self._rate * HASTE
        self._cap()

    def _cap(self) -> None:
        self._long = min(self._long, self._long_most)
        self._short = min(self._short, self._short_most)


class RateMeter:
    """Bytes a second over the last few seconds, and in total."""

    __slots__ = ("_began", "_second", "_slots", "total")

    def __init__(self) -> None:
        self._slots = [0] * METER_SLOTS
        self._second = 0
        self._began: float | None = None
        self.total = 0

    def add(self, amount: int, now: float) -> None:
        """So many bytes moved."""
        self._advance(now)
        if self._began is None:
            self._began = now
        self._slots[self._second % METER_SLOTS] += amount
        self.total += amount

    def rate(self, now: float) -> float:
        """Bytes a second."""
        if self._began is None:
            return 0.0
        self._advance(now)
        window = now - max(self._began, float(self._second - METER_SLOTS + 1))
        return sum(self._slots) / max(window, 1.0)

    def _advance(self, now: float) -> None:
        second = int(now)
        for passed in range(max(self._second + 1, second - METER_SLOTS + 1), second + 1):
            self._slots[passed % METER_SLOTS] = 0
        self._second = max(self._second, second)


def portion_bytes(rate_per_s: float) -> int:
    """How much is moved at a time under that limit."""
    least = min(LEAST_PORTION, rate_per_s * LEAST_PORTION_S)
    return max(1, int(min(max(rate_per_s * PORTION_S, least), MOST_PORTION)))
