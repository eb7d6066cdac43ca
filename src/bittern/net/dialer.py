"""Outbound connections: never more than a few half open, each under a deadline."""

import errno
import socket

import trio

from bittern.net.scope import ANYWHERE, DialScope
from bittern.net.transport import SocketTransport
from bittern.terms import Address

HALF_OPEN_LIMIT = 32
"""Half-open connections at once: home routers' tables suffer from more, and few dials stay open that long."""

CONNECT_DEADLINE_S = 10.0
"""A SYN is sent again after 1, 3 and 7 s; a peer that answered none of these is not worth a slot."""


class Dialer:
    """Opens TCP connections for all torrents, first come first served."""

    def __init__(self, *, half_open: int = HALF_OPEN_LIMIT, scope: DialScope = ANYWHERE) -> None:
        self._slots = trio.CapacityLimiter(half_open)
        self._scope = scope

    def reaches(self, host: str) -> bool:
        """May it be dialled?"""
        return self._scope.allows(host)

    async def dial(self, address: Address) -> SocketTransport:
        """A connected transport; raises `OSError` when nobody answers in time or at all."""
        if not self._scope.allows(address.host):
            raise OSError(errno.EACCES, "not on this machine (dial_scope)")
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        async with self._slots:
            raw = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            try:
                with trio.move_on_after(CONNECT_DEADLINE_S) as deadline:
                    await _connect(raw, address)
                if deadline.cancelled_caught:
                    raise OSError(errno.ETIMEDOUT, "no answer in time")
                return SocketTransport(raw, address)
            except BaseException:
                raw.close()
                raise


async def _connect(raw: socket.socket, address: Address) -> None:
    try:
        raw.connect((address.host, address.port))
    except BlockingIOError:
        await trio.lowlevel.wait_writable(raw)
        failure = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            raise OSError(failure, "connect failed") from None
