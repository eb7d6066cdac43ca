"""One connection: a reader that decides. What it was asked for is its `Requests`', what goes out its `Sender`'s.

All that a message changes is changed synchronously, so the two tasks (ours, and the sender's) need no lock. Blocks go
from the receive buffer straight into their piece (`requests`: the per-block path); everything else is done once per
receive.
"""

from collections.abc import Callable, Collection, Container
from typing import Any, Final, Protocol

import trio

from bittern.engine.extensions import Extensions, Spoken
from bittern.engine.requests import Asking, Requests
from bittern.engine.sending import Sender, Uploading
from bittern.engine.throttle import RateLimit
from bittern.engine.uploads import UploadQueue
from bittern.errors import PeerGone, ProtocolError
from bittern.net.transport import PeerTransport, receive_buffer
from bittern.policy.pacing import RateMeter
from bittern.policy.room import uselessness
from bittern.policy.taking import Taking
from bittern.proto import messages as m
from bittern.proto.bitfield import Bitfield
from bittern.proto.handshake import Handshake
from bittern.proto.messages import PIECE_HEADER_BYTES
from bittern.terms import BLOCK_SIZE, Address, PeerId, PieceIndex

UNASKED_BYTES: Final = 32 * 1024
"""What is read at a time from a peer that owes us nothing: a MiB of requests would keep the loop for a sixth of a
second, and two hundred peers may send one."""

KEEP_ALIVE_AFTER_S: Final = 100.0
SILENCE_LIMIT_S: Final = 240.0
"""BEP 3 says two minutes; clients are known to be late."""

ALLOWED_FAST_LIMIT: Final = 64
MOST_PATIENCE_BYTES: Final = 64 * 1024
PATIENCE_BYTES_PER_S: Final = 2048
"""What a peer may say that is of no use: more than a choke at full speed leaves, 2000 requests that are rejected. Who
goes on is not heard for a while: reading 32 KiB of old news takes 6 ms, and two hundred peers may have them."""

UNASKED_COST_BYTES: Final = 64
"""What a block counts for that nobody asked for, or not any more: it is read over quickly."""

HAVE_BYTES: Final = 9
REQUEST_BYTES: Final = 17
EXTENDED_HEADER_BYTES: Final = 6


class Fetching(Asking["Peer"], Protocol):
    """The downloading half of a swarm, as a peer meets it; it is gone once the torrent is complete."""

    def refill(self, peer: "Peer") -> None:
        """Ask the peer for more blocks, if there is room in its pipeline."""

    def has(self, peer: "Peer", index: int) -> None:
        """The peer got a piece."""

    def has_bits(self, peer: "Peer") -> None:
        """The peer's pieces are known."""

    def suggested(self, index: PieceIndex) -> None:
        """The peer has that piece in its cache (BEP 6)."""


class Home(Uploading, Protocol):
    """A swarm, as its peers meet it."""

    download_throttle: RateLimit
    extensions: Extensions

    @property
    def fetch(self) -> Fetching | None:
        """The downloading half, while there is one."""

    @property
    def dht_port(self) -> int:
        """Of our DHT node; 0: nobody is told of it."""

    def dht_node(self, address: Address) -> None:
        """The peer has a DHT node there."""

    def serves(self, index: int) -> bool:
        """Do we have that piece, verified and written?"""

    def fast_for(self, peer: "Peer") -> Container[int]:
        """Pieces that the peer may have while it is choked (BEP 6)."""

    def received(self, payload_bytes: int, now: float) -> None:
        """Blocks came in."""

    def sent(self, payload_bytes: int, now: float) -> None:
        """Blocks went out."""

    def wasted(self, payload_bytes: int) -> None:
        """Blocks came in that were of no use."""

    def slots_wanted(self) -> None:
        """Somebody wants an upload slot, or one became free."""

    def slot_asked(self) -> None:
        """This one asks for one, for the first time."""

    def met_done(self, peer: "Peer") -> None:
        """The peer has everything, or all that it wants."""


