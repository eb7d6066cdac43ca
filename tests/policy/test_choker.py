"""The choker in simulated rounds: who is served, how evenly, how soon."""

import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from bittern.policy.choker import FIRST_SLOTS, TRIALS_A_SLOT, TURN_S, AutoSlots, Candidate, Choker, auto_slots

ROUND_S = 10.0


def candidate(who: int, **facts: object) -> Candidate[int]:
    plain: Candidate[int] = Candidate(
        who=who,
        interested=True,
        snubbed=False,
        download_rate=0.0,
        upload_rate=1.0,
        seeding=False,
        unchoked_at=None,
        joined_at=0.0,
        takes=True,
    )
    return replace(plain, **facts)  # type: ignore[arg-type]  # keywords passed on


@dataclass
class World:
    """Carries decisions out and asserts what must hold of each."""

    slots: int
    seed: int = 1
    people: dict[int, Candidate[int]] = field(default_factory=dict)
    now: float = 0.0
    rounds: Counter[int] = field(default_factory=Counter)
    optimistic: set[int] = field(default_factory=set)
    changes: int = 0

    def __post_init__(self) -> None:
        self.choker: Choker[int] = Choker(random.Random(self.seed))

    def add(self, *who: int, **facts: object) -> None:
        for one in who:
            self.people[one] = candidate(one, joined_at=self.now, **facts)

    def alter(self, who: int, **facts: object) -> None:
        self.people[who] = replace(self.people[who], **facts)  # type: ignore[arg-type]  # keywords passed on

    @property
    def unchoked(self) -> set[int]:
        return {who for who, one in self.people.items() if one.unchoked_at is not None}

    def round(self, times: int = 1) -> None:
        for _ in range(times):
            self.now += ROUND_S
            before = self.unchoked
            decided = self.choker.round(self.now, list(self.people.values()), self.slots)
            assert set(decided.unchoke).isdisjoint(before)
            assert set(decided.choke) <= before
            assert len(decided.unchoke) == len(set(decided.unchoke))
            for who in decided.choke:
                self.alter(who, unchoked_at=None)
            for who in decided.unchoke:
                self.alter(who, unchoked_at=self.now)
            self.changes += len(decided.unchoke)
            after = self.unchoked
            assert len(after) <= self.slots
            assert decided.optimistic <= after
            assert all(self.people[who].interested for who in after)
            fit = [one for one in self.people.values() if one.interested and not one.snubbed]
            assert len(after) >= min(len(fit), self.slots)
            self.rounds.update(after)
            self.optimistic = decided.optimistic

    def fill(self) -> list[int]:
        got = []
        while (who := self.choker.free_slot(self.now, list(self.people.values()), self.slots)) is not None:
            assert self.people[who].unchoked_at is None
            self.alter(who, unchoked_at=self.now)
            got.append(who)
        assert len(self.unchoked) <= max(self.slots, len(self.unchoked) - len(got))
        return got


def test_no_more_than_the_slots_and_nobody_who_does_not_want() -> None:
    world = World(slots=4)
    world.add(*range(20))
    world.add(30, interested=False, download_rate=1e9)
    world.round(30)
    assert len(world.unchoked) == 4
    assert not world.rounds[30]
    world.slots = 0
    world.round()
    assert not world.unchoked
    assert world.fill() == []


@pytest.mark.parametrize("seed", range(5))
def test_the_fastest_reciprocators_hold_regular_slots(seed: int) -> None:
    world = World(slots=4, seed=seed)
    world.add(*range(20))
    for who, rate in ((3, 5e5), (8, 9e5), (11, 2e5), (12, 1e5)):
        world.alter(who, download_rate=rate)
    for _ in range(40):
        world.round()
        assert {3, 8, 11} <= world.unchoked
        assert len(world.optimistic - {3, 8, 11}) == 1
    world.alter(12, download_rate=1e6)
    world.round()
    assert {3, 8, 12} <= world.unchoked


def test_an_optimistic_peer_that_reciprocates_moves_to_a_regular_slot() -> None:
    world = World(slots=4)
    world.add(*range(20))
    for who in (1, 2, 3):
        world.alter(who, download_rate=100.0)
    world.round()
    (lucky,) = world.optimistic
    world.alter(lucky, download_rate=1000.0)
    world.round()
    assert lucky in world.unchoked - world.optimistic
    assert len(world.unchoked & {1, 2, 3}) == 2
    assert len(world.optimistic) == 1


def test_snubbed_peers_lose_regular_slots() -> None:
    world = World(slots=4)
    world.add(*range(10))
    for who in range(3):
        world.alter(who, download_rate=1e6 - who)
    world.round()
    assert {0, 1, 2} <= world.unchoked
    world.alter(1, snubbed=True)
    for _ in range(20):
        world.round()
        assert 1 not in world.unchoked - world.optimistic


