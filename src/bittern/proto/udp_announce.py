"""Announces and scrapes in datagrams (BEP 15), with a tracker URL's path and query as an option (BEP 41).

Everything is big-endian. What is longer than described is an extension of the future and read as far as it is known.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from bittern.errors import TrackerError
from bittern.proto.announce import (
    DEFAULT_INTERVAL_S,
    KEY_MASK,
    PEERS_AT_MOST,
    TEXT_AT_MOST,
    AnnounceEvent,
    AnnounceRequest,
    AnnounceResponse,
    Counts,
    TrackerRefusal,
    count_of,
    seconds_of,
    words_of,
)
from bittern.proto.compact import unpack_addresses
from bittern.terms import InfoHash

PROTOCOL: Final = 0x41727101980
CONNECT: Final = 0
ANNOUNCE: Final = 1
SCRAPE: Final = 2
ERROR: Final = 3

EVENTS: Final = {
    AnnounceEvent.NONE: 0,
    AnnounceEvent.COMPLETED: 1,
    AnnounceEvent.STARTED: 2,
    AnnounceEvent.STOPPED: 3,
}
HEAD: Final = struct.Struct(">QII")
"""Connection, action, transaction: what every question begins with."""

ANSWER_HEAD: Final = struct.Struct(">II")
ANNOUNCE_BODY: Final = struct.Struct(">20s20sQQQIIIIH")
ANNOUNCE_ANSWER: Final = struct.Struct(">IIIII")
COUNTS: Final = struct.Struct(">III")
URL_DATA: Final = 2
OPTION_AT_MOST: Final = 255
URL_DATA_AT_MOST: Final = 1000
"""The datagram stays below what every path carries in one piece."""

SCRAPED_AT_MOST: Final = 74
MOST_64: Final = (1 << 63) - 1
"""Some trackers read the counters as signed."""


class Head(NamedTuple):
    """What every answer begins with."""

    action: int
    transaction: int


def pack_connect(transaction: int) -> bytes:
    """Asks for a connection id."""
    return HEAD.pack(PROTOCOL, CONNECT, transaction)


def pack_announce(
    connection: int, transaction: int, request: AnnounceRequest, url_data: bytes = b""
) -> bytes:
    """`url_data`: path and query of the tracker's URL, at most `URL_DATA_AT_MOST` bytes."""
    body = ANNOUNCE_BODY.pack(
        request.info_hash,
        request.peer_id,
        min(request.downloaded, MOST_64),
        min(request.left, MOST_64),
        min(request.uploaded, MOST_64),
        EVENTS[request.event],
        0,  # our address is where this comes from
        request.key & KEY_MASK,
        0 if request.event is AnnounceEvent.STOPPED else request.numwant,
        request.port,
    )
    options = b"".join(
        bytes((URL_DATA, len(part))) + part
        for part in (url_data[at : at + OPTION_AT_MOST] for at in range(0, len(url_data), OPTION_AT_MOST))
    )
    return HEAD.pack(connection, ANNOUNCE, transaction) + body + options


def pack_scrape(connection: int, transaction: int, info_hashes: Sequence[InfoHash]) -> bytes:
    """At most `SCRAPED_AT_MOST` torrents."""
    return HEAD.pack(connection, SCRAPE, transaction) + b"".join(info_hashes)


def parse_head(datagram: bytes | memoryview) -> Head | None:
    """None when it is too short for any answer."""
    return Head(*ANSWER_HEAD.unpack_from(datagram)) if len(datagram) >= ANSWER_HEAD.size else None


def parse_connect(datagram: bytes) -> int:
    """The connection id."""
    _expect(datagram, CONNECT, 16)
    return int.from_bytes(datagram[8:16])


def parse_announce(datagram: bytes, *, v6: bool) -> AnnounceResponse:
    """The peers are of the family that the datagram came by."""
    head = parse_head(datagram)
    if head is not None and head.action == ANNOUNCE and len(datagram) == ANSWER_HEAD.size:
        # opentracker's word for a torrent that it does not serve
        raise TrackerRefusal("refuses: no reason given")
    _expect(datagram, ANNOUNCE, ANNOUNCE_ANSWER.size)
    _, _, interval, leechers, seeders = ANNOUNCE_ANSWER.unpack_from(datagram)
    peers = unpack_addresses(datagram[ANNOUNCE_ANSWER.size :], 16 if v6 else 4, PEERS_AT_MOST)
    return AnnounceResponse(
        interval_s=seconds_of(interval) or DEFAULT_INTERVAL_S,
        peers=tuple(dict.fromkeys(peers)),
        seeders=count_of(seeders),
        leechers=count_of(leechers),
    )


def parse_scrape(datagram: bytes, count: int) -> list[Counts]:
    """Of `count` torrents, in the order in which they were asked for."""
    _expect(datagram, SCRAPE, ANSWER_HEAD.size + count * COUNTS.size)
    told = (COUNTS.unpack_from(datagram, ANSWER_HEAD.size + number * COUNTS.size) for number in range(count))
    return [Counts(count_of(seeders) or 0, count_of(leechers) or 0) for seeders, _, leechers in told]


def _expect(datagram: bytes, action: int, size: int) -> None:
    """`TrackerRefusal` with the tracker's own words, `TrackerError` when it is no answer to that question."""
    head = parse_head(datagram)
    if head is not None and head.action == ERROR:
        words = words_of(datagram[ANSWER_HEAD.size : ANSWER_HEAD.size + 4 * TEXT_AT_MOST].rstrip(b"\0"))
        raise TrackerRefusal(f"refuses: {words or 'no reason given'}")
    if head is None or head.action != action or len(datagram) < size:
        raise TrackerError("answered something that is no answer to the question")
