"""Magnet links (BEP 9, 53) to values, or one line that says why not.

The info hash must be right; what is only told beside it (trackers, peers, a name) is left out when it makes no sense,
as in a .torrent.
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from bittern.errors import MagnetError
from bittern.proto.metainfo import (
    MAX_FILES,
    MAX_HOST_BYTES,
    MAX_TRACKERS,
    MAX_WEB_SEEDS,
    TRACKER_SCHEMES,
    WEB_SEED_SCHEMES,
    usable_url,
)
from bittern.terms import InfoHash

MAX_MAGNET_BYTES: Final = 64 * 1024
"""Two hundred trackers, each escaped, are 40 KiB."""

MAX_PARAMETERS: Final = 2000
MAX_PEERS: Final = 50
MAX_RANGES: Final = 2000
MAX_NAME: Final = 255

V2_ONLY: Final = "a BitTorrent v2 magnet (btmh) without a v1 info hash (btih), which is not supported"

_SCHEME: Final = "magnet:?"
_NUMBERED: Final = re.compile(r"(xt|tr|dn|ws|so|x\.pe)\.\d{1,4}")
_RANGE: Final = re.compile(r"(\d{1,7})(?:-(\d{1,7}))?")
_HOST_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Magnet:
    """`trackers` are tiers, each of one (BEP 9 knows no tiers); `peers` are hosts, numeric or names, with their ports.

    `select`: ranges of file numbers, the last one included, in order and apart; () for all files (BEP 53).
    """

    info_hash: InfoHash
    name: str = ""
    trackers: tuple[tuple[str, ...], ...] = ()
    peers: tuple[tuple[str, int], ...] = ()
    web_seeds: tuple[str, ...] = ()
    select: tuple[tuple[int, int], ...] = ()


def parse_magnet(text: str) -> Magnet:
    """The values of one link; `MagnetError` when it is none, or none for a torrent that we can take."""
    text = text.strip()
    if len(text) > MAX_MAGNET_BYTES:
        raise MagnetError(f"longer than {MAX_MAGNET_BYTES >> 10} KiB, which no magnet link is")
    if text[: len(_SCHEME)].lower() != _SCHEME:
        raise MagnetError('not a magnet link: it does not begin with "magnet:?"')
    # a link that was copied out of a page may still have its ampersands escaped
    parts = text[len(_SCHEME) :].replace("&amp;", "&").split("&", MAX_PARAMETERS)
    if len(parts) > MAX_PARAMETERS:
        raise MagnetError(f"more than {MAX_PARAMETERS} parameters")
    told: dict[str, list[bytes]] = {}
    for part in parts:
        key, _, value = part.partition("=")
        key = key.lower()
        if _NUMBERED.fullmatch(key):
            key = key.rpartition(".")[0]
        if key == "dn":
            value = value.replace("+", " ")
        told.setdefault(key, []).append(unquote_to_bytes(value.encode("utf-8", "replace")))
    return Magnet(
        info_hash=_info_hash(told.get("xt", [])),
        name=_name(told.get("dn", [])),
        trackers=tuple((url,) for url in _urls(told.get("tr", []), TRACKER_SCHEMES, MAX_TRACKERS)),
        peers=_peers(told.get("x.pe", [])),
        web_seeds=_urls(told.get("ws", []), WEB_SEED_SCHEMES, MAX_WEB_SEEDS),
        select=_select(told.get("so", [])),
    )


def _info_hash(topics: Iterable[bytes]) -> InfoHash:
    """Of a hybrid torrent both hashes are named: the v1 one is taken."""
    found: set[bytes] = set()
    v2 = named = False
    for topic in topics:
        named = True
        text = topic.decode("ascii", "replace").strip().lower()
        if text.startswith("urn:btih:"):
            found.add(_hash(text.removeprefix("urn:btih:")))
        elif text.startswith("urn:btmh:"):
            v2 = True
    if len(found) > 1:
        raise MagnetError("it names two torrents")
    if found:
        return InfoHash(found.pop())
    if v2:
        raise MagnetError(V2_ONLY)
    raise MagnetError("it is for something else than a torrent" if named else "it names no torrent (xt)")


def _hash(text: str) -> bytes:
    """40 hexadecimal characters, or 32 of base32."""
    try:
        if len(text) == 40:
            return binascii.unhexlify(text)
        if len(text) == 32:
            return base64.b32decode(text.upper())
    except ValueError:
        pass
    raise MagnetError("its info hash is neither 40 hexadecimal characters nor 32 of base32")


def with_peers(link: str, peers: Sequence[tuple[str, int]]) -> str:
    """The same link, which names these peers too, as far as a link may."""
    known = parse_magnet(link).peers
    fresh = [place for place in peers if place not in known][: MAX_PEERS - len(known)]
    more = "".join(
        f"&x.pe=%5B{host}%5D:{port}" if ":" in host else f"&x.pe={host}:{port}" for host, port in fresh
    )
    return link + more if len(link) + len(more) <= MAX_MAGNET_BYTES else link


def _name(told: Iterable[bytes]) -> str:
    """Shown to people only: where the data lies is told by the metadata."""
    for one in told:
        text = one[: 4 * MAX_NAME].decode("utf-8", "replace")
        name = "".join(c for c in text if c.isprintable())[:MAX_NAME].strip()
        if name:
            return name
    return ""


def _urls(told: Iterable[bytes], schemes: tuple[str, ...], most: int) -> tuple[str, ...]:
    urls: dict[str, None] = {}
    for one in told:
        url = usable_url(one, schemes)
        if url is not None and len(urls) < most:
            urls[url] = None
    return tuple(urls)


def _peers(told: Iterable[bytes]) -> tuple[tuple[str, int], ...]:
    """`host:port`, `ipv4:port` or `[ipv6]:port`."""
    found: dict[tuple[str, int], None] = {}
    for one in told:
        place = _place(one)
        if place is not None and len(found) < MAX_PEERS:
            found[place] = None
    return tuple(found)


def _place(told: bytes) -> tuple[str, int] | None:
    if len(told) > MAX_HOST_BYTES + len("[]:65535") or not told.isascii():
        return None
    host, _, number = told.decode().strip().rpartition(":")
    if not number.isdigit() or len(number) > 5 or not 0 < int(number) < 65536:
        return None
    try:
        if host.startswith("[") and host.endswith("]"):
            return str(ipaddress.IPv6Address(host[1:-1].partition("%")[0])), int(number)
        if not host.rpartition(".")[2].isdigit():
            return (host.lower(), int(number)) if _HOST_NAME.fullmatch(host) else None
        return str(ipaddress.IPv4Address(host)), int(number)
    except ValueError:
        return None


def _select(told: Iterable[bytes]) -> tuple[tuple[int, int], ...]:
    """A list that makes no sense selects nothing in particular."""
    ranges: list[tuple[int, int]] = []
    for one in told:
        for part in one.decode("ascii", "replace").split(",", MAX_RANGES):
            found = _RANGE.fullmatch(part.strip())
            if found is None:
                return ()
            first, last = int(found[1]), int(found[2] or found[1])
            if first > last or last >= MAX_FILES or len(ranges) >= MAX_RANGES:
                return ()
            ranges.append((first, last))
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return tuple(merged)
