"""The UDP sockets: one for each address that we listen on, all of one port, shared by whoever speaks in datagrams.

A datagram costs one receive and one synchronous call of its owner, who parses it out of a buffer that is everybody's:
nothing awaits in between, and what an owner keeps it copies. What its owner says nobody asked for, answered or not, is
read at a bounded pace, so that a flood takes a small share of the processor and the kernel drops the rest of it.
"""

import errno
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

import trio

from bittern.net.listener import BIND_RETRY_FIRST_S, BIND_RETRY_MOST_S
from bittern.net.scope import ANYWHERE, DialScope
from bittern.net.transport import plain_address
from bittern.proto.datagram import Kind, kind_of
from bittern.terms import Address

DATAGRAM_BYTES: Final = 65536
"""The longest that there is."""

BATCH: Final = 64
"""Datagrams read before others get the loop: a few tenths of a millisecond."""

UNASKED_PAUSE_S: Final = 200e-6
"""After each that nobody asked for, at least; reading it takes some 7 µs."""

UNASKED_SHARE: Final = 25.0
"""So many times as long as it took: a flood takes a twenty-fifth of a core at most, bombs and answers as well."""

UNASKED_PAUSE_MOST_S: Final = 0.02
"""After one; to collect garbage may have fallen into its time. Nor is more read when a pause of that length is due."""

RECEIVE_BUFFER_BYTES: Final = 1024 * 1024
"""Asked for; the kernel gives at most net.core.rmem_max."""

LOST_ERRNOS: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EINTR, errno.ECONNREFUSED})
"""The machine has no room for it now (or tells of an earlier one): it is lost, as datagrams may be."""

SHORT_ERRNOS: Final = frozenset({errno.ENOBUFS, errno.ENOMEM, errno.ENETDOWN})
SHORT_PAUSE_S: Final = 0.5
CRASH_PAUSE_S: Final = 1.0
"""Whoever found a datagram that crashes us shall not fill the log with it."""

Receive = Callable[[memoryview, Address], bool]
"""Takes a datagram, which is valid during the call only; False when nobody had asked for it."""

Guard = Callable[[Callable[[], None], Callable[[Exception], None]], None]
"""Runs one batch so that a bug in it costs that batch only; tells the second of the error."""


def _unguarded(body: Callable[[], None], _settle: Callable[[Exception], None]) -> None:
    body()


