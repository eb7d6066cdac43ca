"""The extension protocol's handshake (BEP 10): what else a peer can do, and what it tells about itself."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from bittern.errors import BencodeError, ProtocolError
from bittern.proto.bencode import Value, decode_prefix, encode
from bittern.proto.compact import host4, host6

UT_PEX: Final = "ut_pex"
UT_METADATA: Final = "ut_metadata"
UPLOAD_ONLY: Final = "upload_only"
"""As an extension of its own it is how libtorrent and those who follow it tell a change (one byte: 0 or 1)."""
EXTENSIONS_AT_MOST: Final = 64
NAME_AT_MOST: Final = 64
"""Of an extension's name; those that are seen have twenty bytes. They are remembered as long as the peer is there."""

CLIENT_NAME_AT_MOST: Final = 64
MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 1000
MAX_METADATA_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExtensionHandshake:
    """`extensions`: name to message number (1..255; 0: not spoken any more). None or "": not told, or not in a shape
    that can be used.
    """

    extensions: Mapping[str, int] = field(default_factory=dict)
    client: str = ""
    port: int | None = None
    reqq: int | None = None
    your_ip: str | None = None
    metadata_size: int | None = None
    upload_only: bool | None = None
    """Is it done, with all or with what it wants (BEP 21)?"""


def pack_extension_handshake(
    *,
    client: str,
    port: int,
    reqq: int,
    your_ip: str,
    extensions: Mapping[str, int] | None = None,
    metadata_size: int | None = None,
    upload_only: bool = False,
) -> bytes:
    """The payload that follows the message number 0. `your_ip` is what we see of the peer."""
    told: dict[bytes, Value] = {
        b"m": {name.encode(): number for name, number in (extensions or {}).items()},
        b"v": client.encode(),
        b"reqq": reqq,
        b"yourip": ipaddress.ip_address(your_ip).packed,
    }
    if port:
        told[b"p"] = port
    if metadata_size is not None:
        told[b"metadata_size"] = metadata_size
    if upload_only:
        told[b"upload_only"] = 1
    return encode(told)


def parse_extension_handshake(payload: bytes) -> ExtensionHandshake:
    """`ProtocolError` when it is not a dictionary; single entries that make no sense are left out."""
    try:
        # some clients put more behind the dictionary
        told, _ = decode_prefix(payload, max_depth=MAX_DEPTH, max_items=MAX_ITEMS)
    except BencodeError as error:
        raise ProtocolError(f"an extension handshake that is not bencode: {error}") from error
    if not isinstance(told, dict):
        raise ProtocolError("an extension handshake that is not a dictionary")
    return ExtensionHandshake(
        extensions=_extensions(told.get(b"m")),
        client=_name(told.get(b"v")),
        port=_number(told.get(b"p"), 65535),
        reqq=_number(told.get(b"reqq"), 1 << 31),
        your_ip=_ip(told.get(b"yourip")),
        metadata_size=_number(told.get(b"metadata_size"), MAX_METADATA_BYTES),
        upload_only=bool(upload_only) if isinstance(upload_only := told.get(b"upload_only"), int) else None,
    )


def _extensions(told: Value | None) -> dict[str, int]:
    if not isinstance(told, dict):
        return {}
    found = {}
    for name, number in list(told.items())[:EXTENSIONS_AT_MOST]:
        if isinstance(number, int) and 0 <= number < 256 and len(name) <= NAME_AT_MOST and name.isascii():
            found[name.decode()] = number
    return found


def _name(told: Value | None) -> str:
    """Shown to people: no control characters, and short."""
    if not isinstance(told, bytes):
        return ""
    text = told[: 4 * CLIENT_NAME_AT_MOST].decode("utf-8", "replace")
    return "".join(c for c in text if c.isprintable())[:CLIENT_NAME_AT_MOST]


def _number(told: Value | None, most: int) -> int | None:
    return told if isinstance(told, int) and 0 < told <= most else None


def _ip(told: Value | None) -> str | None:
    """Nobody's address is none; an IPv4 address in IPv6's clothes is what it is."""
    if isinstance(told, bytes) and len(told) in (4, 16):
        return (host4(told) if len(told) == 4 else host6(told)) or None
    return None
