"""Who may download from us (BEP 3): reciprocity while we download, fairness while we seed, chances for newcomers.

A round is taken every ten seconds over the peers of all torrents at once. Seven regular slots in ten go to peers of
torrents that we are still downloading, the others to those we seed; what one side cannot use goes to the other, as in
etorrent. One slot in four, and at least one, is optimistic: it goes round among those who would get none.

*Served* is the time that a peer held a slot. Where rates do not decide, who was served least goes first; so turns come
out even over an hour, whatever the optimistic dice did. Somebody new begins with the mean of the others, or every
reconnection would be worth a slot; somebody whose interest woke again begins with at least their least.

Whoever wants something but takes nothing (`policy/taking.py`) has only what nobody else wants. And so that a crowd of
such cannot make others wait, each newcomer is tried at once, beyond the slots: unchoked for some seconds, until it is
clear whether it takes anything. Only then does it need a slot.
"""

import math
import random
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)

TURN_S: Final = 30.0
"""BEP 3: an optimistic unchoke lasts three rounds, long enough to be noticed and answered. Other turns likewise."""

IDLE_AFTER_S: Final = 20.0
"""Who takes nothing for so long although it may does not need its turn."""

LEECH_SHARE: Final = 0.7
OPTIMISTIC_SHARE: Final = 4
NEW_WEIGHT: Final = 3
"""BEP 3: newly connected peers are three times as likely."""

TRIALS_A_SLOT: Final = 4
TRIALS_AT_MOST: Final = 32
"""At a time: four hundred who never ask are known for it after a minute, and those who do wait seconds among them."""

ROUND_AT_MOST_S: Final = 10.0
"""What a late round (the process slept) counts for."""


@dataclass(frozen=True, slots=True)
class Candidate(Generic[Who]):
    """A connected peer at the time of the round; rates in bytes a second, `unchoked_at` None while choked.

    `seeding`: our torrent is complete, so the peer has nothing to give. `takes`: it makes use of its turns, None where
    that is not known yet.
    """

    who: Who
    interested: bool
    snubbed: bool
    download_rate: float
    upload_rate: float
    seeding: bool
    unchoked_at: float | None
    joined_at: float
    takes: bool | None

    @property
    def worth_a_slot(self) -> bool:
        return self.takes is not False or self.download_rate > 0


@dataclass(frozen=True, slots=True)
class Round(Generic[Who]):
    """What a round changes, and who holds an optimistic slot."""

    unchoke: list[Who]
    choke: list[Who]
    optimistic: set[Who]


