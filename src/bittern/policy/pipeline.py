"""How many requests to keep in flight to one peer: the bandwidth-delay product, found by slow start.

The target is what the peer sends, at its present rate, in two of its round trips and half a second. Two properties
follow. A pipe is never kept short: a rate that was limited by too small a depth is depth / round trip, so the next
target is at least twice that depth. And a slow peer does not sit on blocks that others could bring: what it owes, it
can send soon. Until the rate stops growing every block that lands allows one more, which doubles the target each round
trip, as in TCP. Measured on loopback: 512 to 1024 requests in flight saturate CPython.

The rate is that of the time in which the peer owes us something: who waits for our memory most of the time is no slow
peer, and when its turn has come it is to be asked for as much as it sends as quickly as others.
"""

from typing import Final

from bittern.terms import BLOCK_SIZE

FIRST_DEPTH: Final = 16
LEAST_DEPTH: Final = 8
MOST_DEPTH: Final = 2048
"""32 MiB: a gigabit at a quarter of a second."""

DEFAULT_REQQ: Final = 250
"""What a peer is assumed to queue when it does not say (BEP 10 `reqq`)."""

SLACK_S: Final = 0.5
"""Beyond the round trips: pauses of its disk, of its upload limit and of our own loop."""

MOST_QUEUE_S: Final = 3.0
"""A peer may answer late on purpose; it does not get more to hold for that."""

LIMITED_QUEUE_S: Final = 2.0
LEAST_LIMITED_DEPTH: Final = 2
"""Under a download limit of our own no peer owes us more than all of them together may send in so long: blocks that
fifty peers hold for minutes come late and twice."""

SNUB_S: Final = 30.0
"""BEP 3's economics: a peer that owes us blocks and sends none for so long is snubbing us."""

TIMEOUT_S: Final = 20.0
"""Requests that nothing came of for so long may be asked of others."""

PATIENCE: Final = 3.0
"""... but a peer may be silent for this many times as long as it lately was between blocks: fifty peers on a thin
line get one block a minute each, and are not to be asked for it twice."""

MOST_TIMEOUT_S: Final = 120.0

GROWTH: Final = 1.05
"""Slow start goes on while the best rate of a second grows by more than this."""

HELP_FACTOR: Final = 2.0
HELP_SAVES_S: Final = 1.0
"""See `late`."""

SHORTEST_TICK_S: Final = 0.5
"""A rate over less time than this says nothing."""

PAUSE_S: Final = 5.0
"""After so long without being asked for anything what was known of the pipe is old."""

SMOOTHING: Final = 0.4
FORGET: Final = 0.8
"""What a long silence counts for after each receive that followed."""


