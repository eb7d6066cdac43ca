"""A peer connection as the engine sees it: four verbs, two of which never wait.

The receive buffer is one for the whole process: it may be shared because nothing awaits between the moment bytes
are received into it and the moment they are parsed. `trio.socket` cannot be used for that (its `recv_into` passes a
checkpoint after the buffer is filled), so this is a raw non-blocking socket with trio's readiness waits.
"""

import socket
from typing import Final, Protocol

import trio

from bittern.terms import Address

RECEIVE_BUFFER: Final = memoryview(bytearray(1024 * 1024))
"""1 MiB: as much as a loopback or fast LAN socket holds, so that one system call empties it."""


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

    def close(self) -> None:
        """At once, without lingering; waiters get `trio.ClosedResourceError`. Closing twice is fine."""


class SocketTransport:
    """TCP: the real `PeerTransport`. Owns the socket it is given, which must be non-blocking and connected."""

    __slots__ = ("_socket", "remote")

    def __init__(self, connected: socket.socket, remote: Address) -> None:
        self._socket = connected
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
        await trio.lowlevel.wait_writable(self._socket)

    def close(self) -> None:
        if self._socket.fileno() != -1:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


def plain_address(host: str, port: int) -> Address:
    """An `Address` from what the kernel says: no scope, and IPv4 in IPv6 clothes as IPv4."""
    host = host.partition("%")[0]
    return Address(host.removeprefix("::ffff:") if "." in host else host, port)
