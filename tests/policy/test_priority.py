"""Canonical peer priority, by the examples of BEP 40."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.policy.priority import canonical_priority
from bittern.proto.nodeid import crc32c
from bittern.terms import Address

US = Address("123.213.32.10", 1729)


@pytest.mark.parametrize(
    ("theirs", "hashed", "priority"),
    [
        ("98.76.54.32", "624c14007bd50000", 0xEC2D7224),
        ("123.213.32.234", "7bd5200a7bd520ea", 0x99568189),
        ("123.213.96.234", "7bd520007bd56040", None),
    ],
)
def test_as_bep_40_says(theirs: str, hashed: str, priority: int | None) -> None:
    expected = crc32c(bytes.fromhex(hashed))
    assert priority in {None, expected}
    assert canonical_priority(US, Address(theirs, 1)) == expected


def test_of_one_host_the_ports_count() -> None:
    assert canonical_priority(US, US._replace(port=6881)) == crc32c(bytes.fromhex("06c11ae1"))


@pytest.mark.parametrize(
    ("theirs", "ours_counts", "theirs_counts"),
    [
        # of another /48, of the same, of the same /56, of the same /64
        (
            "2001:db8:1::ff",
            "2001 0db8 0000 5555 5555 5555 5555 5555",
            "2001 0db8 0001 0000 0000 0000 0000 0055",
        ),
        (
            "2001:db8:0:1::ff",
            "2001 0db8 0000 ff55 5555 5555 5555 5555",
            "2001 0db8 0000 0001 0000 0000 0000 0055",
        ),
        (
            "2001:db8:0:ff00::ff",
            "2001 0db8 0000 ffff 5555 5555 5555 5555",
            "2001 0db8 0000 ff00 0000 0000 0000 0055",
        ),
        (
            "2001:db8:0:ffff::ff",
            "2001 0db8 0000 ffff ff55 5555 5555 5555",
            "2001 0db8 0000 ffff 0000 0000 0000 0055",
        ),
    ],
)
def test_of_ipv6_the_network_counts(theirs: str, ours_counts: str, theirs_counts: str) -> None:
    ours = Address("2001:db8:0:ffff:ffff:ffff:ffff:ffff", 9)
    both = sorted(map(bytes.fromhex, (ours_counts, theirs_counts)))
    assert canonical_priority(ours, Address(theirs, 9)) == crc32c(b"".join(both))


hosts = st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)
addresses = [st.builds(Address, host, st.integers(1, 65535)) for host in hosts]


@given(st.tuples(addresses[0], addresses[0]) | st.tuples(addresses[1], addresses[1]))
def test_both_ends_come_to_the_same_number(ends: tuple[Address, Address]) -> None:
    assert canonical_priority(*ends) == canonical_priority(*reversed(ends)) < 1 << 32
