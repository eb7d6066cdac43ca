"""Local service discovery's announces (BEP 14): HTTP in form, one datagram each, sent to a multicast group."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bittern.terms import InfoHash

PORT: Final = 6771
GROUP_V4: Final = "239.192.152.143"
GROUP_V6: Final = "ff15::efc0:988f"

SENT_BYTES: Final = 1400
"""What surely fits into one frame (BEP 14)."""

READ_BYTES: Final = 1500
"""Nobody sends more: a longer datagram is not looked at."""

START: Final = b"BT-SEARCH * HTTP/1."
COOKIE_BYTES: Final = 64
"""Of somebody else's cookie; ours is shorter."""

_INFO_HASH_LINE: Final = len(b"Infohash: \r\n") + 40
_HEADER: Final = "BT-SEARCH * HTTP/1.1\r\nHost: {host}:6771\r\nPort: {port}\r\n"
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


@dataclass(frozen=True, slots=True)
class LocalAnnounce:
    """Somebody has these torrents, and listens on that TCP port; `cookie` is opaque, and may be empty."""

    port: int
    info_hashes: tuple[InfoHash, ...]
    cookie: bytes = b""


def at_most(cookie: bytes) -> int:
    """How many info hashes one announce takes, in either family."""
    head = _head(GROUP_V6, 65535, ()) + _tail(cookie)
    return (SENT_BYTES - len(head)) // _INFO_HASH_LINE


def pack_local(group: str, announce: LocalAnnounce) -> bytes:
    """For that multicast group."""
    return _head(group, announce.port, announce.info_hashes) + _tail(announce.cookie)


def _head(group: str, port: int, info_hashes: Sequence[InfoHash]) -> bytes:
    head = _HEADER.format(host=f"[{group}]" if ":" in group else group, port=port)
    return (head + "".join(f"Infohash: {one.hex()}\r\n" for one in info_hashes)).encode()


def _tail(cookie: bytes) -> bytes:
    return (b"cookie: " + cookie + b"\r\n" if cookie else b"") + b"\r\n\r\n"


def parse_local(datagram: bytes) -> LocalAnnounce | None:
    """None for what is no announce. Info hashes that are none (those of v2 are longer) or repeated are left out."""
    if len(datagram) > READ_BYTES or not datagram.startswith(START):
        return None
    head, end, _ = datagram.partition(b"\r\n\r\n")
    if not end:
        return None
    port = 0
    cookie = b""
    info_hashes: dict[InfoHash, None] = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, told = line.partition(b":")
        told = told.strip()
        match name.strip().lower():
            case b"port":
                # two of them would be two opinions
                if port or len(told) > 5 or not told.isdigit() or not 0 < int(told) < 65536:
                    return None
                port = int(told)
            case b"infohash" if len(told) == 40 and _HEX.issuperset(told):
                info_hashes[InfoHash(bytes.fromhex(told.decode()))] = None
            case b"cookie":
                cookie = told[:COOKIE_BYTES]
            case _:
                pass
    return LocalAnnounce(port, tuple(info_hashes), cookie) if port and info_hashes else None
