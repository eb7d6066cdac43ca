"""Announces of all torrents: one task, one heap, sixteen at once.

The heap holds `(when, torrent)` lazily: an entry that comes up while the torrent's state says "later" is thrown
away. Downloading torrents go before seeding ones among those that are due, so after a start the first announces go
out as fast as the sixteen slots are answered and those who wait for data do not wait for those who do not.

Facts that a change must respect: of one torrent one announce to a tracker at most is under way, and nothing beside
its `stopped`, so that a tracker hears things in the order in which they happened; what comes back for a torrent that
was removed meanwhile changes nothing; and a host in an outage takes no slots from the others.
"""

import heapq
import itertools
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

import trio

from bittern.discovery.announced import Announced, AnnounceFacts
from bittern.discovery.families import GetsUrls, HttpFamilies
from bittern.discovery.stopping import Stops
from bittern.discovery.trackers import AsksInDatagrams, UnsupportedScheme, announce, is_udp, scrape
from bittern.errors import TrackerError
from bittern.net.http import Unreachable, shown
from bittern.policy.announcing import UNSETTLED_S, Hosts
from bittern.proto.announce import AnnounceEvent, AnnounceRequest, AnnounceResponse
from bittern.terms import InfoHash, PeerId
from bittern.values import replace

AT_ONCE: Final = 16
OF_ONE_AT_ONCE: Final = 4
"""Of the slots, for a torrent that asks several tiers, and only when no other torrent is due."""

UNTRUSTED_AT_ONCE: Final = 4
"""Of the slots, for a UDP tracker that did not answer yet, or not lately."""

CROWDED_S: Final = 5.0
SLICE: Final = 500
"""Torrents looked at before others get the loop: after a start, or an outage, thousands are due at once."""


Guard = Callable[[Callable[[], Awaitable[None]], str], Awaitable[None]]
"""Runs one announce so that a bug in it costs that announce only."""

Job = tuple[Announced, str, AnnounceRequest]
"""An announce that has its slot."""


async def _unguarded(body: Callable[[], Awaitable[None]], _where: str) -> None:
    await body()


def _unheeded(_host: str) -> None:
    pass


