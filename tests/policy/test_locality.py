"""Which interfaces lead to neighbours."""

import pytest

from bittern.policy.locality import INTERFACES_AT_MOST, LocalAddress, neighbourhood

LO4, LO6 = LocalAddress(1, "lo", "127.0.0.1", 8, True), LocalAddress(1, "lo", "::1", 128, True)
LAN4, LAN4_TOO = LocalAddress(2, "eth0", "192.0.2.9", 24), LocalAddress(2, "eth0", "198.51.100.9", 28)
LINK6, LAN6 = LocalAddress(2, "eth0", "fe80::9", 64), LocalAddress(2, "eth0", "fd00::9", 64)
OTHER4 = LocalAddress(3, "eth1", "10.1.2.3", 8)
ALL = [LO4, LAN4, LAN4_TOO, OTHER4, LO6, LINK6, LAN6]


@pytest.mark.parametrize(
    ("listen", "v6", "this_host", "ways"),
    [
        (["0.0.0.0"], False, False, [LAN4, OTHER4]),
        (["0.0.0.0"], True, False, []),
        (["::"], True, False, [LAN6]),
        (["::"], False, False, []),
        (["192.0.2.9", "::1"], False, False, [LAN4]),
        (["192.0.2.9", "::1"], True, False, [LO6]),
        (["198.51.100.9", "0.0.0.0"], False, False, [LAN4, OTHER4]),
        (["127.0.0.1"], False, False, [LO4]),
        (["0.0.0.0"], False, True, [LO4]),
        (["192.0.2.9"], False, True, []),
        (["::"], True, True, [LO6]),
        (["fe80::9"], True, False, []),
        (["203.0.113.1"], False, False, []),
    ],
)
def test_ways_out(listen: list[str], v6: bool, this_host: bool, ways: list[LocalAddress]) -> None:
    assert list(neighbourhood(ALL, listen, v6=v6, this_host=this_host).ways) == ways


def test_neighbours_are_those_of_our_networks() -> None:
    near = neighbourhood(ALL, ["0.0.0.0"], v6=False, this_host=False)
    assert [near.has(host) for host in ("192.0.2.255", "198.51.100.1", "10.200.0.1")] == [True] * 3
    assert not any(
        map(near.has, ("192.0.3.1", "198.51.100.16", "127.0.0.1", "8.8.8.8", "fd00::1", "name", ""))
    )
    assert neighbourhood(ALL, ["::"], v6=True, this_host=False).has("fd00::1")
    only = neighbourhood(ALL, ["0.0.0.0"], v6=False, this_host=True)
    assert only.has("127.0.0.5")
    assert not only.has("192.0.2.9")


def test_hundreds_of_interfaces_are_too_many() -> None:
    many = [LocalAddress(n, f"veth{n}", f"10.0.{n}.1", 24) for n in range(250)]
    near = neighbourhood(many, ["0.0.0.0"], v6=False, this_host=False)
    assert len(near.ways) == len(near.networks) == INTERFACES_AT_MOST