class Pipeline:
    """One peer's. `sent`, `landed` and `dropped` are told once a receive, not once a block."""

    __slots__ = (
        "_asked_at",
        "_best_rate",
        "_busy_at",
        "_busy_s",
        "_gap_s",
        "_landed_at",
        "_landed_bytes",
        "_max_depth",
        "_probe_at",
        "_probe_blocks",
        "_reqq",
        "_round_trip_s",
        "_slow_start",
        "depth",
        "in_flight",
        "rate_bytes_per_s",
        "snubbed",
    )

    def __init__(self, now: float, *, reqq: int = DEFAULT_REQQ, max_depth: int = MOST_DEPTH) -> None:
        self._reqq = max(1, reqq)
        self._max_depth = max_depth
        self._slow_start = True
        self._landed_at = self._asked_at = now
        self._landed_bytes = 0
        self._busy_s = 0.0
        """In which those landed, until `_busy_at`: since then it owes us blocks, if that is not None."""
        self._busy_at: float | None = None
        self._best_rate = 0.0
        self._gap_s = 0.0
        """Seconds between blocks, the longer ones of lately."""
        self._probe_at = now
        self._probe_blocks = 0
        """How many blocks have yet to land until the timed request is answered; 0 when none is timed."""
        self._round_trip_s: float | None = None
        """The shortest seen; at first that of an empty pipeline."""
        self.depth = self._within(FIRST_DEPTH)
        self.in_flight = 0
        self.rate_bytes_per_s = 0.0
        self.snubbed = False

    def set_reqq(self, reqq: int) -> None:
        """The peer says how many requests it queues: never more are sent."""
        self._reqq = max(1, reqq)
        self.depth = self._within(self.depth)

    def set_limit(self, rate_per_s: float | None) -> None:
        """Our limit for all peers together, bytes a second; None for none, 0: nothing is asked for."""
        most = MOST_DEPTH
        if rate_per_s == 0:
            most = 0
        elif rate_per_s is not None:
            most = max(LEAST_LIMITED_DEPTH, min(MOST_DEPTH, int(rate_per_s * LIMITED_QUEUE_S / BLOCK_SIZE)))
        if most != self._max_depth:
            self._max_depth = most
            self.depth = self._within(self.depth)

    def held_back(self, now: float) -> None:
        """Something of the peer's lies here unread: if its blocks are late, that is our doing."""
        self._landed_at = now

    def room(self) -> int:
        """How many requests may be sent now."""
        return max(0, (min(1, self._max_depth) if self.snubbed else self.depth) - self.in_flight)

    def sent(self, blocks: int, now: float) -> None:
        """So many requests went out."""
        if not self.in_flight:
            self._asked_at = now
            self._busy_at = now if self._busy_at is None else self._busy_at
        if not self._probe_blocks:
            self._probe_at, self._probe_blocks = now, self.in_flight + 1
        self.in_flight += blocks

    def landed(self, blocks: int, payload_bytes: int, now: float) -> None:
        """So many of them were answered."""
        self.in_flight = max(0, self.in_flight - blocks)
        self._landed_bytes += payload_bytes
        self._gap_s = max(now - max(self._landed_at, self._asked_at), FORGET * self._gap_s)
        self._landed_at = now
        self.snubbed = False
        if not self.in_flight:
            self._rest(now)
        if self._slow_start:
            self.depth = self._within(self.depth + blocks)
        if self._probe_blocks:
            self._probe_blocks -= blocks
            if self._probe_blocks <= 0:
                self._probe_blocks = 0
                took = now - self._probe_at
                self._round_trip_s = took if self._round_trip_s is None else min(took, self._round_trip_s)

    def dropped(self, blocks: int) -> None:
        """So many of them will not be answered, or nobody wants them any more."""
        self.in_flight = max(0, self.in_flight - blocks)
        self._probe_blocks = 0

    def give_up(self) -> None:
        """Its requests are asked of others now; it gets one at a time until it sends again."""
        self.snubbed = True
        self._begin_slowly()

    def tick(self, now: float) -> None:
        """Once a second: the rate, and what follows from it."""
        if self.silent_s(now) > SNUB_S:
            self.snubbed = True
        if not self.in_flight:
            self._rest(now)
            if now - max(self._landed_at, self._asked_at) > PAUSE_S:
                self._begin_slowly()
                self._forget(now)
        busy_s = self._owed_s(now)
        if busy_s < SHORTEST_TICK_S:
            return
        rate = self._landed_bytes / busy_s
        self._forget(now)
        if self.rate_bytes_per_s:
            self.rate_bytes_per_s += SMOOTHING * (rate - self.rate_bytes_per_s)
        else:
            self.rate_bytes_per_s = rate
        if self._slow_start and self._best_rate and rate < self._best_rate * GROWTH:
            self._slow_start = False
        self._best_rate = max(rate, self._best_rate)
        if not self._slow_start:
            # A rate that has just risen counts at once, one that has just fallen only slowly.
            rate = max(rate, self.rate_bytes_per_s)
            self.depth = self._within(int(rate * self._queue_s() / BLOCK_SIZE) + 1)

    def overdue(self, now: float) -> bool:
        """Has the peer owed us blocks for too long without sending any?"""
        return self.silent_s(now) > min(max(TIMEOUT_S, PATIENCE * self._gap_s), MOST_TIMEOUT_S)

    def silent_s(self, now: float) -> float:
        """For how long the peer has owed us blocks and sent none."""
        return now - max(self._landed_at, self._asked_at) if self.in_flight else 0.0

    def done_in_s(self, now: float, more: int = 0) -> float:
        """When the peer will have sent all that it owes and `more` blocks, as it looks now. Who has been silent is
        expected to be so for as long again.
        """
        blocks = self.in_flight + more
        if not blocks:
            return 0.0
        return max((self._round_trip_s or 0.0) + blocks * self._block_s(now), self.silent_s(now))

    def _block_s(self, now: float) -> float:
        """Seconds a block; of a peer that sent nothing yet, a guess."""
        lately = self._landed_bytes / max(self._owed_s(now), SHORTEST_TICK_S)
        rate = max(self.rate_bytes_per_s, lately)
        return BLOCK_SIZE / rate if rate else SLACK_S / FIRST_DEPTH

    def late(self, now: float, other: "Pipeline") -> bool:
        """Endgame: should another peer be asked for a part of what this one owes?

        Only when that saves a second: what is on its way comes in about half of one, and asked for twice it would come
        twice.
        """
        return self.done_in_s(now) > HELP_FACTOR * other.done_in_s(now, 1) + HELP_SAVES_S

    def share_of(self, other: "Pipeline", now: float) -> int:
        """How many of the blocks that this peer owes the other would send in the time in which it sends the rest."""
        theirs = other.done_in_s(now, 2) - other.done_in_s(now, 1)
        delay = other.done_in_s(now, 1) - theirs
        mine = self.done_in_s(now) / max(self.in_flight, 1)
        return max(1, int((self.done_in_s(now) - delay) / (mine + theirs)))

    def _owed_s(self, now: float) -> float:
        """For how long it has owed us blocks since the rate was looked at."""
        return self._busy_s + (0.0 if self._busy_at is None else now - self._busy_at)

    def _rest(self, now: float) -> None:
        """It owes us nothing."""
        self._busy_s, self._busy_at = self._owed_s(now), None

    def _forget(self, now: float) -> None:
        self._landed_bytes = 0
        self._busy_s, self._busy_at = 0.0, (now if self.in_flight else None)

    def _begin_slowly(self) -> None:
        """After a pause what was known of the pipe is old."""
        self._slow_start = True
        self._best_rate = 0.0
        self.depth = self._within(FIRST_DEPTH)

    def _queue_s(self) -> float:
        return min(SLACK_S + 2 * (self._round_trip_s or 0.0), MOST_QUEUE_S)

    def _within(self, depth: int) -> int:
        most = min(self._reqq, self._max_depth)
        return min(max(depth, LEAST_DEPTH), most)
