"""How many requests to keep in flight to one peer: the bandwidth-delay product, found by slow start.

The target is what the peer sends in `QUEUE_S` at its present rate: more than any round trip, so that its pipe never
runs dry, and not so much that a slow peer sits on blocks that others could bring. Until the rate stops growing every
block that lands allows one more (the target doubles each round trip), as in TCP. Measured on loopback: 512 to 1024
requests in flight saturate CPython.
"""

from typing import Final

from bittern.terms import BLOCK_SIZE

FIRST_DEPTH: Final = 32
LEAST_DEPTH: Final = 4
MOST_DEPTH: Final = 2048
DEFAULT_REQQ: Final = 250
"""What a peer is assumed to queue when it does not say (BEP 10 `reqq`)."""

QUEUE_S: Final = 2.0
SNUB_S: Final = 30.0
"""BEP 3's economics: a peer that owes us blocks and sends none for so long is snubbing us."""

TIMEOUT_S: Final = 20.0
"""Requests that nothing came of for so long may be asked of others."""

GROWTH: Final = 1.05
"""Slow start goes on while the rate grows by more than this in a second."""


class Pipeline:
    """One peer's. `sent`, `landed` and `dropped` are told once a receive, not once a block."""

    __slots__ = (
        "_asked_at",
        "_landed_at",
        "_landed_bytes",
        "_last_rate",
        "_reqq",
        "_slow_start",
        "_ticked_at",
        "depth",
        "in_flight",
        "rate_bytes_per_s",
        "snubbed",
    )

    def __init__(self, now: float, *, reqq: int = DEFAULT_REQQ) -> None:
        self._reqq = reqq
        self._slow_start = True
        self._ticked_at = now
        self._landed_at = now
        self._asked_at = now
        self._landed_bytes = 0
        self._last_rate = 0.0
        self.depth = min(FIRST_DEPTH, reqq)
        self.in_flight = 0
        self.rate_bytes_per_s = 0.0
        self.snubbed = False

    def set_reqq(self, reqq: int) -> None:
        """The peer says how many requests it queues."""
        self._reqq = reqq
        self.depth = max(1, min(self.depth, reqq))

    def room(self) -> int:
        """How many requests may be sent now."""
        return (1 if self.snubbed else self.depth) - self.in_flight

    def sent(self, blocks: int, now: float) -> None:
        """So many requests went out."""
        if not self.in_flight:
            self._asked_at = now
        self.in_flight += blocks

    def landed(self, blocks: int, payload_bytes: int, now: float) -> None:
        """So many of them were answered."""
        self.in_flight = max(0, self.in_flight - blocks)
        self._landed_bytes += payload_bytes
        self._landed_at = now
        self.snubbed = False
        if self._slow_start:
            self.depth = self._within(self.depth + blocks)

    def dropped(self, blocks: int) -> None:
        """So many of them will not be answered, or nobody wants them any more."""
        self.in_flight = max(0, self.in_flight - blocks)

    def tick(self, now: float) -> None:
        """Once a second: the rate, and what follows from it."""
        elapsed = now - self._ticked_at
        if elapsed <= 0:
            return
        rate = self._landed_bytes / elapsed
        self._ticked_at, self._landed_bytes = now, 0
        if self._slow_start and rate and rate < self._last_rate * GROWTH:
            self._slow_start = False
        self._last_rate = rate
        self.rate_bytes_per_s = rate if self._slow_start else 0.6 * self.rate_bytes_per_s + 0.4 * rate
        if not self._slow_start:
            self.depth = self._within(int(self.rate_bytes_per_s * QUEUE_S / BLOCK_SIZE) + 1)
        if self.in_flight and now - max(self._landed_at, self._asked_at) > SNUB_S:
            self.snubbed = True

    def overdue(self, now: float) -> bool:
        """Has the peer owed us blocks for too long without sending any?"""
        return self.in_flight > 0 and now - max(self._landed_at, self._asked_at) > TIMEOUT_S

    def give_up(self) -> None:
        """Its requests are asked of others now; it gets one at a time until it sends again."""
        self.snubbed = True

    def _within(self, depth: int) -> int:
        return max(min(LEAST_DEPTH, self._reqq), min(depth, self._reqq, MOST_DEPTH))
