"""Peer exchange's messages (BEP 11), ours and anybody's."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import ProtocolError
from bittern.proto.bencode import encode
from bittern.proto.pex import REACHABLE, SEED, TAKEN_AT_MOST, PexMessage, pack_pex, parse_pex
from bittern.terms import Address

V4, OTHER_V4 = Address("192.0.2.7", 6881), Address("198.51.100.1", 1)
V6 = Address("2001:db8::7", 6882)
V4_BYTES, OTHER_V4_BYTES = b"\xc0\x00\x02\x07\x1a\xe1", b"\xc6\x33\x64\x01\x00\x01"
V6_BYTES = bytes.fromhex("20010db8000000000000000000000007") + b"\x1a\xe2"


def test_packed_as_bep_11_says() -> None:
    assert pack_pex({V4: SEED | REACHABLE, V6: 0}, [OTHER_V4]) == (
        b"d5:added6:" + V4_BYTES + b"7:added.f1:\x12"
        b"6:added618:" + V6_BYTES + b"8:added6.f1:\x00"
        b"7:dropped6:" + OTHER_V4_BYTES + b"e"
    )


def test_nothing_is_told_of_a_family_of_which_there_is_nobody() -> None:
    assert pack_pex({}, [V6]) == b"d8:dropped618:" + V6_BYTES + b"e"


def test_flags_stay_with_their_addresses_where_some_are_left_out() -> None:
    port_0 = b"\xc0\x00\x02\x08\x00\x00"
    multicast = b"\xe0\x00\x00\x01\x00\x07"
    blob = port_0 + V4_BYTES + multicast + OTHER_V4_BYTES + V4_BYTES + b"torn"
    heard = parse_pex(encode({b"added": blob, b"added.f": b"\x01\x02\x03\x04\x05"}))
    assert heard == PexMessage(added=((V4, 2), (OTHER_V4, 4)))


def test_who_tells_no_flags_or_too_few_tells_none() -> None:
    told = {b"added": V4_BYTES + OTHER_V4_BYTES, b"added.f": b"\x02", b"added6": V6_BYTES, b"added6.f": 7}
    assert parse_pex(encode(told)).added == ((V4, 2), (OTHER_V4, 0), (V6, 0))


def test_an_ipv4_address_in_ipv6s_clothes_is_one_peer() -> None:
    mapped = bytes(10) + b"\xff\xff" + V4_BYTES
    assert parse_pex(encode({b"added": V4_BYTES, b"added6": mapped})).added == ((V4, 0),)


@pytest.mark.parametrize(
    "payload",
    [b"", b"le", b"i1e", b"d", b"d5:added6:abce", b"d5:addedd1:al1:bleeeee", encode({b"x": [0] * 500})],
)
def test_what_is_no_dictionary_or_a_bomb_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_pex(payload)


@pytest.mark.parametrize("value", [1, [], {}, [b"x"], b"", b"torn"])
def test_lists_of_the_wrong_shape_are_empty(value: Any) -> None:
    keys = (b"added", b"added6", b"dropped", b"dropped6", b"added.f")
    assert parse_pex(encode(dict.fromkeys(keys, value))) == PexMessage()


def test_lists_are_taken_up_to_their_bound() -> None:
    blob = b"".join(bytes([10, 0, number >> 8, number & 255, 0, 9]) for number in range(500))
    heard = parse_pex(encode({b"added": blob, b"dropped": blob}))
    assert (len(heard.added), len(heard.dropped)) == (TAKEN_AT_MOST, TAKEN_AT_MOST)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_message_or_a_protocol_error(payload: bytes) -> None:
    try:
        parse_pex(payload)
    except ProtocolError:
        pass


keys = st.sampled_from([b"added", b"added.f", b"added6", b"added6.f", b"dropped", b"dropped6"])


@given(st.dictionaries(keys, st.binary(max_size=100) | st.integers(-9, 9)))
def test_any_dictionary_gives_addresses_that_can_be_dialled(told: dict[bytes, Any]) -> None:
    heard = parse_pex(encode(told))
    named = [address for address, _ in heard.added]
    assert len(set(named)) == len(named)
    for host, port in (*named, *heard.dropped):
        assert 0 < port < 65536
        assert not ipaddress.ip_address(host).is_multicast


hosts = st.integers(1 << 24, (224 << 24) - 1).map(lambda n: str(ipaddress.IPv4Address(n))) | st.integers(
    0x2000 << 112, (0x4000 << 112) - 1
).map(lambda n: str(ipaddress.IPv6Address(n)))
addresses = st.builds(Address, hosts, st.integers(1, 65535))


@given(
    st.dictionaries(addresses, st.integers(0, 255), max_size=50),
    st.lists(addresses, unique=True, max_size=50),
)
def test_what_is_told_is_heard(added: dict[Address, int], dropped: list[Address]) -> None:
    heard = parse_pex(pack_pex(added, dropped))
    assert dict(heard.added) == added
    assert set(heard.dropped) == set(dropped)
