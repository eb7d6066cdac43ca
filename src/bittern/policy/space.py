"""Room on file systems: which downloads may run, and which are held until there is room for them.

A download starts where its missing bytes, beside those of all that run already, leave the reserve free. Below the
reserve none runs, and they go on when there is a margin above it again. Who runs is not displaced by who waits; of
those who wait the oldest comes first, but one that does not fit keeps nobody from starting who does.
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
class _Volume:
    free: int
    taken: int = 0
    """What those who run had yet to write when `free` was true."""
    claimed: int = 0
    """The same at the last judgement, and of those who began since: it only becomes less."""
    low: bool = False
    refused: bool = False
    free_then: int | None = None
    """What was free at the look after the refusal."""
    again_at: float = 0.0
    pause: float = PAUSE_FIRST_S
    proven_at: float = 0.0
    waiting: set[Hashable] = field(default_factory=set)


class Space(Generic[W]):
    """All volumes. `seen` comes before each `judge`; times are monotonic seconds."""

    def __init__(self, reserve_bytes: int) -> None:
        self.reserve_bytes = reserve_bytes
        self._volumes: dict[Hashable, _Volume] = {}
        self._dips: set[Hashable] = set()
        self._judged: frozenset[Hashable] = frozenset()
        """The volumes of the last judgement."""
        self._now = 0.0

    @property
    def margin_bytes(self) -> int:
        return self.reserve_bytes // MARGIN_SHARE

    def seen(self, free: Mapping[Hashable, int], now: float) -> None:
        """What is free now; volumes that are not named are there no more."""
        self._now = now
        for key in self._volumes.keys() - free.keys():
            del self._volumes[key]
        self._dips &= free.keys()
        for key, free_bytes in free.items():
            volume = self._volumes.setdefault(key, _Volume(free_bytes))
            volume.free, volume.taken = free_bytes, 0
            if volume.refused:
                self._look_after_refusal(volume, now)
            if volume.low:
                volume.low = volume.refused or free_bytes < self.reserve_bytes + self.margin_bytes
            else:
                volume.low = free_bytes < self.reserve_bytes

    def _look_after_refusal(self, volume: _Volume, now: float) -> None:
        if volume.free_then is None:
            volume.free_then = volume.free
        more = volume.free - volume.free_then
        if more >= max(self.margin_bytes, STEP_BYTES):
            volume.refused, volume.free_then, volume.proven_at = False, None, now
        elif now >= volume.again_at:
            volume.refused, volume.free_then, volume.proven_at = False, None, now + PROBATION_S
        elif more < 0:
            volume.free_then = volume.free

    def refused(self, key: Hashable, now: float) -> None:
        """A write was refused for want of room, whatever the figures say: a dip, at once."""
        volume = self._volumes.setdefault(key, _Volume(0))
        if volume.refused:
            return
        if now - volume.again_at > 2 * PAUSE_MOST_S:
            volume.pause = PAUSE_FIRST_S
        volume.low = volume.refused = True
        volume.free_then = None
        volume.again_at = now + volume.pause
        volume.pause = min(2 * volume.pause, PAUSE_MOST_S)

    def starts(self, needs: Mapping[Hashable, int]) -> bool:
        """May it start between two looks? If so it counts as running from now on."""
        if any(self._lacks(key, need) for key, need in needs.items()):
            return False
        self._take(needs)
        return True

    def calm(self) -> bool:
        """Right after `seen`: would a judgement change nothing, because all who are known run and there is room for
        what they wanted when they were judged last? Then it can be left out; thousands cost tens of milliseconds.
        """
        if self._dips or self._judged != self._volumes.keys():
            return False
        for volume in self._volumes.values():
            spare = volume.free - volume.claimed - self.reserve_bytes - self.margin_bytes
            if volume.low or volume.refused or volume.waiting or spare < 0:
                return False
        for volume in self._volumes.values():
            volume.taken = volume.claimed
        return True

    def judge(self, wishes: Iterable[Wish[W]]) -> Verdict[W]:
        """Right after `seen`, over all downloads."""
        verdict: Verdict[W] = Verdict([], [], {}, [], [])
        by_age = sorted(wishes, key=lambda wish: wish.age)
        for volume in self._volumes.values():
            volume.waiting.clear()
            volume.taken = 0
        waiting: list[Wish[W]] = []
        for wish in by_age:
            if wish.running and not any(self._is_low(key) for key in wish.needs):
                self._take(wish.needs)
            else:
                waiting.append(wish)
        for wish in waiting:
            lacks = {key: lack for key, need in wish.needs.items() if (lack := self._lacks(key, need)) > 0}
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

    def _is_low(self, key: Hashable) -> bool:
        volume = self._volumes.get(key)
        return volume is None or volume.low

    def _take(self, needs: Mapping[Hashable, int]) -> None:
        for key, need in needs.items():
            volume = self._volumes[key]
            volume.taken += need
            volume.claimed += need

    def _lacks(self, key: Hashable, need: int) -> int:
        """How many bytes too few there are, 0 for none."""
        volume = self._volumes.get(key)
        if volume is None:
            return max(need, 1)
        wanted = need + volume.taken + self.reserve_bytes + (self.margin_bytes if volume.low else 0)
        return max(wanted - volume.free, 1 if volume.low else 0)

    def _tell_dips(self, wishes: Iterable[Wish[W]], verdict: Verdict[W]) -> None:
        for key, volume in self._volumes.items():
            dips = volume.low or bool(volume.waiting) or (key in self._dips and self._now < volume.proven_at)
            if dips == (key in self._dips):
                continue
            wanted = sum(wish.needs.get(key, 0) for wish in wishes) + self.reserve_bytes
            wanted += self.margin_bytes if volume.low else 0
            dip = Dip(key, volume.free, max(wanted - volume.free, 0))
            if dips:
                self._dips.add(key)
                verdict.began.append(dip)
            else:
                self._dips.discard(key)
                verdict.ended.append(dip)
