"""Who is told of next."""

import random
from itertools import pairwise

from bittern.policy.turns import Turns
from bittern.terms import InfoHash

PAUSE_S = 300.0


def name(number: int) -> InfoHash:
    return InfoHash(number.to_bytes(20))


def numbers(names: list[InfoHash]) -> list[int]:
    return [int.from_bytes(one) for one in names]


def test_each_has_its_turn_and_not_too_often() -> None:
    turns = Turns(PAUSE_S)
    for number in range(5):
        turns.add(name(number), float(number), wants=True)
    assert turns.due_at() == 0.0
    assert numbers(turns.take(2, 4.0, lambda _: True)) == [0, 1]
    assert numbers(turns.take(9, 4.0, lambda _: True)) == [2, 3, 4]
    assert turns.take(9, 4.0 + PAUSE_S - 1, lambda _: True) == []
    assert turns.due_at() == 4.0 + PAUSE_S
    assert numbers(turns.take(9, 4.0 + PAUSE_S, lambda _: True)) == [0, 1, 2, 3, 4]


def test_those_in_want_go_first_but_not_alone() -> None:
    turns = Turns(PAUSE_S)
    for number in range(100):
        turns.add(name(number), 0.0, wants=number >= 50)
    taken = numbers(turns.take(8, 1.0, lambda one: int.from_bytes(one) >= 50))
    assert taken == [50, 51, 52, 53, 54, 55, 0, 1]


def test_who_has_what_it_wanted_gives_way() -> None:
    turns = Turns(PAUSE_S)
    for number in range(4):
        turns.add(name(number), 0.0, wants=True)
    assert numbers(turns.take(2, 0.0, lambda one: int.from_bytes(one) == 3)) == [3, 0]


def test_who_leaves_has_no_turn_and_who_comes_again_has_one() -> None:
    turns = Turns(PAUSE_S)
    turns.add(name(1), 0.0, wants=True)
    turns.add(name(2), 0.0, wants=False)
    turns.remove(name(1))
    turns.remove(name(1))
    assert numbers(turns.take(9, 0.0, lambda _: True)) == [2]
    turns.add(name(1), 5.0, wants=False)
    turns.add(name(1), 6.0, wants=True)
    assert numbers(turns.take(9, 5.0, lambda _: False)) == [1]
    turns.remove(name(1))
    turns.remove(name(2))
    assert turns.due_at() is None
    assert turns.take(9, 1e9, lambda _: True) == []


def test_ten_thousand_take_turns() -> None:
    turns, now, count = Turns(PAUSE_S), 0.0, 10_000
    for number in range(count):
        turns.add(name(number), 0.0, wants=number % 500 == 0)
    told: dict[int, list[float]] = {}
    while len(told) < count:
        for one in turns.take(24, now, lambda one: int.from_bytes(one) % 500 == 0):
            told.setdefault(int.from_bytes(one), []).append(now)
        now += 60.0
    assert now <= (count / (24 - 4.1) + 2) * 60, "the twenty that want peers take a place in five minutes"
    for times in told.values():
        assert all(after - before >= PAUSE_S for before, after in pairwise(times))
    wanting = told[500]
    assert len(wanting) > now / PAUSE_S * 0.9


def test_coming_and_going_leaves_nothing_behind() -> None:
    turns, rng, there = Turns(PAUSE_S), random.Random(1), set[int]()
    for step in range(20_000):
        number = rng.randrange(50)
        if rng.random() < 0.5:
            turns.add(name(number), float(step), wants=rng.random() < 0.5)
            there.add(number)
        else:
            turns.remove(name(number))
            there.discard(number)
        if rng.random() < 0.1:
            assert set(numbers(turns.take(5, float(step), lambda _: rng.random() < 0.5))) <= there
    assert len(turns) == len(there)
    assert len(turns._wanting) + len(turns._content) <= 2 * 50 + 64
