"""The line before a limit, in virtual time: fair, whole blocks, and done with when the limit is."""

import itertools
import random

import pytest
import trio
from trio.testing import MockClock

from bittern.engine.throttle import Throttle

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
