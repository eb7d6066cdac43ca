"""What trackers are asked, and whatever they answer."""

import math
from typing import Any
from urllib.parse import unquote_to_bytes

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
    announce_url,
    parse_announce_response,
    parse_scrape_response,
    scrape_url,
)
from bittern.proto.bencode import encode
from bittern.terms import Address, InfoHash, PeerId
from bittern.values import replace

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


def asked(url: str) -> dict[str, bytes]:
    query = url.partition("?")[2]
    return {
        name: unquote_to_bytes(value) for name, _, value in (one.partition("=") for one in query.split("&"))
    }


def test_the_url_asks_for_everything() -> None:
    url = announce_url("http://t.example/announce", REQUEST)
    assert url.startswith("http://t.example/announce?info_hash=%00%0A%14%1E%282%3CFPZdnx%82%8C")
    assert asked(url) == {
        "info_hash": REQUEST.info_hash,
        "peer_id": REQUEST.peer_id,
        "port": b"1729",
        "uploaded": b"1",
        "downloaded": b"2",
        "left": b"3",
        "compact": b"1",
        "no_peer_id": b"1",
        "numwant": b"80",
        "key": b"00000abc",
        "event": b"started",
    }


def test_a_partial_seed_says_so_in_each_announce_but_its_last() -> None:
    told = {
        event: asked(announce_url("http://t/a", replace(REQUEST, event=event, partial_seed=True))).get(
            "event"
        )
        for event in AnnounceEvent
    }
    assert told.pop(AnnounceEvent.STOPPED) == b"stopped"
    assert set(told.values()) == {b"paused"}


@pytest.mark.parametrize(
    ("tracker", "start"),
    [
        ("http://t/a", "http://t/a?info_hash="),
        ("http://t/a?passkey=k", "http://t/a?passkey=k&info_hash="),
        ("http://t/a?", "http://t/a?info_hash="),
        ("http://t/a?k=v&", "http://t/a?k=v&info_hash="),
        ("http://t/a#part", "http://t/a?info_hash="),
    ],
)
def test_the_trackers_own_query_stays(tracker: str, start: str) -> None:
    assert announce_url(tracker, REQUEST).startswith(start)


def test_events_and_what_goes_with_them() -> None:
    assert "event" not in asked(announce_url("http://t/a", replace(REQUEST, event=AnnounceEvent.NONE)))
    assert (
        asked(announce_url("http://t/a", replace(REQUEST, event=AnnounceEvent.COMPLETED)))["event"]
        == b"completed"
    )
    stopped = asked(
        announce_url("http://t/a", replace(REQUEST, event=AnnounceEvent.STOPPED, tracker_id=b"a&b=\xff"))
    )
    assert stopped["event"] == b"stopped"
    assert stopped["numwant"] == b"0", "who leaves needs no peers"
    assert stopped["trackerid"] == b"a&b=\xff"


@given(st.binary(min_size=20, max_size=20), st.binary(min_size=20, max_size=20))
def test_raw_bytes_come_through(info_hash: bytes, peer_id: bytes) -> None:
    url = announce_url("http://t/a", replace(REQUEST, info_hash=InfoHash(info_hash), peer_id=PeerId(peer_id)))
    assert url.isascii()
    assert asked(url)["info_hash"] == info_hash
    assert asked(url)["peer_id"] == peer_id


def answer(**told: Any) -> AnnounceResponse:
    return parse_announce_response(
        encode({key.replace("_", " ").encode(): value for key, value in told.items()})
    )


def test_everything_that_can_be_told() -> None:
    assert answer(
        interval=900,
        min_interval=300,
        peers=b"\xc0\x00\x02\x01\x1a\xe1\xc0\x00\x02\x02\x1a\xe2",
        peers6=bytes.fromhex("20010db8000000000000000000000007") + b"\x1a\xe3",
        tracker_id=b"abc",
        complete=5,
        incomplete=6,
        warning_message=b"be nice",
        external_ip=b"\xc6\x33\x64\x01",
    ) == AnnounceResponse(
        interval_s=900,
        min_interval_s=300,
        peers=(Address("192.0.2.1", 6881), Address("192.0.2.2", 6882), Address("2001:db8::7", 6883)),
        tracker_id=b"abc",
        seeders=5,
        leechers=6,
        warning="be nice",
        external_ip="198.51.100.1",
    )


