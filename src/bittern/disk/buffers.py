"""Piece buffers: a byte budget, handed out in fair order, and recycled.

A buffer is granted before the first block of its piece is requested, so nothing behind it can overflow. Fresh
memory is the dear part (its page faults cost more than hashing what lands in it), so a buffer that comes back
is kept for the next piece of about that size and let go only when another size needs the room or traffic has
stopped.

Where several wait they take turns. A turn may be of several small pieces: asked for together they come together, and
what a torrent costs is paid once for all of them. How much is for the owner to say, for memory waits with its peers.

Invariant: buffers out and buffers kept together stay within the budget, but for one buffer that alone is
larger than it. Loop thread only; a worker that fills or hashes a buffer neither takes nor returns it.
"""

from collections import OrderedDict
from typing import Final, Protocol

from bittern.terms import BLOCK_SIZE

SIZES_PER_DOUBLING: Final = 4
"""Sizes are rounded up to a quarter of a power of two: short last pieces find a kept buffer, at most a
quarter is lost.
"""

SPAN_SHARE: Final = 8
"""A piece larger than this share of the budget is granted in spans: with room for four buffers only, the line, the
hashing and the disk wait for each other.
"""

TURN_BYTES: Final = 1024 * 1024
TURN_SHARE: Final = 64
"""What one who waited may take in its turn at most, and that it is no larger share of the budget: so many may have
theirs at the same time, and those whose peers fall silent hold little.
"""

TRIM_SHARE: Final = 16
"""`trim` lets go of one in so many idle buffers a call, so at one call a second they are gone within a
minute.
"""


class BufferOwner(Protocol):
    """Who asks for buffers: a swarm."""

    def buffer_available(self) -> None:
        """There may be room now; the first `request`s made in here are served before everybody else's."""


class PieceBuffers:
    """Lends out exact-size views of recycled bytearrays.

    An owner that gets None is remembered once, in order of asking, and poked when its turn has come and there is room
    for all of it. It then gets that, or a single larger buffer, before it stands in line again. So what a release costs
    depends on what became free, not on how many wait.
    """

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._out: dict[int, bytearray] = {}
        self._out_bytes = 0
        self._kept: dict[int, list[bytearray]] = {}
        self._kept_bytes = 0
        self._least_kept: dict[int, int] = {}
        self._waiting: OrderedDict[BufferOwner, int] = OrderedDict()
        """And what has to be free for their turn. Not a plain dict, which walks over what was taken from its front."""
        self._turn: BufferOwner | None = None
        self._turn_took = self._turn_left = 0
        self._poking = False

    @property
    def budget_bytes(self) -> int:
        """The bytes that may be out and kept."""
        return self._budget

    @property
    def span_limit(self) -> int:
        """The largest piece that is granted whole; a larger one is granted in spans."""
        return self._budget // SPAN_SHARE

    @property
    def in_use_bytes(self) -> int:
        """Bytes lent out now, rounded as they are accounted."""
        return self._out_bytes

    @property
    def wanted(self) -> bool:
        """Does anybody wait for a buffer?"""
        return bool(self._waiting)

    @property
    def kept_bytes(self) -> int:
        """Bytes held for the next request."""
        return self._kept_bytes

    def request(self, owner: BufferOwner, size: int, turn: int = 0) -> memoryview | None:
        """A view of exactly `size` bytes (their content is arbitrary), or None: then `owner` will be poked. `turn`: so
        many bytes it would take together then.
        """
        if size <= 0:
            raise ValueError(f"a buffer of {size} bytes")
        capacity = _capacity(size)
        my_turn = owner is self._turn
        if self._fits(capacity) and (self._nobody_before(owner) or (my_turn and capacity <= self._turn_left)):
            if my_turn:
                self._turn_took += capacity
                self._turn_left -= capacity
            return self._grant(capacity, size)
        self._waiting[owner] = max(capacity, min(turn, TURN_BYTES, self._budget // TURN_SHARE))
        if my_turn:
            self._turn = None
            if not self._turn_took:
                self._waiting.move_to_end(owner, last=False)
        return None

    def release(self, *views: memoryview) -> None:
        """Takes granted views back; the caller keeps no slice of them. Owners in line are poked before this returns,
        once for all.
        """
        for view in views:
            buffer = view.obj
            if self._out.pop(id(buffer), None) is None:
                raise ValueError("a buffer that is not out is returned")
            assert isinstance(buffer, bytearray)
            capacity = len(buffer)
            self._out_bytes -= capacity
            if self._out_bytes + self._kept_bytes + capacity <= self._budget:
                self._kept.setdefault(capacity, []).append(buffer)
                self._kept_bytes += capacity
        self._poke()

    def forget(self, owner: BufferOwner) -> None:
        """Takes the owner out of the line; what it holds it still has to release."""
        self._waiting.pop(owner, None)
        if self._turn is owner:
            self._turn = None
        self._poke()

    def set_budget(self, budget_bytes: int) -> None:
        """A new budget; buffers already out stay out."""
        self._budget = budget_bytes
        self._evict(budget_bytes - self._out_bytes)
        self._poke()

    def trim(self) -> None:
        """Lets go of some buffers that nobody needed since the last call; called about once a second."""
        for capacity, kept in list(self._kept.items()):
            idle = self._least_kept.get(capacity, 0)
            surplus = -(-idle // TRIM_SHARE)
            del kept[:surplus]
            self._kept_bytes -= surplus * capacity
            if kept:
                self._least_kept[capacity] = len(kept)
            else:
                del self._kept[capacity]
                self._least_kept.pop(capacity, None)

    def _fits(self, capacity: int) -> bool:
        return self._out_bytes + capacity <= self._budget or self._out_bytes == 0

    def _nobody_before(self, owner: BufferOwner) -> bool:
        return not self._waiting and self._turn in {None, owner}

    def _grant(self, capacity: int, size: int) -> memoryview:
        kept = self._kept.get(capacity)
        if kept:
            buffer = kept.pop()
            self._kept_bytes -= capacity
            if len(kept) < self._least_kept.get(capacity, 0):
                self._least_kept[capacity] = len(kept)
            if not kept:
                del self._kept[capacity]
        else:
            self._evict(self._budget - self._out_bytes - capacity)
            buffer = bytearray(capacity)
        self._out[id(buffer)] = buffer
        self._out_bytes += capacity
        return memoryview(buffer)[:size]

    def _evict(self, room: int) -> None:
        """Lets kept buffers go until they take at most `room` bytes, the largest first."""
        while self._kept_bytes > max(room, 0):
            capacity = max(self._kept)
            kept = self._kept[capacity]
            kept.pop()
            self._kept_bytes -= capacity
            if len(kept) < self._least_kept.get(capacity, 0):
                self._least_kept[capacity] = len(kept)
            if not kept:
                del self._kept[capacity]

    def _poke(self) -> None:
        """Serves the line from its head while the head's turn fits; a release from within is served by the outer
        call.
        """
        if self._poking:
            return
        self._poking = True
        try:
            while self._waiting:
                owner, turn = next(iter(self._waiting.items()))
                if not self._fits(turn):
                    return
                del self._waiting[owner]
                self._turn, self._turn_took, self._turn_left = owner, 0, turn
                owner.buffer_available()
        finally:
            self._turn = None
            self._poking = False


def _capacity(size: int) -> int:
    if size <= BLOCK_SIZE:
        return BLOCK_SIZE
    step = max(BLOCK_SIZE, (1 << (size - 1).bit_length()) // (2 * SIZES_PER_DOUBLING))
    return -(-size // step) * step
