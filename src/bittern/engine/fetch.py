"""The downloading half of a swarm: what is asked of whom, and what becomes of the blocks that come.

Invariants: a piece is in exactly one of *had*, *under way* (`partials`) and *wanted* (the picker's). A partial in
`_open` still has blocks that nobody was asked for. Every buffer of a partial was granted by `PieceBuffers` and goes
back to it, directly or through the disk (`verifying`); before one changes hands, every peer in the middle of filling it
is diverted.
"""

from collections.abc import Collection
from typing import Final, Protocol

from bittern.disk.buffers import TURN_BYTES, PieceBuffers
from bittern.disk.disk import Verdict
from bittern.engine.peer import Peer
from bittern.engine.requests import BLOCK_MASK, EMPTY_HANDED_S, KEY_SHIFT
from bittern.engine.stalls import Stalls, is_idle
from bittern.engine.verifying import Verified, Verifying
from bittern.errors import StorageError
from bittern.policy.partial import Partial
from bittern.policy.picker import Picker
from bittern.policy.roster import Roster
from bittern.proto.bitfield import Bitfield
from bittern.proto.messages import pack_cancels, pack_have, pack_requests
from bittern.terms import BLOCK_SIZE, PieceIndex

LARGE_SPAN_BYTES: Final = 1024 * 1024
"""Pieces too large to be held whole are granted, written and forgotten in spans of this size."""

EAGER_SHARE: Final = 200
EAGER_BLOCKS: Final = 32
"""Of the last two-hundredth of a torrent (at most so many blocks) each may be asked of a second peer at once: the end
must not hang on one of fifty, and what comes twice stays below a hundredth.
"""

DUPLICATES_AT_MOST: Final = 8
"""Blocks that one idle peer is asked for a second time in the endgame, per turn."""

TRIAL_SHARE: Final = 4
LEAST_TRIALS: Final = 2
"""Pieces that peers without a good piece to their credit may hold together: a quarter of what memory has room for. With
the first good piece, a second or so after it came, a peer is free of this.
"""

RANDOM_FIRST_PIECES: Final = 4
"""With fewer than these we take any piece: it is quickly ours and gives us something to trade."""


class Crowd(Verified, Protocol):
    """What fetching needs of the swarm around it."""

    roster: Roster

    def now(self) -> float:
        """The loop's clock."""

    def wasted(self, payload_bytes: int) -> None:
        """Bytes that came for nothing."""

    def piece_poisoned(self, index: int, contributors: set[Peer]) -> None:
        """A piece did not match its hash."""

    def fail(self, error: Exception) -> None:
        """The torrent cannot go on."""


