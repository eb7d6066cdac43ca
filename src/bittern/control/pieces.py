"""Which pieces of a torrent are there, wanted, under way, and how many connected peers have each."""

import base64
from typing import Any

from bittern.engine.session import Session
from bittern.engine.torrent import Torrent


def pieces_view(session: Session, torrent: Torrent) -> dict[str, Any]:
    """Bits in the order of bitfields (the first piece is the highest bit of the first byte), in base64; `wanted` is
    null when all are. `availability` has a byte for each piece, 255 standing for more, too; it is null while nobody is
    asked for pieces. Of 100 000 pieces all that takes a millisecond.
    """
    record = torrent.record
    swarm = session.swarms.live.get(torrent.info_hash)
    fetch = swarm.fetch if swarm is not None else None
    return {
        "count": record.piece_count,
        "length": record.piece_length,
        "have": _text(torrent.claimed.to_bytes()),
        "wanted": None if torrent.wanted is None else _text(torrent.wanted.to_bytes()),
        "under_way": [] if fetch is None else sorted(fetch.partials),
        "availability": None if fetch is None else _text(fetch.picker.availability()),
    }


def _text(blob: bytes) -> str:
    return base64.b64encode(blob).decode()
