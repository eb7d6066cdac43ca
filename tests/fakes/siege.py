"""A siege in virtual time: who knocks for ever, and how one honest peer fares among them."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import trio

from tests.fakes.engine import Engine
from tests.fakes.memory_peers import Knocker
from tests.fakes.torrents import Made

RATE_PER_S = 200_000
"""The honest one's line."""

AGAIN_S = 1.0


async def knocks(engine: Engine, made: Made, life: Callable[[], Knocker], pause_s: float) -> None:
    """For ever, and again when it was turned away or thrown out."""
    await trio.sleep(pause_s)
    while True:
        one = life()
        one.knock(engine, made)
        await one.gone.wait()
        await trio.sleep(AGAIN_S)


class Fate(NamedTuple):
    """How long it took until something moved, and what part of the line was used from then on."""

    after_s: float
    share: float

    def is_fair(self) -> None:
        assert self.share >= 0.8
        assert self.after_s <= 60


async def fate_of(moved_bytes: Callable[[], int], *, over_s: float) -> Fate:
    """Of the one whose bytes these are."""
    began = trio.current_time()
    while not moved_bytes():
        await trio.sleep(0.5)
        assert trio.current_time() < began + 600, "nothing ever moved"
    after_s, before = trio.current_time() - began, moved_bytes()
    await trio.sleep(over_s)
    return Fate(after_s, (moved_bytes() - before) / (over_s * RATE_PER_S))


def each_and_all(name: str, kinds: list) -> pytest.MarkDecorator:
    """A test with besiegers of one kind, for each, and with all of them together."""
    return pytest.mark.parametrize(
        name, [*([kind] for kind in kinds), kinds], ids=lambda some: some[-1].name * (len(some) == 1)
    )
