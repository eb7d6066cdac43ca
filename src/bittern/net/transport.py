"""A peer connection as the engine sees it: four verbs, two of which never wait.

The receive buffer is one for all peers of a loop: it may be shared because nothing awaits between the moment bytes
are received into it and the moment they are parsed. `trio.socket` cannot be used for that (its `recv_into` passes a
checkpoint after the buffer is filled), so this is a raw non-blocking socket with trio's readiness waits.
"""

import functools
import socket
import struct
import sys
import threading
from fcntl import ioctl
from math import inf
from termios import TIOCOUTQ
from typing import Final, Protocol

import trio

from bittern.proto.messages import PIECE_HEADER_BYTES
from bittern.terms import BLOCK_SIZE, Address

RECEIVE_BUFFER_BYTES: Final = 64 * (PIECE_HEADER_BYTES + BLOCK_SIZE)
"""As much as a loopback or fast LAN socket holds, so that one system call empties it; and a MiB of blocks with their
headers, so that what was asked for at once is not cut off before its end.
"""

UNSENT_BYTES: Final = 1024 * 1024
"""In a send buffer of our own size: what is not under way to the peer yet. It is lost for cancels, chokes and rates."""

LARGEST_BYTES: Final = 16 * 1024 * 1024
"""Asked for as a send buffer; the kernel gives at most what net.core.wmem_max says."""

USUAL_LIMIT_BYTES: Final = 4 * 1024 * 1024
"""What a send buffer grows to where nobody changed net.ipv4.tcp_wmem: to set it to less would take from it."""

LOOK_EVERY_S: Final = 0.2
LOOK_EVERY_ROUND_TRIPS: Final = 3
STARVED_SHARE: Final = 0.2
"""So much of the time has to have been lost to a small buffer."""

TCP_INFO: Final = struct.Struct("=68xI112xQ")
"""struct tcp_info up to what we read of it: tcpi_rtt and, since Linux 4.10, tcpi_sndbuf_limited (microseconds)."""


class _Buffers(threading.local):
    """A program may run two sessions, each on a loop in a thread of its own."""

    def __init__(self) -> None:
        self.receive = memoryview(bytearray(RECEIVE_BUFFER_BYTES))


_buffers: Final = _Buffers()


def receive_buffer() -> memoryview:
    """This thread's, of `RECEIVE_BUFFER_BYTES`: what is in it is anybody's after the next `await`."""
    return _buffers.receive


class PeerTransport(Protocol):
    """A byte stream to one peer. Errors of the connection are `OSError`."""

    remote: Address

    def receive_nowait(self, buffer: memoryview) -> int | None:
        """Bytes received into `buffer`, 0 at the end of the stream, None when there is nothing to read now."""

    async def wait_readable(self) -> None:
        """Returns when `receive_nowait` would give something."""

    def send_nowait(self, blob: bytes | bytearray | memoryview) -> int:
        """How many of the bytes were taken, 0 when the connection is full."""

    async def wait_writable(self) -> None:
        """Returns when `send_nowait` would take something."""

    def unread_bytes(self) -> int:
        """How many of those that were taken the peer has not acknowledged yet."""

    def close(self) -> None:
        """At once, without lingering; waiters get `trio.ClosedResourceError`. Closing twice is fine."""


class SocketTransport:
    """TCP: the real `PeerTransport`. Owns the socket it is given, which must be non-blocking and connected.

    The sizes of its buffers are the kernel's affair, which fits them to each link as it gets to know it; set by hand,
    they would stay as they are. There is one exception, where the kernel allows us more than itself (`_widen`).
    """

    __slots__ = ("_looked_at", "_may_widen", "_size", "_socket", "_starved_us", "remote")

    def __init__(self, connected: socket.socket, remote: Address) -> None:
        self._socket = connected
        self._may_widen = True
        self._looked_at = -inf
        self._size = self._starved_us = 0
        self.remote = remote
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive_nowait(self, buffer: memoryview) -> int | None:
        try:
            return self._socket.recv_into(buffer)
        except (BlockingIOError, InterruptedError):
            return None

    async def wait_readable(self) -> None:
        await trio.lowlevel.wait_readable(self._socket)

    def send_nowait(self, blob: bytes | bytearray | memoryview) -> int:
        try:
            return self._socket.send(blob)
        except (BlockingIOError, InterruptedError):
            return 0

    async def wait_writable(self) -> None:
        if self._may_widen:
            self._widen(trio.current_time())
        await trio.lowlevel.wait_writable(self._socket)

    def unread_bytes(self) -> int:
        size = bytearray(4)
        try:
            ioctl(self._socket, TIOCOUTQ, size)
        except (OSError, ValueError):  # closed meanwhile
            return 0
        return int.from_bytes(size, sys.byteorder)

    def _widen(self, now: float) -> None:
        """Gives a full send buffer that does not grow any more, but should, the largest size that may be asked for.

        4 MiB, the kernel's usual limit for its own growing, are 27 MB/s over a round trip of 100 ms. That limit cannot
        be read in a service's sandbox; but TCP accounts for the time in which it could have sent more, had it had it.
        """
        elapsed_s = now - self._looked_at
        if elapsed_s < LOOK_EVERY_S:
            return
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO.size)
        settable = settable_send_buffer()
        if settable <= USUAL_LIMIT_BYTES or len(info) < TCP_INFO.size:
            self._may_widen = False
            return
        round_trip_us, starved_us = TCP_INFO.unpack(info)
        if elapsed_s * 1e6 < LOOK_EVERY_ROUND_TRIPS * round_trip_us:
            return  # a buffer grows once a round trip
        size = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        starved = starved_us - self._starved_us > STARVED_SHARE * elapsed_s * 1e6
        if size >= settable:
            self._may_widen = False
        elif starved and size == self._size:
            self._may_widen = False
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_BYTES)
        self._looked_at, self._size, self._starved_us = now, size, starved_us

    def close(self) -> None:
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


@functools.cache
def settable_send_buffer() -> int:
    """The largest send buffer that the kernel lets us ask for, in bytes as it reports them."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LARGEST_BYTES)
        return probe.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


def plain_address(host: str, port: int) -> Address:
    """An `Address` from what the kernel says: no scope, and IPv4 in IPv6 clothes as IPv4."""
    host = host.partition("%")[0]
    return Address(host.removeprefix("::ffff:") if "." in host else host, port)
