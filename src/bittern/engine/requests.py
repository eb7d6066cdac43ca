"""What one peer was asked for: the blocks that it owes us, and where they go when they come.

Invariants: `owed` has the blocks in the order in which they were asked for, and the pipeline counts as many under
way, but for those that landed since `take_landed`. Whoever is placing a block owes it: what ends the one ends the
other, and before its buffer changes hands the decoder is diverted. `place` and `landed` are the per-block path:
nothing may be added there lightly.
"""

from typing import Final, Generic, Protocol, TypeVar

from bittern.errors import ProtocolError
from bittern.policy.partial import Partial
from bittern.policy.pipeline import Pipeline
from bittern.proto.decoder import Decoder
from bittern.terms import BLOCK_SIZE

SKIPPED_S: Final = 60.0
"""Blocks come about in the order in which they were asked for: one that others overtake for so long was dropped."""

REFUSED_S: Final = 10.0
"""A reject is not for ever: who rejected because its queue was full stays unchoked, and will send the block later."""

EMPTY_HANDED_S: Final = 60.0
"""Who was asked for blocks and has never brought any is not asked again for so long: many such together would else keep
a block each from those who bring them."""

BLOCK_SHIFT: Final = BLOCK_SIZE.bit_length() - 1
KEY_SHIFT: Final = 24
"""A block's key is `index << KEY_SHIFT | block`: room for pieces of 256 GiB."""
BLOCK_MASK: Final = (1 << KEY_SHIFT) - 1


class Giver(Protocol):
    """The peer that was asked."""

    useful: bool
    """It has brought something, or taken something."""

    def brought_unowed(self, length: int) -> None:
        """A block that it did not owe, or not any more."""

    def say(self, blob: bytes) -> None:
        """Queues control bytes."""

    def flush(self) -> None:
        """Sends them."""


G = TypeVar("G", bound=Giver)
G_contra = TypeVar("G_contra", bound=Giver, contravariant=True)


class Asking(Protocol[G_contra]):
    """Who asked, and for what: there is nobody any more once the torrent is complete."""

    @property
    def partials(self) -> dict[int, Partial]:
        """Pieces under way."""

    def block_landed(self, peer: G_contra, partial: Partial, block: int) -> None:
        """A block's body lies in its place."""

    def release_block(self, peer: G_contra, index: int, block: int) -> None:
        """The peer will not send a block it was asked for."""

    def came(self, blocks: int, owed: int) -> None:
        """So many blocks were read together, and the peer still owes so many."""

    def given_up(self, peer: G_contra) -> None:
        """The peer was asked in vain."""


