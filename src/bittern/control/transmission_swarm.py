"""What Transmission's RPC tells of a torrent's swarm beside its list of peers: who has what, and who named whom."""

from collections import Counter
from collections.abc import Iterable
from typing import Final

from bittern.engine.peer import Peer
from bittern.engine.swarm import Swarm
from bittern.engine.torrent import Torrent
from bittern.policy.roster import Source
from bittern.proto.bitfield import Bitfield

WE_HAVE_IT: Final = -1

_SOURCES: Final = {
    Source.INCOMING: "fromLtep",
    Source.KEPT: "fromCache",
    Source.PEX: "fromPex",
    Source.DHT: "fromDht",
    Source.LSD: "fromLpd",
    Source.TRACKER: "fromTracker",
    Source.RESUME: "fromCache",
    Source.MANUAL: "fromCache",
}
"""Of peers that we dialled: `fromLtep` is where a client that came to us said that it listens; links of peers count as
what was kept."""


def peers_from(swarm: Swarm | None, peers: Iterable[Peer]) -> dict[str, int]:
    """How many of the connected peers each of them named."""
    counted = Counter(
        _SOURCES[swarm.roster.source_of(peer.address) or Source.TRACKER] if peer.outbound else "fromIncoming"
        for peer in peers
        if swarm is not None
    )
    names = dict.fromkeys((*_SOURCES.values(), "fromIncoming"))
    return {name: counted[name] for name in sorted(names)}


def availability(torrent: Torrent, swarm: Swarm | None) -> list[int]:
    """Of each piece how many connected peers have it; those that we have are not counted."""
    pieces, count = torrent.claimed, torrent.record.piece_count
    if torrent.whole or swarm is None or swarm.fetch is None:
        return [WE_HAVE_IT if have else 0 for have in map(pieces.__getitem__, range(count))]
    found = list(swarm.fetch.picker.availability())
    return [WE_HAVE_IT if pieces[index] else found[index] for index in range(count)]


def desired_available(torrent: Torrent, peers: Iterable[Peer]) -> int:
    """Bytes of wanted pieces that we lack and somebody connected has."""
    if torrent.complete or torrent.record.state == "metadata":
        return 0
    record = torrent.record
    size = record.piece_count
    there = 0
    for peer in peers:
        there |= _number(peer.bits, size)
    wanted = _number(torrent.wanted, size) if torrent.wanted is not None else -1
    found = there & wanted & ~_number(torrent.claimed, size)
    # the last piece is the lowest bit above the padding of the last byte
    last = found >> (-size % 8) & 1
    surplus = size * record.piece_length - record.total_bytes
    return found.bit_count() * record.piece_length - last * surplus


def _number(bits: Bitfield, size: int) -> int:
    return int.from_bytes(bits.to_bytes()) if len(bits) == size else 0
