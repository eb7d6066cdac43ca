"""Tracker announces and scrapes as values, and how HTTP carries them (BEP 3, 7, 12, 23, 24, 31, 48).

The URL that asks, the answer that is told. How datagrams carry the same is in `udp_announce`.
"""

import enum
import functools
import ipaddress
import math
from typing import Final, NamedTuple
from urllib.parse import quote

from bittern.errors import BencodeError, TrackerError
from bittern.proto.bencode import Value, decode_prefix
from bittern.proto.compact import host4, host6, unpack_addresses
from bittern.terms import Address, InfoHash, PeerId
from bittern.values import Struct

DEFAULT_INTERVAL_S: Final = 1800.0
SHORTEST_INTERVAL_S: Final = 60.0
"""A tracker that wants to hear more often is wrong, or hostile: 10 000 torrents would do nothing else."""

LONGEST_INTERVAL_S: Final = 24 * 3600.0
PEERS_AT_MOST: Final = 1000
MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 20_000
TEXT_AT_MOST: Final = 200
SHORT_BYTES: Final = 256
"""An answer that names next to nobody."""

KEY_MASK: Final = 0xFFFFFFFF
PAUSED: Final = "paused"
"""Said in place of the event by who is a partial seed (BEP 21)."""


class TrackerRefusal(TrackerError):
    """The tracker is there and said no, to this torrent."""


class AnnounceEvent(enum.Enum):
    """Why we announce."""

    NONE = ""
    STARTED = "started"
    COMPLETED = "completed"
    STOPPED = "stopped"


class AnnounceRequest(Struct, frozen=True, kw_only=True):
    """Bytes are counted since `started`; `left` is exact."""

    info_hash: InfoHash
    peer_id: PeerId
    port: int
    uploaded: int
    downloaded: int
    left: int
    event: AnnounceEvent
    numwant: int
    key: int
    tracker_id: bytes | None = None
    partial_seed: bool = False
    """It wants no more and has not everything (BEP 21); UDP has no word for that."""


class AnnounceResponse(Struct, frozen=True, kw_only=True):
    """What a tracker told; `min_interval_s`, counts, warning and our own address only when it did."""

    interval_s: float
    min_interval_s: float | None = None
    peers: tuple[Address, ...] = ()
    tracker_id: bytes | None = None
    seeders: int | None = None
    leechers: int | None = None
    warning: str | None = None
    external_ip: str | None = None


class Counts(NamedTuple):
    """What a scrape tells of one torrent."""

    seeders: int
    leechers: int


def announce_url(tracker_url: str, request: AnnounceRequest) -> str:
    """The URL to get. What the tracker's own URL asks for (a passkey, often) stays."""
    event, numwant = request.event, request.numwant
    if event is AnnounceEvent.STOPPED:
        said, numwant = event.value, 0
    else:
        # in every announce (BEP 21), so that a tracker that was restarted knows it too
        said = PAUSED if request.partial_seed else event.value
    url = (
        f"{_joined(tracker_url)}info_hash={_escaped(request.info_hash)}&peer_id={_escaped_peer_id(request.peer_id)}"
        f"&port={request.port}&uploaded={request.uploaded}&downloaded={request.downloaded}&left={request.left}"
        f"&compact=1&no_peer_id=1&numwant={numwant}&key={request.key & KEY_MASK:08x}"
    )
    if said:
        url += f"&event={said}"
    if request.tracker_id is not None:
        url += f"&trackerid={_escaped(request.tracker_id)}"
    return url


# the same few trackers again and again
@functools.lru_cache(maxsize=1024)
def _joined(tracker_url: str) -> str:
    """A tracker's URL, for questions to follow."""
    bare = tracker_url.partition("#")[0]
    return bare + ("?" if "?" not in bare else "" if bare[-1] in "?&" else "&")


_ESCAPES: Final = [quote(bytes([byte]), safe="") for byte in range(256)]


# there is one
@functools.lru_cache(maxsize=16)
def _escaped_peer_id(peer_id: PeerId) -> str:
    return _escaped(peer_id)


def _escaped(raw: bytes) -> str:
    """As `urllib.parse.quote` does it with nothing safe, in a third of the time."""
    return "".join([_ESCAPES[byte] for byte in raw])


def scrape_url(tracker_url: str, info_hash: InfoHash) -> str | None:
    """The URL to get for counts only; None when its tracker has none by the rule (BEP 48)."""
    bare, _, query = tracker_url.partition("#")[0].partition("?")
    before, _, last = bare.rpartition("/")
    # three slashes at least: the last part is no host
    if bare.count("/") < 3 or not last.startswith("announce"):
        return None
    asked = f"{query}&" if query else ""
    return f"{before}/scrape{last.removeprefix('announce')}?{asked}info_hash={quote(info_hash, safe='')}"


