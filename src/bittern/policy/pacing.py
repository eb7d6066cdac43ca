"""Rates: a bucket that limits them, a meter that measures them. Both take the time as an argument."""

from typing import Final

BURST_S: Final = 0.25
"""How much of an unused limit may be made up for: more would not be smooth, less would lose to timer granularity."""

USEFUL_S: Final = 0.02
USEFUL_MOST: Final = 16 * 1024
"""A grant is worth the call: this long at the limit, but no need for more than a block."""

ROUNDING_S: Final = 1e-6
"""So that a sleep of exactly `wait_s` is enough in floating point too."""

METER_SLOTS: Final = 5
"""Seconds that a meter looks back."""


class TokenBucket:
    """`rate_per_s` bytes a second, None for no limit."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate_per_s: float | None, now: float) -> None:
        self._rate = rate_per_s
        self._tokens = 0.0
        self._at = now

    def set_rate(self, rate_per_s: float | None, now: float) -> None:
        """From now on; what was earned under the old rate stays, within the new burst."""
        self._earn(now)
        self._rate = rate_per_s
        if rate_per_s is not None:
            self._tokens = min(self._tokens, _burst(rate_per_s))

    def take(self, wanted: int, now: float) -> int:
        """0..`wanted`; nothing rather than a few bytes, which would cost more to move than they are worth."""
        if self._rate is None:
            return wanted
        self._earn(now)
        if self._tokens < min(wanted, self._useful()):
            return 0
        granted = min(wanted, int(self._tokens))
        self._tokens -= granted
        return granted

    def give_back(self, unused: int) -> None:
        """Granted, and not moved."""
        self._tokens += unused

    def wait_s(self, now: float) -> float:
        """How long until `take` gives something."""
        if self._rate is None:
            return 0.0
        self._earn(now)
        missing = self._useful() - self._tokens
        return missing / self._rate + ROUNDING_S if missing > 0 else 0.0

    def _useful(self) -> float:
        assert self._rate is not None
        return min(USEFUL_MOST, max(1.0, self._rate * USEFUL_S))

    def _earn(self, now: float) -> None:
        if self._rate is not None and now > self._at:
            self._tokens = min(self._tokens + (now - self._at) * self._rate, _burst(self._rate))
        self._at = max(self._at, now)


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


def _burst(rate_per_s: float) -> float:
    return max(1.0, rate_per_s * BURST_S)
