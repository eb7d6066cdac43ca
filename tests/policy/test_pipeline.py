"""The pipeline against simulated links: rates, round trips, pauses, in virtual time."""

import math
from collections import deque

import pytest

from bittern.policy.pipeline import (
    FIRST_DEPTH,
    LEAST_DEPTH,
    MOST_DEPTH,
    MOST_TIMEOUT_S,
    PAUSE_S,
    SNUB_S,
    TIMEOUT_S,
    Pipeline,
)
from bittern.terms import BLOCK_SIZE


class Link:
    """A peer that answers a request one round trip later at the earliest, and at most `rate` bytes a second."""

    def __init__(self, pipeline: Pipeline, *, rate: float, round_trip_s: float, step_s: float) -> None:
        self.pipeline = pipeline
        self.rate, self.round_trip_s, self.step_s = rate, round_trip_s, step_s
        self.steps = 0
        self.now = 0.0
        self.delivered = 0
        self.deepest = 0
        self._requests: deque[float] = deque()
        self._credit = 0.0

    def run(self, seconds: float) -> int:
        """Bytes that came in that time."""
        before = self.delivered
        per_tick = round(1 / self.step_s)
        for _ in range(round(seconds / self.step_s)):
            self.steps += 1
            self.now = self.steps * self.step_s
            self._credit += self.rate * self.step_s / BLOCK_SIZE
            blocks = 0
            while self._credit >= 1 and self._requests and self._requests[0] <= self.now - self.round_trip_s:
                self._requests.popleft()
                self._credit -= 1
                blocks += 1
            self._credit = min(self._credit, 1 + self.rate * self.step_s / BLOCK_SIZE)
            if blocks:
                self.pipeline.landed(blocks, blocks * BLOCK_SIZE, self.now)
                self.delivered += blocks * BLOCK_SIZE
            if room := self.pipeline.room():
                self.pipeline.sent(room, self.now)
                self._requests.extend([self.now] * room)
            self.deepest = max(self.deepest, self.pipeline.in_flight)
            assert self.pipeline.in_flight == len(self._requests)
            if self.steps % per_tick == 0:
                self.pipeline.tick(self.now)
        return self.delivered - before

    def choke(self) -> None:
        self.pipeline.dropped(len(self._requests))
        self._requests.clear()


def test_loopback_is_deep_within_a_second() -> None:
    link = Link(Pipeline(0.0, reqq=2000), rate=400e6, round_trip_s=0.0005, step_s=0.002)
    link.run(0.2)
    assert link.pipeline.depth >= 512
    link.run(5)
    assert 512 <= link.pipeline.depth <= 2000


@pytest.mark.parametrize("phase", [0.0, 0.3, 0.9])
def test_a_gigabit_over_a_tenth_of_a_second_is_not_throttled(phase: float) -> None:
    link = Link(Pipeline(-phase, reqq=5000), rate=125e6, round_trip_s=0.1, step_s=0.005)
    link.run(2)
    assert link.run(10) > 0.98 * 1250e6
    assert link.deepest <= MOST_DEPTH


@pytest.mark.parametrize("rate", [12.5e6, 125e6])
@pytest.mark.parametrize("round_trip_s", [0.02, 0.1, 0.2])
def test_a_pipe_is_full_as_soon_as_doubling_can_fill_it(rate: float, round_trip_s: float) -> None:
    doublings = math.ceil(math.log2(max(rate * round_trip_s / BLOCK_SIZE / FIRST_DEPTH, 1)))
    link = Link(Pipeline(0.0, reqq=5000), rate=rate, round_trip_s=round_trip_s, step_s=0.001)
    # one round trip until the first answer, one until the last doubling is answered
    link.run((doublings + 2) * round_trip_s)
    assert link.run(4 * round_trip_s) > 0.95 * 4 * round_trip_s * rate


@pytest.mark.parametrize(
    ("rate", "round_trip_s"),
    [(1e6, 0.01), (1e6, 0.4), (1e6, 0.9), (5e6, 0.05), (20e6, 0.05), (30e6, 0.2), (100e6, 0.001)],
)
def test_any_link_is_filled_and_not_flooded(rate: float, round_trip_s: float) -> None:
    link = Link(Pipeline(0.0, reqq=10_000), rate=rate, round_trip_s=round_trip_s, step_s=0.005)
    link.run(4)
    assert link.run(10) > 0.97 * 10 * rate
    # no more than it can send in a second and its round trips
    assert link.pipeline.depth * BLOCK_SIZE <= max(rate * (1 + 3 * round_trip_s), LEAST_DEPTH * BLOCK_SIZE)


