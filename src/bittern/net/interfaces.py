"""This machine's interfaces and their addresses, by the oldest of the kernel's ways, which no sandbox forbids."""

import array
import fcntl
import ipaddress
import socket
import struct
from pathlib import Path
from typing import Final

from bittern.policy.locality import LocalAddress

SIOCGIFCONF: Final = 0x8912
SIOCGIFFLAGS: Final = 0x8913
SIOCGIFNETMASK: Final = 0x891B
SIOCGIFINDEX: Final = 0x8933
IFF_UP: Final = 0x1
IFF_LOOPBACK: Final = 0x8
IFF_POINTOPOINT: Final = 0x10
IFF_MULTICAST: Final = 0x1000

IFREQ: Final = struct.calcsize("16sLLHBBB0L")
"""struct ifreq: a name, and the largest of what may follow it."""

READ_AT_MOST: Final = 1024
"""Addresses of one family."""

V6_TABLE: Final = "/proc/thread-self/net/if_inet6"


def local_addresses() -> list[LocalAddress]:
    """Of interfaces that are up and take multicast (or are loopback): what has two ends only has no neighbours."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asked:
        return [*_v4(asked), *_v6(asked)]


def _usable(asked: socket.socket, name: bytes) -> bool | None:
    """Whether it is loopback; None when it is not to be used."""
    [flags] = struct.unpack_from("H", fcntl.ioctl(asked, SIOCGIFFLAGS, name.ljust(IFREQ, b"\0")), 16)
    if not flags & IFF_UP or flags & IFF_POINTOPOINT or not flags & (IFF_MULTICAST | IFF_LOOPBACK):
        return None
    return bool(flags & IFF_LOOPBACK)


def _v4(asked: socket.socket) -> list[LocalAddress]:
    table = array.array("B", bytes(READ_AT_MOST * IFREQ))
    start, size = table.buffer_info()
    told = fcntl.ioctl(asked, SIOCGIFCONF, struct.pack("iP", size, start))
    [used] = struct.unpack_from("i", told)
    found = []
    for at in range(0, used, IFREQ):
        request = table[at : at + IFREQ].tobytes()
        name = request[:16].rstrip(b"\0")
        try:
            # with the address in it, for one interface may have several
            mask = fcntl.ioctl(asked, SIOCGIFNETMASK, request)[20:24]
            loopback = _usable(asked, name)
            [index] = struct.unpack_from("i", fcntl.ioctl(asked, SIOCGIFINDEX, name.ljust(IFREQ, b"\0")), 16)
        except OSError:
            continue  # it has just gone
        if loopback is not None:
            bits = int.from_bytes(mask).bit_count()
            host = socket.inet_ntoa(request[20:24])
            found.append(LocalAddress(index, _shown(name), host, bits, loopback))
    return found


def _v6(asked: socket.socket) -> list[LocalAddress]:
    try:
        lines = Path(V6_TABLE).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []  # the kernel has no IPv6
    found = []
    for line in lines[:READ_AT_MOST]:
        address, index, bits, _scope, _flags, name = line.split()
        try:
            loopback = _usable(asked, name.encode())
        except OSError:
            continue
        if loopback is not None:
            host = str(ipaddress.IPv6Address(bytes.fromhex(address)))
            found.append(LocalAddress(int(index, 16), name, host, int(bits, 16), loopback))
    return found


def _shown(name: bytes) -> str:
    """Without the label of a second address (eth0:1)."""
    return name.decode("ascii", "replace").partition(":")[0]