class Fetch:
    """Picker, partials and requests of one incomplete torrent."""

    def __init__(
        self, crowd: Crowd, have: Bitfield, piece_hashes: bytes, buffers: PieceBuffers, picker: Picker
    ) -> None:
        self._crowd = crowd
        self._layout = crowd.layout
        self._have = have
        self._buffers = buffers
        self.picker = picker
        self.partials: dict[int, Partial] = {}
        self._open: dict[int, Partial] = {}
        self._alone: dict[int, Peer] = {}
        """Pieces fetched from one peer only, to find out whether it lies (parole)."""
        self._trial: dict[int, set[Peer]] = {}
        """Pieces that peers who proved nothing yet were asked for, and which: those who did leave them alone, so that
        neither blocks that never come nor bad ones hold up what the others bring.
        """
        self._starved = False
        """A buffer was refused; `buffer_available` will tell when asking again makes sense."""
        self._turn_bytes = self._layout.piece_length
        """What is taken in one turn where memory is short."""
        self._stalls = Stalls(buffers)
        large = self._layout.piece_count > 0 and self._layout.piece_size(0) > buffers.span_limit
        self._span_bytes = LARGE_SPAN_BYTES if large else None
        self._verifying = Verifying(
            crowd, self.partials, piece_hashes, buffers.budget_bytes, self._span_bytes
        )
        blocks = self._layout.total_bytes // BLOCK_SIZE
        trial_bytes = buffers.budget_bytes // TRIAL_SHARE
        self._trials_at_most = max(LEAST_TRIALS, trial_bytes // max(1, self._layout.piece_length))
        self._few_blocks = min(EAGER_BLOCKS, blocks // EAGER_SHARE)

    @property
    def busy(self) -> bool:
        """Has the disk something of ours, or said something that is not settled yet?"""
        return self._verifying.busy

    @property
    def unfinished_blocks(self) -> int:
        """Blocks that have landed in pieces that are not whole."""
        return sum(partial.landed_count for partial in self.partials.values())

    @property
    def unverified_bytes(self) -> int:
        """The same in bytes."""
        return sum(
            min(partial.landed_count * BLOCK_SIZE, partial.size_bytes) for partial in self.partials.values()
        )

    def close(self) -> None:
        """Gives every buffer back. Jobs that the disk still has are told to `piece_written` all the same."""
        for partial in self.partials.values():
            self._drop_buffers(partial)
        self.partials.clear()
        self._open.clear()
        self._verifying.clear()
        self._alone.clear()
        self._trial.clear()
        self._buffers.forget(self)

    # -- what the peers have --------------------------------------------------------------------------------

    def has_bits(self, peer: Peer) -> None:
        """The peer's pieces became known."""
        self.picker.peer_joined(peer.bits)
        peer.set_interested(self.picker.interesting(peer.bits))

    def has(self, peer: Peer, index: int) -> None:
        """The peer got one more piece."""
        self.picker.peer_has(index)
        if not peer.am_interested and self.picker.lacks(index):
            peer.set_interested(True)

    def suggested(self, index: PieceIndex) -> None:
        """BEP 6: cheap for the peer to send now."""
        self.picker.suggested(index)

    def peer_left(self, peer: Peer) -> None:
        """The peer is gone; what it owed is free for others."""
        peer.requests.release()
        self.picker.peer_left(peer.bits)
        for index in [index for index, who in self._alone.items() if who is peer]:
            del self._alone[index]
        self._end_trials(peer)
        self.refill_all()

    def _end_trials(self, peer: Peer) -> None:
        """The peer is gone, or has proved itself."""
        for index in [index for index, who in self._trial.items() if peer in who]:
            self._trial[index].discard(peer)
            if not self._trial[index]:
                del self._trial[index]

    # -- asking ---------------------------------------------------------------------------------------------

    def refill(self, peer: Peer) -> None:
        """Tops up what is asked of a peer: partials first, then new pieces, at the very end doubles."""
        if not peer.am_interested:
            return
        only = peer.may_ask()
        if only is not None and not only:
            return
        ask_again_at = peer.requests.ask_again_at
        if ask_again_at and ask_again_at > self._crowd.now():
            return
        pipeline = peer.pipeline
        room = pipeline.room()
        # Asking in lots saves calls: wait until an eighth of the pipeline is free.
        if room <= 0 or (room < pipeline.depth >> 3 and pipeline.in_flight):
            return
        asks: list[tuple[int, int, int]] = []
        alone = self._crowd.roster.on_parole(peer.address)
        if self._open:
            room -= self._join(peer, self._first_choice(peer), only, room, asks, alone=alone)
        while room > 0 and not self._starved and (peer.trusted or len(self._trial) < self._trials_at_most):
            begun = self._begin(peer, only)
            if begun is None:
                break
            if alone:
                self._alone[begun.index] = peer
            room -= self._ask(peer, begun, room, asks)
        if room > 0 and self._open and (peer.trusted or not self.picker.unbegun):
            room -= self._join(peer, list(self._open.values()), only, room, asks, alone=alone)
        if not asks and not pipeline.in_flight:
            if alone:
                self._take_over(peer, only, room, asks)
            elif not self.picker.unbegun:
                self._ask_again(peer, only, asks)
        if asks:
            pipeline.sent(len(asks), self._crowd.now())
            peer.say(pack_requests(asks))

    def _first_choice(self, peer: Peer) -> list[Partial]:
        """Pieces under way that the peer is to help with before it begins another: with its like."""
        trial = self._trial
        if not trial:
            return list(self._open.values())
        if peer.trusted:
            return [partial for index, partial in self._open.items() if index not in trial]
        return [self._open[index] for index in trial if index in self._open]

    def _join(
        self,
        peer: Peer,
        partials: list[Partial],
        only: Collection[int] | None,
        room: int,
        asks: list[tuple[int, int, int]],
        *,
        alone: bool,
    ) -> int:
        asked = 0
        for partial in partials:
            if asked >= room:
                break
            if self._may_join(peer, partial.index, only, alone=alone):
                asked += self._ask(peer, partial, room - asked, asks)
        return asked

    def given_up(self, peer: Peer) -> None:
        """The peer was asked in vain; what it did not bring is anybody's."""
        self._end_trials(peer)

    def refill_all(self) -> None:
        """Somebody may be able to do more than a moment ago.

        Who owes least comes first: where memory is short, those who once got ahead would else get every buffer that
        comes back, and the others none. But who has proved nothing yet comes after those who have.
        """
        for peer in sorted(self._crowd.peers, key=_owes):
            if peer.pipeline.room() > 0:
                self.refill(peer)
                peer.flush()

    def give_up_stalled(self, now: float) -> None:
        """Once a second, after `refill_all`: pieces that nobody brings do not keep memory that others wait for.

        A peer on parole that brings its piece no more does not keep it from others either.
        """
        for index in [index for index in self._alone if not self.partials[index].requested]:
            if self.partials[index].missing:
                del self._alone[index]
        for peer in self._stalls.silent(self._crowd.peers, now):
            peer.requests.waited_in_vain(now)
            peer.requests.ask_again_at = now + EMPTY_HANDED_S
        for partial in self._stalls.over(self.partials.values(), now, alone=not self._crowd.peers):
            # the buffer of one may have brought another under way, or be this very swarm's next
            if is_idle(partial):
                self._give_up(partial)

    def _may_join(self, peer: Peer, index: int, only: Collection[int] | None, *, alone: bool) -> bool:
        if not peer.bits[index] or index in peer.requests.refused or (only is not None and index not in only):
            return False
        keeper = self._alone.get(index)
        return keeper is peer or (keeper is None and not alone)

    def _take_over(
        self, peer: Peer, only: Collection[int] | None, room: int, asks: list[tuple[int, int, int]]
    ) -> None:
        """A peer on parole has no piece of its own to begin, but there are some that nobody brings any more.

        What others left of them may be bad: then the piece begins anew, and that time it is this peer's alone.
        """
        for partial in list(self._open.values()):
            if room <= 0:
                return
            if not partial.requested and self._may_join(peer, partial.index, only, alone=False):
                if partial.contributors <= {peer}:
                    self._alone[partial.index] = peer
                room -= self._ask(peer, partial, room, asks)

    def _ask(self, peer: Peer, partial: Partial, room: int, asks: list[tuple[int, int, int]]) -> int:
        """Asks for missing blocks of one partial, granting its next span when the granted ones are used up."""
        asked = 0
        while True:
            blocks = partial.take(peer, room - asked)
            self._note(peer, partial, blocks, asks)
            asked += len(blocks)
            if asked >= room or not self._grant(partial):
                break
        if not partial.missing:
            self._open.pop(partial.index, None)
        return asked

    def _note(
        self, peer: Peer, partial: Partial, blocks: list[int], asks: list[tuple[int, int, int]]
    ) -> None:
        index, size, requested = partial.index, partial.size_bytes, peer.requests.owed
        if blocks and not peer.trusted:
            self._trial.setdefault(index, set()).add(peer)
        high = index << KEY_SHIFT
        for block in blocks:
            requested[high | block] = None
            begin = block * BLOCK_SIZE
            left = size - begin
            asks.append((index, begin, min(left, BLOCK_SIZE)))

    def _grant(self, partial: Partial) -> bool:
        """Asks for the buffer of the partial's next span; False when there is none to be had or needed."""
        span = partial.next_ungranted_span()
        if span is None or self._starved:
            return False
        view = self._buffers.request(self, partial.span_range(span)[1], self._turn_bytes)
        if view is None:
            self._starved = True
            return False
        partial.buffers[span] = view
        return True

    def _begin(self, peer: Peer, only: Collection[int] | None) -> Partial | None:
        """A new piece for this peer, with the buffer that it needs; None when either is not to be had."""
        bits = peer.bits
        if peer.requests.refused:
            bits = bits.copy()
            for refused in peer.requests.refused:
                bits.clear(refused)
        index = self.picker.begin(bits, random_first=self._have.count < RANDOM_FIRST_PIECES, fast=only)
        if index is None:
            return None
        partial = Partial(index, self._layout.piece_size(index), span_bytes=self._span_bytes)
        if not self._grant(partial):
            self.picker.reopened(index)
            return None
        self.partials[index] = self._open[index] = partial
        return partial

    def _ask_again(self, peer: Peer, only: Collection[int] | None, asks: list[tuple[int, int, int]]) -> None:
        """Endgame: every block has been asked for and this peer has nothing to do. It takes over from who will be
        done last what that one will come to last, if that saves time; of the very last blocks each is asked of two.
        """
        now = self._crowd.now()
        eager = sum(partial.requested for partial in self.partials.values()) <= self._few_blocks
        owing = [other for other in self._crowd.peers if other is not peer and other.requests.owed]
        if not eager:
            owing = [other for other in owing if other.pipeline.late(now, peer.pipeline)]
        if not owing:
            return
        last = max(owing, key=lambda other: other.pipeline.done_in_s(now))
        room = min(peer.pipeline.room(), last.pipeline.share_of(peer.pipeline, now), DUPLICATES_AT_MOST)
        for key in reversed(last.requests.owed):
            if room <= 0:
                return
            index, block = key >> KEY_SHIFT, key & BLOCK_MASK
            partial = self.partials.get(index)
            if partial is None or not self._may_join(peer, index, only, alone=False):
                continue
            if eager and len(partial.others_requesting(block, peer)) > 1:
                continue
            if partial.ask_again(peer, block):
                self._note(peer, partial, [block], asks)
                room -= 1

    def buffer_available(self) -> None:
        """From the piece buffers: somebody gave one back, and it is our turn. Runs in whoever gave it back."""
        self._starved = False
        self._crowd.contained(self.refill_all)

    def release_block(self, peer: Peer, index: int, block: int) -> None:
        """The peer will not send that block."""
        partial = self.partials.get(index)
        if partial is not None:
            partial.release(peer, block)
            if partial.missing:
                self._open[index] = partial

    # -- landing --------------------------------------------------------------------------------------------

    def came(self, blocks: int, owed: int) -> None:
        """What was asked for and lay here already, all of it, waited for us: more of it at a time costs less. But where
        we wait for the peer, what is asked for ahead only keeps memory from others.
        """
        if not owed and blocks * BLOCK_SIZE >= self._turn_bytes:
            self._turn_bytes = min(2 * self._turn_bytes, TURN_BYTES)
        elif blocks < owed:
            self._turn_bytes = max(self._turn_bytes // 2, self._layout.piece_length)

    def block_landed(self, peer: Peer, partial: Partial, block: int) -> None:
        """A block lies in its place: the per-block path."""
        rivals = partial.others_requesting(block, peer)
        if rivals:
            self._cancel(rivals, partial, block)
        if partial.landed(block, peer) and partial.span_landed(block):
            self._verifying.landed(partial, partial.span_of(block))

    def _cancel(self, rivals: list[Peer], partial: Partial, block: int) -> None:
        begin = block * BLOCK_SIZE
        cancel = pack_cancels([(partial.index, begin, min(BLOCK_SIZE, partial.size_bytes - begin))])
        key = partial.index << KEY_SHIFT | block
        for rival in rivals:
            rival.requests.cancel(key, cancel)
            rival.requests.brings_nothing(self._crowd.now())

    def settle(self) -> None:
        """What the disk said since the last time, in the swarm's own task."""
        good: list[int] = []
        for partial, outcome in self._verifying.settle():
            if isinstance(outcome, StorageError):
                self._give_up(partial)
                self._crowd.fail(outcome)
            elif outcome is Verdict.VERIFIED:
                self._good(partial)
                good.append(partial.index)
            else:
                self._poisoned(partial)
        if good:
            self._tell_all(good)

    def _good(self, partial: Partial) -> None:
        index = partial.index
        del self.partials[index]
        self._open.pop(index, None)
        self._verifying.forget(index)
        self._alone.pop(index, None)
        self._trial.pop(index, None)
        self.picker.done(index)
        for peer in partial.contributors:
            if not peer.trusted:
                peer.trusted = True
                self._end_trials(peer)
        if len(partial.contributors) == 1:
            for peer in partial.contributors:
                self._crowd.roster.cleared(peer.address)

    def _poisoned(self, partial: Partial) -> None:
        contributors: set[Peer] = set(partial.contributors)
        for peer in contributors:
            peer.trusted = False
        self._crowd.wasted(partial.size_bytes)
        self._give_up(partial)
        self._crowd.piece_poisoned(partial.index, contributors)
        self.refill_all()

    def _give_up(self, partial: Partial) -> None:
        """The piece is wanted again from the beginning."""
        index = partial.index
        for peer in self._crowd.peers:
            peer.requests.divert(partial)
            peer.requests.forget_piece(index)
        del self.partials[index]
        self._open.pop(index, None)
        self._verifying.forget(index)
        self._alone.pop(index, None)
        self._trial.pop(index, None)
        self.picker.reopened(index)
        # Last: it may be our own turn for the buffer, and nobody shall be asked for this partial any more.
        self._drop_buffers(partial)

    def _drop_buffers(self, partial: Partial) -> None:
        for span, view in enumerate(partial.buffers):
            if view is not None:
                partial.buffers[span] = None
                self._buffers.release(view)

    def _tell_all(self, indices: list[int]) -> None:
        """`have` to everybody who lacks the pieces; those who have nothing left for us hear that too."""
        packed = [(index, pack_have(index)) for index in indices]
        for peer in self._crowd.peers:
            if not peer.is_seed:
                for index, blob in packed:
                    if not peer.bits[index]:
                        peer.say(blob)
                if peer.am_interested and not peer.requests.owed:
                    peer.set_interested(self.picker.interesting(peer.bits))
            self.refill(peer)
            peer.flush()


def _owes(peer: Peer) -> tuple[bool, int]:
    return (not peer.trusted, peer.pipeline.in_flight)
