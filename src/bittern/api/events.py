"""What happens, told to readers one by one: who is too slow loses the oldest, and hears how many."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeAlias

import trio

from bittern.engine import events as told

EVENTS_KEPT: Final = 1000
"""So many wait for a reader of events; of more the oldest are lost, and he is told how many."""


@dataclass(frozen=True, slots=True)
class EventsLost:
    """A reader of events was too slow: so many, the oldest, were dropped before the next one that it gets."""

    count: int


Event: TypeAlias = told.Event | EventsLost
"""One of the classes in `bittern.engine.events`; `facts` says of which torrent."""


class Events:
    """An async iterator; reading may stop at any time. One that nobody refers to any more is forgotten."""

    def __init__(self, forget: Callable[["Events"], None]) -> None:
        self._forget = forget
        self._waiting: deque[told.Event] = deque()
        self._lost = 0
        self._closed = False
        self._news = trio.Event()

    def put(self, event: told.Event) -> None:
        """The session's; it never waits."""
        if len(self._waiting) >= EVENTS_KEPT:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(event)
        self._news.set()

    def close(self) -> None:
        """Nothing more is told; what waits can still be read."""
        self._closed = True
        self._forget(self)
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._waiting and not self._closed:
            self._news = trio.Event()
            await self._news.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(lost)
        if not self._waiting:
            raise StopAsyncIteration
        return self._waiting.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()
