"""Which of this machine's interfaces lead to neighbours, and who is one."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

INTERFACES_AT_MOST: Final = 32
"""A host of containers has hundreds, each with the same neighbours behind it or none."""

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True)
class LocalAddress:
    """One address of an interface that is up and takes multicast; `host` without scope."""

    index: int
    interface: str
    host: str
    prefix_bits: int
    loopback: bool = False

    @property
    def v6(self) -> bool:
        """Of which family."""
        return ":" in self.host

    @cached_property
    def network(self) -> Network:
        """Who is a neighbour."""
        return ipaddress.ip_network(f"{self.host}/{self.prefix_bits}", strict=False)

    @property
    def link_local(self) -> bool:
        """Means nothing without its interface, so peers cannot be told of it."""
        return self.v6 and self.network.is_link_local


@dataclass(frozen=True)
class Neighbourhood:
    """Of one family: where announces go out (an address for each interface), and whose are heard."""

    ways: tuple[LocalAddress, ...] = ()
    networks: tuple[Network, ...] = ()

    def has(self, host: str) -> bool:
        """Is that numeric address in one of our networks?"""
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in self.networks)


def neighbourhood(
    found: Iterable[LocalAddress], listen: Sequence[str], *, v6: bool, this_host: bool
) -> Neighbourhood:
    """Through interfaces where peers reach us, be it by all addresses (0.0.0.0, ::) or by that one.

    Loopback only when it is listened on by name, or when nothing may leave the machine, and then nothing else.
    """
    named = {ipaddress.ip_address(one) for one in listen}
    all_of_family = any(one.is_unspecified and (one.version == 6) is v6 for one in named)
    ways: dict[int, LocalAddress] = {}
    networks: dict[Network, None] = {}
    for one in found:
        if one.v6 is not v6 or one.link_local or (this_host and not one.loopback):
            continue
        by_name = ipaddress.ip_address(one.host) in named
        if not by_name and not (all_of_family and (this_host or not one.loopback)):
            continue
        if one.index not in ways and len(ways) >= INTERFACES_AT_MOST:
            continue
        ways.setdefault(one.index, one)
        networks[one.network] = None
    return Neighbourhood(tuple(ways.values()), tuple(networks))
