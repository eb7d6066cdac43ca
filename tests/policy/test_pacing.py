"""Limits and meters in virtual time."""

import random

import pytest

from bittern.policy.pacing import RateMeter, TokenBucket


@pytest.mark.parametrize("rate", [1_000.0, 20_000.0, 300_000.0, 5e6, 800e6])
@pytest.mark.parametrize("seed", range(4))
def test_accurate_within_five_percent_over_ten_seconds(rate: float, seed: int) -> None:
    """Callers that always want more, in whatever portions, at whatever moments up to a fifth of a second apart."""
    rng = random.Random(seed)
    now = rng.uniform(0, 1e6)
    bucket = TokenBucket(rate, now)
    marks = [(now, 0)]
    moved = 0
    until = now + 30
    while now < until:
        want = rng.choice([1, 100, 16_384, 262_144, 10**9])
        granted = bucket.take(want, now)
        assert 0 <= granted <= want
        unused = rng.randrange(granted + 1) if rng.random() < 0.2 else 0
        bucket.give_back(unused)
        moved += granted - unused
        marks.append((now, moved))
        if not granted or (want > rate and not unused):
            now += rng.choice([0.001, bucket.wait_s(now), rng.uniform(0, 0.2)])
    start = marks[0][0]
    portion = 16_384  # of a slow limit a window may end just after one
    for first in (0, 5, 12, 20):
        in_window = [total for at, total in marks if start + first <= at <= start + first + 10]
        got = in_window[-1] - in_window[0]
        assert abs(got - 10 * rate) <= 0.05 * 10 * rate + portion
    for at, total in marks[:: max(1, len(marks) // 200)]:
        burst = max(later for when, later in marks if at <= when <= at + 0.01) - total
        assert burst <= rate + portion


def test_a_pause_is_not_made_up_for() -> None:
    bucket = TokenBucket(100_000.0, 0.0)
    assert bucket.take(10**9, 1000.0) <= 100_000
    assert bucket.take(10**9, 1000.0) == 0


def test_waiting_as_long_as_told_is_enough() -> None:
    rng = random.Random(3)
    for rate in (2.5, 37.0, 12_345.6, 1e6, 1e9):
        now = 1e5
        bucket = TokenBucket(rate, now)
        for _ in range(200):
            now += bucket.wait_s(now)
            assert bucket.take(rng.choice([1, 16_384, 10**6]), now) > 0


def test_no_limit() -> None:
    bucket = TokenBucket(None, 0.0)
    assert bucket.take(10**12, 0.0) == 10**12
    assert bucket.wait_s(0.0) == 0


def test_a_new_rate_holds_at_once() -> None:
    bucket = TokenBucket(10e6, 0.0)
    bucket.set_rate(1e5, 100.0)
    assert bucket.take(10**9, 100.0) <= 1e5
    moved = 0
    for tick in range(1, 101):
        moved += bucket.take(10**9, 100 + tick / 10)
    assert moved == pytest.approx(1e6, rel=0.05)
    bucket.set_rate(None, 200.0)
    assert bucket.take(10**9, 200.0) == 10**9
    bucket.set_rate(1e5, 300.0)
    assert bucket.take(10**9, 300.0) <= 1e5


def test_what_is_given_back_makes_no_burst() -> None:
    bucket = TokenBucket(1e5, 0.0)
    granted = bucket.take(10**9, 10.0)
    bucket.take(1, 20.0)
    bucket.give_back(granted)
    assert bucket.take(10**9, 20.0) <= 1e5


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
