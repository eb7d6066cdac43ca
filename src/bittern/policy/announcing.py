"""When to announce to which tracker: tiers (BEP 12), intervals, back-off (BEP 31). One torrent's, and lean.

A torrent that no tracker has answered yet costs its tiers and a few numbers; what is known of a single tracker
exists only after it answered or failed. Times are the loop clock's; nothing here survives the process, for after a
restart `started` goes out at once.

Facts that a change must respect: `started` is the first that a tracker hears of us in each life of the torrent;
`completed`, `stopped` and that more is wanted again do not wait for a tracker's `min interval`, all else does; a
tracker that fails delays nobody but itself; and after `plan` gave something, nothing is due again until the answer or
failure is told.

Tiers are asked in order, and the first that answers serves the torrent. One that has next to no peers, and is not
private, is *wide*: it asks a tracker of each tier at once, for as long as that lasts.
"""

import math
import random
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple, cast

from bittern.proto.announce import AnnounceEvent

BACK_OFF_FIRST_S: Final = 15.0
BACK_OFF_MOST_S: Final = 1800.0
SPREAD: Final = 0.1
"""Re-announces come within ±10 % of the interval, so that thousands do not stay in step."""

HASTE_S: Final = 60.0
"""A torrent in need of peers may ask again this soon, if the tracker's `min interval` allows; twice as long each
further time in a row, for a tracker that knows nobody now will hardly know somebody in a minute."""

HASTE_DOUBLED_AT_MOST: Final = 5
UNKNOWN: Final = -1
"""As the number of seeders or leechers, until a tracker told."""

UNSETTLED_S: Final = 120.0
"""An announce of which neither answer nor failure is ever told (it crashed) is due again after this."""

OUTAGE_FAILURES: Final = 3
"""So many failures in a row are an outage of the host; one or two are the wild."""

OUTAGE_FIRST_S: Final = 15.0
OUTAGE_MOST_S: Final = 300.0


MUTE_S: Final = 6 * 3600.0
"""A host that gave no counts is not asked for them again before."""


class Plan(NamedTuple):
    """The announce that is due."""

    url: str
    event: AnnounceEvent


class _Known:
    """One tracker, after it answered or failed."""

    __slots__ = (
        "answered_at",
        "due_at",
        "failures",
        "named",
        "not_before",
        "owed",
        "soonest_at",
        "started",
        "tracker_id",
        "url",
    )

    def __init__(self, url: str) -> None:
        self.url = url
        self.started = False
        """Did it hear `started` in this life of the torrent?"""
        self.owed = False
        """Is it to hear `completed`?"""
        self.answered_at = -math.inf
        self.due_at = -math.inf
        """Its interval, or sooner in haste."""
        self.failures = 0
        self.named = 0
        """How many peers its last answer named."""
        self.not_before = -math.inf
        """Its back-off; nothing is announced to it before."""
        self.soonest_at = -math.inf
        """Its `min interval`; only events may come before."""
        self.tracker_id: bytes | None = None


class TrackerFacts(NamedTuple):
    """A tracker as one torrent knows it; None: it has not answered, or nothing is due."""

    tier: int
    url: str
    answered_s_ago: int | None
    next_in_s: int | None
    failures: int
    """In a row, until now."""


