"""What a DHT node keeps for others (BEP 5, 33): who announced which torrent, and the tokens that allow to.

Bounded in every direction: torrents, peers of a torrent, peers in all, torrents of one network, time. When it is full,
torrents that are far from our own id go first: nobody looks for them here.
"""

import hashlib
import random
from typing import Final

from bittern.policy.routing import network_of
from bittern.proto.bloom import BloomFilter
from bittern.proto.compact import pack_address, pack_host
from bittern.terms import Address, InfoHash, NodeId

KEPT_S: Final = 45 * 60.0
"""Clients announce every 15 to 30 minutes."""

TORRENTS: Final = 2000
PEERS_PER_TORRENT: Final = 500
PEERS: Final = 20_000
TORRENTS_PER_NETWORK: Final = 400
SAMPLED: Final = 16
"""Torrents looked at for the farthest when there is no room."""

FILTERS_KEPT_S: Final = 60.0
SECRET_S: Final = 5 * 60.0
TOKEN_BYTES: Final = 8


class _Peer:
    __slots__ = ("at", "compact", "seed")

    def __init__(self, compact: bytes, at: float, *, seed: bool) -> None:
        self.compact = compact
        self.at = at
        self.seed = seed


class _Announced:
    """One torrent's; `peers` by host, the longest unheard first."""

    __slots__ = ("filters", "filters_at", "peers")

    def __init__(self) -> None:
        self.peers: dict[str, _Peer] = {}
        self.filters: tuple[bytes, bytes] | None = None
        self.filters_at = 0.0


class PeerStore:
    """One for each family of addresses."""

    def __init__(self, own_id: NodeId, rng: random.Random) -> None:
        self.own_id = own_id
        self._rng = rng
        self._torrents: dict[InfoHash, _Announced] = {}
        """The one announced longest ago first."""
        self._networks: dict[bytes, int] = {}
        self.peer_count = 0

    def __len__(self) -> int:
        return len(self._torrents)

    def accepts(self, info_hash: InfoHash) -> bool:
        """Is there room for another peer of that torrent? If not, no token is given (BEP 33)."""
        announced = self._torrents.get(info_hash)
        return announced is None or len(announced.peers) < PEERS_PER_TORRENT

    def add(self, info_hash: InfoHash, address: Address, now: float, *, seed: bool) -> bool:
        """A host once, with its latest port. False when there is no room."""
        self.expire(now)
        announced = self._torrents.get(info_hash)
        peer = announced.peers.pop(address.host, None) if announced is not None else None
        if peer is None and not self._admit(info_hash, announced, address):
            return False
        if peer is not None:
            self._forget(address.host)
        announced = self._torrents.pop(info_hash, None)
        if announced is None:
            announced = _Announced()
        self._torrents[info_hash] = announced
        announced.peers[address.host] = _Peer(pack_address(address), now, seed=seed)
        self.peer_count += 1
        network = network_of(address)
        self._networks[network] = self._networks.get(network, 0) + 1
        return True

    def _admit(self, info_hash: InfoHash, announced: _Announced | None, address: Address) -> bool:
        network = network_of(address)
        if network and self._networks.get(network, 0) >= TORRENTS_PER_NETWORK:
            return False
        if announced is not None and len(announced.peers) >= PEERS_PER_TORRENT:
            return False
        if self.peer_count < PEERS and (announced is not None or len(self._torrents) < TORRENTS):
            return True
        return self._make_room(info_hash)

    def _make_room(self, info_hash: InfoHash) -> bool:
        """Drops the farthest of a few torrents, if it is farther than this one."""
        drawn = self._rng.sample(list(self._torrents), min(SAMPLED, len(self._torrents)))
        farthest = max(drawn, key=self._distance)
        if farthest == info_hash or self._distance(farthest) <= self._distance(info_hash):
            return False
        self._drop(farthest)
        return True

    def _distance(self, info_hash: InfoHash) -> int:
        return int.from_bytes(info_hash) ^ int.from_bytes(self.own_id)

    def expire(self, now: float) -> None:
        """Forgets torrents that nobody has announced for long."""
        while self._torrents:
            info_hash, announced = next(iter(self._torrents.items()))
            latest = next(reversed(announced.peers.values()))
            if now - latest.at <= KEPT_S:
                return
            self._drop(info_hash)

    def _drop(self, info_hash: InfoHash) -> None:
        for host in self._torrents.pop(info_hash).peers:
            self._forget(host)

    def _forget(self, host: str) -> None:
        self.peer_count -= 1
        network = network_of(Address(host, 0))
        left = self._networks[network] - 1
        if left:
            self._networks[network] = left
        else:
            del self._networks[network]

    def _fresh(self, info_hash: InfoHash, now: float) -> _Announced | None:
        self.expire(now)
        announced = self._torrents.get(info_hash)
        if announced is None:
            return None
        while announced.peers:
            host, peer = next(iter(announced.peers.items()))
            if now - peer.at <= KEPT_S:
                break
            del announced.peers[host]
            self._forget(host)
        return announced

    def peers(self, info_hash: InfoHash, most: int, now: float, *, noseed: bool = False) -> list[bytes]:
        """Compact endpoints, drawn by lot when there are more."""
        announced = self._fresh(info_hash, now)
        if announced is None or most <= 0:
            return []
        found = [peer.compact for peer in announced.peers.values() if not (noseed and peer.seed)]
        return found if len(found) <= most else self._rng.sample(found, most)

    def filters(self, info_hash: InfoHash, now: float) -> tuple[bytes, bytes] | None:
        """Of seeds and of the others, for a scrape; None when nobody has announced it. Up to a minute old."""
        announced = self._fresh(info_hash, now)
        if announced is None:
            return None
        if announced.filters is None or now - announced.filters_at > FILTERS_KEPT_S:
            seeds, others = BloomFilter(), BloomFilter()
            for host, peer in announced.peers.items():
                (seeds if peer.seed else others).add(pack_host(host))
            announced.filters = (seeds.to_bytes(), others.to_bytes())
            announced.filters_at = now
        return announced.filters


class Tokens:
    """Says later whether a token was ours, for that host and torrent and not long ago; keeps nothing for it."""

    def __init__(self, rng: random.Random, now: float) -> None:
        self._rng = rng
        self._secrets = (rng.randbytes(16), rng.randbytes(16))
        self._made_at = now

    def make(self, host: str, info_hash: bytes, now: float) -> bytes:
        """Good for five to ten minutes (BEP 5)."""
        self._rotate(now)
        return _token(self._secrets[0], host, info_hash)

    def good(self, token: bytes, host: str, info_hash: bytes, now: float) -> bool:
        """Did that host get it from us?"""
        self._rotate(now)
        return any(token == _token(secret, host, info_hash) for secret in self._secrets)

    def _rotate(self, now: float) -> None:
        while now - self._made_at >= SECRET_S:
            self._secrets = (self._rng.randbytes(16), self._secrets[0])
            # after a long pause both are new
            self._made_at = max(self._made_at + SECRET_S, now - 2 * SECRET_S)


def _token(secret: bytes, host: str, info_hash: bytes) -> bytes:
    return hashlib.blake2b(pack_host(host) + info_hash, key=secret, digest_size=TOKEN_BYTES).digest()
