"""The vocabulary that every layer shares.

Words are the field's: a *piece* is hashed, a *block* is what one request asks for. An index that came from the
wire becomes a `PieceIndex` only where it was checked.
"""

from typing import Final, NamedTuple, NewType

InfoHash = NewType("InfoHash", bytes)
"""20 bytes: SHA-1 over the raw bytes of the `info` dictionary (BEP 3)."""

PeerId = NewType("PeerId", bytes)
"""20 bytes (BEP 3, 20)."""

NodeId = NewType("NodeId", bytes)
"""20 bytes (BEP 5), often tied to the node's address (BEP 42)."""

PieceIndex = NewType("PieceIndex", int)
"""0 <= index < piece_count, checked at the border."""

BLOCK_SIZE: Final = 16 * 1024
"""Bytes asked for by one request; the last block of a piece may be shorter."""


class Address(NamedTuple):
    """A peer's endpoint: a numeric IPv4 or IPv6 address without brackets or scope, and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