class AnnounceState:
    """Owned by its torrent. `next_at`: when `plan` will have something; infinity when never."""

    __slots__ = (
        "_completed",
        "_current",
        "_hastes",
        "_known",
        "_tiers",
        "key",
        "leechers",
        "life",
        "next_at",
        "seeders",
    )

    def __init__(self, tiers: Sequence[Sequence[str]], rng: random.Random) -> None:
        self._tiers: tuple[tuple[str, ...], ...] = ()
        self._known: tuple[_Known, ...] = ()
        self._completed = False
        """It was downloaded in this run, and nobody heard so yet."""
        self._hastes = 0
        self._current = ""
        """The tracker whose peers we have."""
        self.key = rng.getrandbits(32)
        self.life = 0
        """Which one this is; an answer to what was asked in an earlier one is not to be told here."""
        self.next_at = math.inf
        self.seeders = self.leechers = UNKNOWN
        """How many there are in all, as trackers count."""
        self.merge(tiers, rng)

    def merge(self, tiers: Sequence[Sequence[str]], rng: random.Random | None = None) -> bool:
        """Further trackers, as tiers behind the others (each shuffled once, BEP 12); True when any was new."""
        known = set(self._urls())
        fresh = []
        for tier in tiers:
            urls = tuple(url for url in dict.fromkeys(tier) if url not in known)
            known.update(urls)
            if urls:
                fresh.append(urls if rng is None or len(urls) < 2 else tuple(rng.sample(urls, len(urls))))
        # of thousands with the same single tracker all hold the same list
        if not self._tiers and fresh == list(tiers):
            self._tiers = cast("tuple[tuple[str, ...], ...]", tuple(tiers))
        else:
            self._tiers += tuple(fresh)
        if fresh and not any(_answers(one) for one in self._known):
            # nobody helps us so far: the new ones are asked at once
            self.next_at = -math.inf
        return bool(fresh)

    def replace(self, tiers: Sequence[Sequence[str]]) -> list[str]:
        """Other trackers from now on, in that order and each once; what is known of those that stay is kept. Gives
        those that are gone and know us: they are to hear `stopped`.
        """
        self._tiers = tuple(map(tuple, tiers))
        urls = set(self._urls())
        gone = [one for one in self._known if one.url not in urls]
        self._known = tuple([one for one in self._known if one.url in urls])
        if any(one.answered_at > -math.inf for one in gone):
            # it may be what one of them counted
            self.seeders = self.leechers = UNKNOWN
        self.next_at = -math.inf if urls else math.inf
        return [one.url for one in gone if one.started and _answers(one)]

    def has(self, url: str) -> bool:
        """Is that one of its trackers?"""
        return url in self._urls()

    def plan(self, now: float, *, wide: bool = False, busy: Collection[str] = ()) -> Plan | None:
        """What to announce now, and to whom; None when nothing is due (`next_at` says when).

        `busy` are its trackers whose announce is under way.
        """
        if now < self.next_at:
            return None
        plan, later = self._look(now, wide, busy)
        self.next_at = now + UNSETTLED_S if plan is not None or busy else later
        return plan

    def further(self, now: float, busy: Collection[str]) -> Plan | None:
        """Of a wide torrent: what to announce beside that, to a tracker of another tier."""
        return self._look(now, True, busy)[0]

    def _look(self, now: float, wide: bool, busy: Collection[str]) -> tuple[Plan | None, float]:
        """What to announce now, or when to look again."""
        for one in self._known:
            if one.owed and one.not_before <= now and one.url not in busy:
                return Plan(one.url, AnnounceEvent.COMPLETED), now
        later = math.inf
        for tier in self._tiers:
            for url in tier:
                known = self._find(url)
                if known is not None and known.not_before > now:
                    later = min(later, known.not_before)
                    continue
                if url not in busy:
                    event = self._event(known)
                    due_at = -math.inf if known is None else max(known.due_at, known.soonest_at)
                    if due_at <= now or event is not AnnounceEvent.NONE:
                        return Plan(url, event), now
                    if not wide:
                        return None, due_at
                    later = min(later, due_at)
                elif not wide:
                    return None, later
                # this tier is served
                break
        return None, later

    def tracker_id(self, url: str) -> bytes | None:
        """What that tracker wants to hear again."""
        known = self._find(url)
        return None if known is None else known.tracker_id

    def completed(self, now: float) -> None:
        """The last piece came in this run: trackers that know us hear it, once each, or the first that answers."""
        self._completed = True
        for known in self._known:
            known.owed = known.started
        self.next_at = min(self.next_at, now)

    def wants_more(self, now: float) -> bool:
        """It had all that it wanted and does not any more: until those who know us hear so they name no seeds, or count
        us as one (BEP 21). Not within `HASTE_S` of the last announce. True when that is sooner.
        """
        before = self.next_at
        for known in self._known:
            if known.started and known.answered_at > -math.inf:
                known.due_at = known.soonest_at = min(known.due_at, max(now, known.answered_at + HASTE_S))
                self.next_at = min(self.next_at, max(known.due_at, known.not_before))
        return self.next_at < before

    def want_now(self, now: float, *, wide: bool = False, busy: Collection[str] = ()) -> bool:
        """More peers are needed: the next announce comes as soon as the trackers allow. True when that is sooner."""
        if self.next_at <= now:
            return False
        if wide and self._look(now, True, busy)[0] is not None:
            self.next_at = now
            return True
        known = self._latest()
        if known is None:
            return False
        soon = max(now, self._hasty_at(known))
        if soon >= min(self.next_at, known.due_at):
            return False
        known.due_at = self.next_at = soon
        self._hastes += 1
        return True

    def may_hasten_at(self) -> float | None:
        """When it may be announced at the earliest if somebody asks for that; None: nobody has answered."""
        known = self._latest()
        return None if known is None else min(self._hasty_at(known), max(known.due_at, known.soonest_at))

    def _latest(self) -> _Known | None:
        """Of those that answer, who did last."""
        return max(
            (one for one in self._known if _answers(one)), key=lambda one: one.answered_at, default=None
        )

    def _hasty_at(self, known: _Known) -> float:
        pause = HASTE_S * 2 ** min(self._hastes, HASTE_DOUBLED_AT_MOST)
        return max(known.soonest_at, float(known.answered_at + pause))

    def succeeded(
        self,
        url: str,
        event: AnnounceEvent,
        now: float,
        rng: random.Random,
        *,
        interval_s: float,
        min_interval_s: float | None,
        tracker_id: bytes | None,
        named: int = 0,
    ) -> bool:
        """The tracker answered: it moves to the front of its tier (BEP 12). True: its peers are another tracker's than
        those that we have.
        """
        switched = False
        if event is not AnnounceEvent.COMPLETED:
            # that is said to all who know us, and nobody is asked for peers by it
            switched, self._current = self._current not in {"", url}, url
        known = self._note(url)
        if now - known.answered_at >= interval_s * (1 - SPREAD):
            self._hastes = 0
        known.failures = 0
        known.named = named
        known.not_before = -math.inf
        known.answered_at = now
        known.soonest_at = now + (min_interval_s or 0.0)
        known.tracker_id = tracker_id or known.tracker_id
        known.started = known.started or event is AnnounceEvent.STARTED
        if event is AnnounceEvent.COMPLETED:
            known.owed = False
        elif event is AnnounceEvent.STARTED:
            known.owed = self._completed
        self.told(event)
        self._to_front(url)
        known.due_at = now + max(interval_s * rng.uniform(1 - SPREAD, 1 + SPREAD), min_interval_s or 0.0)
        if len(self._known) == 1 and not known.owed:
            self.next_at = known.due_at
        elif any(one.owed for one in self._known):
            self.next_at = now
        else:
            # those that were asked in need only have lapsed
            self.next_at = min(one.due_at for one in self._known if one.due_at > now)
        return switched

    def named_by(self, url: str) -> int:
        """How many peers that tracker's last answer named."""
        known = self._find(url)
        return 0 if known is None else known.named

    def counted(self, seeders: int | None, leechers: int | None, *, url: str) -> None:
        """What a tracker counts, if it does: that of the first that answers holds, unless another knows more."""
        if seeders is None and leechers is None:
            return
        told = (seeders or 0, leechers or 0)
        first = next(
            (one for one in map(self._find, self._urls()) if one is not None and _answers(one)), None
        )
        if first is None or first.url == url or sum(told) > self.seeders + self.leechers:
            self.seeders, self.leechers = told

    def told(self, event: AnnounceEvent) -> None:
        """A tracker heard this, be it in an earlier life: `completed` is not told twice."""
        if event is AnnounceEvent.COMPLETED:
            self._completed = False

    def failed(self, url: str, now: float, rng: random.Random, *, retry_in_s: float | None) -> None:
        """The tracker did not: others are tried at once, this one after its back-off or its own wish (BEP 31)."""
        known = self._note(url)
        known.failures += 1
        pause = min(BACK_OFF_FIRST_S * 2 ** min(known.failures - 1, 10), BACK_OFF_MOST_S)
        self.put_off(url, now, now + (rng.uniform(pause, pause * 1.3) if retry_in_s is None else retry_in_s))

    def put_off(self, url: str, now: float, until: float) -> None:
        """The tracker is not to be asked before then; no fault of its is counted. Others are tried at once."""
        self._note(url).not_before = until
        earliest = self._earliest()
        self.next_at = max(now, earliest)

    def trackers(self, now: float) -> list["TrackerFacts"]:
        """How it stands with each, in the order in which they are tried."""
        return [
            _facts(tier, url, self._find(url), now) for tier, urls in enumerate(self._tiers) for url in urls
        ]

    def stopping(self) -> list[str]:
        """Trackers that know us and are to hear `stopped`; afterwards a new life begins with `started`."""
        told = [one.url for one in self._known if one.started and _answers(one)]
        for one in self._known:
            one.started = one.owed = False
        self.life += 1
        self.next_at = -math.inf if self._tiers else math.inf
        return told

    def _event(self, known: _Known | None) -> AnnounceEvent:
        if known is None or not known.started:
            return AnnounceEvent.STARTED
        return AnnounceEvent.COMPLETED if known.owed else AnnounceEvent.NONE

    def _urls(self) -> Iterator[str]:
        return (url for tier in self._tiers for url in tier)

    def _find(self, url: str) -> _Known | None:
        for one in self._known:
            if one.url == url:
                return one
        return None

    def _note(self, url: str) -> _Known:
        known = self._find(url)
        if known is None:
            known = _Known(url)
            self._known += (known,)
        return known

    def _earliest(self) -> float:
        """When the first tracker may be asked."""
        found = (self._find(url) for url in self._urls())
        return min((-math.inf if one is None else one.not_before for one in found), default=math.inf)

    def _to_front(self, url: str) -> None:
        for at, tier in enumerate(self._tiers):
            if url in tier:
                if tier[0] != url:
                    moved = (url, *(other for other in tier if other != url))
                    self._tiers = (*self._tiers[:at], moved, *self._tiers[at + 1 :])
                return


