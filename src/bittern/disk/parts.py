"""Where the bytes of skipped files go that come with a piece of a wanted one.

A piece is verified, served and checked again as a whole, so its bytes in a skipped file have to be kept. They are kept
in one sparse file of bittern's own, each at its offset in the torrent: no file appears that nobody asked for, and
nothing has to be noted of where what lies. It stays where it is when the torrent's data is moved.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from bittern.proto.bitfield import Bitfield
from bittern.proto.layout import Layout

PARTS: Final = -1
"""Takes the place of a file's number where the one file is meant that holds the bytes of several."""

STAT_BLOCK_BYTES: Final = 512
"""The unit of `st_blocks`, whatever the file system's own is."""


@dataclass(frozen=True, slots=True)
class Parts:
    """`files` lie at `path`; they are those of the `skipped` ones that are not at their own places."""

    path: str = ""
    files: frozenset[int] = frozenset()
    skipped: frozenset[int] = frozenset()

    def open(self, writable: bool) -> int:
        """A descriptor; made when it is to be written to. `OSError`."""
        flags = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        return os.open(self.path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def unallocated_bytes(self, layout: Layout, wanted: Bitfield | None) -> int:
        """How much of what they will hold has no room on the disk yet. `wanted` pieces, None for all."""
        apart = 0
        for index in self.files:
            pieces = layout.pieces_of_file(index)
            begin, end = layout.file_offset(index), layout.file_offset(index) + layout.lengths[index]
            # those between are the file's alone
            for piece in {pieces[0], pieces[-1]} if pieces else ():
                if wanted is None or wanted[piece]:
                    start = layout.piece_offset(piece)
                    apart += min(end, start + layout.piece_size(piece)) - max(begin, start)
        try:
            blocks = os.stat(self.path, follow_symlinks=False).st_blocks if apart else 0  # noqa: PTH116 — a stat
        except OSError:
            blocks = 0
        return max(0, apart - blocks * STAT_BLOCK_BYTES)


NO_PARTS: Final = Parts()


def pack_files(files: Iterable[int], count: int) -> bytes:
    """A set of file numbers as bits; b"" for none."""
    bits = Bitfield(count)
    for index in files:
        bits.set(index)
    return b"" if bits.none else bits.to_bytes()


def unpack_files(packed: bytes, count: int) -> frozenset[int]:
    """The reverse; none when it is no such thing."""
    if len(packed) != (count + 7) // 8 or not packed:
        return frozenset()
    return frozenset(index for index in range(count) if packed[index >> 3] & 0x80 >> (index & 7))
