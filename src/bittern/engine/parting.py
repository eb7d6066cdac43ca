"""How we part with seeds when we become one ourselves: they hear it first, and the last word is theirs.

Seeds are not told of single pieces, for they lack none. One that we leave without a word still takes us for somebody
who needs it, and comes to see us: 500 small torrents from four libtorrent seeds brought 1 900 such visits, which woke
swarms here, and took the seeds' own connections, so that they turned others of our torrents away. A connection that is
closed with something unread takes back what was said last, so it is theirs to close; who does not is left later.
"""

from collections.abc import Iterable
from typing import Final

from bittern.engine.peer import Peer
from bittern.proto.messages import pack_have

LAST_WORD_S: Final = 5.0
"""How long a seed has to go by itself."""

HAVES_AT_MOST: Final = 4096
"""A torrent of more pieces takes so long that a visit afterwards does not count; 36 KiB for each seed would."""


def tell_seeds(peers: Iterable[Peer], piece_count: int) -> None:
    """We have everything now: what seeds were not told while it came."""
    if piece_count <= HAVES_AT_MOST:
        haves = b"".join([pack_have(index) for index in range(piece_count)])
        for peer in peers:
            if peer.is_seed:
                peer.say(haves)
                peer.flush()