class Udp:
    """Owners register before it runs; without an owner nobody asks for a kind of datagram.

    `port` is asked when it binds; `or_any`: when that is taken, another will do. `taken` is told why it cannot listen.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        port: Callable[[], int],
        *,
        taken: Callable[[str], None],
        or_any: bool = False,
        scope: DialScope = ANYWHERE,
        guard: Guard = _unguarded,
    ) -> None:
        self._addresses = tuple(addresses)
        self._wanted_port = port
        self._or_any = or_any
        self._taken = taken
        self._scope = scope
        self._guard = guard
        self._owners: dict[Kind, Receive] = {}
        self._sockets: list[tuple[str, socket.socket]] = []
        """With the address that each is bound to."""
        self.port = 0
        """0 while there is none."""

    def register(self, kind: Kind, receive: Receive) -> None:
        """Whose datagrams of that kind are."""
        self._owners[kind] = receive

    # -- sending ---------------------------------------------------------------------------------------------

    def reaches(self, host: str) -> bool:
        """Is there a socket that can send to that (numeric) address, and may it?"""
        return self._scope.allows(host) and self._towards(host) is not None

    def send(self, datagram: bytes | bytearray | memoryview, to: Address) -> bool:
        """False when it was lost at once, for want of room; `OSError` when that address cannot be reached."""
        if not self._scope.allows(to.host):
            raise OSError(errno.EACCES, "not on this machine (dial_scope)")
        chosen = self._towards(to.host)
        if chosen is None:
            raise OSError(errno.ENETUNREACH, "no UDP socket for such addresses")
        try:
            chosen.sendto(datagram, (to.host, to.port))
        except OSError as error:
            if error.errno not in LOST_ERRNOS:
                raise
            return False
        return True

    def _towards(self, host: str) -> socket.socket | None:
        """A socket of that family; one that is bound to loopback for loopback only, if there is another."""
        v6, near = ":" in host, _is_near(host)
        found = [(bound, one) for bound, one in self._sockets if (":" in bound) is v6]
        for bound, one in found:
            if _is_near(bound) is near:
                return one
        return found[0][1] if found else None

    # -- the service -----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Receives until cancelled. `started` after the first attempt to bind: who needs no datagrams need not wait."""
        try:
            pause = BIND_RETRY_FIRST_S
            while not self._bound(pause):
                task_status.started()
                task_status = trio.TASK_STATUS_IGNORED
                await trio.sleep(pause)
                pause = min(pause * 2, BIND_RETRY_MOST_S)
            async with trio.open_nursery() as nursery:
                for _, one in self._sockets:
                    nursery.start_soon(self._receive, one)
                task_status.started()
        finally:
            self._close()

    def _bound(self, pause_s: float) -> bool:
        port = self._wanted_port()
        try:
            self._bind(port)
        except OSError as error:
            if self._or_any and error.errno == errno.EADDRINUSE and port:
                try:
                    self._bind(0)
                    return True
                except OSError:
                    pass
            self._taken(
                f"cannot receive datagrams on port {port}: {error.strerror or error}; trying again in {pause_s:.0f} s"
            )
            return False
        return True

    def _bind(self, port: int) -> None:
        try:
            for address in self._addresses:
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                one = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
                self._sockets.append((address, one))
                if family == socket.AF_INET6:
                    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
                one.bind((address, port))
                port = one.getsockname()[1]
        except OSError:
            self._close()
            raise
        self.port = port

    def _close(self) -> None:
        self.port = 0
        for _, one in self._sockets:
            one.close()
        self._sockets.clear()

    async def _receive(self, one: socket.socket) -> None:
        batch = _Batch(one, self._owners)
        while True:
            await trio.lowlevel.wait_readable(one)
            batch.pause_s = 0.0
            self._guard(batch.read, batch.crashed)
            # sleeping for no time lets the others run
            await trio.sleep(batch.pause_s)


class _Batch:
    """What is read from one socket at once. `pause_s`: how long to leave it alone then."""

    __slots__ = ("_buffer", "_one", "_owners", "pause_s")

    def __init__(self, one: socket.socket, owners: dict[Kind, Receive]) -> None:
        self._one = one
        self._owners = owners
        self._buffer = memoryview(bytearray(DATAGRAM_BYTES))
        self.pause_s = 0.0

    def read(self) -> None:
        began = time.thread_time()
        for _ in range(BATCH):
            try:
                size, name = self._one.recvfrom_into(self._buffer)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                # ICMP's news of what was sent before, mostly
                self.pause_s += SHORT_PAUSE_S if error.errno in SHORT_ERRNOS else UNASKED_PAUSE_S
                if error.errno == errno.EBADF:
                    raise
                return
            datagram = self._buffer[:size]
            kind = kind_of(datagram)
            receive = None if kind is None else self._owners.get(kind)
            asked_for = receive is not None and receive(datagram, plain_address(name[0], name[1]))
            now = time.thread_time()
            if not asked_for:
                pause_s = max(UNASKED_PAUSE_S, UNASKED_SHARE * (now - began))
                self.pause_s += min(pause_s, UNASKED_PAUSE_MOST_S)
                if self.pause_s >= UNASKED_PAUSE_MOST_S:
                    return
            began = now

    def crashed(self, _error: Exception) -> None:
        self.pause_s = CRASH_PAUSE_S


def _is_near(host: str) -> bool:
    return host == "::1" or host.startswith("127.")
