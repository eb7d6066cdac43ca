"""Peer exchange's decisions (BEP 11): what a peer is told of the others, and what is taken from one that tells.

What strangers say of strangers is worth little: it may be made up, or name a victim whom we are to connect to. So
one message a minute is heard, each host counts once, an address on a local network is believed only of somebody who
is on it, and who named many of whom none was there is not believed any more (`Tellers`).
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from bittern.policy.allowance import Allowance
from bittern.policy.routing import place_of
from bittern.proto.compact import pack_host
from bittern.proto.nodeid import is_local
from bittern.proto.pex import REACHABLE, SEED, PexMessage
from bittern.terms import Address

INTERVAL_S: Final = 60.0
"""BEP 11: no more than one message in so long."""

FIRST_S: Final = 2.0
"""After the handshake: others who come at the same moment have told by then where they listen."""

TOLD_AT_MOST: Final = 50
"""Added, and dropped, in one message (BEP 11)."""

HEARD_BURST: Final = 3.0
"""Messages that may come closer together than they should: clocks differ, and so do clients."""

FAILED_AT_MOST: Final = 20
"""So many named by one host that nobody was at, and none at all that somebody was at: it is not believed any more."""

UNTRIED_AT_MOST: Final = 100
"""Addresses by one host that nobody has tried yet: nobody alone decides whom we know."""

TELLERS_AT_MOST: Final = 1000


class Telling:
    """What one peer was told of the others, and when it is told more."""

    __slots__ = ("_told", "due_at")

    def __init__(self, now: float) -> None:
        self._told: frozenset[Address] = frozenset()
        self.due_at = now + FIRST_S

    def news(
        self, here: Mapping[Address, int], now: float
    ) -> tuple[dict[Address, int], list[Address]] | None:
        """Added (with flags) and dropped since the last time; None when nothing has changed. Who is `here` counts as
        told from now on: call it only to send what it gives.
        """
        fresh = [address for address in here if address not in self._told]
        # those whom somebody could connect to first
        fresh.sort(key=lambda address: not here[address] & REACHABLE)
        del fresh[TOLD_AT_MOST:]
        gone = [address for address in self._told if address not in here][:TOLD_AT_MOST]
        if not fresh and not gone:
            return None
        self._told = self._told.union(fresh).difference(gone)
        self.due_at = now + INTERVAL_S
        return {address: here[address] for address in fresh}, gone


class Hearing:
    """How much one peer may tell us."""

    __slots__ = ("_allowance",)

    def __init__(self, now: float) -> None:
        self._allowance = Allowance(1 / INTERVAL_S, HEARD_BURST, now)

    def may_tell(self, now: float) -> bool:
        """It has sent a message: is it heard?"""
        return self._allowance.take(now)


def worth_telling(host: str, teller: str) -> bool:
    """Does that address mean the same to both? One of a local network does only there, one of a machine on it."""
    if _loopback(host):
        return _loopback(teller)
    return not is_local(host) or is_local(teller)


def worth_trying(
    message: PexMessage, teller: str, *, taken: Collection[Address | str], seeds: bool
) -> Iterator[Address]:
    """Of the added ones: each host once and none that is `taken` (by `place_of`); `seeds`: these too."""
    seen: set[Address | str] = set()
    for address, flags in message.added:
        place = place_of(address)
        if place in taken or place in seen or not worth_telling(address.host, teller):
            continue
        seen.add(place)
        if seeds or not flags & SEED:
            yield address


def teller_of(host: str) -> str:
    """Who answers for what a peer there names: a host of IPv4; a /64 of IPv6, for who has one address of it has all."""
    return pack_host(host)[:8].hex() if ":" in host else host


def _loopback(host: str) -> bool:
    return host.startswith("127.") or host == "::1"


class Tellers:
    """What became of addresses that tellers (`teller_of`) have named. Bounded: whoever told something longest ago is
    forgotten.
    """

    def __init__(self) -> None:
        self._tellers: dict[str, _Teller] = {}

    def may_name(self, host: str) -> bool:
        """Is it believed, and are not too many of its addresses untried?"""
        teller = self._tellers.get(host)
        return teller is None or (not teller.lies and teller.untried < UNTRIED_AT_MOST)

    def named(self, host: str) -> None:
        """It named somebody whom we did not know."""
        teller = self._tellers.pop(host, None) or _Teller()
        if len(self._tellers) >= TELLERS_AT_MOST:
            del self._tellers[next(iter(self._tellers))]
        self._tellers[host] = teller
        teller.untried += 1

    def tried(self, host: str, *, there: bool | None) -> None:
        """What became of one of these; None: it was forgotten untried."""
        teller = self._tellers.get(host)
        if teller is not None:
            teller.untried = max(0, teller.untried - 1)
            if there is not None:
                teller.right += there
                teller.wrong += not there


class _Teller:
    __slots__ = ("right", "untried", "wrong")

    def __init__(self) -> None:
        self.untried = self.right = self.wrong = 0

    @property
    def lies(self) -> bool:
        return self.wrong >= FAILED_AT_MOST and not self.right