def test_a_slow_peer_ends_up_shallow() -> None:
    link = Link(Pipeline(0.0), rate=10e3, round_trip_s=0.1, step_s=0.05)
    link.run(60)
    assert link.pipeline.depth == LEAST_DEPTH
    assert link.deepest <= 3 * FIRST_DEPTH
    assert not link.pipeline.snubbed


def test_a_peer_that_speeds_up_is_followed_and_one_that_slows_down_too() -> None:
    link = Link(Pipeline(0.0, reqq=5000), rate=200e3, round_trip_s=0.05, step_s=0.005)
    link.run(10)
    link.rate = 50e6
    link.run(5)
    assert link.run(5) > 0.97 * 250e6
    link.rate = 20e3
    link.run(30)
    assert link.pipeline.depth <= 2 * LEAST_DEPTH


def test_never_more_than_the_peer_queues() -> None:
    pipeline = Pipeline(0.0, reqq=2000)
    link = Link(pipeline, rate=300e6, round_trip_s=0.01, step_s=0.005)
    link.run(2)
    assert pipeline.depth > 300
    pipeline.set_reqq(100)
    assert pipeline.depth == 100
    assert pipeline.room() == 0  # more than that are still out
    link.run(1)
    link.deepest = 0
    link.run(2)
    assert link.deepest == 100
    pipeline.set_reqq(1)
    link.run(2)
    assert pipeline.depth == pipeline.in_flight == 1


def test_default_queue_of_a_silent_peer_and_cap() -> None:
    assert Link(Pipeline(0.0), rate=300e6, round_trip_s=0.001, step_s=0.001).run(1) > 0
    link = Link(Pipeline(0.0), rate=300e6, round_trip_s=0.1, step_s=0.005)
    link.run(3)
    assert link.pipeline.depth == 250
    capped = Link(Pipeline(0.0, reqq=9999, max_depth=64), rate=300e6, round_trip_s=0.1, step_s=0.005)
    capped.run(3)
    assert capped.deepest == 64


def test_snubbed_after_half_a_minute_of_owing() -> None:
    pipeline = Pipeline(0.0)
    pipeline.tick(100.0)
    assert not pipeline.snubbed  # it was never asked
    pipeline.sent(8, 100.0)
    pipeline.tick(100.0 + SNUB_S)
    assert not pipeline.snubbed
    pipeline.tick(101.0 + SNUB_S)
    assert pipeline.snubbed
    assert pipeline.room() == 0
    pipeline.dropped(8)
    assert pipeline.room() == 1
    pipeline.sent(1, 140.0)
    assert pipeline.room() == 0
    pipeline.landed(1, BLOCK_SIZE, 141.0)
    assert not pipeline.snubbed
    assert pipeline.room() >= LEAST_DEPTH


def test_overdue_and_given_up() -> None:
    pipeline = Pipeline(0.0)
    assert not pipeline.overdue(1000.0)
    pipeline.sent(4, 1000.0)
    assert not pipeline.overdue(1000.0 + TIMEOUT_S)
    pipeline.landed(1, BLOCK_SIZE, 1010.0)
    assert not pipeline.overdue(1030.0)
    assert pipeline.overdue(1041.0)
    pipeline.give_up()
    pipeline.dropped(3)
    assert pipeline.snubbed
    assert pipeline.room() == 1
    assert not pipeline.overdue(1041.0)


def test_a_thin_line_is_given_its_time() -> None:
    """A block a minute is what fifty peers get each at 14 kB/s: asking others for them too would double the load."""
    pipeline = Pipeline(0.0)
    pipeline.sent(8, 0.0)
    for minute in (1, 2, 3):
        pipeline.landed(1, BLOCK_SIZE, 60.0 * minute)
        assert not pipeline.overdue(60.0 * minute + 60)
        assert pipeline.overdue(60.0 * minute + MOST_TIMEOUT_S + 1)


def test_one_fast_stall_is_noticed_in_time() -> None:
    link = Link(Pipeline(0.0, reqq=2000), rate=20e6, round_trip_s=0.05, step_s=0.01)
    link.run(5)
    link.rate = 0
    link.run(TIMEOUT_S + 1)
    assert link.pipeline.overdue(link.now)


def test_after_a_choke_it_starts_again_as_fast() -> None:
    link = Link(Pipeline(0.0, reqq=2000), rate=50e6, round_trip_s=0.05, step_s=0.005)
    link.run(5)
    link.choke()
    for second in range(1, 40):
        link.pipeline.tick(link.now + second)
    assert link.pipeline.depth == FIRST_DEPTH
    assert not link.pipeline.snubbed
    fresh = Pipeline(0.0, reqq=2000)
    again = Link(fresh, rate=50e6, round_trip_s=0.05, step_s=0.005)
    link.pipeline.in_flight = 0
    link.steps = round((link.now + 40) / link.step_s)
    assert link.run(2) >= 0.9 * again.run(2)


