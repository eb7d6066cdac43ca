"""Hashes what is doubtful of a torrent, on all cores, a slice at a time.

As many torrents at once as are allowed; each reads with descriptors of its own, in threads that give way to transfers.
A check that is cancelled, or whose torrent is removed, ends at the next slice, and its readers are closed.
"""

import math
import os
import threading
from collections.abc import Callable, Iterator
from typing import Final

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.hashing import READ_BYTES, hash_pieces
from bittern.disk.reader import ReadStopped, SequentialReader
from bittern.engine.opening import Opened
from bittern.engine.torrent import Torrent
from bittern.proto.layout import Layout

SLICE_AT_LEAST_BYTES: Final = 4 * 1024 * 1024
SLICE_AT_MOST_BYTES: Final = 64 * 1024 * 1024
"""What one thread hop hashes: 40 ms of work at most, for with all cores busy a hop takes half a millisecond. Towards
the end slices become smaller, so that all threads end together.
"""


class CheckHashing:
    """Finds out which pieces match their hashes."""

    def __init__(self, disk: DiskGate, known: Callable[[Torrent], bool]) -> None:
        """`known`: is it still one of ours?"""
        self._disk = disk
        self._known = known
        self._done: dict[Torrent, list[int]] = {}
        """Of those that are being hashed: how many pieces are done, and how many there are to do."""
        self._turns = trio.CapacityLimiter(math.inf)

    def limit(self, at_most: int | None) -> None:
        """So many torrents at once; those that take no longer than a moment do not come here."""
        self._turns.total_tokens = at_most or math.inf

    def progress(self, torrent: Torrent) -> float:
        """How far it is, 0 to 1; 0 when it is not being hashed."""
        done, of = self._done.get(torrent, (0, 1))
        return done / of

    async def matching(self, torrent: Torrent, opened: Opened, pieces: list[int]) -> list[int]:
        """Those of the pieces that match, when it is its turn; not all of them when the torrent is removed."""
        async with self._turns:
            self._done[torrent] = [0, max(1, len(pieces))]
            try:
                return await self._hash(torrent, opened, pieces)
            finally:
                del self._done[torrent]

    async def _hash(self, torrent: Torrent, opened: Opened, pieces: list[int]) -> list[int]:
        good: list[int] = []
        threads = min(os.cpu_count() or 1, len(pieces))
        slices = _slices(opened.layout, pieces, threads)
        stop = threading.Event()

        async def work() -> None:
            reader = SequentialReader(opened.storage, stop)
            buffer = bytearray(READ_BYTES)
            try:
                for part in slices:
                    if not self._known(torrent):
                        return
                    good.extend(
                        await self._disk.call_in_background(
                            hash_pieces, reader, opened.layout, opened.piece_hashes, part, buffer
                        )
                    )
                    self._done[torrent][0] += len(part)
            except ReadStopped:
                # Our cancellation is on its way.
                await trio.sleep_forever()
            finally:
                reader.close()

        async def stop_when_cancelled() -> None:
            try:
                await trio.sleep_forever()
            finally:
                stop.set()

        async with trio.open_nursery() as watched:
            watched.start_soon(stop_when_cancelled)
            async with trio.open_nursery() as workers:
                for _ in range(threads):
                    workers.start_soon(work)
            watched.cancel_scope.cancel()
        return good


def _slices(layout: Layout, pieces: list[int], threads: int) -> Iterator[list[int]]:
    """Runs of pieces, smaller towards the end; an iterator that several workers draw from."""
    part: list[int] = []
    size = 0
    left = sum(map(layout.piece_size, pieces))
    for piece in pieces:
        part.append(piece)
        size += layout.piece_size(piece)
        if size >= min(max(left // (2 * threads), SLICE_AT_LEAST_BYTES), SLICE_AT_MOST_BYTES):
            yield part
            left -= size
            part, size = [], 0
    if part:
        yield part
