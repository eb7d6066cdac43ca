"""What happens, to whoever listens: each has a queue of its own, and one who does not keep up loses the oldest."""

from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import trio

LISTENERS_AT_MOST: Final = 256
WAITING_AT_MOST: Final = 1000
REMEMBERED: Final = 1000
"""Events, for whoever comes later; some 1 MB."""


class Listener:
    """What one listener has not heard yet."""

    def __init__(self) -> None:
        self._waiting: deque[dict[str, Any]] = deque()
        self._news = trio.Event()
        self._lost = 0

    def put(self, told: dict[str, Any]) -> None:
        """Never waits."""
        if len(self._waiting) >= WAITING_AT_MOST:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(told)
        self._news.set()

    async def hear(self, patience_s: float) -> list[dict[str, Any]]:
        """What was told meanwhile, or is told next; nothing after so long a silence. What was lost comes first, as
        `events.lost`.
        """
        with trio.move_on_after(patience_s):
            await self._news.wait()
        self._news = trio.Event()
        told = list(self._waiting)
        self._waiting.clear()
        if self._lost:
            told.insert(0, {"event": "events.lost", "count": self._lost})
            self._lost = 0
        return told


class Stream:
    """Who listens."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self.counts: Counter[str] = Counter()
        """How often each event was told; their names are ours, and few."""
        self.recent: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)
        """What was told last, the newest at the end; only to be read."""

    def tell(self, told: dict[str, Any]) -> None:
        """Tells all of them; `event` is its name."""
        self.counts[told["event"]] += 1
        self.recent.append(told)
        for listener in self._listeners:
            listener.put(told)

    @property
    def full(self) -> bool:
        """Is there no room for another listener?"""
        return len(self._listeners) >= LISTENERS_AT_MOST

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """A listener, while the block runs."""
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
