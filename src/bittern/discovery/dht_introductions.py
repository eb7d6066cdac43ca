"""Who introduces us to the DHT: routers of the configuration, `nodes` of torrents (BEP 5), also those of earlier runs.

Names are looked up one after another; what they stand for is greeted. Torrents are strangers': how many of theirs are
looked up, wait, and are remembered is bounded.
"""

import itertools
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

import trio

from bittern.discovery.dht_state import PLACES_AT_MOST
from bittern.errors import TrackerError
from bittern.policy.dhtnode import DhtNode
from bittern.policy.routing import K
from bittern.terms import Address

ROUTERS_AFTER_S: Final = 2.0
"""A saved table has so long to show that it is of use."""

ROUTERS_AGAIN_S: Final = 5.0
"""At first: a router that many ask at once drops some of what it is asked."""

ROUTERS_AGAIN_MOST_S: Final = 1800.0
INTRODUCED_AT_MOST: Final = 16
"""Names of one torrent's `nodes` that are looked up."""

WAITING_AT_MOST: Final = 64

Guard = Callable[[Callable[[], Awaitable[None]], str], Awaitable[None]]


class LooksUp(Protocol):
    """Names to numeric addresses, or `TrackerError`."""

    async def lookup(self, host: str) -> tuple[str, ...]:
        """The best first."""


class Introductions:
    """`greet` is told of each address; `run` needs `nodes`, by family, to be there."""

    def __init__(
        self,
        names: LooksUp,
        *,
        routers: Sequence[tuple[str, int]],
        nodes: Mapping[int, DhtNode],
        greet: Callable[[Address], None],
        guard: Guard,
    ) -> None:
        self._names = names
        self._routers = tuple(routers)
        self._nodes = nodes
        self._greet = greet
        self._guard = guard
        self._waiting: deque[tuple[str, int]] = deque()
        self._new = trio.Event()
        self.places: dict[tuple[str, int], None] = {}
        """Of torrents' `nodes`, the latest last: after a restart they are asked as routers are."""
        self.news = trio.Event()
        """Set when those have changed; whoever keeps them makes a new one."""

    def add(self, places: Iterable[tuple[str, int]]) -> None:
        """A torrent's."""
        for place in itertools.islice(places, INTRODUCED_AT_MOST):
            if len(self._waiting) < WAITING_AT_MOST:
                self._waiting.append(place)
                self.places.pop(place, None)
                self.places[place] = None
                if len(self.places) > PLACES_AT_MOST:
                    del self.places[next(iter(self.places))]
                self.news.set()
        self._new.set()

    def remembered(self, places: Iterable[tuple[str, int]]) -> None:
        """Of an earlier run; those of this one, if there are any already, are the latest."""
        self.places = dict.fromkeys([*places, *self.places])

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ask_routers)
            nursery.start_soon(self._look_up)

    async def _ask_routers(self) -> None:
        """While we know hardly anybody."""
        if any(len(node.table) for node in self._nodes.values()):
            await trio.sleep(ROUTERS_AFTER_S)
        pause_s = ROUTERS_AGAIN_S
        while True:
            now = trio.current_time()
            if any(node.table.good_count(now) < K for node in self._nodes.values()):
                for place in (*self._routers, *self.places):
                    await self._ask(place)
                pause_s = min(pause_s * 2, ROUTERS_AGAIN_MOST_S)
            else:
                pause_s = ROUTERS_AGAIN_S
            await trio.sleep(pause_s)

    async def _look_up(self) -> None:
        while True:
            while self._waiting:
                await self._ask(self._waiting.popleft())
            self._new = trio.Event()
            await self._new.wait()

    async def _ask(self, place: tuple[str, int]) -> None:
        host, port = place
        await self._guard(partial(self._ask_one, host, port), f"looking up {host!r} for the DHT")

    async def _ask_one(self, host: str, port: int) -> None:
        try:
            found = await self._names.lookup(host)
        except TrackerError:
            return
        for one in found:
            self._greet(Address(one, port))
