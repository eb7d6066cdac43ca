"""Inbound connections: accepted, asked for their handshake under a deadline, handed to whom they name.

A stranger costs one small task until he has said the 68 bytes. There are never more than `PENDING_LIMIT` of them: when
another comes the oldest of the host that has the most makes room, for a peer introduces itself within a round trip, and
whoever holds connections and says nothing shall not keep it out.
"""

import errno
import ipaddress
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

import trio

from bittern.errors import HandshakeError, TurnedAway
from bittern.net.transport import PeerTransport, SocketTransport, plain_address
from bittern.proto.handshake import HANDSHAKE_BYTES, Handshake, parse_handshake

PENDING_LIMIT: Final = 256
"""Connections that have not introduced themselves; each is a task of ~3 KB and a descriptor."""

HANDSHAKE_DEADLINE_S: Final = 10.0

BUSY_ERRNOS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EPERM})
"""accept() fails with these while the process or machine is short of something, or a firewall is in its way: wait, do
not die."""

GONE_ERRNOS: Final = frozenset(
    {
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
    }
)
"""accept() tells with these what became of one connection on its way: the next one counts."""

BUSY_PAUSE_S: Final = 0.5
BIND_RETRY_FIRST_S: Final = 1.0
BIND_RETRY_MOST_S: Final = 60.0
BACKLOG: Final = 512

Guard = Callable[[Callable[[], Awaitable[None]], str], Awaitable[None]]
"""Runs what one stranger leads to, and keeps its bugs from all others; the second says what it is."""

Introduce = Callable[[Handshake, PeerTransport], None]
"""Takes over the transport, or raises `HandshakeError` and leaves it to be closed here. Synchronous: it decides."""


KNOCK_AGAIN_S: Final = 1.0


