"""Peers without sockets, for a whole engine in virtual time: what they are told is answered by the clock alone."""

import errno
import struct
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import trio

from bittern.errors import HandshakeError
from bittern.net.dialer import Dialer
from bittern.proto import messages as m
from bittern.proto.handshake import HANDSHAKE_BYTES, Handshake, pack_handshake
from bittern.terms import BLOCK_SIZE, Address, InfoHash, PeerId
from tests.fakes.engine import Engine
from tests.fakes.torrents import Made

ROUND_TRIP_S: Final = 0.02
STOPS_AFTER: Final = 3


class Manner(Enum):
    """How one that is dialled behaves."""

    GIVES = "answers requests at its rate"
    STOPS = "answers a few, and then no more"
    SILENT = "says that it has everything and that we may ask, and never sends a block"
    CHOKES = "says that it has everything, lets us ask, and chokes us with the first request"
    MUTE = "shakes hands, and says nothing more"


class MemoryPeer:
    """The other side of a connection, as a `PeerTransport`."""

    def __init__(self, remote: Address) -> None:
        self.remote = remote
        self.closed = False
        self.gone = trio.Event()
        self.looks = 0
        """How often it was read from."""
        self._greeted = False
        self._heard = bytearray()
        self._said: deque[tuple[float, memoryview]] = deque()
        """What it says, and when that is there."""
        self._news = trio.Event()

    # -- as the engine sees it ------------------------------------------------------------------------------

    def receive_nowait(self, buffer: memoryview) -> int | None:
        self.looks += 1
        if self.closed:
            return 0
        now, got = trio.current_time(), 0
        while self._said and got < len(buffer) and self._said[0][0] <= now:
            at, blob = self._said.popleft()
            took = min(len(blob), len(buffer) - got)
            buffer[got : got + took] = blob[:took]
            got += took
            if took < len(blob):
                self._said.appendleft((at, blob[took:]))
        return got or None

    async def wait_readable(self) -> None:
        await trio.lowlevel.checkpoint()
        while not self.closed:
            if self._said:
                await trio.sleep_until(self._said[0][0])
                return
            self._news = trio.Event()
            await self._news.wait()

    def send_nowait(self, blob: bytes | bytearray | memoryview) -> int:
        if self.closed:
            raise BrokenPipeError
        self._heard += blob
        if not self._greeted and len(self._heard) >= HANDSHAKE_BYTES:
            self._greeted = True
            del self._heard[:HANDSHAKE_BYTES]
            self.greet()
        if self._greeted:
            self._listen()
        return len(blob)

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    def unread_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self.closed = True
        self._news.set()
        self.gone.set()

    # -- what it does ---------------------------------------------------------------------------------------

    def say(self, blob: bytes, at: float | None = None) -> None:
        self._said.append((trio.current_time() + ROUND_TRIP_S if at is None else at, memoryview(blob)))
        self._news.set()

    def greet(self) -> None:
        """The engine's handshake has come."""

    def hear(self, kind: int, body: bytes) -> None:
        """One message."""

    def _listen(self) -> None:
        heard, at = self._heard, 0
        while len(heard) - at >= 4:
            (length,) = struct.unpack_from(">I", heard, at)
            if len(heard) - at < 4 + length:
                break
            if length:
                self.hear(heard[at + 4], bytes(heard[at + 5 : at + 4 + length]))
            at += 4 + length
        del heard[:at]


class Giver(MemoryPeer):
    """A seed that is dialled."""

    def __init__(
        self, remote: Address, made: Made, manner: Manner, rate_per_s: float, peer_id: PeerId
    ) -> None:
        super().__init__(remote)
        self._made, self._manner, self._rate = made, manner, rate_per_s
        self._peer_id = peer_id
        self._free_at = 0.0
        self._given = 0

    def greet(self) -> None:
        self.say(pack_handshake(self._made.info_hash, self._peer_id))
        if self._manner is not Manner.MUTE:
            self.say(m.HAVE_ALL)
            self.say(m.UNCHOKE)

    def hear(self, kind: int, body: bytes) -> None:
        if kind != m.REQUEST_ID:
            return
        if self._manner is Manner.CHOKES:
            self.say(m.CHOKE)
        elif self._manner is Manner.GIVES or (self._manner is Manner.STOPS and self._given < STOPS_AFTER):
            self._given += 1
            index, begin, length = struct.unpack(">III", body)
            self._free_at = max(self._free_at, trio.current_time() + ROUND_TRIP_S) + length / self._rate
            block = self._made.piece(index)[begin : begin + length]
            self.say(m.PIECE_HEADER.pack(9 + length, m.PIECE_ID, index, begin) + block, self._free_at)


class Knocker(MemoryPeer):
    """One that comes by itself, under that name."""

    def __init__(self, remote: Address, peer_id: PeerId) -> None:
        super().__init__(remote)
        self._peer_id = peer_id

    def handshake(self, info_hash: InfoHash) -> Handshake:
        """To introduce it with: no part of what it says later."""
        return Handshake(info_hash, self._peer_id, extended=False, fast=True, dht=False)

    def knock(self, engine: Engine, made: Made) -> None:
        """Is let in, or closed."""
        try:
            engine.session.swarms.introduce(self.handshake(made.info_hash), self)
        except HandshakeError:
            self.close()


