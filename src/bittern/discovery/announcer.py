"""Announces of all torrents: one task, one heap, sixteen at once.

The heap holds `(priority, when, torrent)` lazily: an entry that does not say what the torrent's state says is thrown
away when it comes up. Downloading torrents go before seeding ones among those that are due, so after a start the
first announces go out as fast as the sixteen slots are answered and those who wait for data do not wait for those
who do not.
"""

import heapq
import itertools
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

import trio

from bittern.discovery.trackers import GetsUrls, announce
from bittern.errors import TrackerError
from bittern.net.http import shown
from bittern.policy.announcing import AnnounceState
from bittern.proto.announce import AnnounceEvent, AnnounceRequest, AnnounceResponse
from bittern.terms import Address, InfoHash, PeerId

AT_ONCE: Final = 16
FAREWELLS_AT_ONCE: Final = 64
FAREWELLS_KEPT: Final = 1000
"""`stopped` of removed torrents that wait for their turn; beyond that trackers find out by themselves."""


@dataclass(frozen=True, slots=True)
class AnnounceFacts:
    """What a torrent has to tell; `priority` 0 goes before 1."""

    uploaded: int
    downloaded: int
    left: int
    wants_peers: bool
    priority: int


class Announced(Protocol):
    """A torrent, as the announcer sees it."""

    announce: AnnounceState

    @property
    def info_hash(self) -> InfoHash:
        """Which torrent."""

    def announce_facts(self) -> AnnounceFacts:
        """What to tell, at this moment."""

    def peers_found(self, addresses: tuple[Address, ...]) -> None:
        """The tracker named these."""

    def tracker_answered(self, url: str, trouble: str | None) -> None:
        """A tracker's trouble changed: one line, or None when it answers again."""


@dataclass(frozen=True, slots=True)
class _Farewell:
    """A `stopped` that is still to be told."""

    url: str
    request: AnnounceRequest


Guard = Callable[[Callable[[], Awaitable[None]], str], Awaitable[None]]
"""Runs one announce so that a bug in it costs that announce only."""


async def _unguarded(body: Callable[[], Awaitable[None]], _where: str) -> None:
    await body()


