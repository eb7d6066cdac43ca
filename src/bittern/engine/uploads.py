"""A peer's requests, and how they become bytes for its socket.

Up to thirty-two requests are answered by one send: their headers and bodies are laid out in one buffer, the bodies
read straight into their places. Neighbouring requests share one `preadv`, so that a leecher who reads a piece in
order costs one read and one send per batch. Nothing is read before the writer has room for it, so a cancel that
comes in time costs nothing.
"""

from collections import OrderedDict
from typing import Final

from bittern.disk.storage import Storage, cut
from bittern.proto.layout import Layout
from bittern.proto.messages import PIECE_HEADER_BYTES, pack_piece_header_into
from bittern.terms import BLOCK_SIZE

BATCH_REQUESTS: Final = 32
"""Half a MiB at a time: fifty leechers cost 0.82 CPU-s/GiB, with sixteen 0.98 (medians of four noisy rounds)."""

HEADERS_BYTES: Final = BATCH_REQUESTS * PIECE_HEADER_BYTES
SEND_BUFFER_BYTES: Final = BATCH_REQUESTS * BLOCK_SIZE + HEADERS_BYTES
QUEUE_LIMIT: Final = 2000
"""Requests that one peer may have waiting, 32 MiB; we announce this number as `reqq` (BEP 10). What is under way to
the peer counts for it too: a gigabit with a round trip of a tenth of a second holds 800 of them."""

Asked = tuple[int, int, int]
"""(piece index, begin, length), checked."""


class UploadQueue:
    """What one peer asked for and has not got yet, in its order."""

    __slots__ = ("_last", "_waiting")

    def __init__(self) -> None:
        self._last: frozenset[Asked] = frozenset()
        """What was sent last."""
        self._waiting: OrderedDict[Asked, None] = OrderedDict()
        """Not a deque: who cancels in a long queue, again and again, must not cost us a walk through it each time.
        Nor a plain dict, which walks over what was taken from its front each time something is taken there.
        """

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, asked: Asked) -> bool:
        """False when the queue is full or has it already."""
        waiting = self._waiting
        before = len(waiting)
        if before >= QUEUE_LIMIT:
            return False
        waiting[asked] = None
        return len(waiting) > before

    def had(self, asked: Asked) -> bool:
        """Is that among what was sent last?"""
        return asked in self._last

    def cancel(self, asked: Asked) -> bool:
        """True when it was still waiting."""
        if asked not in self._waiting:
            return False
        del self._waiting[asked]
        return True

    def clear(self) -> list[Asked]:
        """Forgets everything; gives what it was, for rejects (BEP 6)."""
        dropped = list(self._waiting)
        self._waiting.clear()
        return dropped

    def next_batch(self, bytes_at_most: int) -> list[Asked]:
        """The next requests, at least one (when there is one) and as many as `bytes_at_most` allows."""
        batch: list[Asked] = []
        waiting = self._waiting
        room = bytes_at_most
        while waiting and len(batch) < BATCH_REQUESTS:
            asked, _ = waiting.popitem(last=False)
            room -= asked[2]
            if room < 0 and batch:
                waiting[asked] = None
                waiting.move_to_end(asked, last=False)
                break
            batch.append(asked)
        self._last = frozenset(batch)
        return batch

    def put_back(self, batch: list[Asked]) -> None:
        """Of which nothing was sent: it is the next again."""
        for asked in reversed(batch):
            self._waiting[asked] = None
            self._waiting.move_to_end(asked, last=False)


class SendBuffers:
    """Recycled send buffers: a peer borrows one while it has a batch under way.

    Slow peers have theirs nearly always, and those who ask and do not read for good: when so many are lent out the
    next ones hold a single block each, which costs processor time instead of memory. Where none is kept, who asks for
    little gets one of that size: whoever wakes a torrent asks for a block or two, and to clear half a MiB for that took
    2 ms.
    """

    __slots__ = ("_free", "_idle", "_lent")
    KEPT: Final = 16
    LENT_AT_MOST: Final = 64
    FEW: Final = 4
    """Requests."""

    def __init__(self) -> None:
        self._free: list[memoryview] = []
        self._lent = 0
        self._idle = 0
        """So many were free all the time since `trim`."""

    @property
    def kept_bytes(self) -> int:
        """Held for those who come next."""
        return len(self._free) * SEND_BUFFER_BYTES

    def borrow(self, requests: int) -> memoryview:
        """One with room for a block at least; so many requests are waiting."""
        if self._lent >= self.LENT_AT_MOST:
            return memoryview(bytearray(BLOCK_SIZE + HEADERS_BYTES))
        if requests <= self.FEW and not self._free:
            return memoryview(bytearray(requests * BLOCK_SIZE + HEADERS_BYTES))
        self._lent += 1
        if not self._free:
            return memoryview(bytearray(SEND_BUFFER_BYTES))
        self._idle = min(self._idle, len(self._free) - 1)
        return self._free.pop()

    def give_back(self, buffer: memoryview) -> None:
        if len(buffer) == SEND_BUFFER_BYTES:
            self._lent -= 1
            if len(self._free) < self.KEPT:
                self._free.append(buffer)

    def trim(self) -> None:
        """Lets go of one that nobody needed since the last call; called about once a second."""
        if self._idle:
            self._free.pop()
        self._idle = len(self._free)


class Batch:
    """Requests laid out in a send buffer: headers written, bodies to be read into `runs`."""

    __slots__ = ("payload_bytes", "runs", "view")

    def __init__(self, batch: list[Asked], buffer: memoryview, layout: Layout) -> None:
        self.runs: list[tuple[int, list[memoryview]]] = []
        """(torrent offset, views): contiguous bytes of the torrent, scattered over the gaps between headers."""
        self.payload_bytes = 0
        at = 0
        follows = -1
        piece_length, pack = layout.piece_length, pack_piece_header_into
        views: list[memoryview] = []
        for index, begin, length in batch:
            pack(buffer, at, index, begin, length)
            at += PIECE_HEADER_BYTES
            offset = index * piece_length + begin
            if offset != follows:
                views = []
                self.runs.append((offset, views))
            stop = at + length
            views.append(buffer[at:stop])
            at = stop
            follows = offset + length
        self.payload_bytes = at - PIECE_HEADER_BYTES * len(batch)
        self.view = buffer[:at]

    def read_cached(self, storage: Storage) -> bool:
        """Fills the bodies from the page cache, without waiting; False when something would have to wait: that, and
        what follows it, is left in `runs`.
        """
        for at, (offset, views) in enumerate(self.runs):
            done = storage.read_cached(offset, views)
            _, left = cut(views, done)
            if left:
                self.runs[: at + 1] = [(offset + done, left)]
                return False
        return True

    def read(self, storage: Storage) -> None:
        """The same from the disk, in a thread; raises `StorageError`."""
        for offset, views in self.runs:
            storage.read_scattered(offset, views)
