"""Endpoints as bytes (BEP 5, 7, 23): the address in network byte order, and two bytes of port."""

import functools
import ipaddress
import struct
from typing import Final

from bittern.terms import Address

V4_BYTES: Final = 6
V6_BYTES: Final = 18


def pack_address(address: Address) -> bytes:
    """6 bytes of an IPv4 address, 18 of an IPv6 one."""
    return pack_host(address.host) + address.port.to_bytes(2)


@functools.lru_cache(maxsize=4096)
def pack_host(host: str) -> bytes:
    """4 or 16 bytes; `ValueError` for what is no numeric address. Remembered: a datagram's source is packed often."""
    if ":" not in host:
        # ten times as fast as ipaddress, and nearly all are of this kind
        parts = host.split(".")
        if len(parts) == 4:
            return bytes(map(int, parts))
    return ipaddress.ip_address(host).packed


def unpack_addresses(blob: bytes, host_bytes: int, most: int) -> list[Address]:
    """Up to `most` endpoints of 4 or 16 bytes of address each.

    A broken tail, port 0 and what is nobody's address are left out.
    """
    shown = host4 if host_bytes == 4 else host6
    whole = min(len(blob) // (host_bytes + 2), most) * (host_bytes + 2)
    found = (
        (shown(host), port) for host, port in struct.iter_unpack(f">{host_bytes}sH", blob[:whole]) if port
    )
    return [Address(host, port) for host, port in found if host]


def host4(packed: bytes) -> str:
    """Empty for what is nobody's address: 0/8 (this host), 224/4 and above (multicast, broadcast)."""
    return f"{packed[0]}.{packed[1]}.{packed[2]}.{packed[3]}" if 0 < packed[0] < 224 else ""


def host6(packed: bytes) -> str:
    """Likewise for :: and multicast; an IPv4 address in IPv6's clothes is one peer, not two."""
    if packed[:12] == b"\0" * 10 + b"\xff\xff":
        return host4(packed[12:])
    return "" if packed[0] == 0xFF or not any(packed) else str(ipaddress.IPv6Address(packed))
