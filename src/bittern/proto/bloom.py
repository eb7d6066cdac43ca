"""How many are there, without a list of them: the Bloom filters of DHT scrapes (BEP 33)."""

import hashlib
import math
from typing import Final

FILTER_BYTES: Final = 256
_BITS: Final = FILTER_BYTES * 8
_HASHES: Final = 2


class BloomFilter:
    """A set of hosts, as 2048 bits; uniting two is or-ing them."""

    __slots__ = ("_bits",)

    def __init__(self, packed: bytes = b"") -> None:
        self._bits = int.from_bytes(packed, "little")

    def add(self, packed_host: bytes) -> None:
        """An address of 4 or 16 bytes; its port does not count."""
        self._bits |= _mask(packed_host)

    def __contains__(self, packed_host: bytes) -> bool:
        mask = _mask(packed_host)
        return self._bits & mask == mask

    def unite(self, other: "BloomFilter") -> None:
        """Holds the other's hosts too from now on."""
        self._bits |= other._bits  # noqa: SLF001 — a filter of the same kind

    def estimate(self) -> float:
        """About how many hosts are in it; good up to some 6000."""
        empty = max(_BITS - self._bits.bit_count(), 1)
        return math.log(empty / _BITS) / (_HASHES * math.log(1 - 1 / _BITS))

    def to_bytes(self) -> bytes:
        """256 bytes, for the wire."""
        return self._bits.to_bytes(FILTER_BYTES, "little")


def _mask(packed_host: bytes) -> int:
    digest = hashlib.sha1(packed_host).digest()
    return (
        1 << int.from_bytes(digest[:2], "little") % _BITS | 1 << int.from_bytes(digest[2:4], "little") % _BITS
    )