def test_a_snubbed_peer_may_still_be_lucky_but_is_not_filled_in() -> None:
    world = World(slots=4)
    world.add(1, 2, 3, snubbed=True)
    assert world.fill() == []
    world.round()
    assert len(world.unchoked) == 1
    assert world.fill() == []


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("leechers", "slots"), [(50, 8), (9, 8), (50, 2), (30, 1), (12, 20)])
def test_seeding_everybody_is_served_alike(seed: int, leechers: int, slots: int) -> None:
    world = World(slots=slots, seed=seed)
    world.add(*range(leechers), seeding=True)
    hours = 1 if slots > 2 else 4
    world.round(360 * hours)
    mean = 360 * hours * min(slots, leechers) / leechers
    for who in range(leechers):
        assert 0.7 * mean <= world.rounds[who] <= 1.3 * mean


def test_seeding_turns_are_not_cut_short() -> None:
    world = World(slots=8)
    world.add(*range(50), seeding=True)
    world.round(360)
    assert world.changes <= 360 * 8 / (TURN_S / ROUND_S) + 8


def test_nobody_is_rotated_when_there_is_room_for_all() -> None:
    world = World(slots=8)
    world.add(*range(4), seeding=True)
    world.add(*range(4, 8), download_rate=5.0)
    world.round(200)
    assert world.changes == 8


def test_who_takes_nothing_loses_the_turn() -> None:
    world = World(slots=2)
    world.add(*range(10), seeding=True)
    for who in range(5):
        world.alter(who, upload_rate=0.0)
    world.round(360)
    idle = sum(world.rounds[who] for who in range(5))
    busy = sum(world.rounds[who] for who in range(5, 10))
    assert idle + busy == 720
    assert max(world.rounds.values()) < 3 * min(world.rounds.values())


@pytest.mark.parametrize("trick", ["rejoin", "blink"])
def test_reconnecting_or_toggling_interest_gains_nothing_much(trick: str) -> None:
    world = World(slots=8)
    world.add(*range(50), seeding=True)
    world.round(100)
    world.rounds.clear()
    for _ in range(60):
        if trick == "rejoin":
            del world.people[49]
            world.round()
            world.add(49, seeding=True)
        else:
            world.alter(49, interested=False, unchoked_at=None)
            world.round()
            world.alter(49, interested=True)
        world.round(5)
    mean = 360 * 8 / 50
    assert world.rounds[49] <= 2 * mean


def test_leeching_and_seeding_share_the_slots() -> None:
    world = World(slots=13)
    world.add(*range(30), download_rate=5.0)
    world.add(*range(100, 130), seeding=True)
    world.round(360)
    leeching = sum(world.rounds[who] for who in range(30)) / 360
    assert 8.0 <= leeching <= 10.5
    for who in range(30):
        world.alter(who, interested=False)
    world.round()
    assert len(world.unchoked) == 13  # unused ones moved across
    world.add(200, download_rate=1.0)
    for who in range(100, 130):
        del world.people[who]
    world.add(*range(300, 320), download_rate=9.0)
    world.round()
    assert len(world.unchoked) == 13


@pytest.mark.parametrize("slots", [4, 8, 16])
def test_a_newcomer_is_tried_within_two_rotations_on_average(slots: int) -> None:
    waited = []
    for seed in range(120):
        world = World(slots=slots, seed=seed)
        world.add(*range(slots + 3))
        for who in range(slots):
            world.alter(who, download_rate=1000.0 + who)
        world.round(random.Random(seed).randrange(6, 15))
        world.add(99)
        start = world.now
        while 99 not in world.unchoked:
            world.round()
        waited.append(world.now - start)
    assert sum(waited) / len(waited) <= 2 * TURN_S


def test_newcomers_are_preferred() -> None:
    tried = Counter[int]()
    for seed in range(300):
        world = World(slots=4, seed=seed)
        world.add(*range(3), download_rate=1e6)
        world.add(*range(3, 9))
        world.round(60)
        world.add(9)
        world.round(3)  # whatever the phase, one rotation
        tried.update(world.optimistic)
    assert tried[9] > 1.5 * sum(tried[who] for who in range(3, 9)) / 6


def test_optimistic_turns_last_thirty_seconds() -> None:
    world = World(slots=4)
    world.add(*range(3), download_rate=1e6)
    world.add(*range(3, 20))
    holders = []
    for _ in range(30):
        world.round()
        holders.append(next(iter(world.optimistic)))
    for start in range(0, 30, 3):
        assert len(set(holders[start : start + 3])) == 1
    assert all(holders[at] != holders[at - 1] for at in range(3, 30, 3))


def test_a_free_slot_is_given_at_once_to_the_best() -> None:
    world = World(slots=3)
    world.add(1)
    assert world.fill() == [1]
    world.add(2, download_rate=5.0)
    world.add(3, interested=False, download_rate=50.0)
    world.add(4, snubbed=True, download_rate=50.0)
    world.add(5)
    world.add(6, seeding=True)
    assert world.fill()[0] == 2
    assert len(world.unchoked) == 3
    assert world.fill() == []


