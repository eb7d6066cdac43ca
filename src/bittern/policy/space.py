"""Room on file systems: which downloads may run, and which are held until there is room for them.

A download starts where its missing bytes, beside those of all that run already, leave the reserve free. Below the
reserve none runs, and they go on when there is a margin above it again. Who runs is not displaced by who waits; of
those who wait the oldest comes first, but one that does not fit keeps nobody from starting who does.

A refused write rests the download that was refused: a quota, a limit on files or blocks kept back are its own affair
as long as the figures show room. All downloads on the volume rest with it only where the figures agree that it is
full, or where several are refused and nobody can write.
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

MARGIN_SHARE: Final = 4
"""Of the reserve, a fourth more has to be free before downloads go on: else each piece could end and begin a dip."""

STEP_BYTES: Final = 1024 * 1024
"""After a refusal so much more than then is free is news, whatever the reserve is."""

PAUSE_FIRST_S: Final = 5.0
PAUSE_MOST_S: Final = 300.0
"""After a refusal without such news (a quota is seen in no figure) it is tried again so much later, each time twice."""

SEVERAL: Final = 3
NOBODY_WRITES_S: Final = 10.0
"""So many downloads that were never refused before, and in so long not a piece of anybody's: it is the volume."""

PROBATION_S: Final = 30.0
"""A dip that ended for want of patience is over when nothing was refused for so long: trying is not told as news."""

