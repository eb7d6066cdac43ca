"""Pieces, blocks, files: arithmetic and nothing else (BEP 3).

A torrent's bytes are its files one after the other; pieces cut them regardless of where files begin.
"""

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bittern.proto.metainfo import Metainfo
from bittern.terms import BLOCK_SIZE


class FileSlice(NamedTuple):
    """`length` bytes of one file, from `offset`."""

    file_index: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Layout:
    """`lengths` are those of all files in their order, pad files and empty ones among them."""

    piece_length: int
    total_bytes: int
    lengths: tuple[int, ...]
    _starts: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = tuple(itertools.accumulate(self.lengths, initial=0))
        if starts[-1] != self.total_bytes:
            raise ValueError("the files do not add up to the total")
        object.__setattr__(self, "_starts", starts)

    @classmethod
    def of(cls, metainfo: Metainfo) -> "Layout":
        """The layout of that torrent."""
        return cls(metainfo.piece_length, metainfo.total_bytes, tuple(file.length for file in metainfo.files))

    @property
    def piece_count(self) -> int:
        return -(-self.total_bytes // self.piece_length)

    def piece_offset(self, index: int) -> int:
        """Where the piece begins in the torrent's bytes."""
        return index * self.piece_length

    def piece_size(self, index: int) -> int:
        """All pieces are of one length but the last, which ends with the torrent."""
        return min(self.piece_length, self.total_bytes - index * self.piece_length)

    def bytes_of(self, pieces: Sequence[int]) -> int:
        """The bytes of pieces that are named in ascending order."""
        last = self.piece_count - 1
        ends = bool(pieces) and pieces[-1] == last
        return len(pieces) * self.piece_length - (self.piece_length - self.piece_size(last) if ends else 0)

    def holds(self, index: int, begin: int, length: int) -> bool:
        """Is that a part of a piece? No number needs to be checked before, but for signs."""
        inner = begin + length
        return inner <= self.piece_length and index * self.piece_length + inner <= self.total_bytes

    def block_count(self, index: int) -> int:
        """Requests that it takes to get the piece."""
        return -(-self.piece_size(index) // BLOCK_SIZE)

    def file_offset(self, file_index: int) -> int:
        """Where the file begins in the torrent's bytes."""
        return self._starts[file_index]

    def slices(self, offset: int, length: int) -> list[FileSlice]:
        """The parts of files that these bytes of the torrent are, in order; none of them is empty."""
        found: list[FileSlice] = []
        # the last file that begins at or before the offset: empty files before it are passed over
        at = bisect_right(self._starts, offset, 0, len(self.lengths)) - 1
        end = offset + length
        while offset < end:
            stop = min(self._starts[at + 1], end)
            if stop > offset:
                found.append(FileSlice(at, offset - self._starts[at], stop - offset))
                offset = stop
            at += 1
        return found

    def pieces_of_file(self, file_index: int) -> range:
        """Pieces that hold at least one byte of the file."""
        start, length = self._starts[file_index], self.lengths[file_index]
        if not length:
            return range(0)
        return range(start // self.piece_length, (start + length - 1) // self.piece_length + 1)

    def files_of_piece(self, index: int) -> range:
        """Files from the first to the last that the piece has bytes of; empty ones in between are among them."""
        start = self.piece_offset(index)
        first = bisect_right(self._starts, start, 0, len(self.lengths)) - 1
        last = bisect_right(self._starts, start + self.piece_size(index) - 1, 0, len(self.lengths)) - 1
        return range(first, last + 1)
