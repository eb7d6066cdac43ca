"""Who may download from us (BEP 3): reciprocity while we download, fairness while we seed, and chances for newcomers.

A round is taken every ten seconds over the peers of all torrents at once. Seven slots in ten go to peers of torrents
that we are still downloading, the others to those we seed; what one side cannot use goes to the other, as in
etorrent. At least one slot, and one in five, is optimistic: it goes round among those who would get none.
"""

import math
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)

ROTATE_S: Final = 30.0
"""BEP 3: an optimistic unchoke lasts three rounds, long enough to be noticed and answered."""

LEECH_SHARE: Final = 0.7
OPTIMISTIC_SHARE: Final = 5
NEW_S: Final = 60.0
NEW_WEIGHT: Final = 3
"""BEP 3: newly connected peers are three times as likely."""

SEED_TURN_S: Final = 60.0
"""A leecher that we seed to keeps its slot this long at least; then those who waited longer go before it."""

FIRST_SLOTS: Final = 8
MOST_AUTO_SLOTS: Final = 100
RAISED: Final = 1.03
"""Another slot stays when it raised the total rate by more than this."""


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Who]):
    """A connected peer at the time of the round; rates in bytes a second, `unchoked_at` None while choked.

    `seeding`: our torrent is complete, so the peer has nothing to give.
    """

    who: Who
    interested: bool
    snubbed: bool
    download_rate: float
    upload_rate: float
    seeding: bool
    unchoked_at: float | None
    joined_at: float


@dataclass(frozen=True, slots=True)
class Round(Generic[Who]):
    """What a round changes, and who holds an optimistic slot."""

    unchoke: list[Who]
    choke: list[Who]
    optimistic: set[Who]


class Choker(Generic[Who]):
    """Remembers who holds an optimistic slot and when each peer was last served."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._optimistic: dict[Who, float] = {}
        """Who, since when."""
        self._served_at: dict[Who, float] = {}

    def round(self, now: float, candidates: Sequence[Candidate[Who]], slots: int) -> Round[Who]:
        """Decides afresh who is unchoked."""
        wanting = [one for one in candidates if one.interested]
        self._forget_gone(candidates, wanting)
        reserved = self._optimistic_slots(slots) if len(wanting) > slots else 0
        optimistic = self._rotate(now, wanting, reserved)
        regular = self._regular(
            now, [one for one in wanting if one.who not in optimistic], slots - len(optimistic)
        )
        chosen = regular | optimistic
        for one in wanting:
            if one.who in chosen:
                self._served_at[one.who] = now
        return Round(
            unchoke=[one.who for one in wanting if one.who in chosen and one.unchoked_at is None],
            choke=[one.who for one in candidates if one.who not in chosen and one.unchoked_at is not None],
            optimistic=optimistic,
        )

    def free_slot(self, now: float, candidates: Sequence[Candidate[Who]], slots: int) -> Who | None:
        """Between rounds: who gets a slot that is free; None when none is, or nobody wants it."""
        if sum(one.unchoked_at is not None for one in candidates) >= slots:
            return None
        waiting = [one for one in candidates if one.interested and one.unchoked_at is None]
        if not waiting:
            return None
        best = max(
            waiting,
            key=lambda one: (
                not one.snubbed,
                one.download_rate,
                -self._served_at.get(one.who, -1.0),
                self._rng.random(),
            ),
        )
        self._served_at[best.who] = now
        return best.who

    def _forget_gone(self, candidates: Sequence[Candidate[Who]], wanting: Sequence[Candidate[Who]]) -> None:
        here = {one.who for one in candidates}
        for gone in self._served_at.keys() - here:
            del self._served_at[gone]
        still = {one.who for one in wanting}
        for gone in self._optimistic.keys() - still:
            del self._optimistic[gone]

    @staticmethod
    def _optimistic_slots(slots: int) -> int:
        return max(1, slots // OPTIMISTIC_SHARE) if slots > 1 else 0

    def _rotate(self, now: float, wanting: Sequence[Candidate[Who]], reserved: int) -> set[Who]:
        for who, since in list(self._optimistic.items()):
            if now - since >= ROTATE_S:
                del self._optimistic[who]
        while len(self._optimistic) > reserved:
            del self._optimistic[next(iter(self._optimistic))]
        waiting = [one for one in wanting if one.unchoked_at is None and one.who not in self._optimistic]
        while waiting and len(self._optimistic) < reserved:
            weights = [
                NEW_WEIGHT if now - one.joined_at < NEW_S and one.who not in self._served_at else 1
                for one in waiting
            ]
            lucky = self._rng.choices(waiting, weights)[0]
            waiting.remove(lucky)
            self._optimistic[lucky.who] = now
        return set(self._optimistic)

    def _regular(self, now: float, wanting: Sequence[Candidate[Who]], slots: int) -> set[Who]:
        leeching = sorted(
            (one for one in wanting if not one.seeding),
            key=lambda one: (one.snubbed, -one.download_rate, self._rng.random()),
        )
        seeding = sorted((one for one in wanting if one.seeding), key=lambda one: self._seed_rank(now, one))
        for_leeching = min(len(leeching), max(slots - len(seeding), round(slots * LEECH_SHARE)))
        # one seeding slot always remains where there is somebody to use it
        if seeding and slots > 1 and for_leeching >= slots:
            for_leeching = slots - 1
        chosen = leeching[:for_leeching] + seeding[: max(0, slots - for_leeching)]
        return {one.who for one in chosen}

    def _seed_rank(self, now: float, one: Candidate[Who]) -> tuple[int, float, float]:
        """Turns: who began his turn lately keeps it, then who was never served or not for the longest time."""
        if one.unchoked_at is not None and now - one.unchoked_at < SEED_TURN_S:
            return (0, -one.upload_rate, 0.0)
        served = now if one.unchoked_at is not None else self._served_at.get(one.who, -1.0)
        # among equals the faster one: it passes on what it gets
        return (1, served, -one.upload_rate + self._rng.random())


def auto_slots(upload_limit_bytes_per_s: float) -> int:
    """Etorrent's formula for a limited upload: few slots on a slow line, so that each is worth having."""
    rate = upload_limit_bytes_per_s / 1024
    if rate < 9:
        return 2
    if rate < 15:
        return 3
    if rate < 42:
        return 4
    return round(math.sqrt(0.8 * rate))


class AutoSlots:
    """Without a limit: eight slots, and one more for as long as the last one added raised the total rate."""

    def __init__(self) -> None:
        self.slots = FIRST_SLOTS
        self._rate_before = 0.0
        self._trying = False

    def tick(self, total_rate: float, unchoked: int) -> None:
        """Once a round: the total upload rate and how many slots were in use."""
        if self._trying and total_rate < self._rate_before * RAISED:
            self.slots = max(FIRST_SLOTS, self.slots - 1)
            self._trying = False
        elif unchoked >= self.slots and self.slots < MOST_AUTO_SLOTS:
            self._rate_before = total_rate
            self.slots += 1
            self._trying = True
        else:
            self._trying = False