@pytest.mark.parametrize(
    ("told", "host"),
    [
        (bytes(10) + b"\xff\xff\xc6\x33\x64\x01", "198.51.100.1"),
        (bytes.fromhex("20010db8000000000000000000000007"), "2001:db8::7"),
        (bytes(4), None),
        (bytes(16), None),
        (b"\xe0\0\0\1", None),
        (b"198.51.100.1", None),
    ],
)
def test_our_own_address_as_trackers_tell_it(told: bytes, host: str | None) -> None:
    assert answer(external_ip=told).external_ip == host


def test_an_empty_dictionary_is_an_answer() -> None:
    assert answer() == AnnounceResponse(interval_s=DEFAULT_INTERVAL_S)


def test_an_empty_line_behind_it_is_no_fault() -> None:
    assert parse_announce_response(b"d8:intervali900ee\r\n").interval_s == 900


def test_peers_as_dictionaries() -> None:
    peers = [
        {b"ip": b"192.0.2.1", b"port": 6881, b"peer id": b"x" * 20},
        {b"ip": b"2001:db8::1", b"port": 6882},
        {b"ip": b"fe80::1%eth0", b"port": 6883},
        {b"ip": b"peer.example", b"port": 6884},
        {b"ip": b"192.0.2.2", b"port": 0},
        {b"ip": b"192.0.2.2", b"port": 65536},
        {b"ip": b"192.0.2.2", b"port": -1},
        {b"ip": b"192.0.2.2"},
        {b"port": 1},
        {b"ip": 5, b"port": 1},
        {b"ip": b"\xff\xfe", b"port": 1},
        {b"ip": b"0.0.0.0", b"port": 1},
        7,
        b"x",
    ]
    assert answer(peers=peers).peers == (
        Address("192.0.2.1", 6881),
        Address("2001:db8::1", 6882),
        Address("fe80::1", 6883),
    )


def test_addresses_that_nobody_has_are_left_out() -> None:
    compact = b"".join(
        bytes(host) + b"\x00\x50"
        for host in ((0, 0, 0, 0), (0, 1, 2, 3), (224, 0, 0, 1), (255, 255, 255, 255), (127, 0, 0, 1))
    )
    assert answer(peers=compact).peers == (Address("127.0.0.1", 80),)
    six = [
        bytes(16),
        b"\xff\x02" + bytes(13) + b"\x01",
        bytes(10) + b"\xff\xff\xc0\x00\x02\x01",
        bytes(15) + b"\x01",
    ]
    peers = answer(peers6=b"".join(host + b"\x00\x50" for host in six)).peers
    assert peers == (Address("192.0.2.1", 80), Address("::1", 80))


def test_the_same_peer_counts_once_and_port_zero_never() -> None:
    one = b"\xc0\x00\x02\x01\x1a\xe1"
    assert answer(peers=one + b"\xc0\x00\x02\x01\x00\x00" + one).peers == (Address("192.0.2.1", 6881),)


def test_a_cut_tail_is_left_out() -> None:
    assert answer(peers=b"\xc0\x00\x02\x01\x1a\xe1\xc0\x00").peers == (Address("192.0.2.1", 6881),)


def test_peers_are_bounded() -> None:
    compact = b"".join(b"\x0a" + number.to_bytes(3) + b"\x1a\xe1" for number in range(5000))
    assert len(answer(peers=compact).peers) == PEERS_AT_MOST


@pytest.mark.parametrize(
    ("told", "understood"),
    [
        (1, SHORTEST_INTERVAL_S),
        (59, SHORTEST_INTERVAL_S),
        (1800, 1800.0),
        (10**15, LONGEST_INTERVAL_S),
        (0, DEFAULT_INTERVAL_S),
        (-5, DEFAULT_INTERVAL_S),
        (b"900", DEFAULT_INTERVAL_S),
        ([], DEFAULT_INTERVAL_S),
    ],
)
def test_intervals_are_kept_in_bounds(told: Any, understood: float) -> None:
    assert answer(interval=told).interval_s == understood