class Choker(Generic[Who]):
    """Remembers who holds an optimistic slot, and how long each was served."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._optimistic: dict[Who, float] = {}
        """Who, since when."""
        self._served: dict[Who, float] = {}
        """Seconds, of everybody connected who was ever interested."""
        self._wanted: set[Who] = set()
        """Who was interested in the round before."""
        self._lucky: set[Who] = set()
        """Who ever held a slot since joining: not new any more."""
        self._round_at: float | None = None
        self._on_trial: set[Who] = set()
        """Unchoked beyond the slots."""

    @property
    def on_trial(self) -> int:
        """How many are unchoked beyond the slots."""
        return len(self._on_trial)

    def round(self, now: float, candidates: Sequence[Candidate[Who]], slots: int) -> Round[Who]:
        """Decides afresh who is unchoked, but for those who are being tried."""
        self._end_trials(candidates)
        candidates = [one for one in candidates if one.who not in self._on_trial]
        wanting = [one for one in candidates if one.interested]
        self._account(now, candidates, wanting)
        idlers = [one for one in wanting if not one.worth_a_slot]
        wanting = [one for one in wanting if one.worth_a_slot]
        for one in idlers:
            self._optimistic.pop(one.who, None)
        reserved = self._optimistic_slots(slots)
        standing = self._standing(now, wanting, reserved)
        regular = self._regular(now, wanting, standing, slots - reserved)
        for who in standing & regular:
            del self._optimistic[who]  # it has earned its place, somebody else may try
        self._draw(now, [one for one in wanting if one.who not in regular], slots - len(regular), reserved)
        chosen = regular | self._optimistic.keys()
        idlers.sort(key=lambda one: (one.unchoked_at is None, self._served[one.who]))
        chosen |= {one.who for one in idlers[: slots - len(chosen)]}
        self._lucky |= chosen
        return Round(
            unchoke=[one.who for one in wanting + idlers if one.who in chosen and one.unchoked_at is None],
            choke=[one.who for one in candidates if one.who not in chosen and one.unchoked_at is not None],
            optimistic=set(self._optimistic),
        )

    def free_slot(self, now: float, candidates: Sequence[Candidate[Who]], slots: int) -> Who | None:
        """Between rounds: who gets a slot that is free; None when none is, or nobody fit wants it.

        Snubbed peers get none: they would have it back as soon as a round took it from them.
        """
        if len(self._holders(candidates)) >= slots:
            return None
        waiting = [
            one for one in candidates if one.interested and one.unchoked_at is None and not one.snubbed
        ]
        if not waiting:
            return None
        mean = self._mean_served()
        best = min(
            waiting,
            key=lambda one: (
                not one.worth_a_slot,
                -one.download_rate if not one.seeding else 0.0,
                self._served.get(one.who, mean),
                one.who in self._lucky,
                self._rng.random(),
            ),
        )
        self._lucky.add(best.who)
        return best.who

    # -- trials ---------------------------------------------------------------------------------------------

    def to_choke(self, candidates: Sequence[Candidate[Who]], slots: int) -> list[Who]:
        """Between rounds: who loses its slot to somebody of more use, or was tried and finds none free."""
        tried = set(self._on_trial)
        self._end_trials(candidates)
        holders = self._holders(candidates)
        over = len(holders) - slots
        waiting = sum(
            one.interested and one.unchoked_at is None and not one.snubbed and one.takes is True
            for one in candidates
        )
        leaving = [one.who for one in holders if not one.worth_a_slot][: max(0, over + waiting)]
        asking = [one.who for one in holders if one.who in tried and one.worth_a_slot]
        return leaving + asking[: max(0, over - len(leaving))]

    def to_try(self, candidates: Sequence[Candidate[Who]], slots: int) -> list[Who]:
        """Who is unchoked beyond the slots, to see what it does."""
        room = min(TRIALS_AT_MOST, TRIALS_A_SLOT * slots) - len(self._on_trial)
        untried = [
            one.who
            for one in candidates
            if one.interested and one.unchoked_at is None and one.takes is None and not one.snubbed
        ]
        if room <= 0:
            return []
        trying = untried if len(untried) <= room else self._rng.sample(untried, room)
        self._on_trial.update(trying)
        return trying

    def _end_trials(self, candidates: Sequence[Candidate[Who]]) -> None:
        self._on_trial &= {one.who for one in candidates if one.unchoked_at is not None and one.takes is None}

    def _holders(self, candidates: Sequence[Candidate[Who]]) -> list[Candidate[Who]]:
        """Of slots."""
        return [one for one in candidates if one.unchoked_at is not None and one.who not in self._on_trial]

    # -- turns ----------------------------------------------------------------------------------------------

    def _account(
        self, now: float, candidates: Sequence[Candidate[Who]], wanting: Sequence[Candidate[Who]]
    ) -> None:
        here = {one.who for one in candidates}
        for gone in self._served.keys() - here:
            del self._served[gone]
        self._lucky &= here
        passed = 0.0 if self._round_at is None else min(now - self._round_at, ROUND_AT_MOST_S)
        self._round_at = now
        served = self._served
        for one in candidates:
            if one.unchoked_at is not None and one.who in served:
                served[one.who] += min(passed, now - one.unchoked_at)
        still = {one.who for one in wanting}
        for gone in self._optimistic.keys() - still:
            del self._optimistic[gone]
        least = min((served[who] for who in still & self._wanted if who in served), default=0.0)
        mean = self._mean_served()
        for who in still - self._wanted:
            served[who] = max(served[who], least) if who in served else mean
        self._wanted = still

    def _mean_served(self) -> float:
        served = [self._served[who] for who in self._wanted if who in self._served]
        return sum(served) / len(served) if served else 0.0

    def _turn_rank(self, now: float, one: Candidate[Who]) -> tuple[bool, float, float]:
        """Who is in the middle of a turn keeps it, then who was served least."""
        held = None if one.unchoked_at is None else now - one.unchoked_at
        idle = held is not None and held >= IDLE_AFTER_S and one.upload_rate <= 0
        in_turn = held is not None and held < TURN_S and not idle
        return (not in_turn, self._served[one.who], self._rng.random())

    def _regular(
        self, now: float, wanting: Sequence[Candidate[Who]], standing: set[Who], slots: int
    ) -> set[Who]:
        """Who gets the regular slots; of those who hold an optimistic one only who earned it."""
        fit = [one for one in wanting if not one.snubbed]
        leeching = sorted(
            (one for one in fit if not one.seeding and one.download_rate > 0),
            key=lambda one: -one.download_rate,
        )
        others = [one for one in fit if one.who not in standing]
        leeching += sorted(
            (one for one in others if not one.seeding and one.download_rate <= 0),
            key=lambda one: self._turn_rank(now, one),
        )
        seeding = sorted((one for one in others if one.seeding), key=lambda one: self._turn_rank(now, one))
        share = round(slots * LEECH_SHARE)
        if slots > 1:
            share = min(max(share, 1), slots - 1)
        share = min(len(leeching), max(share, slots - len(seeding)))
        return {one.who for one in leeching[:share] + seeding[: slots - share]}

    # -- optimistic slots -----------------------------------------------------------------------------------

    @staticmethod
    def _optimistic_slots(slots: int) -> int:
        return min(slots, max(1, (slots + 1) // OPTIMISTIC_SHARE))

    def _standing(self, now: float, wanting: Sequence[Candidate[Who]], reserved: int) -> set[Who]:
        """Optimistic slots that are not over yet."""
        idle = {
            one.who
            for one in wanting
            if one.unchoked_at is not None and now - one.unchoked_at >= IDLE_AFTER_S and one.upload_rate <= 0
        }
        for who, since in list(self._optimistic.items()):
            if now - since >= TURN_S or who in idle or len(self._optimistic) > reserved:
                del self._optimistic[who]
        return set(self._optimistic)

    def _draw(self, now: float, waiting: list[Candidate[Who]], free: int, reserved: int) -> None:
        """Fills the optimistic slots by lot.

        First among the choked, for a turn that is over is over; and among those who were served less than most, or
        luck alone would leave some behind for an hour.
        """
        waiting = [one for one in waiting if one.who not in self._optimistic]
        choked = [one for one in waiting if one.unchoked_at is None]
        while len(self._optimistic) < min(free, reserved) and waiting:
            among = choked or waiting
            sides = [[one for one in among if one.seeding is side] for side in (False, True)]
            if all(sides):
                among = sides[self._rng.random() >= LEECH_SHARE]
            mean = sum(self._served[one.who] for one in among) / len(among)
            weights = [
                NEW_WEIGHT if one.who not in self._lucky else 1 if self._served[one.who] <= mean else 0
                for one in among
            ]
            drawn = self._rng.choices(among, weights)[0] if any(weights) else self._rng.choice(among)
            waiting.remove(drawn)
            if drawn in choked:
                choked.remove(drawn)
            self._optimistic[drawn.who] = now


def auto_slots(upload_limit_bytes_per_s: float) -> int:
    """Slots on a limited line, by etorrent's formula: few on a slow one, so that each is worth having."""
    rate = upload_limit_bytes_per_s / 1024
    if rate < 9:
        return 2
    if rate < 15:
        return 3
    if rate < 42:
        return 4
    return round(math.sqrt(0.8 * rate))