class Announcer:
    """One for the process. All methods but `run`, `parted` and `farewell` are synchronous."""

    def __init__(
        self,
        http: GetsUrls | HttpFamilies,
        *,
        peer_id: PeerId,
        port: Callable[[], int],
        numwant: int,
        rng: random.Random,
        udp: AsksInDatagrams | None = None,
        at_once: int = AT_ONCE,
        guard: Guard = _unguarded,
    ) -> None:
        self.numwant = numwant
        self.located: Callable[[str], None] = _unheeded
        """Is told where trackers see us (BEP 24)."""
        self._http = http
        self._udp = udp
        self._peer_id = peer_id
        self._port = port
        self._rng = rng
        self._slots = at_once
        self._guard = guard
        self._hosts = Hosts()
        self._torrents: dict[InfoHash, Announced] = {}
        self._later: list[tuple[float, int, InfoHash]] = []
        self._due: list[tuple[int, int, InfoHash]] = []
        """Torrents whose time has come, downloading ones first."""
        self._queued: set[InfoHash] = set()
        self._busy: dict[InfoHash, set[str]] = {}
        """The trackers that are being asked."""
        self._taken = 0
        """Slots."""
        self._jobs: list[Job] = []
        """Announces that nobody has begun with."""
        self._wake_at = math.inf
        """When the service looks by itself."""
        self._asking: Counter[str] = Counter()
        """How many of them are at which host."""
        self._behind: dict[str, dict[InfoHash, None]] = {}
        """Torrents that wait for a word of a host which is being asked often enough."""
        self._order = itertools.count()
        self._stops = Stops(self._tell_stopped, self._blocked, self._free, slots=at_once)
        self._trouble: dict[InfoHash, dict[str, str]] = {}
        self._news = trio.Event()

    # -- what torrents want ----------------------------------------------------------------------------------

    def add(self, torrent: Announced) -> None:
        """Announces the torrent from now on; twice is once. One without trackers may get some (`rescheduled`)."""
        if torrent.info_hash not in self._torrents:
            self._stops.came_back(torrent.info_hash)
            self._torrents[torrent.info_hash] = torrent
            self.rescheduled(torrent)

    def remove(self, torrent: Announced) -> None:
        """Ends its announces; trackers that know it will hear `stopped`."""
        if self._torrents.pop(torrent.info_hash, None) is not None:
            self._trouble.pop(torrent.info_hash, None)
            if self._stops.owe(torrent.info_hash, self._stops_of(torrent)):
                self._news.set()

    async def parted(self, info_hash: InfoHash) -> None:
        """Returns when its trackers have heard `stopped`, as far as they will."""
        await self._stops.parted(info_hash)

    def retier(self, torrent: Announced, tiers: Sequence[Sequence[str]]) -> None:
        """The torrent has these trackers from now on; those that it has no more hear `stopped`."""
        info_hash, told = torrent.info_hash, self._trouble.get(torrent.info_hash, {})
        for url in torrent.announce.replace(tiers):
            self._quit(torrent, url)
        for url in [url for url in told if not torrent.announce.has(url)]:
            del told[url]
        self._stops.has_again(info_hash, itertools.chain.from_iterable(tiers))
        self.rescheduled(torrent)

    def trouble(self, info_hash: InfoHash) -> Mapping[str, str]:
        """What its trackers complain of, by URL; not those that cannot be reached."""
        return self._trouble.get(info_hash, {})

    def _quit(self, torrent: Announced, url: str) -> None:
        if self._torrents.get(torrent.info_hash) is torrent and not self._stops.quits_full:
            self._stops.quit(torrent.info_hash, url, self._stopped(torrent, url))
            self._news.set()

    def completed(self, torrent: Announced) -> None:
        """The last piece came in this run."""
        torrent.announce.completed(trio.current_time())
        self.rescheduled(torrent)

    def wants_more(self, torrent: Announced) -> None:
        """It counted as complete, and is a download again."""
        if torrent.info_hash in self._torrents and torrent.announce.wants_more(trio.current_time()):
            self.rescheduled(torrent)

    def need_peers(self, torrent: Announced) -> None:
        """The torrent could use more peers than it knows."""
        if torrent.info_hash in self._torrents and torrent.announce.want_now(
            trio.current_time(),
            wide=torrent.announce_facts().wide,
            busy=self._busy.get(torrent.info_hash, ()),
        ):
            self.rescheduled(torrent)

    def rescheduled(self, torrent: Announced) -> None:
        """The torrent's next announce is at another time than before, or it has trackers now."""
        if self._torrents.get(torrent.info_hash) is torrent and torrent.announce.next_at < math.inf:
            heapq.heappush(self._later, (torrent.announce.next_at, next(self._order), torrent.info_hash))
            if torrent.announce.next_at < self._wake_at:
                self._news.set()

    # -- the service -----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Announces until cancelled."""
        self._busy.clear()
        self._stops.begin()
        self._taken = 0
        self._jobs.clear()
        self._asking.clear()
        self._behind.clear()
        for torrent in self._torrents.values():
            self.rescheduled(torrent)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._news = trio.Event()
                self._wake_at = self._start_due(trio.current_time(), nursery)
                while self._jobs:
                    nursery.start_soon(self._work, self._jobs.pop(), nursery)
                with trio.move_on_at(self._wake_at):
                    await self._news.wait()

    async def _work(self, job: Job, nursery: trio.Nursery) -> None:
        """One slot: an announce, and then whatever is due. To begin each as a task of its own took as long again as
        to decide about it.
        """
        while True:
            await self._announce_guarded(*job)
            if self._start_due(trio.current_time(), nursery) < self._wake_at or len(self._jobs) > 1:
                self._news.set()
            if not self._jobs:
                return
            job = self._jobs.pop()

    def _start_due(self, now: float, nursery: trio.Nursery) -> float:
        """Gives the free slots away; says when there is something to do again."""
        self._taken += self._stops.start(nursery, self._slots - self._taken, self._busy, self._torrents)
        looked_at = 0
        while self._later and self._later[0][0] <= now and looked_at < SLICE:
            info_hash = heapq.heappop(self._later)[2]
            torrent = self._torrents.get(info_hash)
            if torrent is not None and info_hash not in self._queued and torrent.announce.next_at <= now:
                looked_at += 1
                self._queued.add(info_hash)
                heapq.heappush(self._due, (torrent.announce_facts().priority, next(self._order), info_hash))
        while self._due and self._taken < self._slots and looked_at < 2 * SLICE:
            looked_at += 1
            info_hash = heapq.heappop(self._due)[2]
            self._queued.discard(info_hash)
            torrent = self._torrents.get(info_hash)
            # one whose `stopped` is being told comes again when it is
            if torrent is not None and not self._stops.being_told(info_hash):
                self._start(torrent, now)
        if self._due and self._taken < self._slots:
            return now
        return self._later[0][0] if self._later else math.inf

    def _start(self, torrent: Announced, now: float) -> None:
        state, facts = torrent.announce, torrent.announce_facts()
        wide = facts.wide
        busy = self._busy.get(torrent.info_hash, set())
        if busy and (not wide or len(busy) >= OF_ONE_AT_ONCE):
            # it comes again when one of them is done
            return
        plan = state.plan(now, wide=wide, busy=busy)
        while plan is not None:
            blocked_until = self._hosts.blocked_until(shown(plan.url), now)
            if blocked_until is not None:
                state.put_off(plan.url, now, blocked_until)
                plan = state.plan(now, wide=wide, busy=busy)
                continue
            if self._crowded(plan.url):
                if not wide:
                    state.next_at = now
                    self._behind.setdefault(shown(plan.url), {})[torrent.info_hash] = None
                    return
                state.put_off(plan.url, now, now + CROWDED_S)
                plan = state.plan(now, wide=wide, busy=busy)
                continue
            self._asking[shown(plan.url)] += 1
            busy = self._busy.setdefault(torrent.info_hash, set())
            busy.add(plan.url)
            self._taken += 1
            self._jobs.append((torrent, plan.url, self._request(torrent, plan.url, plan.event, facts)))
            if not wide or self._due or self._taken >= self._slots or len(busy) >= OF_ONE_AT_ONCE:
                return
            plan = state.further(now, busy)
        self.rescheduled(torrent)

    def _crowded(self, url: str) -> bool:
        """A silent UDP tracker keeps a slot for a minute: until it answers, it gets a few only."""
        name = shown(url)
        return is_udp(url) and self._asking[name] >= UNTRUSTED_AT_ONCE and not self._hosts.trusted(name)

    def _request(
        self, torrent: Announced, url: str, event: AnnounceEvent, facts: AnnounceFacts
    ) -> AnnounceRequest:
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
            partial_seed=facts.partial_seed,
        )

    async def _announce_guarded(self, torrent: Announced, url: str, request: AnnounceRequest) -> None:
        settled = answered = False

        async def ask() -> None:
            nonlocal settled, answered
            answered = await self._announce(torrent, url, request)
            settled = True

        try:
            await self._guard(ask, f"announce to {shown(url)}")
            if not settled and torrent.announce.has(url):
                # it crashed, and might again: not at once
                now = trio.current_time()
                torrent.announce.put_off(url, now, now + UNSETTLED_S)
            if not answered:
                # what fails may do so without having waited for anything
                await trio.lowlevel.checkpoint()
        finally:
            name = shown(url)
            self._asking[name] -= 1
            if not self._asking[name]:
                del self._asking[name]
            for info_hash in self._behind.pop(name, ()):
                waiting = self._torrents.get(info_hash)
                if waiting is not None:
                    self.rescheduled(waiting)
            busy = self._busy.get(torrent.info_hash, set())
            busy.discard(url)
            if not busy:
                self._busy.pop(torrent.info_hash, None)
            self._done(torrent.info_hash)

    def _free(self, info_hash: InfoHash) -> None:
        self._done(info_hash)
        self._news.set()

    def _done(self, info_hash: InfoHash) -> None:
        """The slot is nobody's."""
        self._taken -= 1
        # by its info hash: it may have been removed and added anew meanwhile
        torrent = self._torrents.get(info_hash)
        if torrent is not None:
            self.rescheduled(torrent)

    async def _announce(self, torrent: Announced, url: str, request: AnnounceRequest) -> bool:
        """Did the tracker answer?"""
        life = torrent.announce.life
        try:
            response = await announce(self._http, url, request, udp=self._udp)
        except TrackerError as error:
            if self._torrents.get(torrent.info_hash) is torrent and torrent.announce.life == life:
                self._refused(torrent, url, error)
            return False
        torrent.announce.told(request.event)
        known = self._torrents.get(torrent.info_hash)
        if known is torrent and not torrent.announce.has(url):
            # it was taken from it meanwhile, and has heard of us
            self._quit(torrent, url)
        elif known is torrent and torrent.announce.life == life:
            self._answered(torrent, url, request, response)
            told = response.seeders is not None or response.leechers is not None
            if not told and self._hosts.scrapes(shown(url), trio.current_time()):
                await self._scrape(torrent, url)
        elif known is None:
            # removed meanwhile: the tracker believes that we are there
            self._stops.owe_too(torrent.info_hash, url, replace(request, event=AnnounceEvent.STOPPED))
        return True

    def _refused(self, torrent: Announced, url: str, error: TrackerError) -> None:
        now = trio.current_time()
        if not torrent.announce.has(url):
            return
        torrent.announce.failed(url, now, self._rng, retry_in_s=error.retry_in_s)
        if isinstance(error, Unreachable):
            # the host's trouble, told once and not for each of its torrents
            if self._hosts.failed(shown(url), now, self._rng):
                torrent.tracker_answered(shown(url), str(error))
        elif not isinstance(error, UnsupportedScheme) or torrent.announce.next_at == math.inf:
            # of trackers that we cannot speak to only the last counts: others may do
            self._tell(torrent, url, str(error))

    def _answered(
        self, torrent: Announced, url: str, request: AnnounceRequest, response: AnnounceResponse
    ) -> None:
        switched = torrent.announce.succeeded(
            url,
            request.event,
            trio.current_time(),
            self._rng,
            interval_s=response.interval_s,
            min_interval_s=response.min_interval_s,
            tracker_id=response.tracker_id,
            named=len(response.peers),
        )
        if switched:
            torrent.tracker_switched()
        if self._hosts.answered(shown(url)):
            torrent.tracker_answered(shown(url), None)
        torrent.announce.counted(response.seeders, response.leechers, url=url)
        self._tell(torrent, url, response.warning)
        if response.external_ip is not None:
            self.located(response.external_ip)
        if response.peers:
            torrent.peers_found(response.peers)

    async def _scrape(self, torrent: Announced, url: str) -> None:
        """The announce did not say how many there are."""
        try:
            counts = await scrape(self._http, url, torrent.info_hash, udp=self._udp)
        except TrackerError:
            self._hosts.does_not_scrape(shown(url), trio.current_time())
        else:
            torrent.announce.counted(*counts, url=url)

    def _tell(self, torrent: Announced, url: str, trouble: str | None) -> None:
        """Only what changed: a tracker that refuses for a day is one line."""
        if trouble is None and torrent.info_hash not in self._trouble:
            return
        told = self._trouble.setdefault(torrent.info_hash, {})
        if told.get(url) != trouble:
            torrent.tracker_answered(shown(url), trouble)
        if trouble is None:
            told.pop(url, None)
        else:
            told[url] = trouble
        if not told:
            del self._trouble[torrent.info_hash]

    # -- goodbye ---------------------------------------------------------------------------------------------

    def _stops_of(self, torrent: Announced) -> dict[str, AnnounceRequest]:
        urls = torrent.announce.stopping()
        return {url: self._stopped(torrent, url) for url in urls}

    def _stopped(self, torrent: Announced, url: str) -> AnnounceRequest:
        return self._request(torrent, url, AnnounceEvent.STOPPED, torrent.announce_facts())

    def _blocked(self, url: str) -> bool:
        return self._hosts.blocked_until(shown(url), trio.current_time()) is not None

    async def _tell_stopped(self, url: str, request: AnnounceRequest) -> None:
        await self._guard(partial(self._say_one, url, request), f"`stopped` to {shown(url)}")

    async def _say_one(self, url: str, request: AnnounceRequest) -> None:
        try:
            await announce(self._http, url, request, udp=self._udp)
        except TrackerError:
            # it will forget us by itself
            pass

    async def farewell(self, deadline_s: float) -> None:
        """`stopped` to every tracker that knows us, in parallel, as many as the deadline allows.

        Afterwards no torrent is announced any more.
        """
        last = [self._stops_of(torrent) for torrent in self._torrents.values()]
        self._torrents.clear()
        await self._stops.farewell(last, deadline_s)
