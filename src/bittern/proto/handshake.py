"""The first 68 bytes of a peer connection (BEP 3) with their reserved bits (BEP 4), and peer ids (BEP 20)."""

import random
import re
import string
from dataclasses import dataclass
from typing import Final

from bittern.errors import HandshakeError
from bittern.terms import InfoHash, PeerId

HANDSHAKE_BYTES: Final = 68
PROTOCOL: Final = b"\x13BitTorrent protocol"
_EXTENDED: Final = (5, 0x10)
_FAST: Final = (7, 0x04)
_DHT: Final = (7, 0x01)
_ID_CHARACTERS: Final = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Handshake:
    """Who is there, for which torrent, and what they can do: BEP 10 messages, BEP 6 messages, BEP 5 DHT."""

    info_hash: InfoHash
    peer_id: PeerId
    extended: bool
    fast: bool
    dht: bool


def pack_handshake(info_hash: InfoHash, peer_id: PeerId, *, dht: bool = False) -> bytes:
    """Our 68 bytes; the extension protocol and the fast extension are always offered."""
    reserved = bytearray(8)
    for (at, bit), offered in ((_EXTENDED, True), (_FAST, True), (_DHT, dht)):
        if offered:
            reserved[at] |= bit
    return PROTOCOL + bytes(reserved) + info_hash + peer_id


def parse_handshake(blob: bytes) -> Handshake:
    """Theirs, exactly 68 bytes; `HandshakeError` when it is not BitTorrent."""
    if len(blob) != HANDSHAKE_BYTES or not blob.startswith(PROTOCOL):
        raise HandshakeError("not a BitTorrent handshake")
    reserved = blob[20:28]

    def offers(bit: tuple[int, int]) -> bool:
        return bool(reserved[bit[0]] & bit[1])

    return Handshake(
        info_hash=InfoHash(blob[28:48]),
        peer_id=PeerId(blob[48:68]),
        extended=offers(_EXTENDED),
        fast=offers(_FAST),
        dht=offers(_DHT),
    )


def peer_id_prefix(version: str) -> bytes:
    """`-bn<4 digits>-`: 1.2.3 gives -bn1203- (major, minor, patch in two digits)."""
    leading = [re.match(r"\d*", part) for part in version.split(".")]
    major, minor, patch, *_ = [int(found[0] or 0) for found in leading if found] + [0, 0, 0]
    return f"-bn{major % 10}{minor % 10}{patch % 100:02d}-".encode()


def make_peer_id(rng: random.Random, version: str) -> PeerId:
    """The prefix and twelve random characters."""
    return PeerId(peer_id_prefix(version) + "".join(rng.choices(_ID_CHARACTERS, k=12)).encode())
