"""Queries of ours that wait for their answers: the transactions of a DHT node (BEP 5).

Invariants: they are kept in the order in which they were sent, so whoever is late is in front. `_awaited` counts those
of each address, and `_heard` what else came from there; an address that owes us nothing is in neither. An answer counts
only from the address that was asked.
"""

import math
import random
from typing import Final

from bittern.policy.search import Search
from bittern.proto.krpc import Method, NodeInfo
from bittern.terms import Address

SLOW_S: Final = 1.0
LOST_S: Final = 4.0
CREDIT: Final = 2
"""Answers taken for each query that we sent, before the limits for strangers apply."""


class Pending:
    """A query that waits for its answer; `info` None: nobody knows yet who is there."""

    __slots__ = ("address", "info", "method", "search", "sent_at", "slow")

    def __init__(
        self, address: Address, info: NodeInfo | None, method: Method, search: Search | None, sent_at: float
    ) -> None:
        self.address = address
        self.info = info
        self.method = method
        self.search = search
        self.sent_at = sent_at
        self.slow = False


class Transactions:
    """Of one node."""

    __slots__ = ("_awaited", "_heard", "_pending", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._pending: dict[bytes, Pending] = {}
        self._awaited: dict[Address, int] = {}
        self._heard: dict[Address, int] = {}

    @property
    def unknown_count(self) -> int:
        """How many went to places of which nobody knows who is there."""
        return sum(one.info is None for one in self._pending.values())

    def begin(self, pending: Pending) -> bytes:
        """The query goes out now; gives the id that its answer will bear."""
        transaction = self._rng.randbytes(4)
        while transaction in self._pending:
            transaction = self._rng.randbytes(4)
        self._pending[transaction] = pending
        self._awaited[pending.address] = self._awaited.get(pending.address, 0) + 1
        return transaction

    def awaits(self, source: Address) -> bool:
        """Is something to come from there?"""
        return source in self._awaited

    def heard(self, source: Address) -> bool:
        """Something came from somebody who owes us an answer; False when it is more than such a one has to say."""
        heard = self._heard.get(source, 0)
        self._heard[source] = heard + 1
        return heard < CREDIT * self._awaited[source]

    def answered(self, transaction: bytes, source: Address) -> Pending | None:
        """What that answer, which counted as `heard`, is an answer to; None: to nothing."""
        pending = self._pending.get(transaction)
        if pending is None or pending.address != source:
            return None
        self._heard[source] = self._heard.get(source, 0) - 1
        return self.end(transaction)

    def end(self, transaction: bytes) -> Pending:
        """Nobody waits for it any more."""
        pending = self._pending.pop(transaction)
        left = self._awaited[pending.address] - 1
        if left:
            self._awaited[pending.address] = left
        else:
            del self._awaited[pending.address]
            self._heard.pop(pending.address, None)
        return pending

    def overdue(self, now: float) -> tuple[list[Pending], list[bytes]]:
        """Those that have become slow since the last time, and those that are lost, which the caller is to `end`."""
        slow: list[Pending] = []
        lost: list[bytes] = []
        for transaction, pending in self._pending.items():
            # the same sums as in `next_at`: a difference may round to a time that never comes
            if now < pending.sent_at + SLOW_S:
                break
            if now >= pending.sent_at + LOST_S:
                lost.append(transaction)
            elif not pending.slow:
                pending.slow = True
                slow.append(pending)
        return slow, lost

    def next_at(self) -> float:
        """When the next one becomes slow or lost."""
        next_at = math.inf
        for pending in self._pending.values():
            next_at = min(next_at, pending.sent_at + (LOST_S if pending.slow else SLOW_S))
            if not pending.slow:
                # those behind it were sent later
                break
        return next_at
