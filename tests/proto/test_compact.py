"""Endpoints as bytes, and what is nobody's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.proto.compact import host6, pack_address, pack_host, unpack_addresses
from bittern.terms import Address


@pytest.mark.parametrize(
    ("address", "packed"),
    [
        (Address("127.0.0.1", 6881), b"\x7f\0\0\1\x1a\xe1"),
        (Address("2001:db8::1", 1), b"\x20\x01\x0d\xb8" + bytes(11) + b"\x01\0\x01"),
    ],
)
def test_there_and_back(address: Address, packed: bytes) -> None:
    assert pack_address(address) == packed
    assert unpack_addresses(packed, len(packed) - 2, 10) == [address]


@pytest.mark.parametrize("packed", ["000000010001", "e00000010001", "ffffffff0001", "7f0000010000"])
def test_what_is_nobodys_is_left_out(packed: str) -> None:
    assert unpack_addresses(bytes.fromhex(packed), 4, 10) == []


def test_v4_in_v6_clothes_is_v4_and_nothing_and_multicast_are_nobody() -> None:
    assert host6(bytes(10) + b"\xff\xff\x01\x02\x03\x04") == "1.2.3.4"
    assert host6(bytes(16)) == host6(b"\xff\x02" + bytes(14)) == ""


@pytest.mark.parametrize("host", ["localhost", "1.2.3", "1.2.3.4.5", "1.2.3.400", "", "::g"])
def test_a_name_is_no_address(host: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 — the words are ipaddress's
        pack_host(host)


@given(st.binary(max_size=200), st.sampled_from([4, 16]))
def test_any_bytes_give_valid_endpoints(blob: bytes, host_bytes: int) -> None:
    for address in unpack_addresses(blob, host_bytes, 5):
        assert 0 < address.port < 65536
        assert len(pack_address(address)) in (6, 18)
