"""One time a key: a table of what may happen, and a random walk beside the plainest way to do it."""

import random

import pytest

from bittern.policy.appointments import STALE_AT_LEAST, Appointments


def test_only_the_last_word_counts() -> None:
    it: Appointments[str] = Appointments()
    it.set("a", 5.0)
    it.set("b", 3.0)
    it.set("a", 10.0)
    it.set("c", 3.0)
    it.drop("nobody")
    assert it.take_due(2.9) == []
    assert it.take_due(6.0) == ["b", "c"]
    it.set("a", 7.0)
    it.set("d", 7.0)
    it.drop("d")
    assert it.take_due(100.0) == ["a"]
    assert len(it) == 0


@pytest.mark.parametrize("seed", range(5))
def test_random_walk(seed: int) -> None:
    rng = random.Random(seed)
    it: Appointments[int] = Appointments()
    plain: dict[int, float] = {}
    now = 0.0
    for _ in range(4000):
        key = rng.randrange(20)
        match rng.randrange(4):
            case 0 | 1:
                plain[key] = now + rng.randrange(1000)
                it.set(key, plain[key])
            case 2:
                plain.pop(key, None)
                it.drop(key)
            case _:
                now += rng.choice([0.0, 1.0, 10.0])
                due = it.take_due(now)
                expected = {key for key, at in plain.items() if at <= now}
                assert set(due) == expected
                times = [plain.pop(key) for key in due]
                assert times == sorted(times)
        assert len(it) == len(plain)
        assert len(it._heap) <= 2 * len(it) + STALE_AT_LEAST + 1
