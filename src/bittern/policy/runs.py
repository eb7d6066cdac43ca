"""Small pieces are begun in runs of neighbours, as if they were a larger piece.

Pieces that are fetched all over a torrent are written all over it: of ten thousand small files with pieces of 64 KiB
each that lies in two pieces is opened twice, and what one write could take takes sixteen. Among pieces that are equally
rare nothing speaks for one that is far away: swarms of larger pieces trade no better. What is rarer always comes first.
"""

from typing import Final

from bittern.proto.bitfield import Bitfield

RUN_BYTES: Final = 1024 * 1024
"""As much as pieces have of which nobody says that they are too large to be traded."""

LEAST_RUNS: Final = 64
"""A torrent has at least so many: who holds different ones has something to trade."""


def run_length(piece_length: int, piece_count: int) -> int:
    """How many pieces a run has; 1: each is begun for itself."""
    return max(1, min(RUN_BYTES // piece_length, piece_count // LEAST_RUNS))


class Runs:
    """The run under way. `levels` are the picker's: a byte a piece, alike for open ones that are equally rare."""

    __slots__ = ("_at", "_end", "_length", "_level")

    def __init__(self, length: int) -> None:
        self._length = length
        self._level = self._at = self._end = 0

    def begin(self, levels: bytearray, bits: Bitfield, index: int) -> int:
        """Where to begin instead of at `index`: where its run does."""
        if self._length == 1:
            return index
        self._level = levels[index]
        start = index - index % self._length
        self._end = start + self._length
        first = levels.find(self._level, start, index)
        if first >= 0 and bits[first]:
            index = first
        self._at = index + 1
        return index

    @property
    def level(self) -> int | None:
        """Of the run under way; None when there is none."""
        return self._level if self._at < self._end else None

    def end(self) -> None:
        """Something else comes first."""
        self._at = self._end

    def reopened(self, index: int) -> None:
        """A piece that was begun is not after all: if it was the last one, the run goes on with it."""
        if self._at < self._end and index == self._at - 1:
            self._at = index

    def follow(self, levels: bytearray, bits: Bitfield) -> int | None:
        """The next piece of the run under way; None when it is over, or the peer lacks that piece."""
        index = levels.find(self._level, self._at, self._end)
        if index < 0:
            self._at = self._end
            return None
        if not bits[index]:
            return None
        self._at = index + 1
        return index
