"""Outbound connections: never more than a few half open, nor too many begun in a second, each under a deadline."""

import errno
import socket

import trio

from bittern.net.scope import ANYWHERE, DialScope
from bittern.net.transport import SocketTransport
from bittern.policy.allowance import Allowance
from bittern.proto.nodeid import is_local
from bittern.terms import Address

HALF_OPEN_LIMIT = 32
"""Half-open connections at once: home routers' tables suffer from more, and few dials stay open that long."""

CONNECT_DEADLINE_S = 10.0
"""A SYN is sent again after 1, 3 and 7 s; a peer that answered none of these is not worth a slot."""


DIALS_PER_S = 30.0
DIALS_BURST = 60.0
"""Of all torrents together, and saved up in quiet times: each leaves an entry in a home router's table for minutes,
also when nobody answers. Neighbours are dialled without a router."""

ROUNDING_S = 1e-6
"""So that a sleep as long as the wait is enough in floating point too."""


class Dialer:
    """Opens TCP connections for all torrents, first come first served."""

    def __init__(self, *, half_open: int = HALF_OPEN_LIMIT, scope: DialScope = ANYWHERE) -> None:
        self._slots = trio.CapacityLimiter(half_open)
        self._scope = scope
        self._turn = trio.Lock()
        self._budget: Allowance | None = None

    def reaches(self, host: str) -> bool:
        """May it be dialled?"""
        return self._scope.allows(host)

    async def dial(self, address: Address) -> SocketTransport:
        """A connected transport; raises `OSError` when nobody answers in time or at all."""
        if not self._scope.allows(address.host):
            raise OSError(errno.EACCES, "not on this machine (dial_scope)")
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        async with self._slots:
            await self._in_turn(address.host)
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

    async def _in_turn(self, host: str) -> None:
        """Waits until one more may be begun."""
        if is_local(host):
            return
        if self._budget is None:
            self._budget = Allowance(DIALS_PER_S, DIALS_BURST, trio.current_time())
        async with self._turn:
            wait_s = self._budget.wait_s(trio.current_time())
            if wait_s:
                await trio.sleep(wait_s + ROUNDING_S)
            self._budget.take(trio.current_time())


async def _connect(raw: socket.socket, address: Address) -> None:
    try:
        raw.connect((address.host, address.port))
    except BlockingIOError:
        await trio.lowlevel.wait_writable(raw)
        failure = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failure:
            raise OSError(failure, "connect failed") from None
