"""`stopped`: what trackers that know of us have still to be told, when a torrent was removed or has them no more.

Invariants: what is owed is either here or being told, and leaves when it was told, or when its tracker did not take it:
that one will forget us by itself. What is interrupted is owed again, for the farewell. Of a torrent whose `stopped` is
being told nothing else is announced.
"""

import itertools
from collections.abc import Awaitable, Callable, Container, Iterable
from typing import Final

import trio

from bittern.proto.announce import AnnounceRequest
from bittern.terms import InfoHash

STOPS_AT_ONCE: Final = 4
"""Of the announcer's slots, for `stopped` of removed torrents."""

FAREWELLS_AT_ONCE: Final = 64
STOPS_KEPT: Final = 10_000
"""Torrents whose `stopped` waits for its turn; beyond that trackers find out by themselves."""

Stopped = dict[str, AnnounceRequest]
"""By URL."""


class Stops:
    """The announcer's. `tell` tells one, as far as it can be told; `blocked` says of which URLs that would be in vain;
    `free` is told when a slot is free again, and of whom.
    """

    def __init__(
        self,
        tell: Callable[[str, AnnounceRequest], Awaitable[None]],
        blocked: Callable[[str], bool],
        free: Callable[[InfoHash], None],
        *,
        slots: int,
    ) -> None:
        self._tell = tell
        self._blocked = blocked
        self._free = free
        self._slots = slots
        """How many the announcer has in all."""
        self._owed: dict[InfoHash, Stopped] = {}
        """Of removed torrents."""
        self._being_told: set[InfoHash] = set()
        self._quits: dict[tuple[InfoHash, str], AnnounceRequest] = {}
        """For trackers that a torrent has no more."""
        self._partings = trio.lowlevel.ParkingLot()

    # -- what is owed ----------------------------------------------------------------------------------------

    def owe(self, info_hash: InfoHash, stops: Stopped) -> bool:
        """The torrent was removed; False when there is nothing to be told, or too much already."""
        if not stops or len(self._owed) >= STOPS_KEPT:
            return False
        self._owed[info_hash] = stops
        return True

    def owe_too(self, info_hash: InfoHash, url: str, request: AnnounceRequest) -> None:
        """A tracker heard of the torrent when it was removed already."""
        self._owed.setdefault(info_hash, {})[url] = request

    def quit(self, info_hash: InfoHash, url: str, request: AnnounceRequest) -> None:
        """The torrent has that tracker no more."""
        self._quits[info_hash, url] = request

    @property
    def quits_full(self) -> bool:
        """Are there too many trackers already that torrents have no more?"""
        return len(self._quits) >= STOPS_KEPT

    def came_back(self, info_hash: InfoHash) -> None:
        """The torrent, before its `stopped` was told: that would be heard after its `started`."""
        self._owed.pop(info_hash, None)
        self._partings.unpark_all()

    def has_again(self, info_hash: InfoHash, urls: Iterable[str]) -> None:
        """The torrent has these trackers."""
        for url in urls:
            self._quits.pop((info_hash, url), None)

    def being_told(self, info_hash: InfoHash) -> bool:
        """Of that torrent?"""
        return info_hash in self._being_told

    async def parted(self, info_hash: InfoHash) -> None:
        """Returns when its trackers have heard `stopped`, as far as they will."""
        while info_hash in self._owed or info_hash in self._being_told:
            await self._partings.park()

    # -- telling it ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new run: nobody is being told anything."""
        self._being_told.clear()

    def start(
        self, nursery: trio.Nursery, slots: int, busy: Container[InfoHash], known: Container[InfoHash]
    ) -> int:
        """Takes at most so many slots, and gives how many; those `busy` are asked something else, those `known` are
        announced (again).
        """
        taken = 0
        if not self._owed and not self._quits:
            # asked with every announce
            return taken
        for info_hash in [
            one
            for one in itertools.islice(self._owed, self._slots + 1)
            if one not in busy and one not in self._being_told
        ]:
            if len(self._being_told) >= STOPS_AT_ONCE or taken >= slots:
                return taken
            self._being_told.add(info_hash)
            taken += 1
            nursery.start_soon(self._stop, info_hash, self._owed.pop(info_hash), known)
        while self._quits and len(self._being_told) < STOPS_AT_ONCE and taken < slots:
            (info_hash, url), request = self._quits.popitem()
            taken += 1
            nursery.start_soon(self._say_quit, info_hash, url, request)
        return taken

    async def _say_quit(self, info_hash: InfoHash, url: str, request: AnnounceRequest) -> None:
        stops = {url: request}
        try:
            await self._say(stops)
        finally:
            if stops:
                # interrupted: the farewell says it
                self._quits[info_hash, url] = request
            self._free(info_hash)

    async def _stop(self, info_hash: InfoHash, stops: Stopped, known: Container[InfoHash]) -> None:
        try:
            await self._say(stops)
        finally:
            if stops and info_hash not in known:
                # interrupted: the farewell says the rest, and what came meanwhile
                self._owed[info_hash] = stops | self._owed.get(info_hash, {})
            self._being_told.discard(info_hash)
            self._partings.unpark_all()
            self._free(info_hash)

    async def _say(self, stops: Stopped) -> None:
        """Takes out of `stops` what is told."""
        while stops:
            url, request = stops.popitem()
            if self._blocked(url):
                continue
            try:
                await self._tell(url, request)
            except trio.Cancelled:
                stops[url] = request
                raise

    async def farewell(self, last: list[Stopped], deadline_s: float) -> None:
        """Everything that is owed, and what `last` adds, in parallel, as much as the deadline allows."""
        waiting = [*self._owed.values(), *({url: one} for (_, url), one in self._quits.items()), *last]
        self._owed.clear()
        self._quits.clear()
        line = iter([stops for stops in waiting if stops])

        async def say() -> None:
            for stops in line:
                await self._say(stops)

        with trio.move_on_after(deadline_s):
            async with trio.open_nursery() as nursery:
                for _ in range(min(FAREWELLS_AT_ONCE, len(waiting))):
                    nursery.start_soon(say)
