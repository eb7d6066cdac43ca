"""Canonical peer priority (BEP 40): both ends of a connection come to the same number, and nobody can choose his own.

Whoever dials those of the highest number first makes of a swarm a random graph: newcomers find a place in it, and
who comes with many addresses of one network gets as many places as that network is worth.
"""

from typing import Final

from bittern.proto.compact import pack_host
from bittern.proto.nodeid import crc32c
from bittern.terms import Address

WHOLE_4: Final = 2
WHOLE_6: Final = 6
"""Leading bytes that always count whole; of the others every second bit, but for one byte more than both share."""


def canonical_priority(ours: Address, theirs: Address) -> int:
    """32 bits, the higher the better. Both of one family; `ours` as the peer sees it."""
    our_host, their_host = pack_host(ours.host), pack_host(theirs.host)
    if our_host == their_host:
        low, high = sorted((ours.port, theirs.port))
        return crc32c(low.to_bytes(2) + high.to_bytes(2))
    whole = WHOLE_4 if len(our_host) == 4 else WHOLE_6
    if our_host[:whole] == their_host[:whole]:
        while our_host[whole] == their_host[whole]:
            whole += 1
        whole += 1
    return crc32c(b"".join(sorted((_masked(our_host, whole), _masked(their_host, whole)))))


def _masked(host: bytes, whole: int) -> bytes:
    return host[:whole] + bytes(byte & 0x55 for byte in host[whole:])