class Listener:
    """Listens on all the given addresses with one port."""

    def __init__(
        self,
        addresses: Sequence[str],
        port: int,
        introduce: Introduce,
        *,
        taken: Callable[[str], None],
        inherited: Sequence[socket.socket] = (),
        listening: Callable[[Sequence[socket.socket]], None] = lambda _: None,
        guard: Guard = lambda body, _: body(),
    ) -> None:
        """`taken` is told why it cannot listen, `listening` what on. `inherited` sockets of ours listen already; they
        are used where they fit, and closed.
        """
        self._addresses = tuple(addresses)
        self._port = port
        self._introduce = introduce
        self._taken = taken
        self._inherited = list(inherited)
        self._listening = listening
        self._guard = guard
        self._pending: dict[SocketTransport, None] = {}
        """Strangers, the oldest first."""
        self.port = 0
        self._turns = 0
        """How often somebody has knocked."""
        self._answered = trio.lowlevel.ParkingLot()

    async def run(self, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves until cancelled; `started` (with the port) once every address is listening."""
        sockets = await self._bind()
        try:
            async with trio.open_nursery() as nursery:
                for listening in sockets:
                    nursery.start_soon(self._accept, listening, nursery)
                self._listening(sockets)
                task_status.started(self.port)
        finally:
            for listening in sockets:
                listening.close()

    async def _bind(self) -> list[socket.socket]:
        """Sockets for every address; a taken port is tried again, for it is often our own predecessor's."""
        pause = BIND_RETRY_FIRST_S
        while True:
            try:
                return self._bind_now()
            except OSError as error:
                self._taken(
                    f"cannot listen on port {self._port}: {error.strerror or error}; trying again in {pause:.0f} s"
                )
            await trio.sleep(pause)
            pause = min(pause * 2, BIND_RETRY_MOST_S)

    def _bind_now(self) -> list[socket.socket]:
        sockets: list[socket.socket] = []
        port = self._port
        try:
            for address in self._addresses:
                listening = self._inherit(address, port) or _bound(address, port, sockets)
                if listening not in sockets:
                    sockets.append(listening)
                port = listening.getsockname()[1]
            # what we do not use must not keep its port
            while self._inherited:
                self._inherited.pop().close()
            for listening in sockets:
                listening.listen(BACKLOG)
        except OSError:
            for listening in sockets:
                listening.close()
            raise
        self.port = port
        return sockets

    def _inherit(self, address: str, port: int) -> socket.socket | None:
        """The predecessor's socket for that address and port (0: any)."""
        for number, one in enumerate(self._inherited):
            host, its_port = one.getsockname()[:2]
            if host == address and port in {0, its_port}:
                return self._inherited.pop(number)
        return None

    async def _accept(self, listening: socket.socket, nursery: trio.Nursery) -> None:
        while True:
            await trio.lowlevel.wait_readable(listening)
            self._turns += 1
            self._answered.unpark_all()
            try:
                accepted, name = listening.accept()
            except (BlockingIOError, ConnectionError, InterruptedError):
                continue
            except OSError as error:
                if error.errno in GONE_ERRNOS:
                    continue
                if error.errno not in BUSY_ERRNOS:
                    raise
                await trio.sleep(BUSY_PAUSE_S)
                continue
            accepted.setblocking(False)
            try:
                transport = SocketTransport(accepted, plain_address(name[0], name[1]))
            except OSError:
                accepted.close()
                continue
            what = f"handshake of {transport.remote}"
            await self._guard(partial(self._meet, transport, what, nursery), what)

    async def knock(self) -> None:
        """Returns when the door was answered: we knock ourselves. Also when a knock cannot be had (no descriptor is
        left, say), which no other process would have either.
        """
        before, address = self._turns, self._addresses[0]
        if ipaddress.ip_address(address).is_unspecified:
            address = "::1" if ":" in address else "127.0.0.1"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._knock_at, address, nursery.cancel_scope)
            # whoever is answered: in a crowd before the door our own knock may wait for long
            while self._turns == before:
                await self._answered.park()
            nursery.cancel_scope.cancel()

    async def _knock_at(self, address: str, scope: trio.CancelScope) -> None:
        """Cancels the scope when there is no door to knock at."""
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with trio.socket.socket(family, socket.SOCK_STREAM) as knocking:
            try:
                # from there too: an address that is not ours any more (a tunnel's) is a router's, who never answers
                await knocking.bind((address, 0))
                await knocking.connect((address, self.port))
            except ConnectionRefusedError:
                # it is being opened again
                await trio.sleep(KNOCK_AGAIN_S)
                scope.cancel()
            except OSError:
                scope.cancel()
            else:
                await trio.sleep_forever()

    def _make_room(self) -> None:
        """The oldest stranger of the host that has the most of them leaves."""
        crowds = Counter(stranger.remote.host for stranger in self._pending)
        most = max(crowds.values())
        oldest = next(one for one in self._pending if crowds[one.remote.host] == most)
        del self._pending[oldest]
        oldest.close()

    async def _meet(self, transport: SocketTransport, what: str, nursery: trio.Nursery) -> None:
        """Lets in who has said who he is by now, as most have: without a task, and a turn of the loop. Others are given
        one to wait in; here nothing is waited for.
        """
        reading = HandshakeReading(transport)
        if self._let_in(reading, transport):
            return
        if len(self._pending) >= PENDING_LIMIT:
            self._make_room()
        self._pending[transport] = None
        nursery.start_soon(self._guard, partial(self._greet, reading, transport), what)

    async def _greet(self, reading: "HandshakeReading", transport: SocketTransport) -> None:
        """Reads the rest of one handshake."""
        try:
            with trio.move_on_after(HANDSHAKE_DEADLINE_S):
                await transport.wait_readable()
                while not self._let_in(reading, transport):
                    await transport.wait_readable()
                return
            transport.close()
        except (OSError, trio.ClosedResourceError):
            # also when it made room for another
            transport.close()
        except BaseException:
            transport.close()
            raise
        finally:
            self._pending.pop(transport, None)

    def _let_in(self, reading: "HandshakeReading", transport: SocketTransport) -> bool:
        """Is that settled? False: more of his handshake is to come. Whatever goes wrong costs this connection only."""
        try:
            handshake = reading.take()
            if handshake is None:
                return False
            self._introduce(handshake, transport)
        except (OSError, HandshakeError):
            transport.close()
        except BaseException:
            transport.close()
            raise
        return True


def _bound(address: str, port: int, opened: list[socket.socket]) -> socket.socket:
    """A new socket on that address; it is among the opened ones even if it cannot be bound."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    opened.append(made)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind((address, port))
    return made


class HandshakeReading:
    """The remote end's 68 bytes (BEP 3), and not one more, as they come."""

    __slots__ = ("_blob", "_filled", "_transport")

    def __init__(self, transport: PeerTransport) -> None:
        self._transport = transport
        self._blob = memoryview(bytearray(HANDSHAKE_BYTES))
        self._filled = 0

    def take(self) -> Handshake | None:
        """None: more of it is to come. `HandshakeError` when it is not BitTorrent's, `TurnedAway` when there is none of
        it.
        """
        blob = self._blob
        while self._filled < HANDSHAKE_BYTES:
            try:
                got = self._transport.receive_nowait(blob[self._filled :])
            except ConnectionResetError:
                got = 0
            if got is None:
                return None
            if got == 0:
                raise (HandshakeError if self._filled else TurnedAway)("closed before its handshake")
            self._filled += got
            # The first bytes already tell a stranger from a peer: no need to hold a slot for the rest.
            if (
                blob[0] != 19
                or bytes(blob[1 : min(self._filled, 20)])
                != b"BitTorrent protocol"[: min(self._filled, 20) - 1]
            ):
                raise HandshakeError("not a BitTorrent handshake")
        return parse_handshake(bytes(blob))


async def read_handshake(transport: PeerTransport) -> Handshake:
    """The same for who waits for it."""
    reading = HandshakeReading(transport)
    while (handshake := reading.take()) is None:
        await transport.wait_readable()
    return handshake
