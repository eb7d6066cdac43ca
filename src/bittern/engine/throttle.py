"""The global rate limits as the peers meet them: ask for bytes, wait in line when there are none."""

from typing import Final

import trio

from bittern.policy.pacing import TokenBucket

QUANTUM_BYTES: Final = 16 * 1024
"""What one peer gets at a time while a limit is on: small, so that fifty peers share a slow line evenly."""


class Throttle:
    """One direction's limit. Costs one comparison while it is off."""

    def __init__(self, rate_per_s: float | None) -> None:
        self._rate = rate_per_s
        self._bucket: TokenBucket | None = None
        self._line = trio.Lock()

    @property
    def limited(self) -> bool:
        return self._rate is not None

    def set_rate(self, rate_per_s: float | None) -> None:
        """Bytes per second, None for no limit; those who wait notice within a quarter of a second."""
        self._rate = rate_per_s
        if rate_per_s is None:
            self._bucket = None
        elif self._bucket is not None:
            self._bucket.set_rate(rate_per_s, trio.current_time())

    async def acquire(self, wanted: int) -> int:
        """Leave to move 1..`wanted` bytes; whoever asked first is served first (trio's lock is fair)."""
        if self._rate is None:
            return wanted
        async with self._line:
            return await self._first_in_line(wanted)

    async def _first_in_line(self, wanted: int) -> int:
        while True:
            rate = self._rate
            if rate is None:
                return wanted
            now = trio.current_time()
            if self._bucket is None:
                self._bucket = TokenBucket(rate, now)
            granted = self._bucket.take(min(wanted, QUANTUM_BYTES), now)
            if granted:
                return granted
            await trio.sleep(min(self._bucket.wait_s(now), 0.25))

    def give_back(self, unused: int) -> None:
        """Bytes that were granted and not moved."""
        if self._bucket is not None and unused:
            self._bucket.give_back(unused)
