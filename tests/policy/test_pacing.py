"""Limits and meters in virtual time."""

import itertools
import random
from bisect import bisect_left

import pytest

from bittern.policy.pacing import RateMeter, TokenBucket, portion_bytes

RATES = [1_000.0, 16_384.0, 100_000.0, 1e6, 20e6, 104_857_600.0]


def moved_within(marks: list[tuple[float, int]], span_s: float, step_s: float = 0.01) -> list[int]:
    """What moved in each window of that length; `marks` are (when, how much)."""
    times = [at for at, _ in marks]
    totals = [0, *itertools.accumulate(amount for _, amount in marks)]
    first, last = times[0], times[-1]
    windows = int((last - first - span_s) / step_s)
    starts = [first + step_s * number for number in range(windows)]
    return [
        totals[bisect_left(times, start + span_s)] - totals[bisect_left(times, start)] for start in starts
    ]


def drain(
    bucket: TokenBucket, rng: random.Random, now: float, until: float, late_s: float = 0.0
) -> list[tuple[float, int]]:
    """Somebody who always wants more, sleeps as long as told, and is late by up to `late_s`."""
    marks = []
    while now < until:
        wanted = rng.choice([100, 1460, 16_384, 16_397, 262_144, 10**9])
        granted = bucket.take(wanted, now)
        assert 0 <= granted <= wanted
        if not granted:
            now += bucket.wait_s(wanted, now) + rng.uniform(0, late_s)
            continue
        unused = rng.randrange(granted + 1) if rng.random() < 0.2 else 0
        bucket.give_back(unused)
        marks.append((now, granted - unused))
    return marks


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("seed", range(3))
def test_within_three_percent_over_ten_seconds_and_even_over_one(rate: float, seed: int) -> None:
    rng = random.Random(seed)
    start = rng.uniform(0, 1e6)
    bucket = TokenBucket(rate, start)
    marks = drain(bucket, rng, start, start + 30, late_s=0.015)
    portion = 1.25 * bucket.portion
    for moved in moved_within(marks, 10):
        assert abs(moved - 10 * rate) <= 0.015 * 10 * rate + portion
    for moved in moved_within(marks, 1):
        assert abs(moved - rate) <= 0.04 * rate + portion
    for moved in moved_within(marks, 0.01):
        assert moved <= 0.04 * rate + 2 * portion


@pytest.mark.parametrize("rate", RATES)
def test_a_pause_makes_no_burst(rate: float) -> None:
    rng = random.Random(1)
    bucket = TokenBucket(rate, 0.0)
    drain(bucket, rng, 0.0, 3.0)
    marks = drain(bucket, rng, 1000.0, 1015.0)
    portion = 1.25 * bucket.portion
    assert sum(amount for at, amount in marks if at <= 1000.0) <= 0.02 * rate + portion
    assert max(moved_within(marks, 1)) <= 1.045 * rate + portion
    assert max(moved_within(marks, 10)) <= 1.025 * 10 * rate + portion


@pytest.mark.parametrize("late_s", [0.05, 0.1])
def test_late_callers_lose_little_and_make_up_for_it_slowly(late_s: float) -> None:
    """A loop that stands still for so long once a second."""
    bucket = TokenBucket(1e6, 0.0)
    marks: list[tuple[float, int]] = []
    for second in range(30):
        marks += drain(bucket, random.Random(second), second + late_s, second + 1.0)
    assert min(moved_within(marks, 10)) >= (0.99 - (late_s - 0.03)) * 10e6
    assert max(moved_within(marks, 1)) <= 1.06e6


def test_one_late_call_is_made_up_for() -> None:
    bucket = TokenBucket(1e6, 0.0)
    marks = drain(bucket, random.Random(1), 0.0, 2.0) + drain(bucket, random.Random(2), 2.1, 12.0)
    assert sum(amount for _, amount in marks) == pytest.approx(12e6, rel=0.01)


def test_waiting_as_long_as_told_is_enough() -> None:
    rng = random.Random(3)
    for rate in (2.5, 37.0, 12_345.6, 1e6, 1e9):
        now = 1e5
        bucket = TokenBucket(rate, now)
        for _ in range(200):
            wanted = rng.choice([1, 16_384, 10**6])
            now += bucket.wait_s(wanted, now)
            assert bucket.take(wanted, now) > 0


def test_portions() -> None:
    """Small enough to look even, and no smaller than is worth a packet; the last of something is not cut off."""
    assert [portion_bytes(rate) for rate in (1, 16_384, 1 << 20, 100 << 20)] == [1, 512, 16_384, 131_072]
    bucket = TokenBucket(1 << 20, 0.0)
    assert bucket.take(10**9, 10.0) == 16_384
    assert bucket.take(16_397, 20.0) == 16_397


def test_a_new_rate_holds_at_once() -> None:
    rng = random.Random(4)
    bucket = TokenBucket(100e6, 0.0)
    now = 0.0
    for rate in (16_384.0, 50e6, 1e5, 1e6):
        bucket.set_rate(rate, now)
        marks = drain(bucket, rng, now, now + 12)
        # What was granted last under a higher limit is not owed under the lower.
        assert sum(amount for _, amount in marks) == pytest.approx(12 * rate, rel=0.02)
        assert max(moved_within(marks, 1)) <= 1.045 * rate + 1.25 * bucket.portion
        now += 12


def test_what_is_given_back_makes_no_burst() -> None:
    bucket = TokenBucket(1e5, 0.0)
    granted = bucket.take(10**9, 10.0)
    bucket.take(1, 20.0)
    bucket.give_back(granted)
    assert sum(amount for _, amount in drain(bucket, random.Random(1), 20.0, 20.0001)) <= 0.02e5 + 2 * granted


def test_time_that_goes_back_earns_nothing() -> None:
    bucket = TokenBucket(1e5, 50.0)
    assert bucket.take(100, 10.0) == 0
    assert bucket.take(10**6, 50.1) <= 1e4 + 1


def test_meter_of_a_steady_flow() -> None:
    meter = RateMeter()
    assert meter.rate(5.0) == 0
    now = 123.4
    for _ in range(1000):
        now += 0.01
        meter.add(1000, now)
    assert meter.rate(now) == pytest.approx(100_000, rel=0.05)
    assert meter.total == 1_000_000
    assert meter.rate(now + 2) == pytest.approx(65_000, rel=0.25)
    assert meter.rate(now + 6) == 0


def test_meter_knows_a_newcomer_at_once_without_exaggerating() -> None:
    meter = RateMeter()
    meter.add(50_000, 1000.95)
    assert meter.rate(1000.95) == 50_000
    assert meter.rate(1001.1) == 50_000  # not over 0.15 s
    meter.add(50_000, 1001.95)
    assert meter.rate(1001.95) == pytest.approx(100_000, rel=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_meter_stays_near_the_truth(seed: int) -> None:
    rng = random.Random(seed)
    meter = RateMeter()
    events: list[tuple[float, int]] = []
    now = 0.0
    for _ in range(2000):
        now += rng.choice([0.0, 0.01, 0.2])
        amount = rng.randrange(20_000)
        meter.add(amount, now)
        events.append((now, amount))
        if now > 6:
            rates = [
                sum(size for at, size in events[-1000:] if at > now - span) / span for span in (4.0, 4.5, 5.0)
            ]
            assert 0.8 * min(rates) <= meter.rate(now) <= 1.2 * max(rates)
    assert meter.total == sum(size for _, size in events)
