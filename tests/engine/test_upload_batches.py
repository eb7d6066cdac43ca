"""A batch of requests: what the page cache has of it is not read again from the disk."""

import random
from typing import Any

import pytest

from bittern.engine.uploads import SEND_BUFFER_BYTES, Batch
from bittern.proto.layout import Layout
from bittern.proto.messages import PIECE_HEADER_BYTES
from bittern.terms import BLOCK_SIZE

CONTENT = random.Random(3).randbytes(8 * BLOCK_SIZE)
LAYOUT = Layout(4 * BLOCK_SIZE, len(CONTENT), (len(CONTENT),))


class HalfCold:
    """The page cache has `warm_bytes` of the torrent; what is read from the disk is noted."""

    def __init__(self, warm_bytes: int) -> None:
        self._warm_bytes = warm_bytes
        self.from_disk: list[tuple[int, int]] = []

    def read_cached(self, offset: int, views: list[memoryview]) -> int:
        return self._fill(offset, views, max(offset, min(self._warm_bytes, offset + sum(map(len, views)))))

    def read_scattered(self, offset: int, views: list[memoryview]) -> None:
        end = offset + sum(map(len, views))
        self.from_disk.append((offset, end))
        self._fill(offset, views, end)

    def _fill(self, offset: int, views: list[memoryview], end: int) -> int:
        at = offset
        for view in views:
            got = CONTENT[at : min(end, at + len(view))]
            view[: len(got)] = got
            at += len(got)
        return at - offset


@pytest.mark.parametrize(
    ("warm_bytes", "from_disk"),
    [
        (8 * BLOCK_SIZE, []),
        (3 * BLOCK_SIZE - 100, [(3 * BLOCK_SIZE - 100, 4 * BLOCK_SIZE), (6 * BLOCK_SIZE, 8 * BLOCK_SIZE)]),
        (4 * BLOCK_SIZE, [(6 * BLOCK_SIZE, 8 * BLOCK_SIZE)]),
        (0, [(0, 4 * BLOCK_SIZE), (6 * BLOCK_SIZE, 8 * BLOCK_SIZE)]),
    ],
)
def test_only_what_is_cold_is_read_from_the_disk(warm_bytes: int, from_disk: list[tuple[int, int]]) -> None:
    asked = [(0, block * BLOCK_SIZE, BLOCK_SIZE) for block in range(4)]
    asked += [(1, block * BLOCK_SIZE, BLOCK_SIZE) for block in (2, 3)]
    batch = Batch(asked, memoryview(bytearray(SEND_BUFFER_BYTES)), LAYOUT)
    storage: Any = HalfCold(warm_bytes)
    if not batch.read_cached(storage):
        batch.read(storage)
    assert storage.from_disk == from_disk
    step = PIECE_HEADER_BYTES + BLOCK_SIZE
    for number, (index, begin, length) in enumerate(asked):
        body = batch.view[number * step + PIECE_HEADER_BYTES : (number + 1) * step]
        at = index * LAYOUT.piece_length + begin
        assert body == CONTENT[at : at + length]
