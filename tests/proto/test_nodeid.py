"""Ids of DHT nodes fit their addresses (BEP 42)."""

import random

import pytest

from bittern.proto.nodeid import crc32c, fits, is_local, make_node_id
from bittern.terms import NodeId

VECTORS = [
    ("124.31.75.21", 1, "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
    ("21.75.31.124", 86, "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
    ("65.23.51.170", 22, "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
    ("84.124.73.14", 65, "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
    ("43.213.53.83", 90, "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
]


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(("host", "last", "shown"), VECTORS)
def test_the_test_vectors_fit(host: str, last: int, shown: str) -> None:
    node_id = NodeId(bytes.fromhex(shown))
    assert node_id[19] == last
    assert fits(node_id, host)
    # each of the 21 bits counts, and the three that were chosen freely
    for bit in range(21):
        wrong = bytearray(node_id)
        wrong[bit // 8] ^= 0x80 >> bit % 8
        assert not fits(NodeId(bytes(wrong)), host)
    assert not fits(NodeId(node_id[:19] + bytes([last ^ 1])), host)
    assert not fits(node_id, "8.8.8.8")


@pytest.mark.parametrize("host", ["124.31.75.21", "2001:db8:85a3::8a2e:370:7334", "8.8.8.8"])
def test_what_is_made_fits(host: str) -> None:
    rng = random.Random(1)
    made = [make_node_id(host, rng) for _ in range(50)]
    assert all(fits(one, host) for one in made)
    assert len(set(made)) == 50
    assert len({one[19] & 7 for one in made}) == 8


def test_of_ipv6_the_network_half_counts() -> None:
    made = make_node_id("2001:db8:85a3::1", random.Random(2))
    assert fits(made, "2001:db8:85a3::dead:beef")
    assert not fits(made, "2001:db8:85a4::1")


def test_without_an_address_it_is_any() -> None:
    made = make_node_id(None, random.Random(3))
    assert len(made) == 20
    assert not fits(made, "8.8.8.8")


@pytest.mark.parametrize(
    "host",
    [
        "10.1.2.3",
        "172.16.0.1",
        "172.31.9.9",
        "192.168.7.7",
        "169.254.1.1",
        "127.8.9.1",
        "::1",
        "fe80::1",
        "fd00::1",
    ],
)
def test_local_networks_are_exempt(host: str) -> None:
    assert is_local(host)
    assert fits(NodeId(bytes(20)), host)


@pytest.mark.parametrize(
    "host", ["11.0.0.1", "172.32.0.1", "172.15.0.1", "192.169.0.1", "2001:db8::1", "fec0::1"]
)
def test_the_others_are_not(host: str) -> None:
    assert not is_local(host)
