"""When memory is given back."""

import time
from collections.abc import Awaitable, Callable

import trio
from trio.testing import MockClock

from bittern.daemon.slack import QUIET_S, WORTH_IT, Slack, give_back
from bittern.engine.events import Checked, Loaded, TorrentFacts
from bittern.terms import InfoHash

FACTS = TorrentFacts(
    number=1,
    info_hash=InfoHash(bytes(20)),
    name="n",
    path="/d/n",
    folder="/d",
    size_bytes=1,
    label="",
    trackers=(),
    downloaded_bytes=0,
)
CHECKED = Checked(facts=FACTS, complete=True, hashed_bytes=1, at_wall=time.time())


def noting(calls: list[float]) -> Callable[[], Awaitable[None]]:
    async def trim() -> None:
        calls.append(trio.current_time())
        await trio.lowlevel.checkpoint()

    return trim


async def test_once_after_each_burst_and_not_before_it_is_over(autojump_clock: MockClock) -> None:
    calls: list[float] = []
    slack = Slack(noting(calls))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slack.run)
        for burst in (1, 2):
            for _ in range(2 * WORTH_IT):
                slack.noted(CHECKED)
                await trio.sleep(0.1)
            assert len(calls) == burst - 1
            await trio.sleep(QUIET_S * 4)
            assert len(calls) == burst
        nursery.cancel_scope.cancel()


async def test_a_few_are_not_worth_it_but_are_remembered(autojump_clock: MockClock) -> None:
    calls: list[float] = []
    slack = Slack(noting(calls))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slack.run)
        for _ in range(WORTH_IT - 1):
            slack.noted(CHECKED)
        slack.noted(Loaded(torrents=1, complete=1))
        await trio.sleep(QUIET_S * 4)
        assert not calls
        slack.noted(CHECKED)
        await trio.sleep(QUIET_S * 4)
        assert len(calls) == 1
        nursery.cancel_scope.cancel()


async def test_the_real_thing_does_no_harm() -> None:
    await give_back()