def in_turns(pipeline: Pipeline, *, blocks: int, took_s: float, every_s: float, turns: int) -> float:
    """It is asked for so many blocks at a time and brings them in that time; then it is our memory that is missing."""
    now, ticked_at = 0.0, 0.0
    for turn in range(turns):
        now = turn * every_s
        while ticked_at + 1 <= now:
            ticked_at += 1
            pipeline.tick(ticked_at)
        pipeline.sent(blocks, now)
        now += took_s
        pipeline.landed(blocks, blocks * BLOCK_SIZE, now)
    return now


def test_who_waits_for_our_memory_is_as_deep_as_what_it_sends_in_its_turn() -> None:
    always, sometimes = Pipeline(0.0, reqq=2000), Pipeline(0.0, reqq=2000)
    in_turns(always, blocks=64, took_s=0.25, every_s=0.25, turns=400)
    in_turns(sometimes, blocks=64, took_s=0.25, every_s=2.5, turns=40)
    assert abs(sometimes.depth - always.depth) <= 1
    assert sometimes.depth >= 128
    assert sometimes.rate_bytes_per_s == pytest.approx(256 * BLOCK_SIZE)


def test_short_pauses_do_not_make_it_begin_slowly() -> None:
    pipeline = Pipeline(0.0, reqq=2000)
    now = in_turns(pipeline, blocks=64, took_s=0.25, every_s=0.25, turns=40)
    depth = pipeline.depth
    for second in range(1, int(PAUSE_S)):
        pipeline.tick(now + second)
    assert pipeline.depth == depth > FIRST_DEPTH
    pipeline.tick(now + PAUSE_S + 1)
    assert pipeline.depth == FIRST_DEPTH


def test_counters_never_go_below_zero() -> None:
    pipeline = Pipeline(0.0)
    pipeline.landed(3, 3 * BLOCK_SIZE, 1.0)
    pipeline.dropped(5)
    assert pipeline.in_flight == 0
    pipeline.tick(0.0)
    pipeline.tick(1e9)
    assert pipeline.depth >= 1


def test_under_a_limit_no_more_is_asked_of_anybody_than_all_may_send_in_two_seconds() -> None:
    pipeline = Pipeline(0.0, reqq=2000)
    depths = {}
    for rate in (None, 16_384.0, 131_072.0, 10e6, 1e9, None):
        pipeline.set_limit(rate)
        pipeline.landed(5000, 5000 * BLOCK_SIZE, 0.1)
        depths[rate] = pipeline.depth
    assert depths == {None: 2000, 16_384.0: 2, 131_072.0: 16, 10e6: 1220, 1e9: 2000}


def test_blocks_that_we_held_back_ourselves_are_not_overdue() -> None:
    pipeline = Pipeline(0.0)
    pipeline.sent(2, 0.0)
    for second in range(1, 100):
        pipeline.held_back(float(second))
        pipeline.tick(float(second))
        assert not pipeline.snubbed
        assert not pipeline.overdue(float(second))
    assert pipeline.overdue(130.0)


def pipeline_at(rate: float, owes: int, seconds: float = 10.0) -> Pipeline:
    """One that has sent `rate` blocks a second for so long, and owes some."""
    pipe = Pipeline(0.0)
    for second in range(int(seconds)):
        pipe.sent(int(rate), second + 0.1)
        pipe.landed(int(rate), int(rate) * BLOCK_SIZE, second + 0.9)
        pipe.tick(second + 1.0)
    pipe.sent(owes, seconds)
    return pipe


def test_help_comes_when_it_saves_a_second() -> None:
    fast, busy, slow = pipeline_at(400, 0), pipeline_at(400, 200), pipeline_at(10, 60)
    assert not busy.late(10.0, fast), "on its way in half a second: asked for twice it would come twice"
    assert slow.late(10.0, fast)
    assert not fast.late(10.0, slow)
    assert 50 <= slow.share_of(fast, 10.0) < 60
    assert 1 <= busy.share_of(slow, 10.0) < 20


def test_who_falls_silent_becomes_late() -> None:
    fast, silent = pipeline_at(400, 0), pipeline_at(400, 100)
    assert not silent.late(10.2, fast)
    assert silent.late(14.0, fast)


def test_of_strangers_nobody_is_late_at_once() -> None:
    one, other = Pipeline(0.0), Pipeline(0.0)
    one.sent(16, 0.0)
    assert not one.late(0.1, other)
    assert one.late(5.0, other)
    assert Pipeline(0.0).done_in_s(3.0) == 0.0