class Announcer:
    """One for the process. All methods but `run` and `farewell` are synchronous."""

    def __init__(
        self,
        http: GetsUrls,
        *,
        peer_id: PeerId,
        port: Callable[[], int],
        numwant: int,
        rng: random.Random,
        at_once: int = AT_ONCE,
        guard: Guard = _unguarded,
    ) -> None:
        self.numwant = numwant
        self._http = http
        self._peer_id = peer_id
        self._port = port
        self._rng = rng
        self._slots = at_once
        self._guard = guard
        self._torrents: dict[InfoHash, Announced] = {}
        self._later: list[tuple[float, int, InfoHash]] = []
        self._due: list[tuple[int, int, InfoHash]] = []
        """Torrents whose time has come, downloading ones first."""
        self._queued: set[InfoHash] = set()
        self._busy: set[InfoHash] = set()
        self._order = itertools.count()
        self._farewells: dict[_Farewell, None] = {}
        self._trouble: dict[tuple[InfoHash, str], str] = {}
        self._news = trio.Event()
        self._nursery: trio.Nursery | None = None

    # -- what torrents want ---------------------------------------------------------------------------------

    def add(self, torrent: Announced) -> None:
        """Announces the torrent from now on; twice is once."""
        if torrent.announce.has_trackers and torrent.info_hash not in self._torrents:
            self._torrents[torrent.info_hash] = torrent
            self.rescheduled(torrent)

    def remove(self, torrent: Announced) -> None:
        """Ends its announces; trackers that know it will hear `stopped`."""
        if self._torrents.pop(torrent.info_hash, None) is not None:
            for farewell in self._farewells_of(torrent):
                if len(self._farewells) < FAREWELLS_KEPT:
                    self._farewells[farewell] = None
            for key in [key for key in self._trouble if key[0] == torrent.info_hash]:
                del self._trouble[key]
            self._news.set()

    def completed(self, torrent: Announced) -> None:
        """The last piece came in this run."""
        torrent.announce.completed(trio.current_time())
        self.rescheduled(torrent)

    def need_peers(self, torrent: Announced) -> None:
        """The torrent could use more peers than it knows."""
        if torrent.info_hash in self._torrents and torrent.announce.want_now(trio.current_time()):
            self.rescheduled(torrent)

    def rescheduled(self, torrent: Announced) -> None:
        """The torrent's next announce is at another time than before."""
        if torrent.info_hash in self._torrents:
            heapq.heappush(self._later, (torrent.announce.next_at, next(self._order), torrent.info_hash))
            self._news.set()

    # -- the service ----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Announces until cancelled."""
        self._busy.clear()
        for torrent in list(self._torrents.values()):
            self.rescheduled(torrent)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            while True:
                self._news = trio.Event()
                wake_at = self._start_due(trio.current_time(), nursery)
                with trio.move_on_at(wake_at):
                    await self._news.wait()

    def _start_due(self, now: float, nursery: trio.Nursery) -> float:
        """Fills the free slots; gives the time at which there is something to do again."""
        while self._later and self._later[0][0] <= now:
            at, _, info_hash = heapq.heappop(self._later)
            torrent = self._torrents.get(info_hash)
            if torrent is None or info_hash in self._queued or torrent.announce.next_at > now:
                continue
            del at
            self._queued.add(info_hash)
            heapq.heappush(self._due, (torrent.announce_facts().priority, next(self._order), info_hash))
        while self._due and len(self._busy) < self._slots:
            _, _, info_hash = heapq.heappop(self._due)
            self._queued.discard(info_hash)
            torrent = self._torrents.get(info_hash)
            if torrent is not None and info_hash not in self._busy:
                self._start(torrent, now, nursery)
        while self._farewells and len(self._busy) < self._slots:
            farewell = next(iter(self._farewells))
            del self._farewells[farewell]
            nursery.start_soon(self._say_farewell, farewell)
            break
        return self._later[0][0] if self._later else float("inf")

    def _start(self, torrent: Announced, now: float, nursery: trio.Nursery) -> None:
        plan = torrent.announce.plan(now)
        if plan is None:
            self.rescheduled(torrent)
            return
        self._busy.add(torrent.info_hash)
        request = self._request(torrent, plan.url, plan.event)
        nursery.start_soon(self._announce_guarded, torrent, plan.url, request)

    def _request(self, torrent: Announced, url: str, event: AnnounceEvent) -> AnnounceRequest:
        facts = torrent.announce_facts()
        return AnnounceRequest(
            info_hash=torrent.info_hash,
            peer_id=self._peer_id,
            port=self._port(),
            uploaded=facts.uploaded,
            downloaded=facts.downloaded,
            left=facts.left,
            event=event,
            numwant=self.numwant if facts.wants_peers or event is AnnounceEvent.STARTED else 0,
            key=torrent.announce.key,
            tracker_id=torrent.announce.tracker_id(url),
        )

    async def _announce_guarded(self, torrent: Announced, url: str, request: AnnounceRequest) -> None:
        try:
            await self._guard(lambda: self._announce(torrent, url, request), f"announce to {shown(url)}")
        finally:
            self._busy.discard(torrent.info_hash)
            self.rescheduled(torrent)
            self._news.set()

    async def _announce(self, torrent: Announced, url: str, request: AnnounceRequest) -> None:
        state = torrent.announce
        try:
            response = await announce(self._http, url, request)
        except TrackerError as error:
            if self._torrents.get(torrent.info_hash) is torrent:
                state.failed(url, trio.current_time(), self._rng, retry_in_s=error.retry_in_s)
                self._tell(torrent, url, str(error))
            return
        if self._torrents.get(torrent.info_hash) is not torrent:
            # removed meanwhile: the tracker believes that we are there
            if request.event is not AnnounceEvent.STOPPED:
                self._farewells[_Farewell(url, _stopped(request))] = None
            return
        self._answered(torrent, url, request, response)

    def _answered(
        self, torrent: Announced, url: str, request: AnnounceRequest, response: AnnounceResponse
    ) -> None:
        torrent.announce.succeeded(
            url,
            request.event,
            trio.current_time(),
            self._rng,
            interval_s=response.interval_s,
            min_interval_s=response.min_interval_s,
            tracker_id=response.tracker_id,
        )
        self._tell(torrent, url, response.warning)
        if response.peers:
            torrent.peers_found(response.peers)

    def _tell(self, torrent: Announced, url: str, trouble: str | None) -> None:
        """Only what changed: a tracker that is down for a day is one line."""
        key = (torrent.info_hash, url)
        if self._trouble.get(key) != trouble:
            if trouble is None:
                del self._trouble[key]
            else:
                self._trouble[key] = trouble
            torrent.tracker_answered(shown(url), trouble)

    # -- goodbye --------------------------------------------------------------------------------------------

    def _farewells_of(self, torrent: Announced) -> list[_Farewell]:
        requests = [
            (url, self._request(torrent, url, AnnounceEvent.STOPPED)) for url in torrent.announce.stopping()
        ]
        return [_Farewell(url, request) for url, request in requests]

    async def _say_farewell(self, farewell: _Farewell) -> None:
        try:
            await announce(self._http, farewell.url, farewell.request)
        except TrackerError:
            pass
        finally:
            self._news.set()

    async def farewell(self, deadline_s: float) -> None:
        """`stopped` to every tracker that knows us, in parallel, as many as the deadline allows."""
        waiting = [*self._farewells]
        for torrent in list(self._torrents.values()):
            waiting += self._farewells_of(torrent)
        self._torrents.clear()
        self._farewells.clear()
        line = iter(waiting)

        async def say() -> None:
            for one in line:
                await self._say_farewell(one)

        with trio.move_on_after(deadline_s):
            async with trio.open_nursery() as nursery:
                for _ in range(min(FAREWELLS_AT_ONCE, len(waiting))):
                    nursery.start_soon(say)


def _stopped(request: AnnounceRequest) -> AnnounceRequest:
    return replace(request, event=AnnounceEvent.STOPPED)
