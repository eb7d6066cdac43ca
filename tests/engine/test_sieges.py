"""A complete torrent, besieged by hundreds who claim to want it: who really downloads is let in, and served."""

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bittern.engine.events import Checked
from bittern.terms import Address, PeerId
from tests.fakes.engine import running
from tests.fakes.memory_peers import Downloader, Enemy, Town, Trick
from tests.fakes.siege import AGAIN_S, RATE_PER_S, Fate, each_and_all, fate_of, knocks
from tests.fakes.torrents import make_torrent


async def besieged(
    folder: Path, tricks: Sequence[Trick], enemies: int, *, places: int, max_peers: int
) -> Fate:
    """Of an honest peer that knocks: when it was served, and how fast in the minute that follows."""
    made = make_torrent("wanted.bin", size=64 * 65536, piece_length=65536)
    made.write(folder / "downloads")
    rng = random.Random(3)
    numbers = itertools.count(1)
    async with (
        running(folder, dialer=Town(), max_peers=max_peers, max_peers_per_torrent=places) as engine,
        trio.open_nursery() as nursery,
    ):
        await engine.add(made)
        await engine.until(Checked, timeout_s=600)

        def enemy(number: int) -> Callable[[], Enemy]:
            trick = tricks[number % len(tricks)]
            address = Address(f"10.9.{number >> 8}.{number & 255}", 6881)
            return lambda: Enemy(address, PeerId(b"-EN0000-%012d" % next(numbers)), trick)

        for number in range(enemies):
            nursery.start_soon(knocks, engine, made, enemy(number), rng.random() * AGAIN_S)
        await trio.sleep(30)
        lives: list[Downloader] = []

        def honest() -> Downloader:
            lives.append(
                Downloader(Address("10.1.1.1", 6881), PeerId(b"-GO0000-000000000001"), made, RATE_PER_S)
            )
            return lives[-1]

        nursery.start_soon(knocks, engine, made, honest, 0.0)
        fate = await fate_of(lambda: sum(one.taken_bytes for one in lives), over_s=60)
        nursery.cancel_scope.cancel()
    return fate


ALL = list(Trick)


async def test_who_downloads_is_served_among_those_who_only_claim_to(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    (await besieged(tmp_path, ALL, 36, places=6, max_peers=12)).is_fair()


@pytest.mark.proof
@each_and_all("tricks", ALL)
async def test_and_among_hundreds(tricks: list[Trick], tmp_path: Path, autojump_clock: MockClock) -> None:
    (await besieged(tmp_path, tricks, 450, places=50, max_peers=200)).is_fair()