def _facts(tier: int, url: str, known: _Known | None, now: float) -> TrackerFacts:
    if known is None:
        return TrackerFacts(tier, url, None, None, 0)
    answered = round(now - known.answered_at) if known.answered_at > -math.inf else None
    next_at = max(known.due_at, known.not_before)
    next_in = max(0, round(next_at - now)) if math.isfinite(next_at) else None
    return TrackerFacts(tier, url, answered, next_in, known.failures)


def _answers(known: _Known) -> bool:
    return known.answered_at > -math.inf and not known.failures


class _Host:
    """One tracker host, whichever torrent asked it."""

    __slots__ = ("answered", "failures", "mute_until", "not_before", "told")

    def __init__(self) -> None:
        self.answered = False
        self.failures = 0
        self.not_before = self.mute_until = -math.inf
        self.told = False


class Hosts:
    """Tracker hosts that cannot be reached, seen over all torrents.

    Ten thousand torrents of one dead tracker would each find out for themselves, ten seconds at a time, and take all
    the slots from those whose trackers live. So after some failures in a row the host is left alone for a while.
    """

    def __init__(self) -> None:
        self._hosts: dict[str, _Host] = {}

    def blocked_until(self, name: str, now: float) -> float | None:
        """When it may be asked again; None: now."""
        host = self._hosts.get(name)
        return host.not_before if host is not None and host.not_before > now else None

    def trusted(self, name: str) -> bool:
        """Did it answer when it was asked last?"""
        host = self._hosts.get(name)
        return host is not None and host.answered and not host.failures

    def scrapes(self, name: str, now: float) -> bool:
        """May it be asked for counts?"""
        host = self._hosts.get(name)
        return host is not None and host.mute_until <= now

    def does_not_scrape(self, name: str, now: float) -> None:
        """It gave no counts when it was asked for some."""
        self._hosts.setdefault(name, _Host()).mute_until = now + MUTE_S

    def failed(self, name: str, now: float, rng: random.Random) -> bool:
        """It did not answer. True when that is news: it never did, or has not for some times."""
        host = self._hosts.setdefault(name, _Host())
        if now < host.not_before:
            # asked before it was left alone: the same outage
            return False
        host.failures += 1
        if host.failures >= OUTAGE_FAILURES:
            pause = min(OUTAGE_FIRST_S * 2 ** min(host.failures - OUTAGE_FAILURES, 10), OUTAGE_MOST_S)
            host.not_before = now + rng.uniform(pause, pause * 1.3)
        news = not host.told and (host.failures >= OUTAGE_FAILURES or not host.answered)
        host.told = host.told or news
        return news

    def answered(self, name: str) -> bool:
        """It did. True when that is news."""
        host = self._hosts.setdefault(name, _Host())
        news, host.told = host.told, False
        host.answered, host.failures, host.not_before = True, 0, -math.inf
        return news
