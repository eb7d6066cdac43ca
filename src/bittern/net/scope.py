"""How far we reach: anywhere, or not beyond this machine."""

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


def _loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


ANYWHERE: Final = DialScope()
