"""What neighbours are told, and whatever they say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.proto.lsd import (
    COOKIE_BYTES,
    GROUP_V4,
    GROUP_V6,
    READ_BYTES,
    SENT_BYTES,
    LocalAnnounce,
    at_most,
    pack_local,
    parse_local,
)
from bittern.terms import InfoHash

HASH = InfoHash(bytes(range(20)))
COOKIE = b"0123456789abcdef"

HASHES = st.lists(st.binary(min_size=20, max_size=20), min_size=1, max_size=at_most(COOKIE), unique=True)


def test_it_is_what_the_bep_shows() -> None:
    assert pack_local(GROUP_V4, LocalAnnounce(6881, (HASH, HASH), b"abc")) == (
        b"BT-SEARCH * HTTP/1.1\r\n"
        b"Host: 239.192.152.143:6771\r\n"
        b"Port: 6881\r\n"
        b"Infohash: 000102030405060708090a0b0c0d0e0f10111213\r\n"
        b"Infohash: 000102030405060708090a0b0c0d0e0f10111213\r\n"
        b"cookie: abc\r\n"
        b"\r\n\r\n"
    )
    assert b"Host: [ff15::efc0:988f]:6771\r\n" in pack_local(GROUP_V6, LocalAnnounce(1, (HASH,)))


@given(st.integers(1, 65535), HASHES, st.sampled_from([b"", COOKIE]), st.sampled_from([GROUP_V4, GROUP_V6]))
def test_what_is_packed_is_parsed(port: int, hashes: list[bytes], cookie: bytes, group: str) -> None:
    announce = LocalAnnounce(port, tuple(map(InfoHash, hashes)), cookie)
    packed = pack_local(group, announce)
    assert len(packed) <= SENT_BYTES
    assert parse_local(packed) == announce


@given(st.binary(max_size=200))
def test_any_bytes_are_an_announce_or_none(blob: bytes) -> None:
    for datagram in (blob, b"BT-SEARCH * HTTP/1.1\r\n" + blob + b"\r\n\r\n"):
        heard = parse_local(datagram)
        if heard is not None:
            assert 0 < heard.port < 65536
            assert heard.info_hashes
            assert all(len(one) == 20 for one in heard.info_hashes)
            assert len(heard.cookie) <= COOKIE_BYTES


def test_a_damaged_announce_is_an_announce_or_none() -> None:
    rng = random.Random(1)
    packed = pack_local(GROUP_V4, LocalAnnounce(6881, (HASH,), COOKIE))
    for _ in range(3000):
        blob = bytearray(packed)
        for _ in range(rng.randrange(1, 4)):
            blob[rng.randrange(len(blob))] = rng.randrange(256)
        parse_local(bytes(blob[: rng.randrange(len(blob) + 1)]))


def said(*lines: bytes) -> bytes:
    return b"\r\n".join((b"BT-SEARCH * HTTP/1.1", *lines)) + b"\r\n\r\n\r\n"


HASH_LINE = b"Infohash: " + HASH.hex().encode()


def test_others_write_it_a_little_differently() -> None:
    heard = parse_local(said(b"INFOHASH:" + HASH.hex().upper().encode(), b"x-new: 1", b"port:  7 ", b"odd"))
    assert heard == LocalAnnounce(7, (HASH,))


@pytest.mark.parametrize(
    "port", [b"0", b"65536", b"-1", b"+1", b"", b"1.5", b"0x10", b"999999999", "٣".encode()]
)
def test_a_port_that_is_none(port: bytes) -> None:
    assert parse_local(said(HASH_LINE, b"Port: " + port)) is None


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        said(b"Port: 1"),
        said(HASH_LINE),
        said(HASH_LINE, b"Port: 1", b"Port: 2"),
        said(b"Infohash: " + HASH.hex().encode()[:-1], b"Port: 1"),
        said(b"Infohash: " + HASH.hex().encode() + b"00" * 12, b"Port: 1"),
        said(b"Infohash: " + b"+" + HASH.hex().encode()[1:], b"Port: 1"),
        said(b"Infohash: " + b" " * 3 + HASH.hex().encode()[3:], b"Port: 1"),
        said(HASH_LINE, b"Port: 1").replace(b"BT-SEARCH", b"M-SEARCH"),
        said(HASH_LINE, b"Port: 1").removesuffix(b"\r\n\r\n\r\n"),
        said(HASH_LINE, b"Port: 1", b"x: " + b"y" * READ_BYTES),
    ],
)
def test_what_is_no_announce(blob: bytes) -> None:
    assert parse_local(blob) is None


def test_a_long_cookie_is_cut_and_a_torrent_named_twice_is_one() -> None:
    heard = parse_local(said(HASH_LINE, HASH_LINE, b"Port: 1", b"cookie: " + b"c" * 500))
    assert heard == LocalAnnounce(1, (HASH,), b"c" * COOKIE_BYTES)
