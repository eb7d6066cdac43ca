"""An iterative search in the DHT (BEP 5): ask the nearest nodes known for nearer ones, several at a time.

It ends when the K nearest that are where their addresses let them be (BEP 42) have answered, or when there is nobody
left to ask. Whatever they tell, it remembers at most `CANDIDATES` nodes, and asks at most `QUERIES`.
"""

import bisect
import enum
from collections import Counter
from collections.abc import Iterable
from typing import Final

from bittern.policy.routing import K, network_of, place_of
from bittern.proto.krpc import NodeInfo
from bittern.proto.nodeid import fits, is_local
from bittern.terms import Address, NodeId

ALPHA: Final = 4
"""Queries under way; those that take long do not count."""

CANDIDATES: Final = 64
QUERIES: Final = 100
TOLD_AT_MOST: Final = 2 * K
"""Of what one node tells."""

OF_NETWORK: Final = 3
"""Of one /24 or /64 among the candidates."""

UNFIT_STORES: Final = K // 2
"""An announce goes to the nearest nodes that fit their addresses, and to as many nearer ones that do not: others may
look for it there.
"""


class _State(enum.Enum):
    NEW = 0
    ASKED = 1
    SLOW = 2
    ANSWERED = 3
    FAILED = 4


class _Candidate:
    __slots__ = ("distance", "fits", "hop", "info", "state", "token")

    def __init__(self, info: NodeInfo, distance: int, hop: int) -> None:
        self.info = info
        self.distance = distance
        self.hop = hop
        self.state = _State.NEW
        self.fits = fits(info.node_id, info.address.host)
        self.token = b""


class Lookup:
    """One search. Whoever owns it sends what `ask` gives, and tells what comes of each.

    `storing`: only those count who gave a token, for something is to be left with the K nearest (BEP 42).
    """

    def __init__(
        self, target: bytes, own_id: NodeId, starts: Iterable[NodeInfo], *, storing: bool = False
    ) -> None:
        self.target = target
        self._storing = storing
        self._target = int.from_bytes(target)
        self._own_id = own_id
        self._candidates: list[_Candidate] = []
        """The nearest first."""
        self._by_id: dict[NodeId, _Candidate] = {}
        self._places: set[Address | str] = set()
        self._networks: Counter[bytes] = Counter()
        self._fast = 0
        """Queries under way that are not slow yet."""
        self.asked = 0
        self.answers = 0
        self.hops = 0
        for info in starts:
            self._add(info, 1)

    # -- what to do ------------------------------------------------------------------------------------------

    def ask(self, most: int) -> list[NodeInfo]:
        """Whom to ask now, `most` of them at most; they count as asked."""
        free = min(most, ALPHA - self._fast, QUERIES - self.asked)
        if free <= 0:
            return []
        new = [one for one in self._wanted() if one.state is _State.NEW]
        chosen = new[:free]
        if free > 1 and not any(one.fits for one in chosen):
            # so that made-up ids, near as they may be, cannot use up the search
            chosen = chosen[:-1] + next(([one] for one in new[free:] if one.fits), chosen[-1:])
        for one in chosen:
            one.state = _State.ASKED
        self._fast += len(chosen)
        self.asked += len(chosen)
        return [one.info for one in chosen]

    @property
    def done(self) -> bool:
        """Nobody left to ask or to wait for. Slow ones are waited for only while there are too few others."""
        if self._fast:
            return False
        wanted = self._wanted()
        enough = sum(map(self._counts, wanted)) >= K
        for one in wanted:
            if one.state is _State.NEW and self.asked < QUERIES:
                return False
            if one.state is _State.SLOW and not enough:
                return False
        return True

    def _wanted(self) -> list[_Candidate]:
        """The nearest ones, up to the K-th that counts."""
        found = []
        count = 0
        for one in self._candidates:
            if one.state is not _State.FAILED:
                found.append(one)
                if self._counts(one):
                    count += 1
                    if count >= K:
                        break
        return found

    def _counts(self, one: _Candidate) -> bool:
        return one.state is _State.ANSWERED and one.fits and (bool(one.token) or not self._storing)

    # -- what came of it -------------------------------------------------------------------------------------

    def answered(self, info: NodeInfo, sender: NodeId, told: Iterable[NodeInfo], token: bytes) -> None:
        """`info` was asked, and `sender` is what the answer calls itself."""
        one = self._by_id.get(info.node_id)
        if one is None or one.state not in (_State.ASKED, _State.SLOW):
            return
        if sender != info.node_id:
            self.failed(info)
            return
        self._fast -= one.state is _State.ASKED
        one.state = _State.ANSWERED
        one.token = token
        self.answers += 1
        self.hops = max(self.hops, one.hop)
        local = is_local(info.address.host)
        for count, other in enumerate(told):
            if count >= TOLD_AT_MOST:
                break
            # a stranger does not make us talk to our own network
            if local or not is_local(other.address.host):
                self._add(other, one.hop + 1)

    def slow(self, info: NodeInfo) -> None:
        """It takes long: somebody else may be asked meanwhile."""
        one = self._by_id.get(info.node_id)
        if one is not None and one.state is _State.ASKED:
            one.state = _State.SLOW
            self._fast -= 1

    def failed(self, info: NodeInfo) -> None:
        """It does not answer, or not as what it was said to be."""
        one = self._by_id.get(info.node_id)
        if one is not None and one.state in (_State.ASKED, _State.SLOW):
            self._fast -= one.state is _State.ASKED
            one.state = _State.FAILED
            # another node may well be at that address
            self._places.discard(place_of(info.address))

    def _add(self, info: NodeInfo, hop: int) -> None:
        place, network = place_of(info.address), network_of(info.address)
        if info.node_id in self._by_id or info.node_id == self._own_id or place in self._places:
            return
        if network and self._networks[network] >= OF_NETWORK:
            return
        one = _Candidate(info, int.from_bytes(info.node_id) ^ self._target, hop)
        if len(self._candidates) >= CANDIDATES and not self._make_room(one):
            return
        bisect.insort(self._candidates, one, key=lambda other: other.distance)
        self._by_id[info.node_id] = one
        self._places.add(place)
        self._networks[network] += 1

    def _make_room(self, nearer: _Candidate) -> bool:
        """The farthest goes that is not being waited for."""
        for at in range(len(self._candidates) - 1, -1, -1):
            one = self._candidates[at]
            if one.distance < nearer.distance:
                return False
            if one.state not in (_State.ASKED, _State.SLOW):
                del self._candidates[at]
                del self._by_id[one.info.node_id]
                self._places.discard(place_of(one.info.address))
                network = network_of(one.info.address)
                self._networks[network] -= 1
                if not self._networks[network]:
                    del self._networks[network]
                return True
        return False

    # -- the result ------------------------------------------------------------------------------------------

    def nearest(self, count: int = K) -> list[NodeInfo]:
        """The nearest that answered."""
        return [one.info for one in self._candidates if one.state is _State.ANSWERED][:count]

    def stores(self) -> list[tuple[NodeInfo, bytes]]:
        """Where to announce, each with its token: the K nearest that gave one and fit, and some that do not fit among
        the nearest (BEP 42 allows them beside the others).
        """
        able = [one for one in self._candidates if one.state is _State.ANSWERED and one.token]
        fit = [one for one in able if one.fits][:K]
        unfit = [one for one in able[:K] if not one.fits][:UNFIT_STORES]
        return [(one.info, one.token) for one in fit + unfit]
