"""One connection to somebody who may have the info dictionary that we lack: only extension messages count."""

from typing import Final, Protocol

import trio

from bittern.engine.extensions import Extensions, Spoken
from bittern.engine.throttle import RateLimit
from bittern.errors import PeerGone, ProtocolError
from bittern.net.transport import PeerTransport, receive_buffer
from bittern.policy.pipeline import Pipeline
from bittern.proto import messages as m
from bittern.proto.extended_decoder import ExtendedDecoder
from bittern.proto.handshake import Handshake
from bittern.terms import Address, PeerId

AT_A_TIME_BYTES: Final = 64 * 1024
"""Four pieces of metadata."""

MOST_UNASKED_BYTES: Final = 4 * 1024 * 1024
"""What a peer may send beside metadata: a bitfield of 1 MiB, and haves."""


class Home(Protocol):
    """A swarm without metadata, as its peers meet it."""

    extensions: Extensions
    download_throttle: RateLimit


class MetadataPeer:
    """Fills `Partner`. Owned by its swarm; `run` ends with the connection."""

    __slots__ = (
        "_decoder",
        "_swarm",
        "_unasked_bytes",
        "address",
        "client",
        "extended",
        "fast",
        "id",
        "joined_at",
        "listens_on",
        "offers",
        "outbound",
        "pipeline",
        "scope",
        "spoken",
        "transport",
        "useful",
    )

    def __init__(
        self, swarm: Home, transport: PeerTransport, handshake: Handshake, *, outbound: bool
    ) -> None:
        now = trio.current_time()
        self._swarm = swarm
        self._decoder = ExtendedDecoder()
        self._unasked_bytes = 0
        self.transport = transport
        self.address = transport.remote
        self.id: PeerId = handshake.peer_id
        self.extended = handshake.extended
        self.fast = handshake.fast
        self.outbound = outbound
        self.listens_on: Address | None = transport.remote if outbound else None
        self.client = ""
        self.spoken = Spoken(now)
        self.pipeline = Pipeline(now)
        self.joined_at = now
        self.offers = False
        """It says that it has the metadata."""
        self.useful = False
        self.scope = trio.CancelScope()

    @property
    def is_seed(self) -> bool:
        return False

    @property
    def held_bytes(self) -> int:
        return self._decoder.held_bytes

    async def run(self) -> None:
        """Reads until the connection ends; raises what ended it."""
        try:
            with self.scope:
                await self._read()
        finally:
            self.transport.close()

    def close(self) -> None:
        """Ends the connection from outside, without blame."""
        self.scope.cancel()

    async def _read(self) -> None:
        transport = self.transport
        buffer = receive_buffer()[:AT_A_TIME_BYTES]
        while True:
            throttle = self._swarm.download_throttle
            if throttle.limited:
                await transport.wait_readable()
                granted = await throttle.acquire(AT_A_TIME_BYTES)
                got = transport.receive_nowait(buffer[:granted])
                throttle.give_back(granted - (got or 0))
            else:
                got = transport.receive_nowait(buffer)
            if got is None:
                await transport.wait_readable()
                continue
            if got == 0:
                raise PeerGone("closed by the peer")
            # Nothing below awaits before the buffer is parsed: that is what lets all peers share it.
            self._unasked_bytes += got
            now = trio.current_time()
            for message in self._decoder.feed(buffer[:got]):
                if self._swarm.extensions.heard(self, message.number, message.payload, now):
                    self._unasked_bytes -= len(message.payload)
            if self._unasked_bytes > MOST_UNASKED_BYTES:
                raise ProtocolError("sends and sends what nobody asked for")
            await trio.lowlevel.checkpoint()

    def greet(self, handshake: bytes = b"") -> None:
        """Says who we are, and that we have nothing (BEP 6, 10)."""
        self.say(handshake + (m.HAVE_NONE if self.fast else b"") + self._swarm.extensions.greeting(self))

    def say(self, blob: bytes) -> None:
        """Sends it. What we have to say is short: whose connection does not take it at once is let go."""
        try:
            if self.transport.send_nowait(blob) == len(blob):
                return
        except OSError:
            pass
        self.close()

    def flush(self) -> None:
        """Nothing waits."""