class Taker(Knocker):
    """A leecher that asks for one block after the other, of two, as long as it may."""

    def __init__(self, remote: Address, peer_id: PeerId) -> None:
        super().__init__(remote, peer_id)
        self._may_ask = False
        self._block = 0
        self.taken_bytes = 0

    def greet(self) -> None:
        self.say(m.HAVE_NONE)
        self.say(m.INTERESTED)

    def hear(self, kind: int, body: bytes) -> None:
        if kind == m.CHOKE_ID:
            self._may_ask = False
        elif kind == m.UNCHOKE_ID:
            self._may_ask = True
        elif kind == m.PIECE_ID:
            self.taken_bytes += len(body) - 8
        if self._may_ask and kind in {m.UNCHOKE_ID, m.PIECE_ID}:
            self._block = 1 - self._block
            self.say(m.pack_requests([(0, self._block * BLOCK_SIZE, BLOCK_SIZE)]))


class Downloader(Taker):
    """One that asks for every block in turn, at the rate of its line."""

    IN_FLIGHT = 8

    def __init__(self, remote: Address, peer_id: PeerId, made: Made, rate_per_s: float) -> None:
        super().__init__(remote, peer_id)
        self._made, self._rate = made, rate_per_s
        self._next = 0
        self._free_at = 0.0

    def hear(self, kind: int, body: bytes) -> None:
        if kind == m.CHOKE_ID:
            self._may_ask = False
        elif kind == m.UNCHOKE_ID:
            self._may_ask = True
            for _ in range(self.IN_FLIGHT):
                self._ask(trio.current_time() + ROUND_TRIP_S)
        elif kind == m.PIECE_ID:
            self.taken_bytes += len(body) - 8
            self._free_at = max(self._free_at, trio.current_time()) + (len(body) - 8) / self._rate
            if self._may_ask:
                self._ask(self._free_at)

    def _ask(self, at: float) -> None:
        blocks = self._made.piece_length // BLOCK_SIZE
        index, block = divmod(self._next, blocks)
        self._next = (self._next + 1) % (blocks * self._made.piece_count)
        self.say(m.pack_requests([(index, block * BLOCK_SIZE, BLOCK_SIZE)]), at)


class Town(Dialer):
    """Who lives where."""

    def __init__(self) -> None:
        super().__init__()
        self._people: dict[Address, Callable[[], Giver]] = {}
        self._open: list[Giver] = []
        self._named = 0

    @property
    def open_now(self) -> int:
        """Connections."""
        self._open = [one for one in self._open if not one.closed]
        return len(self._open)

    @property
    def looks(self) -> int:
        """How often those connections were read from."""
        return sum(one.looks for one in self._open)

    def nobody(self) -> Address:
        """Another address, where nobody is."""
        self._named += 1
        return Address(f"10.{self._named >> 16}.{self._named >> 8 & 255}.{self._named & 255}", 6881)

    def settle(self, made: Made, manner: Manner, rate_per_s: float) -> Address:
        """Another address, and somebody there who serves that torrent."""
        address = self.nobody()
        peer_id = PeerId(b"-GI0000-%012d" % self._named)
        self._people[address] = lambda: Giver(address, made, manner, rate_per_s, peer_id)
        return address

    async def dial(self, address: Address) -> Any:
        async with self._slots:
            await trio.sleep(ROUND_TRIP_S)
            if address not in self._people:
                await trio.sleep(10)
                raise OSError(errno.ETIMEDOUT, "nobody there")
            self._open.append(self._people[address]())
            return self._open[-1]


class Trick(Enum):
    """What one does that knocks at a complete torrent and is not there to download."""

    CLAIMS = "says that it wants something, and never asks"
    BLINKS = "wants something, and then not, and then again, each second"
    GREEDY = "asks for all it may, and does not read"
    AGAIN = "asks for the same block again and again"
    REPEATS = "asks for the same few blocks, each when the last has come, four a second"
    DRIP = "wants something, and then begins a message, of which it sends a byte a minute"


class Enemy(Knocker):
    """One of a siege, for as long as it is let in."""

    SOCKET_BYTES = 1 << 20
    """What is taken from the engine without being read."""

    def __init__(self, remote: Address, peer_id: PeerId, trick: Trick) -> None:
        super().__init__(remote, peer_id)
        self._trick = trick
        self._unread = 0
        self._may_ask = False

    def send_nowait(self, blob: bytes | bytearray | memoryview) -> int:
        if self._trick is Trick.GREEDY and self._greeted:
            if self.closed:
                raise BrokenPipeError
            took = min(len(blob), self.SOCKET_BYTES - self._unread)
            self._unread += took
            if not self._may_ask and m.UNCHOKE in bytes(blob[:200]):
                self._may_ask = True
                self.say(b"".join(m.pack_requests([(0, 0, BLOCK_SIZE - number)]) for number in range(2000)))
            return took
        return super().send_nowait(blob)

    def unread_bytes(self) -> int:
        return self._unread

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()
        if self._unread >= self.SOCKET_BYTES:
            await self.gone.wait()

    def greet(self) -> None:
        self.say(m.HAVE_NONE)
        self.say(m.INTERESTED)
        now = trio.current_time()
        if self._trick is Trick.DRIP:
            self.say(struct.pack(">IB", 1000, m.EXTENDED_ID))
            for minute in range(1, 20):
                self.say(b"\0", now + 60 * minute)
        elif self._trick is Trick.BLINKS:
            for second in range(1, 600):
                self.say(m.NOT_INTERESTED + m.INTERESTED, now + second)

    def hear(self, kind: int, body: bytes) -> None:
        if kind not in {m.UNCHOKE_ID, m.PIECE_ID}:
            return
        if self._trick is Trick.AGAIN:
            self.say(m.pack_requests([(0, 0, BLOCK_SIZE)]) * 2000)
        elif self._trick is Trick.REPEATS:
            self.say(m.pack_requests([(0, 0, BLOCK_SIZE)]), trio.current_time() + 0.25)
