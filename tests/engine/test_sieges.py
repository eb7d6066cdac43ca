"""A complete torrent, besieged by hundreds who claim to want it: who really downloads is let in, and served."""

import itertools
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bittern.engine.events import Checked
from bittern.errors import HandshakeError
from bittern.terms import Address, PeerId
from tests.fakes.engine import Engine, running
from tests.fakes.memory_peers import Downloader, Enemy, Town, Trick
from tests.fakes.torrents import Made, make_torrent

AGAIN_S = 1.0
RATE_PER_S = 200_000


async def _knocks(engine: Engine, made: Made, peer: Callable[[], Downloader | Enemy], pause_s: float) -> None:
    """For ever, and again when it was turned away or thrown out."""
    await trio.sleep(pause_s)
    while True:
        one = peer()
        try:
            engine.session.swarms.introduce(one.handshake(made.info_hash), one)
        except HandshakeError:
            one.close()
        await one.gone.wait()
        await trio.sleep(AGAIN_S)


async def besieged(
    folder: Path, tricks: Sequence[Trick], enemies: int, *, places: int, max_peers: int
) -> tuple[float, float]:
    """When an honest peer that knocks was served, and what part of its line was used in the minute that follows."""
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
            nursery.start_soon(_knocks, engine, made, enemy(number), rng.random() * AGAIN_S)
        await trio.sleep(30)
        lives: list[Downloader] = []

        def honest() -> Downloader:
            lives.append(
                Downloader(Address("10.1.1.1", 6881), PeerId(b"-GO0000-000000000001"), made, RATE_PER_S)
            )
            return lives[-1]

        nursery.start_soon(_knocks, engine, made, honest, 0.0)
        began = trio.current_time()
        while not sum(one.taken_bytes for one in lives):
            await trio.sleep(0.5)
            assert trio.current_time() < began + 600, "never served"
        served_s = trio.current_time() - began
        before = sum(one.taken_bytes for one in lives)
        await trio.sleep(60)
        taken = sum(one.taken_bytes for one in lives) - before
        nursery.cancel_scope.cancel()
    return served_s, taken / (60 * RATE_PER_S)


ALL = list(Trick)


async def test_who_downloads_is_served_among_those_who_only_claim_to(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    served_s, share = await besieged(tmp_path, ALL, 36, places=6, max_peers=12)
    assert share >= 0.8
    assert served_s <= 60


@pytest.mark.proof
@pytest.mark.parametrize(
    "tricks", [*([trick] for trick in ALL), ALL], ids=lambda some: some[-1].name * (len(some) == 1)
)
async def test_and_among_hundreds(tricks: list[Trick], tmp_path: Path, autojump_clock: MockClock) -> None:
    served_s, share = await besieged(tmp_path, tricks, 450, places=50, max_peers=200)
    assert share >= 0.8
    assert served_s <= 60
