"""The first 68 bytes, and who we say we are."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import HandshakeError
from bittern.proto.handshake import HANDSHAKE_BYTES, Handshake, make_peer_id, pack_handshake, parse_handshake
from bittern.terms import InfoHash, PeerId

HASH = InfoHash(bytes(range(20)))
ID = PeerId(b"-bn0100-abcdefghijkl")


def test_packed_as_bep_3_says() -> None:
    assert (
        pack_handshake(HASH, ID) == b"\x13BitTorrent protocol" + bytes.fromhex("0000000000100004") + HASH + ID
    )
    assert pack_handshake(HASH, ID, dht=True)[20:28] == bytes.fromhex("0000000000100005")


@pytest.mark.parametrize("dht", [False, True])
def test_comes_back(dht: bool) -> None:
    assert parse_handshake(pack_handshake(HASH, ID, dht=dht)) == Handshake(HASH, ID, True, True, dht)


@given(st.binary(min_size=8, max_size=8))
def test_unknown_reserved_bits_hurt_nothing(reserved: bytes) -> None:
    theirs = parse_handshake(b"\x13BitTorrent protocol" + reserved + HASH + ID)
    assert theirs.extended == bool(reserved[5] & 0x10)
    assert theirs.fast == bool(reserved[7] & 0x04)
    assert theirs.dht == bool(reserved[7] & 0x01)


@given(st.binary(max_size=100))
def test_anything_else_is_a_handshake_error(blob: bytes) -> None:
    with pytest.raises(HandshakeError):
        parse_handshake(blob)


def test_length_is_exact() -> None:
    whole = pack_handshake(HASH, ID)
    for blob in (whole[:-1], whole + b"x"):
        assert len(blob) != HANDSHAKE_BYTES
        with pytest.raises(HandshakeError):
            parse_handshake(blob)


@pytest.mark.parametrize(
    ("version", "prefix"),
    [
        ("0.1.0", b"-bn0100-"),
        ("1.2.3", b"-bn1203-"),
        ("1.2.34", b"-bn1234-"),
        ("0.1.0rc2", b"-bn0100-"),
        ("2.0.dev3", b"-bn2000-"),
        ("3.1", b"-bn3100-"),
        ("unknown", b"-bn0000-"),
    ],
)
def test_peer_id_names_the_version(version: str, prefix: bytes) -> None:
    peer_id = make_peer_id(random.Random(1), version)
    assert len(peer_id) == 20
    assert peer_id.startswith(prefix)
    assert peer_id[8:].isalnum()
    assert make_peer_id(random.Random(2), version) != peer_id
