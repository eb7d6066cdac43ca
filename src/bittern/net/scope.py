"""How far we reach: anywhere, or not beyond this machine."""

import functools
import ipaddress
from collections.abc import Collection
from typing import Final


class DialScope:
    """Asked by whoever opens a connection or sends a datagram. `own` are further addresses of this machine."""

    def __init__(self, *, this_host: bool = False, own: Collection[str] = ()) -> None:
        self._this_host = this_host
        self._own = frozenset(own)

    def allows(self, host: str) -> bool:
        """May that numeric address be reached, or that name be looked up?

        Of names only `localhost` belongs to this machine: to ask for any other leaves it.
        """
        return not self._this_host or host in self._own or host == "localhost" or _loopback(host)


# the same few hosts are asked of with every announce, and to tell takes 10 µs
@functools.lru_cache(maxsize=1024)
def close_by(address: str) -> bool:
    """Is that numeric address this machine itself, or on its link, where clouds keep what only a machine may know?"""
    found = _plain(address)
    return found is not None and (found.is_loopback or found.is_unspecified or found.is_link_local)


def _loopback(host: str) -> bool:
    found = _plain(host)
    return found is not None and found.is_loopback


# likewise
@functools.lru_cache(maxsize=1024)
def _plain(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    mapped: ipaddress.IPv4Address | None = getattr(address, "ipv4_mapped", None)
    return mapped or address


ANYWHERE: Final = DialScope()
