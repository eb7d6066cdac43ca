"""The messages by which peers hand on a torrent's info dictionary (BEP 9), in pieces of 16 KiB."""

from typing import Final, NamedTuple, TypeAlias

from bittern.errors import BencodeError, ProtocolError
from bittern.proto.bencode import Value, decode_prefix, encode
from bittern.proto.metainfo import MAX_METAINFO_BYTES

METADATA_PIECE_BYTES: Final = 16 * 1024
MAX_METADATA_BYTES: Final = MAX_METAINFO_BYTES // 2
"""Half of what a .torrent may have: 800 000 piece hashes. It comes from strangers, and is held until it is whole."""

MAX_PIECE_NUMBER: Final = MAX_METAINFO_BYTES // METADATA_PIECE_BYTES

_REQUEST: Final = 0
_DATA: Final = 1
_REJECT: Final = 2
_MAX_DEPTH: Final = 4
_MAX_ITEMS: Final = 64


class MetadataRequest(NamedTuple):
    """They want that piece."""

    piece: int


class MetadataPiece(NamedTuple):
    """They send it; `total_bytes` None: they do not say of how many."""

    piece: int
    total_bytes: int | None
    body: bytes


class MetadataReject(NamedTuple):
    """They do not have that piece, or do not give it now."""

    piece: int


MetadataMessage: TypeAlias = MetadataRequest | MetadataPiece | MetadataReject


def piece_count(total_bytes: int) -> int:
    """Of an info dictionary of that length."""
    return -(-total_bytes // METADATA_PIECE_BYTES)


def piece_bytes(piece: int, total_bytes: int) -> int:
    """The length of one of them."""
    return min(METADATA_PIECE_BYTES, total_bytes - piece * METADATA_PIECE_BYTES)


def pack_metadata_request(piece: int) -> bytes:
    """What follows the number of the extension message, as of the others."""
    return encode({b"msg_type": _REQUEST, b"piece": piece})


def pack_metadata_piece(piece: int, total_bytes: int, body: bytes) -> bytes:
    """The dictionary, and the piece behind it."""
    told: dict[bytes, Value] = {b"msg_type": _DATA, b"piece": piece, b"total_size": total_bytes}
    return encode(told) + body


def pack_metadata_reject(piece: int) -> bytes:
    """They shall ask somebody else."""
    return encode({b"msg_type": _REJECT, b"piece": piece})


def parse_metadata_message(payload: bytes) -> MetadataMessage | None:
    """None for a kind that came later; `ProtocolError` for what is none of these messages."""
    try:
        told, end = decode_prefix(payload, max_depth=_MAX_DEPTH, max_items=_MAX_ITEMS)
    except BencodeError as error:
        raise ProtocolError(f"a metadata message that is not bencode: {error}") from error
    if not isinstance(told, dict):
        raise ProtocolError("a metadata message that is not a dictionary")
    kind, piece, total = told.get(b"msg_type"), told.get(b"piece"), told.get(b"total_size")
    if not isinstance(kind, int):
        raise ProtocolError("a metadata message without a kind")
    if kind not in {_REQUEST, _DATA, _REJECT}:
        return None
    if not isinstance(piece, int) or not 0 <= piece < MAX_PIECE_NUMBER:
        raise ProtocolError("a metadata message about no piece")
    if kind == _REQUEST:
        return MetadataRequest(piece)
    if kind == _REJECT:
        return MetadataReject(piece)
    if len(payload) - end > METADATA_PIECE_BYTES:
        raise ProtocolError(f"a metadata piece of {len(payload) - end} bytes")
    return MetadataPiece(piece, total if isinstance(total, int) else None, payload[end:])
