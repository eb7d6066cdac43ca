"""The line before a limit, in virtual time: fair, whole blocks, and done with when the limit is."""

import itertools
import random

import pytest
import trio
from trio.testing import MockClock

from bittern.engine.throttle import Share, Throttle

BLOCK = 16_397
"""With its header."""


def jain(shares: list[int]) -> float:
    """1 when all have the same, 1/n when one has all."""
    return sum(shares) ** 2 / (len(shares) * sum(share * share for share in shares))


async def leech(throttle: Throttle, got: list[int], who: int, rng: random.Random, slow: bool) -> None:
    """A reader: what lies in its socket differs from turn to turn."""
    while True:
        granted = await throttle.acquire(1 << 20)
        read = min(granted, rng.randrange(1, 3000) if slow else 1 << 20)
        throttle.give_back(granted - read)
        got[who] += read
        await trio.sleep(rng.uniform(0, 0.01) if slow else 0)


async def seed(throttle: Throttle, got: list[int], who: int, blocks: int) -> None:
    """A writer of batches that its socket takes whole."""
    body = memoryview(bytes(blocks * BLOCK))

    def send(view: memoryview) -> int:
        got[who] += len(view)
        return len(view)

    while True:
        assert await throttle.send(body, send) == len(body)


@pytest.mark.parametrize("rate", [16_384, 1 << 20, 100 << 20])
async def test_readers_share_evenly(rate: int, autojump_clock: MockClock) -> None:
    throttle = Throttle(rate)
    got = [0] * 50
    rng = random.Random(5)
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            for who in range(50):
                nursery.start_soon(leech, throttle, got, who, rng, False)
    assert sum(got) == pytest.approx(20 * rate, rel=0.02)
    assert jain(got) > 0.99


async def test_who_reads_less_leaves_the_rest_to_others(autojump_clock: MockClock) -> None:
    """A slow one takes what it can use, and those who always want more have even shares of what is left."""
    throttle = Throttle(1 << 20)
    got = [0] * 50
    rng = random.Random(5)
    with trio.move_on_after(20):
        async with trio.open_nursery() as nursery:
            for who in range(50):
                nursery.start_soon(leech, throttle, got, who, rng, who % 5 == 0)
    assert sum(got) == pytest.approx(20 << 20, rel=0.02)
    assert jain([share for who, share in enumerate(got) if who % 5]) > 0.99


@pytest.mark.parametrize(("rate", "blocks"), [(1 << 20, 1), (20 << 20, 8)])
async def test_writers_share_evenly(rate: int, blocks: int, autojump_clock: MockClock) -> None:
    throttle = Throttle(rate)
    got = [0] * 50
    seconds = []
    async with trio.open_nursery() as nursery:
        for who in range(50):
            nursery.start_soon(seed, throttle, got, who, blocks)
        for _ in range(20):
            before = sum(got)
            await trio.sleep(1)
            seconds.append(sum(got) - before)
        nursery.cancel_scope.cancel()
    assert sum(got) == pytest.approx(20 * rate, rel=0.02)
    assert max(got) - min(got) <= blocks * BLOCK
    assert max(seconds) <= 1.05 * rate
    assert min(seconds) >= 0.95 * rate


async def test_a_block_that_is_begun_is_ended_first(autojump_clock: MockClock) -> None:
    """At 16 KiB/s a block takes a second; two that were half sent for two would be of no use to anybody."""
    throttle = Throttle(16_384)
    sent: list[tuple[int, int]] = []

    async def one(who: int) -> None:
        def send(view: memoryview) -> int:
            sent.append((who, len(view)))
            return len(view)

        for _ in range(2):
            await throttle.send(memoryview(bytes(BLOCK)), send)

    async with trio.open_nursery() as nursery:
        for who in range(3):
            nursery.start_soon(one, who)
    order = [who for who, _ in sent]
    assert sum(a != b for a, b in itertools.pairwise(order)) == 5
    assert max(size for _, size in sent) <= 0.06 * 16_384
    assert sum(size for _, size in sent) == 6 * BLOCK


async def test_a_full_connection_gives_its_turn_away(autojump_clock: MockClock) -> None:
    throttle = Throttle(1 << 20)
    assert await throttle.send(memoryview(bytes(BLOCK)), lambda view: 0) == 0
    assert await throttle.send(memoryview(bytes(BLOCK)), lambda view: min(100, len(view))) == 100
    with trio.fail_after(0.1):
        assert await throttle.send(memoryview(bytes(BLOCK)), len) == BLOCK


async def test_a_new_limit_reaches_those_who_wait(autojump_clock: MockClock) -> None:
    throttle = Throttle(10)
    got = [0] * 5
    async with trio.open_nursery() as nursery:
        for who in range(5):
            nursery.start_soon(seed, throttle, got, who, 1)
        await trio.sleep(1)
        assert sum(got) <= 20
        throttle.set_rate(1e6)
        await trio.sleep(10)
        assert sum(got) == pytest.approx(10e6, rel=0.02)
        throttle.set_rate(2_000.0)
        before = sum(got)
        await trio.sleep(10)
        assert sum(got) - before == pytest.approx(20_000, rel=0.03)
        nursery.cancel_scope.cancel()


async def test_the_end_of_a_limit_reaches_those_who_wait(autojump_clock: MockClock) -> None:
    throttle = Throttle(1)
    done = []

    async def one() -> None:
        await throttle.send(memoryview(bytes(BLOCK)), len)
        done.append(await throttle.acquire(1 << 20))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
        await trio.sleep(3)
        assert not done
        throttle.set_rate(None)
        assert not throttle.limited
        with trio.fail_after(0.001):
            await trio.testing.wait_all_tasks_blocked()
    assert done == [1 << 20] * 5


