"""When to announce to which tracker: tiers (BEP 12), intervals, back-off (BEP 31). One torrent's, and lean.

A torrent that no tracker has answered yet costs its tiers and a few numbers; what is known of a single tracker
exists only after it answered or failed. Times are the loop clock's; nothing here survives the process, for after a
restart `started` goes out at once.
"""

import math
import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from bittern.proto.announce import AnnounceEvent

BACK_OFF_FIRST_S: Final = 15.0
BACK_OFF_MOST_S: Final = 1800.0
SPREAD: Final = 0.1
"""Re-announces come within ±10 % of the interval, so that thousands do not stay in step."""

HASTE_S: Final = 60.0
"""A torrent in need of peers may ask again this soon, if the tracker's `min interval` allows."""


class Plan(NamedTuple):
    """The announce that is due."""

    url: str
    event: AnnounceEvent


class _Known:
    """One tracker, after it answered or failed."""

    __slots__ = ("answered_at", "failures", "not_before", "tracker_id")

    def __init__(self) -> None:
        self.answered_at: float | None = None
        self.failures = 0
        self.not_before = -math.inf
        self.tracker_id: bytes | None = None


class AnnounceState:
    """Owned by its torrent. `next_at`: when `plan` will have something; infinity when never."""

    __slots__ = ("_completed", "_known", "_started", "_tiers", "key", "next_at")

    def __init__(self, tiers: Sequence[Sequence[str]], rng: random.Random) -> None:
        self._tiers = tuple(_shuffled(tier, rng) for tier in tiers if tier)
        self._known: dict[str, _Known] = {}
        self._started = False
        """Has some tracker heard `started`? Only then it is to hear `completed` and `stopped`."""
        self._completed = False
        """Is `completed` still to be told?"""
        self.key = rng.getrandbits(32)
        self.next_at = -math.inf if self._tiers else math.inf

    @property
    def has_trackers(self) -> bool:
        return bool(self._tiers)

    def merge(self, tiers: Sequence[Sequence[str]], now: float | None = None) -> bool:
        """Further trackers, as tiers behind the others; True when any was new."""
        known = {url for tier in self._tiers for url in tier}
        fresh = tuple(tuple(url for url in tier if url not in known) for tier in tiers)
        fresh = tuple(tier for tier in fresh if tier)
        self._tiers += fresh
        if fresh and self.next_at == math.inf:
            self.next_at = -math.inf if now is None else now
        return bool(fresh)

    def plan(self, now: float) -> Plan | None:
        """What to announce now, and to whom; None when nothing is due (`next_at` says when)."""
        if now < self.next_at:
            return None
        for url in self._urls():
            known = self._known.get(url)
            if known is None or known.not_before <= now:
                return Plan(url, self._event())
        # every tracker is backing off: come back when the first of them may be asked
        self.next_at = self._earliest()
        return None

    def tracker_id(self, url: str) -> bytes | None:
        """What that tracker wants to hear again."""
        known = self._known.get(url)
        return None if known is None else known.tracker_id

    def completed(self, now: float) -> None:
        """The last piece came in this run: trackers hear it once, at once."""
        if self._started:
            self._completed = True
            self.next_at = min(self.next_at, now)

    def want_now(self, now: float) -> bool:
        """More peers are needed: the next announce comes as soon as the trackers allow. True when that is sooner."""
        url = next(iter(self._urls()), None)
        known = self._known.get(url) if url is not None else None
        if known is None or known.answered_at is None or known.failures:
            return False
        soon = max(now, known.not_before, known.answered_at + HASTE_S)
        if soon >= self.next_at:
            return False
        self.next_at = soon
        return True

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
    ) -> None:
        """The tracker answered: it moves to the front of its tier (BEP 12)."""
        known = self._known.setdefault(url, _Known())
        known.failures = 0
        known.answered_at = now
        known.not_before = now + (min_interval_s or 0.0)
        known.tracker_id = tracker_id or known.tracker_id
        if event is AnnounceEvent.STARTED:
            self._started = True
        elif event is AnnounceEvent.COMPLETED:
            self._completed = False
        self._to_front(url)
        pause = max(interval_s * rng.uniform(1 - SPREAD, 1 + SPREAD), min_interval_s or 0.0)
        self.next_at = now if self._completed else now + pause

    def failed(self, url: str, now: float, rng: random.Random, *, retry_in_s: float | None) -> None:
        """The tracker did not: others are tried at once, this one after its back-off or its own wish (BEP 31)."""
        known = self._known.setdefault(url, _Known())
        known.failures += 1
        pause = min(BACK_OFF_FIRST_S * 2 ** min(known.failures - 1, 10), BACK_OFF_MOST_S)
        known.not_before = now + (rng.uniform(pause, pause * 1.3) if retry_in_s is None else retry_in_s)
        self.next_at = now if any(self._usable(other, now) for other in self._urls()) else self._earliest()

    def stopping(self) -> list[str]:
        """Trackers that know us and are to hear `stopped`; afterwards a new life begins with `started`."""
        heard = [
            url for url, known in self._known.items() if known.answered_at is not None and not known.failures
        ]
        told = heard if self._started else []
        self._started = self._completed = False
        self.next_at = -math.inf if self._tiers else math.inf
        return told

    def _event(self) -> AnnounceEvent:
        if not self._started:
            return AnnounceEvent.STARTED
        return AnnounceEvent.COMPLETED if self._completed else AnnounceEvent.NONE

    def _urls(self) -> list[str]:
        return [url for tier in self._tiers for url in tier]

    def _usable(self, url: str, now: float) -> bool:
        known = self._known.get(url)
        return known is None or known.not_before <= now

    def _earliest(self) -> float:
        return min(
            (self._known[url].not_before for url in self._urls() if url in self._known), default=math.inf
        )

    def _to_front(self, url: str) -> None:
        for at, tier in enumerate(self._tiers):
            if url in tier:
                if tier[0] != url:
                    moved = (url, *(other for other in tier if other != url))
                    self._tiers = (*self._tiers[:at], moved, *self._tiers[at + 1 :])
                return


def _shuffled(tier: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    """BEP 12: each tier is shuffled once."""
    urls = list(dict.fromkeys(tier))
    rng.shuffle(urls)
    return tuple(urls)
