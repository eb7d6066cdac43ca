"""The DHT's routing table (BEP 5): many nodes near us, a few of everywhere else, only such as have answered us.

Bucket `i` holds nodes whose ids share exactly `i` leading bits with ours; the last one those that share more, and it
is split when it is full. A node that has answered keeps its place for as long as it does; who comes later waits as a
spare until somebody in the bucket fails twice. So a table fills with nodes that stay, and nobody is pushed out.

Against those who come with many ids: a host once, few of one network (/24 of IPv4, /64 of IPv6) in a bucket and in
the table, and who sits where its address lets it (BEP 42) goes before who does not. Loopback is exempt.
"""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from bittern.proto.compact import pack_address, pack_host
from bittern.proto.krpc import NodeInfo
from bittern.proto.nodeid import fits
from bittern.terms import Address, NodeId

K: Final = 8
ID_BITS: Final = 160
GOOD_S: Final = 15 * 60.0
"""BEP 5: after so long without a sign of life a node is questionable; a bucket is refreshed as often."""

BAD_AFTER: Final = 2
SPARES: Final = 8
OF_NETWORK_IN_BUCKET: Final = 2
OF_NETWORK_IN_TABLE: Final = 8
ASK_AGAIN_S: Final = 30.0
"""A node that was asked for a sign of life is not asked again so soon."""


class Contact:
    """A node that has answered us, or one from before the restart that has still to."""

    __slots__ = (
        "address",
        "answered_at",
        "asked_at",
        "compact",
        "failures",
        "fits",
        "network",
        "node_id",
        "number",
        "queried_at",
    )

    def __init__(self, node_id: NodeId, address: Address) -> None:
        self.node_id = node_id
        self.number = int.from_bytes(node_id)
        self.address = address
        self.compact = node_id + pack_address(address)
        """As others are told of it (BEP 5)."""
        self.fits = fits(node_id, address.host)
        self.network = network_of(address)
        self.answered_at = -math.inf
        self.queried_at = -math.inf
        self.asked_at = -math.inf
        self.failures = 0

    @property
    def info(self) -> NodeInfo:
        return NodeInfo(self.node_id, self.address)

    @property
    def bad(self) -> bool:
        """Failed to answer twice in a row."""
        return self.failures >= BAD_AFTER

    @property
    def seen_at(self) -> float:
        return max(self.answered_at, self.queried_at)

    def good(self, now: float) -> bool:
        """Answered within a quarter of an hour; or some time, and has asked us within one."""
        return not self.failures and self.answered_at > -math.inf and now - self.seen_at <= GOOD_S


class _Bucket:
    """`contacts` at most K, `spares` those who wait, the latest last."""

    __slots__ = ("changed_at", "contacts", "spares")

    def __init__(self, now: float) -> None:
        self.contacts: list[Contact] = []
        self.spares: list[Contact] = []
        self.changed_at = now


