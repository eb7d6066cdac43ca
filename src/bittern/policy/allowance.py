"""How much we do for strangers, and how fast we ask others: nobody's flood becomes ours."""

from collections import OrderedDict
from typing import Final

from bittern.policy.routing import network_of
from bittern.terms import Address

SOURCES: Final = 4096
"""Whose use of us is remembered; the longest quiet is forgotten."""

PER_SOURCE_PER_S: Final = 10.0
PER_SOURCE_BURST: Final = 40.0
STRANGERS_PER_S: Final = 200.0
KNOWN_PER_S: Final = 200.0
"""Answers a second: some 100 µs each, so that both together take 4 % of a core at worst. In the real network a node is
asked some ten times a second."""

BURST_S: Final = 2.0
LARGE_BYTES_PER_S: Final = 64 * 1024.0
SMALL_FACTOR: Final = 4
"""An answer to somebody whose address may be forged is at most so many times as long as the question, but for what
`LARGE_BYTES_PER_S` allows to all together."""

KNOWN_AT_MOST: Final = 4096
KNOWN_S: Final = 15 * 60.0


class Allowance:
    """`per_s` of something, saved up to `burst`."""

    __slots__ = ("_at", "_burst", "_left", "_per_s")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = burst
        self._at = now

    def left(self, now: float) -> float:
        """How much could be taken."""
        if now > self._at:
            self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
            self._at = now
        return self._left

    def take(self, now: float, amount: float = 1.0) -> bool:
        """False, and nothing is taken, when there is not so much left."""
        if self.left(now) < amount:
            return False
        self._left -= amount
        return True

    def wait_s(self, now: float, amount: float = 1.0) -> float:
        """How long until `take` succeeds."""
        return max(0.0, (amount - self.left(now)) / self._per_s)


class AnswerLimits:
    """Who gets an answer, and how long a one. *Known* are those who have shown that they are at their address: by
    answering a query of ours, or by bringing back a token.
    """

    def __init__(
        self,
        now: float,
        *,
        per_source_per_s: float = PER_SOURCE_PER_S,
        strangers_per_s: float = STRANGERS_PER_S,
        known_per_s: float = KNOWN_PER_S,
    ) -> None:
        self._per_source_per_s = per_source_per_s
        self._per_source_burst = per_source_per_s * PER_SOURCE_BURST / PER_SOURCE_PER_S
        self._sources: OrderedDict[bytes | Address, Allowance] = OrderedDict()
        self._strangers = Allowance(strangers_per_s, strangers_per_s * BURST_S, now)
        self._for_known = Allowance(known_per_s, known_per_s * BURST_S, now)
        self._large = Allowance(LARGE_BYTES_PER_S, LARGE_BYTES_PER_S, now)
        self._known: OrderedDict[bytes | Address, float] = OrderedDict()

    def met(self, source: Address, now: float) -> None:
        """It is where it says."""
        key = _key(source)
        self._known[key] = now
        self._known.move_to_end(key)
        if len(self._known) > KNOWN_AT_MOST:
            self._known.popitem(last=False)

    def knows(self, source: Address, now: float) -> bool:
        """Was it met lately?"""
        return now - self._known.get(_key(source), -KNOWN_S - 1) <= KNOWN_S

    def serve(self, source: Address, now: float) -> bool:
        """May that source be listened to now? It counts as served."""
        key = _key(source)
        mine = self._sources.get(key)
        if mine is None:
            if len(self._sources) >= SOURCES:
                self._sources.popitem(last=False)
            mine = self._sources[key] = Allowance(self._per_source_per_s, self._per_source_burst, now)
        else:
            self._sources.move_to_end(key)
        common = self._for_known if self.knows(source, now) else self._strangers
        return mine.left(now) >= 1.0 and common.take(now) and mine.take(now)

    def room(self, source: Address, asked_bytes: int, wanted_bytes: int, now: float) -> int:
        """How long an answer may be to a question of that length; what goes beyond the small factor counts."""
        small = SMALL_FACTOR * asked_bytes
        if wanted_bytes <= small or self.knows(source, now) or self._large.take(now, wanted_bytes - small):
            return wanted_bytes
        return small


def _key(source: Address) -> bytes | Address:
    """A host of IPv4, a /64 of IPv6: the rest of the address is anybody's to choose. On loopback an endpoint."""
    network = network_of(source)
    if not network:
        return source
    return network if ":" in source.host else source.host.encode()