def parse_announce_response(blob: bytes) -> AnnounceResponse:
    """`TrackerRefusal` with the tracker's own words, `TrackerError` when it is no answer at all."""
    return _short_response(blob) if len(blob) <= SHORT_BYTES else _response(blob)


# of thousands of idle torrents nearly each has the same, and to read it is a sixth of an announce
@functools.lru_cache(maxsize=128)
def _short_response(blob: bytes) -> AnnounceResponse:
    return _response(blob)


def _response(blob: bytes) -> AnnounceResponse:
    told = _told(blob)
    interval = seconds_of(told.get(b"interval"))
    peers = dict.fromkeys([*_peers(told.get(b"peers")), *_compact(told.get(b"peers6"), 16)])
    tracker_id = told.get(b"tracker id")
    return AnnounceResponse(
        interval_s=DEFAULT_INTERVAL_S if interval is None else interval,
        min_interval_s=seconds_of(told.get(b"min interval")),
        peers=tuple(peers)[:PEERS_AT_MOST],
        tracker_id=tracker_id if isinstance(tracker_id, bytes) and len(tracker_id) <= TEXT_AT_MOST else None,
        seeders=count_of(told.get(b"complete")),
        leechers=count_of(told.get(b"incomplete")),
        warning=words_of(told.get(b"warning message")) or None,
        external_ip=_external_ip(told.get(b"external ip")),
    )


def parse_scrape_response(blob: bytes, info_hash: InfoHash) -> Counts:
    """What it says of that torrent; errors as of announces."""
    files = _told(blob).get(b"files")
    counts = files.get(info_hash) if isinstance(files, dict) else None
    if not isinstance(counts, dict):
        raise TrackerError("counts nothing of this torrent")
    return Counts(count_of(counts.get(b"complete")) or 0, count_of(counts.get(b"incomplete")) or 0)


def _told(blob: bytes) -> dict[bytes, Value]:
    try:
        # scripts often end with an empty line
        told, _ = decode_prefix(blob, max_depth=MAX_DEPTH, max_items=MAX_ITEMS)
    except BencodeError as error:
        raise TrackerError(f"answered something that is not bencode: {error}") from error
    if not isinstance(told, dict):
        raise TrackerError("answered something that is not a dictionary")
    # the second is how BEP 48 spells it
    for key in (b"failure reason", b"failure_reason"):
        if key in told:
            raise TrackerRefusal(
                f"refuses: {words_of(told[key]) or 'no reason given'}", retry_in_s=_retry_in(told)
            )
    return told


def _retry_in(told: dict[bytes, Value]) -> float | None:
    """BEP 31: minutes, or "never"."""
    wish = told.get(b"retry in")
    if wish == b"never":
        return math.inf
    if isinstance(wish, bytes) and wish.isdigit() and len(wish) < 10:
        wish = int(wish)
    if isinstance(wish, int) and wish > 0:
        return min(max(wish * 60.0, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)
    return None


def seconds_of(told: Value | None) -> float | None:
    """An interval within reason; None when there is none."""
    if not isinstance(told, int) or told <= 0:
        return None
    return min(max(float(min(told, 1 << 40)), SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)


def count_of(told: Value | None) -> int | None:
    """None for what no swarm can have."""
    return told if isinstance(told, int) and 0 <= told < 1 << 31 else None


def words_of(told: Value | None) -> str:
    """A tracker's words, for a log line: one line, no control characters, not too long."""
    if not isinstance(told, bytes):
        return ""
    text = told[: 4 * TEXT_AT_MOST].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:TEXT_AT_MOST]


def _peers(told: Value | None) -> list[Address]:
    """BEP 3's dictionaries or BEP 23's compact form."""
    if not isinstance(told, list):
        return _compact(told, 4)
    found = []
    for peer in told[:PEERS_AT_MOST]:
        if isinstance(peer, dict):
            host, port = peer.get(b"ip"), peer.get(b"port")
            if isinstance(host, bytes) and isinstance(port, int) and 0 < port < 65536:
                try:
                    packed = ipaddress.ip_address(host.decode("ascii").partition("%")[0]).packed
                except ValueError:
                    continue
                found += _compact(packed + port.to_bytes(2), len(packed))
    return found


def _compact(told: Value | None, host_bytes: int) -> list[Address]:
    """BEP 23 (4 bytes of address) and BEP 7 (16): each followed by the port. A broken tail is left out."""
    if not isinstance(told, bytes):
        return []
    return unpack_addresses(told, host_bytes, PEERS_AT_MOST)


def _external_ip(told: Value | None) -> str | None:
    """BEP 24. Nobody's address is none; an IPv4 address in IPv6's clothes is what it is."""
    if isinstance(told, bytes) and len(told) in (4, 16):
        return (host4(told) if len(told) == 4 else host6(told)) or None
    return None