class RoutingTable:
    """One for each family of addresses. Times are the loop clock's."""

    def __init__(self, own_id: NodeId, now: float) -> None:
        self.own_id = own_id
        self._own = int.from_bytes(own_id)
        self._buckets = [_Bucket(now)]
        self._by_id: dict[NodeId, Contact] = {}
        self._by_place: dict[Address | str, Contact] = {}
        """By host; on loopback by endpoint, where a host is a whole network."""
        self._networks: Counter[bytes] = Counter()

    def __len__(self) -> int:
        return len(self._by_id)

    def get(self, node_id: NodeId) -> Contact | None:
        """The contact with that id, spares not among them."""
        return self._by_id.get(node_id)

    def contacts(self) -> list[Contact]:
        """All of them."""
        return list(self._by_id.values())

    def good_count(self, now: float) -> int:
        """How many are good."""
        return sum(contact.good(now) for contact in self._by_id.values())

    # -- what we learn ----------------------------------------------------------------------------------------

    def answered(self, node_id: NodeId, address: Address, now: float) -> bool:
        """It answered a query of ours. True when it is in the table now."""
        known = self._by_id.get(node_id)
        if known is not None and known.address != address:
            # somebody with another's id: only when that one is gone
            if not known.bad:
                return False
            self._remove(known)
            known = None
        if known is None:
            before = self._by_place.get(place_of(address))
            if before is not None:
                if before.address != address and not before.bad:
                    return False
                # it has another id now
                self._remove(before)
            return self._insert(node_id, address, now)
        known.answered_at = now
        known.failures = 0
        self._bucket(known.number).changed_at = now
        return True

    def queried(self, node_id: NodeId, address: Address, now: float) -> bool:
        """It asked us something. True when it is unknown and there is room for it: a ping would tell whether it is
        what it says.
        """
        known = self._by_id.get(node_id)
        if known is not None:
            if known.address == address:
                known.queried_at = now
            return False
        if place_of(address) in self._by_place or node_id == self.own_id:
            return False
        contact = Contact(node_id, address)
        bucket = self._bucket(contact.number)
        return self._allowed(contact, bucket) and (
            self._has_room(bucket) or self._victim(bucket, contact) is not None
        )

    def failed(self, node_id: NodeId, address: Address) -> None:
        """It did not answer a query of ours."""
        known = self._by_id.get(node_id)
        if known is None or known.address != address:
            return
        known.failures += 1
        if known.bad:
            # without a spare it stays: when the network was down it is all we have
            self._promote(self._bucket(known.number), known)

    def remembered(self, nodes: Iterable[NodeInfo], now: float) -> None:
        """From before the restart: questionable until they answer."""
        for node_id, address in nodes:
            if node_id not in self._by_id and place_of(address) not in self._by_place:
                self._insert(node_id, address, now, answered=False)

    # -- what to do for it ------------------------------------------------------------------------------------

    def to_ping(self, now: float) -> Contact | None:
        """The one whose sign of life is needed most; it counts as asked. None when all is well.

        First those in whose place somebody waits, the longest unseen first; then any questionable one.
        """
        asking: Contact | None = None
        rank = (False, math.inf)
        for bucket in self._buckets:
            for contact in bucket.contacts:
                if not contact.good(now) and now - contact.asked_at > ASK_AGAIN_S * (
                    1 + 4 * contact.failures
                ):
                    mine = (not bucket.spares, contact.seen_at)
                    if asking is None or mine < rank:
                        asking, rank = contact, mine
        if asking is not None:
            asking.asked_at = now
        return asking

    def to_refresh(self, now: float, rng: random.Random) -> NodeId | None:
        """An id to look for, in a bucket where nothing happened for long; it counts as refreshed."""
        stalest = min(range(len(self._buckets)), key=lambda index: self._buckets[index].changed_at)
        if now - self._buckets[stalest].changed_at < GOOD_S:
            return None
        self._buckets[stalest].changed_at = now
        kept = stalest if stalest == len(self._buckets) - 1 else stalest + 1
        number = rng.getrandbits(ID_BITS) & ((1 << ID_BITS - kept) - 1) if kept < ID_BITS else 0
        number |= self._own >> ID_BITS - kept << ID_BITS - kept
        if kept > stalest:
            number ^= 1 << ID_BITS - kept
        return NodeId(number.to_bytes(20))

    def moved(self, own_id: NodeId, now: float) -> "RoutingTable":
        """The same contacts seen from another id."""
        made = RoutingTable(own_id, now)
        for contact in sorted(self._by_id.values(), key=lambda one: -one.seen_at):
            made._place(contact, now)
        return made

    # -- who is where -----------------------------------------------------------------------------------------

    def closest(self, target: bytes, count: int, now: float) -> list[Contact]:
        """The good ones nearest to the target, the nearest first: what others are told."""
        return self._nearest(target, count, lambda contact: contact.good(now))

    def nearest(self, target: bytes, count: int) -> list[Contact]:
        """Where a search of ours begins: questionable ones count too, bad ones when there are no others."""
        found = self._nearest(target, count, lambda contact: not contact.bad)
        return found or self._nearest(target, count, lambda _: True)

    def _nearest(self, target: bytes, count: int, use: Callable[[Contact], bool]) -> list[Contact]:
        wanted = int.from_bytes(target)
        home = min(ID_BITS - (self._own ^ wanted).bit_length(), len(self._buckets) - 1)

        def distance(contact: Contact) -> int:
            return contact.number ^ wanted

        # Nearest are those of the target's own bucket; all deeper ones are equally far, then come the shallower ones.
        found = sorted(filter(use, self._buckets[home].contacts), key=distance)
        if len(found) < count:
            deeper = [one for bucket in self._buckets[home + 1 :] for one in bucket.contacts]
            found += sorted(filter(use, deeper), key=distance)
        for index in range(home - 1, -1, -1):
            if len(found) >= count:
                break
            found += sorted(filter(use, self._buckets[index].contacts), key=distance)
        return found[:count]

    # -- places -----------------------------------------------------------------------------------------------

    def _bucket(self, number: int) -> _Bucket:
        shared = ID_BITS - (self._own ^ number).bit_length()
        return self._buckets[min(shared, len(self._buckets) - 1)]

    def _insert(self, node_id: NodeId, address: Address, now: float, *, answered: bool = True) -> bool:
        if node_id == self.own_id:
            return False
        contact = Contact(node_id, address)
        if answered:
            contact.answered_at = now
        return self._place(contact, now)

    def _place(self, contact: Contact, now: float) -> bool:
        while True:
            bucket = self._bucket(contact.number)
            if not self._allowed(contact, bucket):
                return False
            if len(bucket.contacts) < K:
                break
            if self._has_room(bucket):
                self._split(now)
                continue
            victim = self._victim(bucket, contact)
            if victim is None:
                if contact.answered_at > -math.inf:
                    bucket.spares = [one for one in bucket.spares if one.address != contact.address]
                    bucket.spares = [*bucket.spares[1 - SPARES :], contact]
                return False
            self._remove(victim)
            break
        bucket.contacts.append(contact)
        bucket.changed_at = now
        self._by_id[contact.node_id] = contact
        self._by_place[place_of(contact.address)] = contact
        self._networks[contact.network] += 1
        return True

    def _has_room(self, bucket: _Bucket) -> bool:
        """Now, or after a split."""
        last = bucket is self._buckets[-1] and len(self._buckets) < ID_BITS
        return len(bucket.contacts) < K or last

    def _allowed(self, contact: Contact, bucket: _Bucket) -> bool:
        """Not too many of one network; an empty name is no network."""
        if not contact.network:
            return True
        if self._networks[contact.network] >= OF_NETWORK_IN_TABLE:
            return False
        return sum(one.network == contact.network for one in bucket.contacts) < OF_NETWORK_IN_BUCKET

    def _victim(self, bucket: _Bucket, contact: Contact) -> Contact | None:
        """Who makes room: one that is bad; for one that fits its address, the latest that does not."""
        for one in bucket.contacts:
            if one.bad:
                return one
        if contact.fits:
            for one in reversed(bucket.contacts):
                if not one.fits:
                    return one
        return None

    def _promote(self, bucket: _Bucket, gone: Contact) -> None:
        """The spare seen last takes the place of one that is bad."""
        while bucket.spares:
            spare = bucket.spares.pop()
            if spare.node_id not in self._by_id and place_of(spare.address) not in self._by_place:
                self._remove(gone)
                if self._place(spare, bucket.changed_at):
                    return
                self._place(gone, bucket.changed_at)

    def _remove(self, contact: Contact) -> None:
        self._bucket(contact.number).contacts.remove(contact)
        del self._by_id[contact.node_id]
        del self._by_place[place_of(contact.address)]
        self._networks[contact.network] -= 1
        if not self._networks[contact.network]:
            del self._networks[contact.network]

    def _split(self, now: float) -> None:
        depth = len(self._buckets) - 1
        before = self._buckets[-1]
        deeper = _Bucket(now)

        def stays(contact: Contact) -> bool:
            return ID_BITS - (self._own ^ contact.number).bit_length() == depth

        deeper.contacts = [one for one in before.contacts if not stays(one)]
        deeper.spares = [one for one in before.spares if not stays(one)]
        before.contacts = [one for one in before.contacts if stays(one)]
        before.spares = [one for one in before.spares if stays(one)]
        self._buckets.append(deeper)


def network_of(address: Address) -> bytes:
    """The /24 of an IPv4 address, the /64 of an IPv6 one; b"" on loopback, where limits by network mean nothing."""
    packed = pack_host(address.host)
    if len(packed) == 4:
        return b"" if packed[0] == 127 else packed[:3]
    return b"" if address.host == "::1" else packed[:8]


def place_of(address: Address) -> Address | str:
    """What a node is one of: a host, or on loopback an endpoint."""
    return address if address.host.startswith("127.") or address.host == "::1" else address.host
