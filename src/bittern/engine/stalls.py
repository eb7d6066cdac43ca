"""Pieces that nobody brings do not keep memory that others wait for.

Memory is lent before the first block is asked for, so whoever answers no request holds it, also of other torrents. A
piece that gives its memory back is begun anew later, and what has landed of it comes twice; so the more has, the longer
it may stay.
"""

from collections.abc import Collection, Iterable
from typing import Final

from bittern.disk.buffers import PieceBuffers
from bittern.engine.peer import Peer
from bittern.policy.partial import Partial

FIRST_BLOCK_S: Final = 8.0
"""Who was asked and has never sent a block, or was asked in vain before, is not waited for longer where others wait for
memory."""

ALONE_S: Final = 5.0
"""A torrent that nobody is connected to waits so long: who left by accident is often back at once."""

STALLED_S: Final = 60.0
"""While there are peers, though none who may be asked: two rounds of choking are half of it."""


class Stalls:
    """One swarm's; looked at once a second."""

    def __init__(self, buffers: PieceBuffers) -> None:
        self._buffers = buffers
        self._landed: dict[Partial, tuple[int, float]] = {}
        """How many blocks, since when."""

    def silent(self, peers: Iterable[Peer], now: float) -> list[Peer]:
        """Who is to be asked for nothing for a while, so that others may have the memory for it."""
        if not self._buffers.wanted:
            return []
        return [
            peer
            for peer in peers
            if peer.requests.owed
            and (peer.pipeline.snubbed or not peer.useful)
            and peer.pipeline.silent_s(now) > FIRST_BLOCK_S
        ]

    def over(self, partials: Collection[Partial], now: float, *, alone: bool) -> list[Partial]:
        """What is to give its memory back; `alone`: there are no peers."""
        before = self._landed
        self._landed = {
            partial: before[partial]
            if partial in before and before[partial][0] == partial.landed_count
            else (partial.landed_count, now)
            for partial in partials
        }
        buffers = self._buffers
        wanted = buffers.wanted
        if not wanted and 2 * buffers.in_use_bytes <= buffers.budget_bytes:
            return []
        may_stay_s = ALONE_S if alone and wanted else STALLED_S
        return [
            partial
            for partial, (landed, since) in self._landed.items()
            if is_idle(partial) and (now - since > may_stay_s or (wanted and not landed))
        ]


def is_idle(partial: Partial) -> bool:
    """Does it lack blocks that nobody was asked for, and no others?"""
    return partial.missing > 0 and not partial.requested
