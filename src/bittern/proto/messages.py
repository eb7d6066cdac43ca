"""Peer wire messages (BEP 3, 5, 6, 10): values for what comes in, packers for what goes out.

Values are named tuples: they cost a third of a frozen dataclass, and requests arrive by the ten thousand a second.
`piece` has no value: a block goes from the receive buffer straight into its place (`decoder.py`).
"""

import functools
import hashlib
import struct
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from bittern.terms import InfoHash

CHOKE_ID: Final = 0
UNCHOKE_ID: Final = 1
INTERESTED_ID: Final = 2
NOT_INTERESTED_ID: Final = 3
HAVE_ID: Final = 4
BITFIELD_ID: Final = 5
REQUEST_ID: Final = 6
PIECE_ID: Final = 7
CANCEL_ID: Final = 8
PORT_ID: Final = 9
SUGGEST_ID: Final = 13
HAVE_ALL_ID: Final = 14
HAVE_NONE_ID: Final = 15
REJECT_ID: Final = 16
ALLOWED_FAST_ID: Final = 17
EXTENDED_ID: Final = 20


class Choke(NamedTuple):
    """They will not answer requests."""


class Unchoke(NamedTuple):
    """They will."""


class Interested(NamedTuple):
    """They want something that we have."""


class NotInterested(NamedTuple):
    """They do not."""


class Have(NamedTuple):
    """They got a piece; `piece` is unchecked."""

    piece: int


class BitfieldMessage(NamedTuple):
    """What they have; `payload` has the right length for the torrent, its spare bits are unchecked."""

    payload: bytes


class Request(NamedTuple):
    """They want a block; nothing is checked."""

    piece: int
    begin: int
    length: int


class Cancel(NamedTuple):
    """They do not want it any more."""

    piece: int
    begin: int
    length: int


class Reject(NamedTuple):
    """They will not send a block that we asked for (BEP 6)."""

    piece: int
    begin: int
    length: int


class Port(NamedTuple):
    """Their DHT node's UDP port (BEP 5)."""

    port: int


class HaveAll(NamedTuple):
    """They have every piece (BEP 6)."""


class HaveNone(NamedTuple):
    """They have no piece (BEP 6)."""


class Suggest(NamedTuple):
    """A piece that is cheap for them to send (BEP 6)."""

    piece: int


class AllowedFast(NamedTuple):
    """A piece that we may request while choked (BEP 6)."""

    piece: int


class Extended(NamedTuple):
    """A message of the extension protocol (BEP 10); number 0 is its handshake."""

    number: int
    payload: bytes


Message: TypeAlias = (
    Choke
    | Unchoke
    | Interested
    | NotInterested
    | Have
    | BitfieldMessage
    | Request
    | Cancel
    | Reject
    | Port
    | HaveAll
    | HaveNone
    | Suggest
    | AllowedFast
    | Extended
)

KEEP_ALIVE: Final = bytes(4)
CHOKE: Final = struct.pack(">IB", 1, CHOKE_ID)
UNCHOKE: Final = struct.pack(">IB", 1, UNCHOKE_ID)
INTERESTED: Final = struct.pack(">IB", 1, INTERESTED_ID)
NOT_INTERESTED: Final = struct.pack(">IB", 1, NOT_INTERESTED_ID)
HAVE_ALL: Final = struct.pack(">IB", 1, HAVE_ALL_ID)
HAVE_NONE: Final = struct.pack(">IB", 1, HAVE_NONE_ID)

PIECE_HEADER: Final = struct.Struct(">IBII")
PIECE_HEADER_BYTES: Final = PIECE_HEADER.size
_INDEX: Final = struct.Struct(">IBI")
_BLOCK: Final = struct.Struct(">IBIII")
_PORT: Final = struct.Struct(">IBH")
_pack_block: Final = _BLOCK.pack


def pack_have(index: int) -> bytes:
    """BEP 3."""
    return _INDEX.pack(5, HAVE_ID, index)


def pack_suggest(index: int) -> bytes:
    """BEP 6."""
    return _INDEX.pack(5, SUGGEST_ID, index)


def pack_allowed_fast(index: int) -> bytes:
    """BEP 6."""
    return _INDEX.pack(5, ALLOWED_FAST_ID, index)


def pack_bitfield(payload: bytes) -> bytes:
    """BEP 3: the first bit is piece 0; spare bits are zero."""
    return struct.pack(">IB", 1 + len(payload), BITFIELD_ID) + payload


def pack_requests(asks: Sequence[tuple[int, int, int]]) -> bytes:
    """Any number of requests (index, begin, length) in one piece of bytes."""
    return b"".join([_pack_block(13, REQUEST_ID, index, begin, length) for index, begin, length in asks])


def pack_cancels(asks: Sequence[tuple[int, int, int]]) -> bytes:
    """Any number of cancels."""
    return b"".join([_pack_block(13, CANCEL_ID, index, begin, length) for index, begin, length in asks])


def pack_reject(index: int, begin: int, length: int) -> bytes:
    """BEP 6."""
    return _pack_block(13, REJECT_ID, index, begin, length)


def pack_port(port: int) -> bytes:
    """BEP 5."""
    return _PORT.pack(3, PORT_ID, port)


def pack_extended(number: int, payload: bytes) -> bytes:
    """BEP 10."""
    return struct.pack(">IBB", 2 + len(payload), EXTENDED_ID, number) + payload


def pack_piece_header_into(buffer: memoryview, offset: int, index: int, begin: int, length: int) -> None:
    """The 13 bytes before a block of `length` bytes."""
    PIECE_HEADER.pack_into(buffer, offset, 9 + length, PIECE_ID, index, begin)


@functools.lru_cache(maxsize=512)
def allowed_fast_set(info_hash: InfoHash, host: str, piece_count: int, count: int = 10) -> tuple[int, ...]:
    """The pieces that this peer may request while choked (BEP 6, "Allowed Fast Set Generation"); IPv4 only.

    Remembered: a choked peer may ask a thousand times a second.
    """
    octets = host.split(".")
    if len(octets) != 4 or piece_count <= 0:
        return ()
    # Only the network counts: a peer cannot get another set by another address in its own /24.
    seed = bytes([int(octet) & 0xFF for octet in octets[:3]]) + b"\0" + info_hash
    chosen: list[int] = []
    while len(chosen) < min(count, piece_count):
        seed = hashlib.sha1(seed).digest()
        for (word,) in struct.iter_unpack(">I", seed):
            index = word % piece_count
            if index not in chosen and len(chosen) < min(count, piece_count):
                chosen.append(index)
    return tuple(chosen)