W = TypeVar("W", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Wish(Generic[W]):
    """A download that runs or would run: `needs` is what it has yet to put on each volume, in bytes."""

    who: W
    age: int
    """The lowest first."""
    needs: Mapping[Hashable, int]
    running: bool
    pieces: int = 0
    """How many it has: more than before is proof that it can write."""


@dataclass(frozen=True, slots=True)
class Dip:
    """Downloads on a volume are held, or its reserve is touched. `needed_bytes` must be freed for all to go on."""

    volume: Hashable
    free_bytes: int
    needed_bytes: int


@dataclass(frozen=True, slots=True)
class Verdict(Generic[W]):
    """What is to change: who stops, who starts; how much is missing for each who waits; dips that began or ended."""

    hold: list[W]
    start: list[W]
    missing: dict[W, int]
    began: list[Dip]
    ended: list[Dip]


@dataclass(slots=True)
class _Rest:
    """After a refusal, until much more is free than then, or for a while that doubles from one time to the next."""

    on: bool = False
    again_at: float = 0.0
    pause: float = PAUSE_FIRST_S
    free_then: int | None = None
    """What was free at the look after the refusal."""

    def begin(self, now: float) -> None:
        if self.on:
            return
        if now - self.again_at > 2 * PAUSE_MOST_S:
            self.pause = PAUSE_FIRST_S
        self.on, self.free_then = True, None
        self.again_at = now + self.pause
        self.pause = min(2 * self.pause, PAUSE_MOST_S)

    def look(self, free: int, step: int, now: float) -> float | None:
        """None while it goes on; else from when on its end counts as proven."""
        if self.free_then is None:
            self.free_then = free
        more = free - self.free_then
        if more >= step:
            self.on = False
            return now
        if now >= self.again_at:
            self.on = False
            return now + PROBATION_S
        self.free_then = min(self.free_then, free)
        return None


@dataclass(slots=True)
class _Volume:
    free: int
    taken: int = 0
    """What those who run had yet to write when `free` was true."""
    claimed: int = 0
    """The same at the last judgement, and of those who began since: it only becomes less."""
    low: bool = False
    rest: _Rest = field(default_factory=_Rest)
    """Of all downloads on it."""
    refused: dict[Hashable, _Rest] = field(default_factory=dict)
    """The same, of each that was refused, as long as it is a download."""
    doubted: bool = False
    """Somebody was refused since the last look."""
    newly: set[Hashable] = field(default_factory=set)
    """Who was refused for the first time, since somebody could write."""
    newly_at: float = 0.0
    """When the first of them was."""
    had: dict[Hashable, int] = field(default_factory=dict)
    """How many pieces those had who ran at that time."""
    proven_at: float = 0.0
    waiting: set[Hashable] = field(default_factory=set)


class Space(Generic[W]):
    """All volumes. `seen` comes before each `judge`; times are monotonic seconds."""

    def __init__(self, reserve_bytes: int) -> None:
        self.reserve_bytes = reserve_bytes
        self.other_reserves: Mapping[Hashable, int] = {}
        """Of volumes that have one of their own."""
        self._volumes: dict[Hashable, _Volume] = {}
        self._dips: set[Hashable] = set()
        self._judged: frozenset[Hashable] = frozenset()
        """The volumes of the last judgement."""
        self._now = 0.0

    def reserve_of(self, key: Hashable) -> int:
        """What is to stay free there."""
        return self.other_reserves.get(key, self.reserve_bytes)

    def seen(self, free: Mapping[Hashable, int], now: float) -> None:
        """What is free now; volumes that are not named are there no more."""
        self._now = now
        for key in self._volumes.keys() - free.keys():
            del self._volumes[key]
        self._dips &= free.keys()
        for key, free_bytes in free.items():
            volume = self._volumes.setdefault(key, _Volume(free_bytes))
            volume.free, volume.taken = free_bytes, 0
            reserve = self.reserve_of(key)
            margin = reserve // MARGIN_SHARE
            if volume.doubted and free_bytes < reserve + STEP_BYTES:
                volume.rest.begin(now)
            volume.doubted = False
            self._look_after_refusals(volume, max(margin, STEP_BYTES), now)
            volume.low = volume.rest.on or free_bytes < reserve + (margin if volume.low else 0)

    def _look_after_refusals(self, volume: _Volume, step: int, now: float) -> None:
        for rest in (volume.rest, *volume.refused.values()):
            if rest.on:
                proven_at = rest.look(volume.free, step, now)
                if proven_at is not None:
                    volume.proven_at = proven_at

    def refused(self, key: Hashable, who: W, now: float) -> None:
        """A write of that download was refused for want of room, whatever the figures say: a dip, at once."""
        volume = self._volumes.setdefault(key, _Volume(0))
        if who not in volume.refused:
            if not volume.newly:
                volume.newly_at = now
            volume.newly.add(who)
        volume.refused.setdefault(who, _Rest()).begin(now)
        volume.doubted = True

    def starts(self, who: W, needs: Mapping[Hashable, int]) -> bool:
        """May it start between two looks? If so it counts as running from now on."""
        if any(self._lacks(who, key, need) for key, need in needs.items()):
            return False
        self._take(needs)
        return True

    def calm(self) -> bool:
        """Right after `seen`: would a judgement change nothing, because all who are known run and there is room for
        what they wanted when they were judged last? Then it can be left out; thousands cost tens of milliseconds.
        """
        if self._dips or self._judged != self._volumes.keys():
            return False
        for key, volume in self._volumes.items():
            spare = volume.free - volume.claimed - self._to_stay(key, margin=True)
            if volume.low or volume.newly or volume.waiting or spare < 0:
                return False
        for volume in self._volumes.values():
            volume.taken = volume.claimed
        return True

    def judge(self, wishes: Iterable[Wish[W]]) -> Verdict[W]:
        """Right after `seen`, over all downloads."""
        verdict: Verdict[W] = Verdict([], [], {}, [], [])
        by_age = sorted(wishes, key=lambda wish: wish.age)
        for key, volume in self._volumes.items():
            volume.waiting.clear()
            volume.taken = 0
            if volume.refused:
                self._attribute(volume, [wish for wish in by_age if key in wish.needs])
        waiting: list[Wish[W]] = []
        for wish in by_age:
            if wish.running and not any(self._is_low(wish.who, key) for key in wish.needs):
                self._take(wish.needs)
            else:
                waiting.append(wish)
        for wish in waiting:
            lacks = {
                key: lack
                for key, need in wish.needs.items()
                if (lack := self._lacks(wish.who, key, need)) > 0
            }
            if not lacks:
                self._take(wish.needs)
                verdict.start.append(wish.who)
                continue
            if wish.running:
                verdict.hold.append(wish.who)
            verdict.missing[wish.who] = max(lacks.values())
            for key in lacks:
                if key in self._volumes:
                    self._volumes[key].waiting.add(wish.who)
        self._tell_dips(by_age, verdict)
        self._judged = frozenset(self._volumes)
        for volume in self._volumes.values():
            volume.claimed = volume.taken
        return verdict

    def _attribute(self, volume: _Volume, wishes: Iterable[Wish[W]]) -> None:
        """Is it the volume that refuses, or are some refused on it?"""
        here = {wish.who: wish for wish in wishes}
        for gone in volume.refused.keys() - here.keys():
            del volume.refused[gone]
        if not volume.newly:
            return
        writes = False
        for who, wish in here.items():
            if wish.running and who not in volume.newly:
                writes = writes or wish.pieces > volume.had.setdefault(who, wish.pieces)
        if not writes and self._now - volume.newly_at < NOBODY_WRITES_S:
            return
        if not writes and len(volume.newly) >= SEVERAL:
            volume.rest.begin(self._now)
            volume.low = True
        volume.newly.clear()
        volume.had.clear()

    def _is_low(self, who: W, key: Hashable) -> bool:
        volume = self._volumes.get(key)
        return volume is None or volume.low or _rests(volume, who)

    def _to_stay(self, key: Hashable, *, margin: bool) -> int:
        reserve = self.reserve_of(key)
        return reserve + reserve // MARGIN_SHARE if margin else reserve

    def _take(self, needs: Mapping[Hashable, int]) -> None:
        for key, need in needs.items():
            volume = self._volumes[key]
            volume.taken += need
            volume.claimed += need

    def _lacks(self, who: W, key: Hashable, need: int) -> int:
        """How many bytes too few there are, 0 for none."""
        volume = self._volumes.get(key)
        if volume is None:
            return max(need, 1)
        wanted = need + volume.taken + self._to_stay(key, margin=volume.low)
        return max(wanted - volume.free, 1 if volume.low or _rests(volume, who) else 0)

    def _tell_dips(self, wishes: Iterable[Wish[W]], verdict: Verdict[W]) -> None:
        for key, volume in self._volumes.items():
            dips = volume.low or bool(volume.waiting) or (key in self._dips and self._now < volume.proven_at)
            if dips == (key in self._dips):
                continue
            wanted = sum(wish.needs.get(key, 0) for wish in wishes) + self._to_stay(key, margin=volume.low)
            dip = Dip(key, volume.free, max(wanted - volume.free, 0))
            if dips:
                self._dips.add(key)
                verdict.began.append(dip)
            else:
                self._dips.discard(key)
                verdict.ended.append(dip)


def _rests(volume: _Volume, who: Hashable) -> bool:
    rest = volume.refused.get(who)
    return rest is not None and rest.on
