"""Whose datagram is this? DHT, uTP and UDP trackers share one port, and the first byte tells them apart."""

import enum
from typing import Final


class Kind(enum.Enum):
    """Who is to read a datagram."""

    DHT = "DHT"
    """A bencoded dictionary (BEP 5)."""
    UTP = "uTP"
    """Version 1 in the low nibble, a packet type from 0 to 4 in the high one (BEP 29)."""
    TRACKER = "tracker"
    """Everything else: what a UDP tracker answers begins with a 32-bit action below 256 (BEP 15)."""


_KINDS: Final = tuple(
    Kind.DHT if first == ord("d") else Kind.UTP if first & 0xF == 1 and first >> 4 < 5 else Kind.TRACKER
    for first in range(256)
)


def kind_of(datagram: bytes | bytearray | memoryview) -> Kind | None:
    """None for an empty one, which is nobody's."""
    return _KINDS[datagram[0]] if datagram else None