@pytest.mark.parametrize(
    ("wish", "understood"),
    [
        (5, 300.0),
        (b"5", 300.0),
        (b"never", math.inf),
        (0, None),
        (-1, None),
        (b"soon", None),
        ([], None),
        (10**12, LONGEST_INTERVAL_S),
    ],
)
def test_a_refusal_may_say_when_to_come_back(wish: Any, understood: float | None) -> None:
    with pytest.raises(TrackerRefusal, match="refuses: go away") as caught:
        answer(failure_reason=b"go away", retry_in=wish)
    assert caught.value.retry_in_s == understood


def test_refusals_fit_into_a_log_line() -> None:
    with pytest.raises(TrackerRefusal) as caught:
        answer(failure_reason=b"line one\nline two\x1b[31m \xff" + b"x" * 100_000)
    text = str(caught.value)
    assert text.isprintable()
    assert text.startswith("refuses: line one line two")
    assert len(text) < 300
    for odd in (7, b"", [b"x"]):
        with pytest.raises(TrackerRefusal, match="no reason given"):
            answer(failure_reason=odd)


@pytest.mark.parametrize(
    "blob", [b"", b"<html>no</html>", b"i5e", b"le", b"d8:interval", b"\x1f\x8b\x08", b"d" * 99]
)
def test_garbage_is_a_tracker_error(blob: bytes) -> None:
    with pytest.raises(TrackerError) as caught:
        parse_announce_response(blob)
    assert not isinstance(caught.value, TrackerRefusal)
    assert caught.value.retry_in_s is None


@given(st.binary(max_size=300))
def test_any_bytes_give_an_answer_or_a_tracker_error(blob: bytes) -> None:
    try:
        parse_announce_response(blob)
    except TrackerError:
        pass


keys = st.sampled_from(
    [b"interval", b"min interval", b"peers", b"peers6", b"tracker id", b"complete", b"incomplete", b"warning message",
     b"external ip", b"failure reason", b"retry in", b"ip", b"port"]
)  # fmt: skip
values = st.recursive(
    st.integers(-(1 << 62), 1 << 62) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(keys, values))
def test_any_dictionary_is_understood_or_refused(told: Any) -> None:
    try:
        response = parse_announce_response(encode(told))
    except TrackerError:
        return
    assert SHORTEST_INTERVAL_S <= response.interval_s <= LONGEST_INTERVAL_S
    assert all(0 < peer.port < 65536 for peer in response.peers)


@pytest.mark.parametrize(
    ("url", "scraped"),
    [
        ("http://t/announce", "http://t/scrape?info_hash=%FF%00"),
        ("http://t/x/announce.php", "http://t/x/scrape.php?info_hash=%FF%00"),
        (
            "https://t:8080/key/announce?passkey=a/announce#x",
            "https://t:8080/key/scrape?passkey=a/announce&info_hash=%FF%00",
        ),
        ("http://t/announce/x", None),
        ("http://t/a", None),
        ("http://announce", None),
        ("http://[::1/announced", "http://[::1/scraped?info_hash=%FF%00"),
        ("", None),
    ],
)
def test_where_counts_are_asked_for(url: str, scraped: str | None) -> None:
    found = scrape_url(url, InfoHash(b"\xff" + bytes(19)))
    assert found == (None if scraped is None else scraped + "%00" * 18)


def test_counts() -> None:
    files = {REQUEST.info_hash: {b"complete": 5, b"downloaded": 9, b"incomplete": 7}, bytes(20): {}}
    assert parse_scrape_response(encode({b"files": files}), REQUEST.info_hash) == Counts(5, 7)
    assert parse_scrape_response(encode({b"files": files}), InfoHash(bytes(20))) == Counts(0, 0)
    odd: list[Any] = [{}, {b"files": 1}, {b"files": {}}, {b"files": {REQUEST.info_hash: []}}, []]
    for told in odd:
        with pytest.raises(TrackerError):
            parse_scrape_response(encode(told), REQUEST.info_hash)
    for key in (b"failure reason", b"failure_reason"):
        with pytest.raises(TrackerRefusal, match="refuses: no"):
            parse_scrape_response(encode({key: b"no"}), REQUEST.info_hash)


@given(st.binary(max_size=200))
def test_any_scrape_is_counts_or_an_error(blob: bytes) -> None:
    with pytest.raises(TrackerError):
        parse_scrape_response(blob, REQUEST.info_hash)