FIRST_SLOTS: Final = 8
MOST_AUTO_SLOTS: Final = 100
TRIAL_ROUNDS: Final = 2
"""A new slot's peer needs a round to ask and be sent at speed, and the meter five seconds to show it."""

REST_ROUNDS: Final = 30
"""After a slot that brought nothing: five minutes, or the last slot would come and go for ever."""

WORTH: Final = 0.25
"""A new slot stays when it raised the total by a quarter of what a slot brings on average."""


class AutoSlots:
    """Without a limit: eight slots, and one more for as long as the last one added raised the total rate."""

    def __init__(self) -> None:
        self.slots = FIRST_SLOTS
        self._rate_before = 0.0
        self._trial = 0
        """Rounds until the last slot is judged; 0 when there is nothing to judge."""
        self._rest = 0

    def tick(self, total_rate: float, unchoked: int) -> None:
        """Once a round: the total upload rate and how many slots were in use."""
        self._rest = max(0, self._rest - 1)
        if unchoked < self.slots - 1:
            self._trial = 0
            self.slots = max(FIRST_SLOTS, self.slots - 1)
        elif self._trial > 1:
            self._trial -= 1
        elif self._trial == 1 and total_rate < self._rate_before * (1 + WORTH / self.slots):
            self._trial = 0
            self._rest = REST_ROUNDS
            self.slots = max(FIRST_SLOTS, self.slots - 1)
        elif unchoked >= self.slots and not self._rest and self.slots < MOST_AUTO_SLOTS:
            self._rate_before = total_rate
            self._trial = TRIAL_ROUNDS
            self.slots += 1
        else:
            self._trial = 0
