"""Who is told of next, where little may be told at a time: those in want first, and each not too often."""

import heapq
import itertools
from collections.abc import Callable
from typing import Final

from bittern.terms import InfoHash

CONTENT_SHARE: Final = 4
"""While others are in want, one place in so many is for those who are not."""


class Turns:
    """Of any number of torrents; a turn costs what it takes, not what there are. Times are the loop clock's."""

    def __init__(self, pause_s: float) -> None:
        """Between two turns of one torrent."""
        self._pause_s = pause_s
        self._order = itertools.count()
        self._places: dict[InfoHash, int] = {}
        """The entry that counts, of those in the heaps."""
        self._wanting: list[tuple[float, int, InfoHash]] = []
        self._content: list[tuple[float, int, InfoHash]] = []

    def __len__(self) -> int:
        return len(self._places)

    def add(self, info_hash: InfoHash, now: float, *, wants: bool) -> None:
        """Its first turn is due; twice is once."""
        if info_hash not in self._places:
            self._put(info_hash, now, wants=wants)

    def remove(self, info_hash: InfoHash) -> None:
        """It is told of no more."""
        if self._places.pop(info_hash, None) is not None:
            self._sweep()

    def _put(self, info_hash: InfoHash, due_at: float, *, wants: bool) -> None:
        order = self._places[info_hash] = next(self._order)
        heapq.heappush(self._wanting if wants else self._content, (due_at, order, info_hash))

    def _sweep(self) -> None:
        """Of those who left, no more than of those who are there stay in the heaps."""
        if len(self._wanting) + len(self._content) > 2 * len(self._places) + 64:
            for heap in (self._wanting, self._content):
                heap[:] = [entry for entry in heap if self._places.get(entry[2]) == entry[1]]
                heapq.heapify(heap)

    def due_at(self) -> float | None:
        """When the next turn is due; None when there is nobody."""
        heads = [heap[0][0] for heap in (self._wanting, self._content) if self._head(heap)]
        return min(heads, default=None)

    def take(self, most: int, now: float, wants: Callable[[InfoHash], bool]) -> list[InfoHash]:
        """Up to `most` whose turn it is, those in want first; it counts as taken. `wants` says who is now."""
        content: list[InfoHash] = []
        chosen: list[InfoHash] = []
        kept = most // CONTENT_SHARE if self._due(self._content, now) else 0
        looked_at = 0
        while len(chosen) < most - kept and looked_at < 4 * most and self._due(self._wanting, now):
            due_at, _, info_hash = heapq.heappop(self._wanting)
            looked_at += 1
            if wants(info_hash):
                chosen.append(info_hash)
            else:
                self._put(info_hash, due_at, wants=False)
        while len(chosen) + len(content) < most and self._due(self._content, now):
            content.append(heapq.heappop(self._content)[2])
        chosen += content
        for info_hash in chosen:
            self._put(info_hash, now + self._pause_s, wants=wants(info_hash))
        return chosen

    def _due(self, heap: list[tuple[float, int, InfoHash]], now: float) -> bool:
        return self._head(heap) and heap[0][0] <= now

    def _head(self, heap: list[tuple[float, int, InfoHash]]) -> bool:
        """Is there anybody? Those who left are dropped on the way."""
        while heap and self._places.get(heap[0][2]) != heap[0][1]:
            heapq.heappop(heap)
        return bool(heap)