async def test_who_leaves_the_line_leaves_it_whole(autojump_clock: MockClock) -> None:
    """The head is cancelled in its sleep, another in the line: the rest goes on as if they had not been there."""
    throttle = Throttle(1000)
    got = [0] * 6
    async with trio.open_nursery() as nursery:
        scopes = []

        async def one(who: int) -> None:
            with trio.CancelScope() as scope:
                scopes.append(scope)
                await seed(throttle, got, who, 1)

        for who in range(6):
            nursery.start_soon(one, who)
        await trio.sleep(5)
        scopes[0].cancel()
        scopes[3].cancel()
        await trio.sleep(100)
        assert sum(got) == pytest.approx(105_000, rel=0.02)
        nursery.cancel_scope.cancel()


async def test_who_has_more_weight_comes_more_often_and_nobody_waits_for_ever(
    autojump_clock: MockClock,
) -> None:
    throttle = Throttle(1 << 20)
    got = [0, 0, 0]

    async def one(who: int, weight: float) -> None:
        while True:
            granted = await throttle.acquire(1 << 20, weight)
            got[who] += granted

    with trio.move_on_after(60):
        async with trio.open_nursery() as nursery:
            for who, weight in enumerate((4.0, 1.0, 0.25)):
                for _ in range(8):
                    nursery.start_soon(one, who, weight)
    assert sum(got) == pytest.approx(60 << 20, rel=0.02)
    assert got[0] > 3 * got[1] > 9 * got[2] > 0


async def test_a_closed_door_lets_through_what_is_under_way(autojump_clock: MockClock) -> None:
    throttle = Throttle(10)
    got: list[int] = []

    async def one() -> None:
        got.append(await throttle.acquire(1 << 20))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(one)
        await trio.sleep(0.1)
        throttle.set_rate(0)
    assert throttle.stopped
    assert not throttle.limited
    assert got == [1 << 20] * 3


async def test_who_gives_up_waiting_does_not_hold_the_line(autojump_clock: MockClock) -> None:
    throttle = Throttle(1000)
    got: list[int] = []

    async def one(patience_s: float) -> None:
        with trio.move_on_after(patience_s):
            await throttle.acquire(500)
            got.append(round(trio.current_time()))

    async with trio.open_nursery() as nursery:
        for patience_s in (0.01, 100, 0.02, 100, 0.03):
            nursery.start_soon(one, patience_s)
    assert len(got) == 2


class Shares:
    """Two torrents behind one limit, each with as many readers as it is told."""

    def __init__(self, common: float | None) -> None:
        self.common = Throttle(common)
        self.one, self.other = Share(self.common), Share(self.common)
        self.got: dict[Share, int] = {self.one: 0, self.other: 0}

    async def read(self, share: Share) -> None:
        while True:
            granted = await share.acquire(1 << 18)
            share.give_back(granted // 3)
            self.got[share] += granted - granted // 3

    async def write(self, share: Share) -> None:
        body = memoryview(bytes(2 * BLOCK))
        while True:
            sent = await share.send(body, len)
            self.got[share] += sent

    async def run(self, seconds: float, *, writing: bool = False) -> None:
        body = self.write if writing else self.read
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for share in (self.one, self.other):
                    for _ in range(3):
                        nursery.start_soon(body, share)


@pytest.mark.parametrize("writing", [False, True])
async def test_a_limit_of_its_own_leaves_the_rest_to_the_others(
    writing: bool, autojump_clock: MockClock
) -> None:
    shares = Shares(1 << 20)
    shares.one.set(100_000, heeds=True, weight=1.0)
    await shares.run(20, writing=writing)
    assert shares.got[shares.one] == pytest.approx(20 * 100_000, rel=0.05)
    assert sum(shares.got.values()) == pytest.approx(20 << 20, rel=0.03)


@pytest.mark.parametrize("writing", [False, True])
async def test_who_does_not_heed_the_others_limit_moves_beside_it(
    writing: bool, autojump_clock: MockClock
) -> None:
    shares = Shares(200_000)
    shares.one.set(500_000, heeds=False, weight=1.0)
    await shares.run(20, writing=writing)
    assert shares.got[shares.one] == pytest.approx(20 * 500_000, rel=0.05)
    assert shares.got[shares.other] == pytest.approx(20 * 200_000, rel=0.05)


async def test_a_torrent_of_more_weight_gets_more_of_what_all_may(autojump_clock: MockClock) -> None:
    shares = Shares(1 << 20)
    shares.one.set(None, heeds=True, weight=4.0)
    await shares.run(20)
    assert shares.got[shares.one] > 2 * shares.got[shares.other] > 0
    assert sum(shares.got.values()) == pytest.approx(20 << 20, rel=0.03)


def test_the_narrower_limit_is_told(autojump_clock: MockClock) -> None:
    share = Share(Throttle(1000))
    assert (share.limited, share.stopped, share.rate_per_s) == (True, False, 1000)
    share.set(10, heeds=True, weight=1.0)
    assert share.rate_per_s == 10
    share.set(0, heeds=True, weight=1.0)
    assert (share.stopped, share.rate_per_s) == (True, 0)
    share.set(None, heeds=False, weight=1.0)
    assert (share.limited, share.stopped, share.rate_per_s) == (False, False, None)