def test_gone_peers_are_forgotten() -> None:
    world = World(slots=4)
    for generation in range(50):
        world.people.clear()
        world.add(*range(generation * 100, generation * 100 + 20))
        world.round(2)
    choker = world.choker
    assert len(choker._served) <= 20
    assert len(choker._lucky) <= 20
    assert len(choker._optimistic) <= 4


def test_who_takes_nothing_has_only_what_nobody_else_wants() -> None:
    world = World(slots=4)
    world.add(*range(10), takes=False)
    world.round()
    assert len(world.unchoked) == 4
    world.add(20, 21, 22)
    assert len(world.choker.to_choke(list(world.people.values()), 4)) == 3
    world.round(20)
    assert {20, 21, 22} <= world.unchoked
    assert world.fill() == []
    world.slots = 5
    world.add(23)
    assert world.fill() == [23]


def test_newcomers_are_tried_beyond_the_slots_and_need_one_afterwards() -> None:
    world = World(slots=4)
    world.add(*range(4))
    world.round()
    world.add(*range(100, 200), takes=None)
    tried = world.choker.to_try(list(world.people.values()), 4)
    assert len(tried) == len(set(tried)) == 4 * TRIALS_A_SLOT
    for who in tried:
        world.alter(who, unchoked_at=world.now)
    everybody = list(world.people.values())
    assert world.choker.to_try(everybody, 4) == []
    decided = world.choker.round(world.now + ROUND_S, everybody, 4)
    assert not set(decided.choke) & set(tried)
    # one proves itself and finds no slot free, another does nothing
    asks, idles, *_ = tried
    world.alter(asks, takes=True)
    world.alter(idles, takes=False)
    everybody = list(world.people.values())
    assert set(world.choker.to_choke(everybody, 4)) == {asks, idles}
    assert world.choker.on_trial == len(tried) - 2
    for who in (asks, idles):
        world.alter(who, unchoked_at=None)
    assert len(world.choker.to_try(list(world.people.values()), 4)) == 2
    del world.people[0]
    assert world.choker.free_slot(world.now, list(world.people.values()), 4) is not None


@pytest.mark.parametrize("seed", range(15))
def test_random_crowds(seed: int) -> None:
    rng = random.Random(seed)
    world = World(slots=rng.randrange(12), seed=seed)
    for who in range(400):
        if rng.random() < 0.7:
            world.add(
                who,
                interested=rng.random() < 0.7,
                snubbed=rng.random() < 0.1,
                seeding=rng.random() < 0.5,
                download_rate=rng.choice([0.0, rng.random() * 1e6]),
                upload_rate=rng.choice([0.0, 1e4]),
                takes=rng.choice([True, True, False]),
            )
        if world.people and rng.random() < 0.5:
            del world.people[rng.choice(list(world.people))]
        if world.people and rng.random() < 0.5:
            one = rng.choice(list(world.people))
            world.alter(one, interested=rng.random() < 0.7, snubbed=rng.random() < 0.3)
        if rng.random() < 0.1:
            world.slots = rng.randrange(12)
        if rng.random() < 0.3:
            world.fill()
        world.round()


@pytest.mark.parametrize(
    ("kib_per_s", "slots"),
    [(1, 2), (8.9, 2), (9, 3), (14.9, 3), (15, 4), (41.9, 4), (42, 6), (100, 9), (1024, 29), (12_500, 100)],
)
def test_slots_of_a_limited_line(kib_per_s: float, slots: int) -> None:
    assert auto_slots(kib_per_s * 1024) == slots


def saturating(line_rate: float, per_slot: float, slots: int) -> float:
    return min(line_rate, per_slot * slots)


def test_slots_without_a_limit_grow_while_they_help() -> None:
    auto = AutoSlots()
    assert auto.slots == FIRST_SLOTS
    most = 0
    for _ in range(600):
        auto.tick(saturating(2000.0, 100.0, auto.slots), auto.slots)
        most = max(most, auto.slots)
    assert 20 <= auto.slots <= 21
    assert most == 21


def test_slots_without_a_limit_stay_when_they_do_not_help_or_are_not_used() -> None:
    full, quiet = AutoSlots(), AutoSlots()
    changes = 0
    for _ in range(300):
        before = full.slots
        full.tick(1000.0, full.slots)
        changes += full.slots != before
        quiet.tick(500.0, 3)
    assert full.slots in (FIRST_SLOTS, FIRST_SLOTS + 1)
    assert changes <= 2 * 300 / 25
    assert quiet.slots == FIRST_SLOTS


def test_slots_without_a_limit_shrink_when_demand_goes() -> None:
    auto = AutoSlots()
    for _ in range(100):
        auto.tick(saturating(1e9, 100.0, auto.slots), auto.slots)
    assert auto.slots > 30
    for _ in range(100):
        auto.tick(10.0, 2)
    assert auto.slots == FIRST_SLOTS
