"""One piece under way: which of its blocks are missing, requested or landed, and by whom.

Invariant: missing + requested + landed = all blocks, where a block that several peers were asked for counts once.
A piece normally has one span, itself; a piece too large to be held in memory has several, each with a buffer of its
own that is granted when its blocks are about to be asked for, and handed on when they have landed.
"""

from collections.abc import Hashable
from typing import Any, Final, TypeVar

from bittern.errors import BadBlock
from bittern.terms import BLOCK_SIZE, PieceIndex

MISSING: Final = 0
REQUESTED: Final = 1
LANDED: Final = 2
_MISSING_BYTE: Final = b"\0"

Who = TypeVar("Who", bound=Hashable)


class Partial:
    """`buffers` has one view a span, set and unset by the owner.

    Peers are any hashable objects but tuples, told apart by identity: that is what the per-block path can afford.
    """

    __slots__ = (
        "_low",
        "_requesters",
        "_span_blocks",
        "_span_landed",
        "_span_written",
        "_state",
        "block_count",
        "buffers",
        "contributors",
        "index",
        "landed_count",
        "missing",
        "requested",
        "size_bytes",
        "span_count",
    )

    def __init__(self, index: PieceIndex, size_bytes: int, *, span_bytes: int | None = None) -> None:
        self.index = index
        self.size_bytes = size_bytes
        self.block_count = -(-size_bytes // BLOCK_SIZE)
        self._span_blocks = self.block_count if span_bytes is None else span_bytes // BLOCK_SIZE
        self.span_count = -(-self.block_count // self._span_blocks)
        self.buffers: list[memoryview | None] = [None] * self.span_count
        self._span_landed = [0] * self.span_count
        self._span_written = 0
        self._state = bytearray(self.block_count)
        self._requesters: dict[int, Any] = {}
        """Block to its requester, or to a tuple of them in the endgame."""
        self._low = 0
        """No block below it is missing."""
        self.missing = self.block_count
        self.requested = 0
        self.landed_count = 0
        self.contributors: set[Any] = set()

    # -- spans ----------------------------------------------------------------------------------------------

    def span_of(self, block: int) -> int:
        """The span that the block lies in."""
        return block // self._span_blocks

    def span_range(self, span: int) -> tuple[int, int]:
        """Where the span lies in the piece: (offset, length) in bytes."""
        offset = span * self._span_blocks * BLOCK_SIZE
        return offset, min(self._span_blocks * BLOCK_SIZE, self.size_bytes - offset)

    def next_ungranted_span(self) -> int | None:
        """The first span that has missing blocks and no buffer; None when there is none."""
        at = self._state.find(_MISSING_BYTE, self._low)
        while at >= 0:
            span = at // self._span_blocks
            if self.buffers[span] is None:
                return span
            at = self._state.find(_MISSING_BYTE, (span + 1) * self._span_blocks)
        return None

    def span_landed(self, block: int) -> bool:
        """Have all blocks of that block's span landed?"""
        span = block // self._span_blocks
        first = span * self._span_blocks
        return self._span_landed[span] == min(self._span_blocks, self.block_count - first)

    def span_written(self) -> None:
        """One more span is on the disk."""
        self._span_written += 1

    @property
    def all_written(self) -> bool:
        """Is every span on the disk?"""
        return self._span_written == self.span_count

    @property
    def complete(self) -> bool:
        """Have all blocks landed?"""
        return self.landed_count == self.block_count

    # -- asking ---------------------------------------------------------------------------------------------

    def take(self, who: Any, n: int) -> list[int]:
        """Up to `n` missing blocks of spans that have a buffer: they are requested by `who` from now on."""
        taken: list[int] = []
        state, buffers, requesters = self._state, self.buffers, self._requesters
        at = state.find(_MISSING_BYTE, self._low)
        if at < 0:
            self._low = self.block_count
            return taken
        self._low = at
        while at >= 0 and len(taken) < n:
            span = at // self._span_blocks
            if buffers[span] is None:
                at = state.find(_MISSING_BYTE, (span + 1) * self._span_blocks)
                continue
            state[at] = REQUESTED
            requesters[at] = who
            taken.append(at)
            at = state.find(_MISSING_BYTE, at + 1)
        self.missing -= len(taken)
        self.requested += len(taken)
        return taken

    def ask_again(self, who: Any, block: int) -> bool:
        """Endgame: `who` is asked for a block that others owe; False when nobody owes it, or `who` does already."""
        holders = self._requesters.get(block)
        if holders is None:
            return False
        several = holders if isinstance(holders, tuple) else (holders,)
        if who in several:
            return False
        self._requesters[block] = (*several, who)
        return True

    def others_requesting(self, block: int, who: Any) -> list[Any]:
        """Who else was asked for the block."""
        holders = self._requesters.get(block)
        if not isinstance(holders, tuple):
            return [] if holders is None or holders is who else [holders]
        return [one for one in holders if one is not who]

    def release(self, who: Any, block: int) -> None:
        """`who` will not send the block; it is missing again unless somebody else owes it."""
        holders = self._requesters.get(block)
        if isinstance(holders, tuple):
            rest = tuple(one for one in holders if one is not who)
            self._requesters[block] = rest if len(rest) > 1 else rest[0]
        elif holders is who and holders is not None:
            self._unrequest(block)

    def release_all(self, who: Any) -> int:
        """`who` will send nothing more; gives how many blocks that made missing."""
        before = self.missing
        for block in list(self._requesters):
            self.release(who, block)
        return self.missing - before

    def _unrequest(self, block: int) -> None:
        del self._requesters[block]
        self._state[block] = MISSING
        self.requested -= 1
        self.missing += 1
        self._low = min(self._low, block)

    # -- landing --------------------------------------------------------------------------------------------

    def place(self, begin: int, length: int) -> memoryview | None:
        """Where a block belongs; None when it has landed or its span has no buffer.

        `BadBlock` when it is no block of this piece: nobody was asked for such, and read over it would leave the
        block that it stands for requested for ever.
        """
        block, off = divmod(begin, BLOCK_SIZE)
        if off or block >= self.block_count or length != min(BLOCK_SIZE, self.size_bytes - begin):
            raise BadBlock(f"sent {length} bytes at {begin} of a piece of {self.size_bytes}", self.index)
        if self._state[block] == LANDED:
            return None
        span, block = divmod(block, self._span_blocks)
        view = self.buffers[span]
        return None if view is None else view[block * BLOCK_SIZE : block * BLOCK_SIZE + length]

    def landed(self, block: int, who: Any) -> bool:
        """The block lies in its place; False when it did before."""
        state = self._state[block]
        if state == LANDED:
            return False
        if state == REQUESTED:
            del self._requesters[block]
            self.requested -= 1
        else:
            self.missing -= 1
        self._state[block] = LANDED
        self.landed_count += 1
        self._span_landed[block // self._span_blocks] += 1
        self.contributors.add(who)
        return True
