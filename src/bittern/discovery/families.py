"""Announces by both address families: a tracker tells peers of IPv4 or of IPv6, and knows us by what we come from.

What several ways to one tracker have in common: all are asked at once, and the first answer does not wait long for the
others, for a family that leads nowhere is silent and not refused.
"""

import functools
import math
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Final, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

import trio

from bittern.errors import TrackerError
from bittern.net.http import HttpResponse, LooksUp, Unreachable
from bittern.proto.announce import PEERS_AT_MOST, AnnounceResponse, Counts
from bittern.values import replace

GRACE_S: Final = 1.0
"""When one way led to an answer, the others may take this much longer."""

SILENT_S: Final = 600.0
"""A way without an answer is left alone for this long, if there is another."""

REMEMBERED_AT_MOST: Final = 512

Way = TypeVar("Way", bound=Hashable)
T = TypeVar("T")


class GetsUrls(Protocol):
    """The HTTP client, or a test's."""

    async def get(self, url: str, *, max_bytes: int, deadline_s: float) -> HttpResponse:
        """One GET, or `TrackerError`."""


class Silences(Generic[Way]):
    """Ways that led nowhere lately. Bounded; times are the loop clock's."""

    def __init__(self) -> None:
        self._until: dict[Way, float] = {}

    def until(self, way: Way) -> float:
        """Minus infinity for one that speaks."""
        until = self._until.get(way, -math.inf)
        return until if until > trio.current_time() else -math.inf

    def note(self, way: Way) -> None:
        """It did not answer."""
        self._until.pop(way, None)
        if len(self._until) >= REMEMBERED_AT_MOST:
            del self._until[next(iter(self._until))]
        self._until[way] = trio.current_time() + SILENT_S

    def speaking(self, ways: Sequence[Way]) -> list[Way]:
        """Those that are worth asking; all, when none is."""
        if len(ways) == 1 or not self._until:
            return list(ways)
        return [way for way in ways if self.until(way) == -math.inf] or list(ways)

    async def ask_all(self, ways: Sequence[Way], ask: Callable[[Way], Awaitable[T]]) -> list[T]:
        """The answers, at least one; or the error that says most."""
        if len(ways) == 1:
            # as it nearly always is: without a task, and what that takes
            return [await self.ask_only(ways[0], ask(ways[0]))]
        answers: dict[Way, T] = {}
        errors: list[TrackerError] = []

        async def one(way: Way, scope: trio.CancelScope) -> None:
            try:
                answers[way] = await ask(way)
                self._until.pop(way, None)
                scope.deadline = min(scope.deadline, trio.current_time() + GRACE_S)
            except TrackerError as error:
                errors.append(error)
                if isinstance(error, Unreachable):
                    self.note(way)

        async with trio.open_nursery() as nursery:
            for way in ways:
                nursery.start_soon(one, way, nursery.cancel_scope)
        if nursery.cancel_scope.cancelled_caught:
            for way in ways:
                if way not in answers:
                    self.note(way)
        if not answers:
            raise max(errors, key=lambda error: not isinstance(error, Unreachable))
        return list(answers.values())

    async def ask_only(self, way: Way, asking: Awaitable[T]) -> T:
        """The answer that comes by that way, where there is no other."""
        try:
            answer = await asking
        except Unreachable:
            self.note(way)
            raise
        self._until.pop(way, None)
        return answer


class HttpFamilies:
    """HTTP clients that go out by one family each, and one that takes what the system prefers.

    `v4` and `v6` only where we listen with that family: a tracker shall not tell peers an address where nobody is.
    """

    def __init__(
        self, either: GetsUrls, names: LooksUp, *, v4: GetsUrls | None = None, v6: GetsUrls | None = None
    ) -> None:
        self._either = either
        self._names = names
        self._of = {False: v4, True: v6}
        self._silences: Silences[tuple[str, bool]] = Silences()

    async def ask_all(self, url: str, ask: Callable[[GetsUrls], Awaitable[T]]) -> list[T]:
        """By each family in which its host has an address and we listen; if there is none, by whatever there is."""
        host = _host(url)
        found = {":" in address for address in await self._names.lookup(host)} if host else set()
        ways = [(host, v6) for v6 in sorted(found) if self._of[v6] is not None]
        if not ways:
            return [await ask(self._either)]
        if len(ways) == 1:
            return [await self._silences.ask_only(ways[0], ask(self._of[ways[0][1]] or self._either))]

        async def by(way: tuple[str, bool]) -> T:
            return await ask(self._of[way[1]] or self._either)

        return await self._silences.ask_all(self._silences.speaking(ways), by)


# asked with every announce
@functools.lru_cache(maxsize=1024)
def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def announces_together(answers: Sequence[AnnounceResponse]) -> AnnounceResponse:
    """What the families tell of one swarm. (A tracker knows different peers of each, or all of both.)"""
    first = answers[0]
    if len(answers) == 1:
        return first
    return replace(
        first,
        peers=tuple(dict.fromkeys(peer for answer in answers for peer in answer.peers))[:PEERS_AT_MOST],
        seeders=max((one.seeders for one in answers if one.seeders is not None), default=None),
        leechers=max((one.leechers for one in answers if one.leechers is not None), default=None),
    )


def counts_together(answers: Sequence[Counts]) -> Counts:
    """The larger ones: whoever has one family only is not counted by the other."""
    return Counts(max(one.seeders for one in answers), max(one.leechers for one in answers))
