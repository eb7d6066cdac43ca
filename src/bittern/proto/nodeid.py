"""Node ids of the DHT: made from the node's address, so that nobody chooses freely where he sits (BEP 42)."""

import random
from typing import Final

from bittern.proto.compact import pack_host
from bittern.terms import NodeId

_MASK_4: Final = bytes.fromhex("030f3fff")
_MASK_6: Final = bytes.fromhex("0103070f1f3f7fff")
"""Of an IPv6 address only the network half counts: the other half is anybody's to choose."""

_BOUND_BITS: Final = 21
_LOCAL_4: Final = frozenset(
    [
        *((10 << 8) + second for second in range(256)),
        *((127 << 8) + second for second in range(256)),
        *((172 << 8) + second for second in range(16, 32)),
        (192 << 8) + 168,
        (169 << 8) + 254,
    ]
)
"""The first two bytes of local addresses: a look-up instead of five comparisons for each node told of."""

_LOOPBACK_6: Final = bytes(15) + b"\1"


def make_node_id(host: str | None, rng: random.Random) -> NodeId:
    """One that fits that external address; any at all while it is not known."""
    made = bytearray(rng.randbytes(20))
    if host is not None:
        bound = _bound(pack_host(host), made[19] & 7)
        made[0] = bound >> 24
        made[1] = bound >> 16 & 0xFF
        made[2] = (bound >> 8 & 0xF8) | (made[2] & 7)
    return NodeId(bytes(made))


def fits(node_id: NodeId, host: str) -> bool:
    """May a node at that address have that id? On a local network anybody may have any."""
    packed = pack_host(host)
    if _is_local(packed):
        return True
    wanted = _bound(packed, node_id[19] & 7)
    return (int.from_bytes(node_id[:4]) ^ wanted) >> (32 - _BOUND_BITS) == 0


def is_local(host: str) -> bool:
    """Loopback, link or private network: addresses that mean something else for everybody."""
    return _is_local(pack_host(host))


def _is_local(packed: bytes) -> bool:
    if len(packed) == 4:
        return packed[0] << 8 | packed[1] in _LOCAL_4
    # fc00::/7 and fe80::/10
    return packed[0] & 0xFE == 0xFC or (packed[0] == 0xFE and packed[1] >> 6 == 2) or packed == _LOOPBACK_6


def _bound(packed: bytes, r: int) -> int:
    """The 32 bits whose first 21 begin the id of a node at that address with that `r` of 3 bits."""
    mask = _MASK_4 if len(packed) == 4 else _MASK_6
    masked = bytearray(a & b for a, b in zip(packed, mask, strict=False))
    masked[0] |= r << 5
    return crc32c(masked)


def crc32c(blob: bytes | bytearray) -> int:
    """Castagnoli's; for a few bytes at a time."""
    crc = 0xFFFFFFFF
    for byte in blob:
        crc = _CRC[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def _crc_of(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC: Final = tuple(map(_crc_of, range(256)))
