"""When whose turn comes: one time for each key, the next ones found without looking at all.

A heap with a dictionary beside it. An entry of the heap counts only while the dictionary says the same; those that do
not are thrown out before they outnumber the others, so memory follows from the number of keys, not of changes.
"""

import heapq
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

STALE_AT_LEAST: Final = 64
"""So many stale entries are not worth a sweep."""


class Appointments(Generic[Key]):
    """Keys that were set at the same time come in the order in which they were set."""

    __slots__ = ("_at", "_heap", "_serial")

    def __init__(self) -> None:
        self._at: dict[Key, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._serial = 0

    def __len__(self) -> int:
        return len(self._at)

    def set(self, key: Key, at: float) -> None:
        """The key's turn comes then, and no more when it was to come before."""
        self._serial += 1
        self._at[key] = (at, self._serial)
        heapq.heappush(self._heap, (at, self._serial, key))
        self._sweep()

    def drop(self, key: Key) -> None:
        """Its turn does not come."""
        if self._at.pop(key, None) is not None:
            self._sweep()

    def take_due(self, now: float) -> list[Key]:
        """Whose turn has come, in order; they have none any more."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            at, serial, key = heapq.heappop(self._heap)
            if self._at.get(key) == (at, serial):
                del self._at[key]
                due.append(key)
        return due

    def _sweep(self) -> None:
        if len(self._heap) > 2 * len(self._at) + STALE_AT_LEAST:
            self._heap = [(at, serial, key) for key, (at, serial) in self._at.items()]
            heapq.heapify(self._heap)
