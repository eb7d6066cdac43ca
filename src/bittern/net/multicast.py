"""One multicast group of one family: joined on some interfaces, sent to and received from."""

import errno
import ipaddress
import socket
import struct
from collections.abc import Sequence
from typing import Final

import trio

from bittern.net.transport import plain_address
from bittern.net.udp import CRASH_PAUSE_S, Guard, Receive
from bittern.policy.locality import LocalAddress

IP_MULTICAST_ALL: Final = 49
IPV6_MULTICAST_ALL: Final = 29
"""Off: only what comes by interfaces on which this socket has joined. Python has no names for them."""

IP_PKTINFO: Final = 8

DATAGRAM_BYTES: Final = 2048
"""What is longer is cut, and of no use to anybody."""

BATCH: Final = 16
WORTHLESS_PAUSE_S: Final = 1e-3
"""After each that nobody wants: a flood takes a hundredth of a core, for such news is seldom and never urgent."""

SHORT_PAUSE_S: Final = 0.5


class Multicast:
    """Raises `OSError` when its port cannot be had; any number of programs may share it. Closed by whoever made it."""

    def __init__(self, group: str, port: int) -> None:
        self._group, self._port = group, port
        self._v6 = ":" in group
        self._packed = ipaddress.ip_address(group).packed
        self._joined: set[int] = set()
        family = socket.AF_INET6 if self._v6 else socket.AF_INET
        one = self._socket = socket.socket(
            family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        try:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if self._v6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
            else:
                one.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
            one.bind((group, port))
        except OSError:
            one.close()
            raise

    def close(self) -> None:
        """Leaves all groups."""
        self._socket.close()

    def join(self, indices: Sequence[int]) -> None:
        """On these interfaces, and no others; one that refuses is tried again by the next call."""
        wanted = set(indices)
        for index in self._joined - wanted:
            self._joined.discard(index)
            self._member(index, joins=False)
        for index in wanted:
            # also where it stands there already: an interface that was away has lost it
            self._joined.add(index)
            self._member(index, joins=True)

    def _member(self, index: int, *, joins: bool) -> None:
        try:
            if self._v6:
                option = socket.IPV6_JOIN_GROUP if joins else socket.IPV6_LEAVE_GROUP
                self._socket.setsockopt(socket.IPPROTO_IPV6, option, struct.pack("16si", self._packed, index))
            else:
                option = socket.IP_ADD_MEMBERSHIP if joins else socket.IP_DROP_MEMBERSHIP
                self._socket.setsockopt(
                    socket.IPPROTO_IP, option, struct.pack("4s4si", self._packed, bytes(4), index)
                )
        except OSError:
            # joined already, gone meanwhile, or it takes none: nothing is heard there then
            pass

    def send(self, datagram: bytes, way: LocalAddress) -> bool:
        """From that address, by its interface. False when it did not go out."""
        source = ipaddress.ip_address(way.host).packed
        if self._v6:
            level, kind, told = (
                socket.IPPROTO_IPV6,
                socket.IPV6_PKTINFO,
                struct.pack("16si", source, way.index),
            )
            to: tuple[object, ...] = (self._group, self._port, 0, way.index)
        else:
            level, kind, told = socket.IPPROTO_IP, IP_PKTINFO, struct.pack("i4s4x", way.index, source)
            to = (self._group, self._port)
        try:
            self._socket.sendmsg([datagram], [(level, kind, told)], 0, to)
        except OSError:
            return False
        return True

    async def run(self, receive: Receive, guard: Guard) -> None:
        """Receives until cancelled."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            pause_s = 0.0

            def read() -> None:
                nonlocal pause_s
                pause_s = self._read(receive)

            def crashed(_: Exception) -> None:
                nonlocal pause_s
                pause_s = CRASH_PAUSE_S

            guard(read, crashed)
            await trio.sleep(pause_s)

    def _read(self, receive: Receive) -> float:
        """How long to leave it alone then, in seconds."""
        pause_s = 0.0
        buffer = memoryview(bytearray(DATAGRAM_BYTES))
        for _ in range(BATCH):
            try:
                size, name = self._socket.recvfrom_into(buffer)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno == errno.EBADF:
                    raise
                return SHORT_PAUSE_S
            if not receive(buffer[:size], plain_address(name[0], name[1])):
                pause_s += WORTHLESS_PAUSE_S
        return pause_s
