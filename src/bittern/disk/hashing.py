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
    at = 0
    while at < len(indices):
        first = indices[at]
        run_bytes = layout.piece_size(first)
        end = at + 1
        while end < len(indices) and indices[end] == indices[end - 1] + 1:
            size = layout.piece_size(indices[end])
            if run_bytes + size > len(buffer):
                break
            run_bytes += size
            end += 1
        run = indices[at:end]
        at = end
        if len(run) > 1 and source.read_if_there(layout.piece_offset(first), view[:run_bytes]):
            begin = 0
            for index in run:
                size = layout.piece_size(index)
                if hashlib.sha1(view[begin : begin + size]).digest() == _expected(piece_hashes, index):
                    verified.append(index)
                begin += size
        else:
            for index in run:
                offset, size = layout.piece_offset(index), layout.piece_size(index)
                if hash_range(source, offset, size, buffer) == _expected(piece_hashes, index):
                    verified.append(index)
    return verified


def hash_range(source: Readable, offset: int, length: int, buffer: bytearray) -> bytes | None:
    """SHA-1 over a range on disk, read through `buffer`; None when a file is missing or too short."""
    sha1 = hashlib.sha1()
    view = memoryview(buffer)
    end = offset + length
    while offset < end:
        part = view[: min(len(buffer), end - offset)]
        if not source.read_if_there(offset, part):
            return None
        sha1.update(part)
        offset += len(part)
    return sha1.digest()


def hash_range_or_raise(storage: Storage, offset: int, length: int, buffer: bytearray) -> bytes:
    """The same where the bytes were written before: their absence is a `StorageError`."""
    digest = hash_range(storage, offset, length, buffer)
    if digest is None:
        raise StorageError(
            f"{storage.folder}: files that were just written are missing or shorter", path=storage.folder
        )
    return digest


def _expected(piece_hashes: bytes, index: int) -> bytes:
    return piece_hashes[20 * index : 20 * index + 20]
