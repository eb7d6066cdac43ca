"""What UDP trackers are asked, and whatever they answer."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import TrackerError
from bittern.proto.announce import (
    DEFAULT_INTERVAL_S,
    LONGEST_INTERVAL_S,
    PEERS_AT_MOST,
    SHORTEST_INTERVAL_S,
    AnnounceEvent,
    AnnounceRequest,
    AnnounceResponse,
    Counts,
    TrackerRefusal,
)
from bittern.proto.compact import pack_address
from bittern.proto.datagram import Kind, kind_of
from bittern.proto.udp_announce import (
    ERROR,
    SCRAPED_AT_MOST,
    URL_DATA_AT_MOST,
    pack_announce,
    pack_connect,
    pack_scrape,
    parse_announce,
    parse_connect,
    parse_head,
    parse_scrape,
)
from bittern.terms import Address, InfoHash, PeerId
from bittern.values import replace
from tests.fakes.udp_tracker import Question, parse_question

REQUEST = AnnounceRequest(
    info_hash=InfoHash(bytes(range(0, 200, 10))),
    peer_id=PeerId(b"-bn0100-abcdefghijkl"),
    port=1729,
    uploaded=1,
    downloaded=2,
    left=3,
    event=AnnounceEvent.STARTED,
    numwant=80,
    key=0xABC,
)
U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)


def test_the_bytes_of_connect() -> None:
    assert pack_connect(0x01020304) == bytes.fromhex("0000041727101980 00000000 01020304")
    assert parse_connect(bytes.fromhex("00000000 01020304 fedcba9876543210 ffff")) == 0xFEDCBA9876543210


def test_the_bytes_of_an_announce() -> None:
    packed = pack_announce(0x1122334455667788, 0x01020304, REQUEST)
    assert len(packed) == 98
    assert packed.hex(" ", -8).startswith("1122334455667788 0000000101020304")
    assert packed[16:36] == REQUEST.info_hash
    assert packed[36:56] == REQUEST.peer_id
    assert packed[56:80] == struct.pack(">QQQ", 2, 3, 1)
    assert packed[80:] == struct.pack(">IIIIH", 2, 0, 0xABC, 80, 1729)


@pytest.mark.parametrize(("event", "number"), [("NONE", 0), ("COMPLETED", 1), ("STARTED", 2), ("STOPPED", 3)])
def test_events(event: str, number: int) -> None:
    packed = pack_announce(1, 2, replace(REQUEST, event=AnnounceEvent[event]))
    assert packed[83] == number
    assert packed[92:96] == (0 if event == "STOPPED" else 80).to_bytes(4), "who leaves needs nobody"


@pytest.mark.parametrize("size", [0, 1, 254, 255, 256, 510, 511, URL_DATA_AT_MOST])
def test_the_url_is_an_option(size: int) -> None:
    url_data = (b"/announce?passkey=" + b"k" * size)[:size]
    packed = pack_announce(1, 2, REQUEST, url_data)
    assert packed[:98] == pack_announce(1, 2, REQUEST)
    assert len(packed) < 1200
    rest, found = packed[98:], b""
    while rest:
        assert rest[0] == 2
        found += rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    assert found == url_data


@given(
    connection=U64,
    transaction=U32,
    downloaded=st.integers(0, 1 << 70),
    key=st.integers(0, 1 << 40),
    event=st.sampled_from(AnnounceEvent),
    url_data=st.binary(max_size=URL_DATA_AT_MOST),
)
def test_what_is_asked_comes_over(
    connection: int, transaction: int, downloaded: int, key: int, event: AnnounceEvent, url_data: bytes
) -> None:
    request = replace(REQUEST, downloaded=downloaded, key=key, event=event)
    heard = parse_question(pack_announce(connection, transaction, request, url_data))
    assert heard == Question(
        connection=connection,
        action=1,
        transaction=transaction,
        info_hashes=(REQUEST.info_hash,),
        peer_id=REQUEST.peer_id,
        downloaded=min(downloaded, (1 << 63) - 1),
        left=3,
        uploaded=1,
        event=event,
        key=key & 0xFFFFFFFF,
        numwant=0 if event is AnnounceEvent.STOPPED else 80,
        port=1729,
        url_data=url_data,
    )


def test_a_scrape() -> None:
    hashes = [InfoHash(bytes([number]) * 20) for number in range(SCRAPED_AT_MOST)]
    packed = pack_scrape(5, 6, hashes)
    assert packed == struct.pack(">QII", 5, 2, 6) + b"".join(hashes)
    assert len(packed) < 1500
    answer = (
        struct.pack(">II", 2, 6) + b"".join(struct.pack(">III", n, 99, n + 1) for n in range(3)) + b"more"
    )
    assert parse_scrape(answer, 3) == [Counts(0, 1), Counts(1, 2), Counts(2, 3)]
    with pytest.raises(TrackerError):
        parse_scrape(answer, 4)


def an_answer(interval: int = 1800, leechers: int = 1, seeders: int = 2, peers: bytes = b"") -> bytes:
    return struct.pack(">IIIII", 1, 7, interval, leechers, seeders) + peers


def test_peers_of_both_families() -> None:
    four = (Address("192.0.2.1", 6881), Address("198.51.100.2", 1))
    six = (Address("2001:db8::1", 6881), Address("2001:db8::2", 65535))
    told = parse_announce(an_answer(peers=b"".join(map(pack_address, four)) + b"xyz"), v6=False)
    assert told == AnnounceResponse(interval_s=1800.0, peers=four, seeders=2, leechers=1)
    assert parse_announce(an_answer(peers=b"".join(map(pack_address, six)) + bytes(17)), v6=True).peers == six


def test_odd_numbers() -> None:
    for interval, kept in ((0, DEFAULT_INTERVAL_S), (1, SHORTEST_INTERVAL_S), (1 << 31, LONGEST_INTERVAL_S)):
        assert parse_announce(an_answer(interval), v6=False).interval_s == kept
    told = parse_announce(an_answer(leechers=0xFFFFFFFF, seeders=0xFFFFFFFF), v6=False)
    assert (told.seeders, told.leechers) == (None, None)


def test_a_crowd_is_bounded_and_nobodys_addresses_are_left_out() -> None:
    crowd = b"".join(struct.pack(">IH", 0x0A000000 + number, 1) for number in range(1, 5000))
    assert len(parse_announce(an_answer(peers=crowd), v6=False).peers) == PEERS_AT_MOST
    nobody = bytes(6) + b"\xe0\0\0\1\0\1" + b"\x0a\0\0\1\0\0" + b"\x0a\0\0\1\0\1" * 2
    assert parse_announce(an_answer(peers=nobody), v6=False).peers == (Address("10.0.0.1", 1),)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (b"unregistered torrent", "refuses: unregistered torrent"),
        (b"ends in C\0", "refuses: ends in C"),
        (b"", "refuses: no reason given"),
        (b"two\nlines\x1b[31m", "refuses: two lines [31m"),
        (b"x" * 60_000, "refuses: " + "x" * 200),
    ],
)
def test_an_error_is_told(message: bytes, words: str) -> None:
    answer = struct.pack(">II", ERROR, 7) + message
    for parse in (
        parse_connect,
        lambda blob: parse_announce(blob, v6=False),
        lambda blob: parse_scrape(blob, 1),
    ):
        with pytest.raises(TrackerRefusal) as caught:
            parse(answer)
        assert str(caught.value) == words


def test_an_answer_without_content_is_a_refusal() -> None:
    with pytest.raises(TrackerRefusal):
        parse_announce(struct.pack(">II", 1, 7), v6=False)


@given(st.binary(max_size=200), st.integers(0, 3), st.booleans())
def test_any_bytes_are_an_answer_or_an_error(blob: bytes, action: int, v6: bool) -> None:
    for datagram in (blob, struct.pack(">II", action, 7) + blob):
        head = parse_head(datagram)
        assert (head is None) == (len(datagram) < 8)
        if head is not None and head.action < 256:
            assert kind_of(datagram) is Kind.TRACKER
        parsers: list[tuple[Callable[[bytes], object], int]] = [
            (parse_connect, 16),
            (lambda blob: parse_announce(blob, v6=v6), 20),
            (lambda blob: parse_scrape(blob, 2), 32),
        ]
        for parse, size in parsers:
            try:
                parse(datagram)
                assert len(datagram) >= size
            except TrackerError:
                pass
