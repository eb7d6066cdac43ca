"""How we part with seeds when we become one ourselves: they hear it first, and the last word is theirs.

Seeds are not told of single pieces, for they lack none. One that we leave without a word still takes us for somebody
who needs it, and comes to see us: 500 small torrents from four libtorrent seeds brought 1 900 such visits, which woke
swarms here, and took the seeds' own connections, so that they turned others of our torrents away. A connection that is
closed with something unread takes back what was said last, so it is theirs to close; who does not is left later.
"""

from collections.abc import Callable, Iterable
from typing import Final

from bittern.engine.peer import Peer
from bittern.proto.messages import pack_have

LAST_WORD_S: Final = 5.0
"""How long a seed has to go by itself."""

HAVES_AT_MOST: Final = 4096
"""A torrent of more pieces takes so long that a visit afterwards does not count; 36 KiB for each seed would."""


def is_done(peer: Peer) -> bool:
    """Has it all that it wants (BEP 21)? Who says so and has no piece may be after the metadata."""
    return peer.is_seed or (peer.spoken.upload_only and not peer.bits.none)


def tell_done(
    peers: Iterable[Peer], piece_count: int, *, whole: bool, greeting: Callable[[Peer], bytes]
) -> None:
    """We want nothing any more: seeds hear what they were not told while it came, or where that is too much or not
    everything, they and others the handshake that says so.
    """
    few = whole and piece_count <= HAVES_AT_MOST
    haves = b"".join([pack_have(index) for index in range(piece_count)]) if few else b""
    for peer in peers:
        if peer.is_seed or not few:
            peer.say(haves or greeting(peer))
            peer.flush()