class Peer:
    """A connected peer. Owned by its swarm; `run` ends with the connection."""

    __slots__ = (
        "_asked_for_slot",
        "_decoder",
        "_got_bits",
        "_held_back",
        "_patience_bytes",
        "_sender",
        "_speaks_dht",
        "_told_port",
        "address",
        "allowed_fast",
        "am_choking",
        "am_interested",
        "bits",
        "choking",
        "client",
        "down",
        "extended",
        "fast",
        "id",
        "interested",
        "joined_at",
        "last_received_at",
        "listens_on",
        "moved_at",
        "outbound",
        "pipeline",
        "requests",
        "scope",
        "spoken",
        "swarm",
        "taking",
        "transport",
        "trusted",
        "unchoked_at",
        "up",
        "uploads",
        "useful",
    )

    def __init__(
        self, swarm: Home, transport: PeerTransport, handshake: Handshake, *, outbound: bool
    ) -> None:
        now = trio.current_time()
        pieces = swarm.layout.piece_count
        self.swarm = swarm
        self.transport = transport
        self.address = transport.remote
        self.id: PeerId = handshake.peer_id
        self.fast = handshake.fast
        self.outbound = outbound
        self.listens_on: Address | None = transport.remote if outbound else None
        self.client = ""
        self.extended = handshake.extended
        self.spoken = Spoken(now)
        self.bits = Bitfield(pieces)
        self.choking = self.am_choking = True
        self.interested = self.am_interested = False
        self.allowed_fast: set[int] = set()
        self.requests = Requests(self, swarm.fetch, piece_count=pieces, now=now)
        self.pipeline = self.requests.pipeline
        self.pipeline.set_limit(swarm.download_throttle.rate_per_s)
        self.uploads = UploadQueue()
        self.taking = Taking()
        self._sender = Sender(
            swarm, transport, self.uploads, self.taking, sent=self._uploaded, lost=self.close
        )
        self.down, self.up = RateMeter(), RateMeter()
        self.joined_at = self.last_received_at = now
        self.moved_at = now
        """When blocks last went over it, in either direction."""
        self.unchoked_at: float | None = None
        self.useful = False
        self.trusted = False
        """It took part in a piece that was good, and in no bad one since."""
        self.scope = trio.CancelScope()
        self._decoder = self.requests.decoder
        self._asked_for_slot = self._got_bits = False
        self._patience_bytes = MOST_PATIENCE_BYTES
        """How much more it may say that is of no use."""
        self._held_back = False
        """It has sent something, which waits for the download limit."""
        self._speaks_dht = handshake.dht
        self._told_port = False

    @property
    def is_seed(self) -> bool:
        return self.bits.all

    @property
    def held_bytes(self) -> int:
        """Memory that it makes us hold, by not reading what we say or not ending what it says."""
        return self._sender.waiting_bytes + self._decoder.held_bytes

    # -- reading --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serves the connection until it ends; raises what ended it."""
        try:
            with self.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._sender.run)
                    await self._read()
        finally:
            self.transport.close()

    def close(self) -> None:
        """Ends the connection from outside, without blame."""
        self.scope.cancel()

    async def _read(self) -> None:
        transport, decoder, requests = self.transport, self._decoder, self.requests
        buffer = receive_buffer()
        unasked, whole = buffer[:UNASKED_BYTES], len(buffer)
        while True:
            throttle = self.swarm.download_throttle
            if throttle.limited:
                await transport.wait_readable()
                self._held_back = True
                granted = await throttle.acquire(whole)
                self._held_back = False
                got = transport.receive_nowait(buffer[:granted])
                throttle.give_back(granted - (got or 0))
            else:
                got = transport.receive_nowait(buffer if requests.owed and self.useful else unasked)
            if got is None:
                await transport.wait_readable()
                continue
            if got == 0:
                raise PeerGone("closed by the peer")
            # Nothing below awaits before the buffer is parsed: that is what lets all peers share it.
            self._patience_bytes -= got
            self._received(decoder.feed(buffer[:got]))
            if requests.owed:
                await trio.lowlevel.checkpoint()
            else:  # nothing more is to be expected, and to look costs more than to wait
                await transport.wait_readable()
            if self._patience_bytes < 0:
                await trio.sleep(-self._patience_bytes / PATIENCE_BYTES_PER_S)

    def _received(self, received: list[m.Message]) -> None:
        now = trio.current_time()
        self.last_received_at = now
        if self.requests.landed_blocks:
            blocks, payload_bytes = self.requests.take_landed(now)
            self.down.add(payload_bytes, now)
            self.swarm.received(payload_bytes, now)
            self._patience_bytes += payload_bytes + PIECE_HEADER_BYTES * blocks
            self.useful = True
            self.moved_at = now
        for message in received:
            ACTIONS[type(message)](self, message)
        if self.swarm.fetch is not None:
            self.swarm.fetch.refill(self)
        self._sender.answer()

    def brought_unowed(self, length: int) -> None:
        """A block came that it did not owe, or not any more."""
        self.swarm.wasted(length)
        self._patience_bytes += length - UNASKED_COST_BYTES

    def _uploaded(self, payload_bytes: int, now: float) -> None:
        """A batch of blocks is out."""
        self.moved_at = now
        self.up.add(payload_bytes, now)
        self.useful = True
        self.swarm.sent(payload_bytes, now)

    # -- saying things --------------------------------------------------------------------------------------

    def say(self, blob: bytes) -> None:
        """Queues control bytes; `flush` sends them. A peer who does not read is let go."""
        self._sender.say(blob)

    def flush(self) -> None:
        """Sends what the socket takes at once, and the rest as it takes it. Never raises: anybody may call it."""
        self._sender.flush()

    def greet(self, have: Bitfield | None, allowed_fast: list[int], handshake: bytes = b"") -> None:
        """Says who we are and what we have (`None`: everything), in the order that BEP 3, 6 and 10 demand."""
        self.say(handshake)
        if self.fast and have is None:
            self.say(m.HAVE_ALL)
        elif self.fast and have is not None and have.none:
            self.say(m.HAVE_NONE)
        elif have is None:
            self.say(m.pack_bitfield(Bitfield.full(len(self.bits)).to_bytes()))
        elif not have.none:
            self.say(m.pack_bitfield(have.to_bytes()))
        self.say(self.swarm.extensions.greeting(self))
        if self._speaks_dht and self.swarm.dht_port:
            self.say(m.pack_port(self.swarm.dht_port))
        for index in allowed_fast:
            self.say(m.pack_allowed_fast(index))
        self.flush()

    def set_choking(self, choking: bool, now: float) -> None:
        """Unchokes or chokes the peer; what it still waits for is rejected (BEP 6)."""
        if choking == self.am_choking:
            return
        self.am_choking = choking
        self.unchoked_at = None if choking else now
        if choking:
            self.taking.may_not(now, by_itself=not self.interested)
        else:
            self.taking.may(now)
        self.say(m.CHOKE if choking else m.UNCHOKE)
        if choking:
            for asked in self.uploads.clear():
                if self.fast:
                    self.say(m.pack_reject(*asked))
        self.flush()

    def set_interested(self, interested: bool) -> None:
        if interested != self.am_interested:
            self.am_interested = interested
            self.say(m.INTERESTED if interested else m.NOT_INTERESTED)

    # -- messages -------------------------------------------------------------------------------------------

    def _index(self, index: int) -> PieceIndex:
        if index >= len(self.bits):
            raise ProtocolError(f"named piece {index} of {len(self.bits)}")
        return PieceIndex(index)

    def _need_fast(self) -> None:
        if not self.fast:
            raise ProtocolError("used the fast extension without having offered it")

    def on_choke(self, _: m.Choke) -> None:
        self.choking = True
        # With the fast extension every request is answered by a piece or a reject (BEP 6); without it they are void.
        if not self.fast:
            self.requests.release()

    def on_unchoke(self, _: m.Unchoke) -> None:
        self.choking = False
        self.requests.refused.clear()

    def on_interested(self, _: m.Interested) -> None:
        if self.interested:
            return
        self.interested = True
        if self._asked_for_slot:
            # interest that comes and goes would be decided on three thousand times a read
            self.swarm.slots_wanted()
        else:
            self._asked_for_slot = True
            self.swarm.slot_asked()

    def on_not_interested(self, _: m.NotInterested) -> None:
        if self.interested:
            self.interested = False
            if not self.am_choking:
                self.set_choking(True, trio.current_time())
                self.swarm.slots_wanted()

    def on_have(self, message: m.Have) -> None:
        self._got_bits = True
        self._has(self._index(message.piece))

    def _has(self, index: int) -> None:
        if not self.bits[index]:
            self._patience_bytes += HAVE_BYTES
            self.bits.set(index)
            if self.swarm.fetch is not None:
                self.swarm.fetch.has(self, index)
            if self.bits.all:
                self.swarm.met_done(self)

    def _take_bits(self, bits: Bitfield) -> None:
        if self._got_bits:
            # BEP 3 wants it first and once; aria2 sends another when that is shorter than many haves. It can only add.
            for index in bits.and_not(self.bits):
                self._has(index)
            return
        self._got_bits = True
        self._patience_bytes += len(bits) >> 3
        self.bits = bits
        if self.swarm.fetch is not None:
            self.swarm.fetch.has_bits(self)
        if bits.all:
            self.swarm.met_done(self)

    def on_bitfield(self, message: m.BitfieldMessage) -> None:
        self._take_bits(Bitfield.from_bytes(len(self.bits), message.payload))

    def on_have_all(self, _: m.HaveAll) -> None:
        self._need_fast()
        if not self.bits.all:  # five bytes that cost as much as a bitfield are not taken again and again
            self._take_bits(Bitfield.full(len(self.bits)))

    def on_have_none(self, _: m.HaveNone) -> None:
        self._need_fast()
        self._got_bits = True

    def on_request(self, message: m.Request) -> None:
        index, begin, length = message
        if not 0 < length <= BLOCK_SIZE or not self.swarm.layout.holds(index, begin, length):
            raise ProtocolError(f"asked for {length} bytes at {begin} of piece {index}")
        allowed = (not self.am_choking or index in self.swarm.fast_for(self)) and self.swarm.serves(index)
        if allowed and self.uploads.push(message):
            self._patience_bytes += REQUEST_BYTES
            if self.uploads.had(message):
                self.taking.repeated()
            else:
                self.taking.asked(self.last_received_at)
            return
        if allowed:
            self.taking.repeated()
        if self.fast:
            self.say(m.pack_reject(index, begin, length))

    def on_cancel(self, message: m.Cancel) -> None:
        if not self.uploads.cancel((message.piece, message.begin, message.length)):
            return
        self._patience_bytes -= REQUEST_BYTES  # it asked for nothing
        if self.fast:
            self.say(m.pack_reject(*message))

    def on_reject(self, message: m.Reject) -> None:
        self._need_fast()
        if self.requests.rejected(message.piece, message.begin, trio.current_time()):
            self._patience_bytes += REQUEST_BYTES
            self.allowed_fast.discard(message.piece)

    def on_suggest(self, message: m.Suggest) -> None:
        self._need_fast()
        index = self._index(message.piece)
        if self.swarm.fetch is not None:
            self.swarm.fetch.suggested(index)

    def on_allowed_fast(self, message: m.AllowedFast) -> None:
        self._need_fast()
        if len(self.allowed_fast) < ALLOWED_FAST_LIMIT:
            self.allowed_fast.add(self._index(message.piece))

    def on_extended(self, message: m.Extended) -> None:
        if self.swarm.extensions.heard(self, message.number, message.payload, trio.current_time()):
            self._patience_bytes += EXTENDED_HEADER_BYTES + len(message.payload)
        if self.spoken.upload_only:
            self.swarm.met_done(self)

    def on_port(self, message: m.Port) -> None:
        """Its DHT node's (BEP 5); said again and again it is said once."""
        if not self._told_port:
            self._told_port = True
            self.swarm.dht_node(Address(self.address.host, message.port))

    # -- once a second --------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Rates, timeouts, keep-alive; raises `PeerGone` when there is nobody left to talk to."""
        self._patience_bytes = min(self._patience_bytes + PATIENCE_BYTES_PER_S, MOST_PATIENCE_BYTES)
        self.pipeline.set_limit(self.swarm.download_throttle.rate_per_s)
        if self._held_back:
            self.last_received_at = self.moved_at = now
        if self.taking.concerns_us and self.taking.tick(
            now, waiting=bool(self.uploads), unread_bytes=self.transport.unread_bytes()
        ):
            self.swarm.slots_wanted()
        if now - self.last_received_at > SILENCE_LIMIT_S:
            raise PeerGone("silent for too long")
        self.requests.tick(now, held_back=self._held_back)
        if now - self._sender.last_sent_at > KEEP_ALIVE_AFTER_S and not self._sender.waiting_bytes:
            self.say(m.KEEP_ALIVE)
        self.flush()

    def uselessness(self, now: float) -> float:
        """1 and more: gives way when somebody knocks at a full house."""
        idle_s = now - self.moved_at
        if self.requests.owed:
            # that it was not asked before, because memory was short, is our doing
            idle_s = min(idle_s, self.pipeline.silent_s(now))
        fair = self.taking.reads(now) and not self.taking.repeats
        return uselessness(
            idle_s=idle_s if fair else now - self.joined_at,
            proven=self.useful and fair,
            wants=self.interested,
            takes=self.taking.takes(now),
            has=self.am_interested,
            owes=bool(self.requests.owed) or self.pipeline.snubbed,
            seeding=self.swarm.fetch is None,
        )

    def may_ask(self) -> Collection[int] | None:
        """Pieces that may be requested now: None for all, a (possibly empty) set while choked."""
        return self.allowed_fast if self.choking else None


ACTIONS: Final[dict[type, Callable[[Peer, Any], None]]] = {
    m.Choke: Peer.on_choke,
    m.Unchoke: Peer.on_unchoke,
    m.Interested: Peer.on_interested,
    m.NotInterested: Peer.on_not_interested,
    m.Have: Peer.on_have,
    m.BitfieldMessage: Peer.on_bitfield,
    m.HaveAll: Peer.on_have_all,
    m.HaveNone: Peer.on_have_none,
    m.Request: Peer.on_request,
    m.Cancel: Peer.on_cancel,
    m.Reject: Peer.on_reject,
    m.Suggest: Peer.on_suggest,
    m.AllowedFast: Peer.on_allowed_fast,
    m.Extended: Peer.on_extended,
    m.Port: Peer.on_port,
}
