"""Bloom filters of DHT scrapes (BEP 33)."""

import ipaddress

import pytest

from bittern.proto.bloom import BloomFilter

WANTED = """
F6C3F5EA A07FFD91 BDE89F77 7F26FB2B FF37BDB8 FB2BBAA2 FD3DDDE7 BACFFF75 EE7CCBAE FE5EEDB1 FBFAFF67 F6ABFF5E
43DDBCA3 FD9B9FFD F4FFD3E9 DFF12D1B DF59DB53 DBE9FA5B 7FF3B8FD FCDE1AFB 8BEDD7BE 2F3EE71E BBBFE93B CDEEFE14
8246C2BC 5DBFF7E7 EFDCF24F D8DC7ADF FD8FFFDF DDFFF7A4 BBEEDF5C B95CE81F C7FCFF1F F4FFFFDF E5F7FDCB B7FD79B3
FA1FC77B FE07FFF9 05B7B7FF C7FEFEFF E0B8370B B0CD3F5B 7F2BD93F EB4386CF DD6F7FD5 BFAF2E9E BFFFFEEC D67ADBF7
C67F17EF D5D75EBA 6FFEBA7F FF47A91E B1BFBB53 E8ABFB57 62ABE8FF 237279BF EFBFEEF5 FFC5FEBF DFE5ADFF ADFEE1FB
737FFFFB FD9F6AEF FEEE76B6 FD8F72EF
"""


def packed_hosts() -> list[bytes]:
    return [
        *((ipaddress.ip_address("192.0.2.0") + n).packed for n in range(256)),
        *((ipaddress.ip_address("2001:db8::") + n).packed for n in range(0x3E8)),
    ]


def test_the_test_vector() -> None:
    made = BloomFilter()
    for host in packed_hosts():
        made.add(host)
    assert made.to_bytes() == bytes.fromhex(WANTED)
    assert made.estimate() == pytest.approx(1224.9308, abs=1e-4)


def test_a_union_is_what_both_hold() -> None:
    hosts = packed_hosts()
    one, other, both = BloomFilter(), BloomFilter(), BloomFilter()
    for host in hosts[:300]:
        one.add(host)
    for host in hosts[200:500]:
        other.add(host)
    for host in hosts[:500]:
        both.add(host)
    one.unite(BloomFilter(other.to_bytes()))
    assert one.to_bytes() == both.to_bytes()


def test_empty_and_full_ones_have_an_estimate() -> None:
    assert BloomFilter().estimate() == pytest.approx(0, abs=0.3)
    assert 7000 < BloomFilter(b"\xff" * 256).estimate() < 9000