class Requests(Generic[G]):
    """Of one peer. Fills `BlockSink` for its `decoder`."""

    __slots__ = (
        "_asking",
        "_oldest",
        "_oldest_at",
        "_peer",
        "_piece_count",
        "_placing_key",
        "_refused_at",
        "ask_again_at",
        "decoder",
        "landed_blocks",
        "landed_bytes",
        "owed",
        "pipeline",
        "placing",
        "refused",
    )

    def __init__(self, peer: G, asking: Asking[G] | None, *, piece_count: int, now: float) -> None:
        self._peer = peer
        self._asking = asking
        self._piece_count = piece_count
        self.owed: dict[int, None] = {}
        """Keys of blocks."""
        self.pipeline = Pipeline(now)
        self.refused: set[int] = set()
        """Pieces it rejected lately, since its last unchoke: asking again at once would go round in circles."""
        self._refused_at = now
        self.ask_again_at = 0.0
        """It was asked for blocks and never brought one: not before then again."""
        self.decoder = Decoder(self, piece_count=piece_count)
        self.placing: Partial | None = None
        """Whose buffer the decoder is in the middle of filling."""
        self._placing_key = -1
        self.landed_blocks = self.landed_bytes = 0
        """Since `take_landed`."""
        self._oldest = -1
        self._oldest_at = now

    # -- blocks coming in: called by the decoder for each ---------------------------------------------------

    def place(self, index: int, begin: int, length: int) -> memoryview | None:
        """Where a block's body goes; None when it is not owed (never asked for, cancelled, too late): read over."""
        key = index << KEY_SHIFT | begin >> BLOCK_SHIFT
        asking = self._asking
        if key in self.owed and asking is not None:
            partial = asking.partials.get(index)
            if partial is not None:
                view = partial.place(begin, length)
                if view is not None:
                    self.placing = partial
                    self._placing_key = key
                    return view
            self._not_owed(key)
        elif index >= self._piece_count:
            raise ProtocolError(f"sent piece {index} of {self._piece_count}")
        self.ask_again_at = 0.0  # too late, but it does send
        self._peer.brought_unowed(length)
        return None

    def landed(self, index: int, begin: int, length: int) -> None:
        """The body lies in its place."""
        partial, self.placing = self.placing, None
        del self.owed[self._placing_key]
        self.landed_blocks += 1
        self.landed_bytes += length
        asking = self._asking
        if partial is not None and asking is not None:
            asking.block_landed(self._peer, partial, begin >> BLOCK_SHIFT)

    def take_landed(self, now: float) -> tuple[int, int]:
        """Once per receive that brought some: how many blocks have landed since the last time, and their bytes."""
        landed = self.landed_blocks, self.landed_bytes
        self.pipeline.landed(*landed, now)
        self.landed_blocks = self.landed_bytes = 0
        self.ask_again_at = 0.0
        if self._asking is not None:
            self._asking.came(landed[0], len(self.owed))
        return landed

    def divert(self, partial: Partial, span: int | None = None) -> None:
        """The buffer of that span (None: of any) is about to change hands: a block on its way into it is read over."""
        if self.placing is partial and span in {None, partial.span_of(self._placing_key & BLOCK_MASK)}:
            self._stop_placing()

    def _stop_placing(self) -> None:
        self.placing = None
        self.decoder.divert()

    # -- blocks that do not come ----------------------------------------------------------------------------

    def _not_owed(self, key: int) -> bool:
        """The block is not owed any more, whatever the reason; True when it was."""
        if key not in self.owed:
            return False
        del self.owed[key]
        self.pipeline.dropped(1)
        if self.placing is not None and self._placing_key == key:
            # The rest of its body must not be written over what somebody else brings.
            self._stop_placing()
        return True

    def cancel(self, key: int, message: bytes) -> None:
        """Somebody else brought the block."""
        if self._not_owed(key):
            self._peer.say(message)
            self._peer.flush()

    def rejected(self, index: int, begin: int, now: float) -> bool:
        """The peer will not send that block (BEP 6); False when it did not owe it."""
        block = begin >> BLOCK_SHIFT
        if not self._not_owed(index << KEY_SHIFT | block):
            return False
        if self._asking is not None:
            self._asking.release_block(self._peer, index, block)
        self.refused.add(index)
        self._refused_at = now
        return True

    def release(self) -> None:
        """Everything that is owed may be asked of others."""
        owed, self.owed = self.owed, {}
        self.pipeline.dropped(len(owed))
        if self.placing is not None:
            self._stop_placing()
        if self._asking is not None:
            for key in owed:
                self._asking.release_block(self._peer, key >> KEY_SHIFT, key & BLOCK_MASK)

    def end(self) -> None:
        """The torrent is complete: nobody asks any more, and what still comes is read over."""
        self._asking = None
        self.release()

    def forget_piece(self, index: int) -> None:
        """What was asked of that piece is not wanted any more in this shape; answers to it are read over."""
        for key in [key for key in self.owed if key >> KEY_SHIFT == index]:
            self._not_owed(key)

    def brings_nothing(self, now: float) -> None:
        """It was asked, and others were faster or had to be asked instead: it has a while to send its first block."""
        if not self._peer.useful:
            self.ask_again_at = now + EMPTY_HANDED_S

    def waited_in_vain(self, now: float) -> None:
        """What it owes us is asked of others."""
        self.release()
        self.pipeline.give_up()
        if self._asking is not None:
            self._asking.given_up(self._peer)
        self.brings_nothing(now)

    def tick(self, now: float, *, held_back: bool) -> None:
        """Once a second; `held_back`: it has sent something, and it is our limit that keeps us from reading it."""
        if held_back:
            self._oldest_at = now
            self.pipeline.held_back(now)
        self.pipeline.tick(now)
        if self.refused and now - self._refused_at > REFUSED_S:
            self.refused.clear()
        oldest = next(iter(self.owed), -1)
        if oldest != self._oldest:
            self._oldest, self._oldest_at = oldest, now
        if self.owed and (self.pipeline.overdue(now) or now - self._oldest_at > SKIPPED_S):
            self.waited_in_vain(now)
