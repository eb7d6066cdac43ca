"""Checking pieces that lie on disk, at the speed of SHA-1.

Synchronous, for worker threads: hashing and reading both release the interpreter lock, so several slices of
one check run on several cores. The caller hands slices of some 16 MiB, each with its own buffer, and may stop
between them.
"""

import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

from bittern.disk.storage import Storage
from bittern.errors import StorageError
from bittern.proto.layout import Layout

READ_BYTES: Final = 1 << 19
"""A good size for the read buffer: larger ones fall out of the processor's cache between read and hash."""


class Readable(Protocol):
    """A torrent's bytes: a `Storage`, or a `SequentialReader` over one."""

    def read_if_there(self, offset: int, view: memoryview) -> bool:
        """Fills the view; False when a file is missing or too short."""


def hash_pieces(
    source: Readable, layout: Layout, piece_hashes: bytes, indices: Sequence[int], buffer: bytearray
) -> list[int]:
    """Those of the pieces `indices` (ascending) whose bytes on disk fit `piece_hashes`, 20 bytes a piece.

    Missing or short files make their pieces unfit; any other trouble of the disk is a `StorageError`.
    Neighbouring pieces smaller than `buffer` are read together.
    """
    verified: list[int] = []
    view = memoryview(buffer)
    length = layout.piece_length
    together = len(buffer) // length
    # to copy it costs less than to ask the library for a new one: of pieces of 1 KiB that was a fifth of the time
    empty = hashlib.sha1()
    at = 0
    while at < len(indices):
        end = min(at + together, len(indices))
        while end > at + 1 and indices[end - 1] - indices[at] >= end - at:
            # one of them is left out in between: half as many, until none is
            end = at + (end - at + 1) // 2
        run = indices[at : max(end, at + 1)]
        at += len(run)
        filled = view[: layout.bytes_of(run)]
        if len(run) > 1 and source.read_if_there(layout.piece_offset(run[0]), filled):
            digests = []
            # once for each piece: of a small torrent of a thousand pieces this is most of the check
            for begin in range(0, len(filled), length):
                sha1 = empty.copy()
                sha1.update(filled[begin : begin + length])
                digests.append(sha1.digest())
            expected = piece_hashes[20 * run[0] : 20 * run[0] + 20 * len(run)]
            if b"".join(digests) == expected:
                verified += run
            else:
                verified += [
                    index
                    for at_run, (index, digest) in enumerate(zip(run, digests, strict=True))
                    if digest == expected[20 * at_run : 20 * at_run + 20]
                ]
        else:
            for index in run:
                offset, size = layout.piece_offset(index), layout.piece_size(index)
                if hash_range(source, offset, size, buffer) == piece_hashes[20 * index : 20 * index + 20]:
                    verified.append(index)
    return verified


def hash_range(
    source: Readable, offset: int, length: int, buffer: bytearray, sha1: "hashlib._Hash | None" = None
) -> bytes | None:
    """SHA-1 over a range on disk, read through `buffer`; None when a file is missing or too short.

    `sha1` has taken in what comes before it.
    """
    sha1 = sha1 or hashlib.sha1()
    view = memoryview(buffer)
    end = offset + length
    while offset < end:
        part = view[: min(len(buffer), end - offset)]
        if not source.read_if_there(offset, part):
            return None
        sha1.update(part)
        offset += len(part)
    return sha1.digest()


def hash_range_or_raise(
    storage: Storage, offset: int, length: int, buffer: bytearray, sha1: "hashlib._Hash | None" = None
) -> bytes:
    """The same where the bytes were written before: their absence is a `StorageError`."""
    digest = hash_range(storage, offset, length, buffer, sha1)
    if digest is None:
        raise StorageError(
            f"{storage.folder}: files that were just written are missing or shorter", path=storage.folder
        )
    return digest
