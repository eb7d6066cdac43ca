"""The sending half of a connection: control bytes at once, blocks a batch at a time, each in its turn.

Invariants: once the first byte of a batch is out nothing else is said before its last. What waits here is bounded: a
peer who does not read what it is told is let go, and of its blocks one batch at a time is read, into a borrowed buffer.
`say` and `flush` never wait and never raise, so anybody may call them; only the one task in `run` waits for the socket.
"""

from collections.abc import Callable
from typing import Final, Protocol

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.storage import Storage
from bittern.engine.throttle import RateLimit
from bittern.engine.uploads import HEADERS_BYTES, Batch, SendBuffers, UploadQueue
from bittern.net.transport import PeerTransport
from bittern.policy.taking import Taking
from bittern.proto.layout import Layout

OUTBOX_LIMIT: Final = 256 * 1024
"""Control bytes that may wait for a peer who does not read, beside a bitfield: haves of 29 000 pieces, then he goes."""

BATCHES_AT_ONCE: Final = 4
"""What one peer is sent before it is others' turn, if its socket takes it: a millisecond's work. Going round fifty
leechers after each batch cost an eighth of all their CPU time."""


class Uploading(Protocol):
    """A swarm, as far as blocks come out of it."""

    layout: Layout
    storage: Storage
    disk: DiskGate
    upload_throttle: RateLimit
    send_buffers: SendBuffers


class Sender:
    """One connection's. `sent` is told of each batch (its payload, when), `lost` that nobody reads there any more."""

    __slots__ = (
        "_home",
        "_in_batch",
        "_lost",
        "_outbox",
        "_outbox_limit",
        "_parked",
        "_sent",
        "_taking",
        "_transport",
        "_uploads",
        "last_sent_at",
    )

    def __init__(
        self,
        home: Uploading,
        transport: PeerTransport,
        uploads: UploadQueue,
        taking: Taking,
        *,
        sent: Callable[[int, float], None],
        lost: Callable[[], None],
    ) -> None:
        self._home = home
        self._transport = transport
        self._uploads = uploads
        self._taking = taking
        self._sent = sent
        self._lost = lost
        self._outbox = bytearray()
        self._outbox_limit = OUTBOX_LIMIT + (home.layout.piece_count >> 3)
        self._in_batch = False
        """A part of a batch is out."""
        self._parked = trio.lowlevel.ParkingLot()
        self.last_sent_at = trio.current_time()

    @property
    def waiting_bytes(self) -> int:
        """Control bytes that the socket did not take yet."""
        return len(self._outbox)

    def say(self, blob: bytes) -> None:
        """Queues control bytes; `flush` sends them."""
        self._outbox += blob
        if len(self._outbox) > self._outbox_limit:
            self._lost()

    def flush(self) -> None:
        """Sends what the socket takes at once and leaves the rest to `run`."""
        if self._outbox and not self._in_batch:
            try:
                self._send_some()
            except OSError:
                self._lost()
                return
        if self._outbox or self._uploads:
            self._parked.unpark()

    def answer(self) -> None:
        """The same for the task that reads, when it has read. The first blocks that a peer asks for, if they are few
        and in memory, go out at once too: `run` would need another turn. Later ones gain by being gathered.
        """
        few = 0 < len(self._uploads) <= SendBuffers.FEW and not self._outbox
        first = few and not self._taking.handed_bytes
        if first and self._parked and not self._home.upload_throttle.limited:
            self._upload_few()
        self.flush()

    def _upload_few(self) -> None:
        """Leaves them where they are when anything would have to wait."""
        home, uploads = self._home, self._uploads
        buffer = home.send_buffers.borrow(len(uploads))
        try:
            asked = uploads.next_batch(len(buffer) - HEADERS_BYTES)
            batch = Batch(asked, buffer, home.layout)
            sent = self._transport.send_nowait(batch.view) if batch.read_cached(home.storage) else 0
            if sent:
                # what was not taken goes out before anything that is said from now on
                self._outbox += batch.view[sent:]
                self._taking.handed_bytes += len(batch.view)
                self._is_out(batch)
            else:
                uploads.put_back(asked)
        except OSError:
            self._lost()
        finally:
            home.send_buffers.give_back(buffer)

    async def run(self) -> None:
        """Waits for the socket where that is needed; raises `OSError` when it fails, `StorageError` of a read."""
        while True:
            if self._outbox:
                await self._send_outbox()
            elif self._uploads:
                await self._upload()
            else:
                await self._parked.park()

    async def _send_outbox(self) -> None:
        while self._outbox:
            if not self._send_some():
                await self._transport.wait_writable()

    def _send_some(self) -> int:
        sent = self._transport.send_nowait(self._outbox)
        if sent:
            del self._outbox[:sent]
            self.last_sent_at = trio.current_time()
        return sent

    async def _upload(self) -> None:
        """Some batches, as long as the socket takes them at once."""
        buffers = self._home.send_buffers
        buffer = buffers.borrow(len(self._uploads))
        try:
            for _ in range(BATCHES_AT_ONCE):
                if await self._send_batch(buffer) or not self._uploads:
                    return
            await trio.lowlevel.checkpoint()
        finally:
            self._in_batch = False
            buffers.give_back(buffer)

    async def _send_batch(self, buffer: memoryview) -> bool:
        """Had it to wait?"""
        home = self._home
        throttle = home.upload_throttle
        waited = False
        asked = self._uploads.next_batch(throttle.portion(len(buffer) - HEADERS_BYTES))
        batch = Batch(asked, buffer, home.layout)
        if not batch.read_cached(home.storage):
            await home.disk.call(batch.read, home.storage)
            waited = True
        view = batch.view
        while view:
            if throttle.limited:
                await self._transport.wait_writable()
                sent = await throttle.send(view, self._send_in_turn)
                waited = True
            else:
                sent = self._send_in_turn(view)
            if sent:
                view = view[sent:]
            else:
                await self._transport.wait_writable()
                waited = True
        self._in_batch = False
        self._is_out(batch)
        return waited

    def _is_out(self, batch: Batch) -> None:
        self.last_sent_at = now = trio.current_time()
        self._sent(batch.payload_bytes, now)

    def _send_in_turn(self, view: memoryview) -> int:
        """Until their turn has come other things may be said; in the middle of them no more."""
        if not self._in_batch and self._outbox:
            self._send_some()
            if self._outbox:
                return 0
        sent = self._transport.send_nowait(view)
        self._in_batch = self._in_batch or sent > 0
        self._taking.handed_bytes += sent
        return sent
