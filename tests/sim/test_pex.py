"""A swarm that finds itself by peer exchange alone (BEP 11): everybody is told of one address."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from bittern.engine.events import Completed
from bittern.policy.roster import Source
from tests.fakes.engine import Engine, running
from tests.fakes.torrents import Made, make_torrent

LEECHERS = 20


def peers_of(engine: Engine, made: Made) -> int:
    swarm = engine.session.swarms.live.get(made.info_hash)
    return 0 if swarm is None else len(swarm.peers)


def meet(engine: Engine, made: Made, hub: Engine) -> None:
    torrent = engine.session.torrents[made.info_hash]
    engine.session.swarms.addresses_found(torrent, (hub.address,), Source.MANUAL)


@pytest.mark.proof
async def test_twenty_who_know_one_address_know_each_other(tmp_path: Path) -> None:
    made = make_torrent(size=2_000_000, piece_length=16384)
    async with AsyncExitStack() as stack:
        engines = [
            await stack.enter_async_context(running(tmp_path / str(number), piece_memory=4 << 20))
            for number in range(LEECHERS)
        ]
        hub, *others = engines
        for engine in engines:
            await engine.add(made)
        for engine in engines:
            torrent = engine.session.torrents[made.info_hash]
            await engine.until_true(lambda torrent=torrent: torrent.reachable, "checked")
        for engine in others:
            meet(engine, made, hub)
        # nobody has anything, so nobody is of more use than others
        for engine in engines:
            await engine.until_true(
                lambda engine=engine: peers_of(engine, made) == LEECHERS - 1, "it knows all others", 600
            )
        seeder = await stack.enter_async_context(running(tmp_path / "seeder"))
        made.write(seeder.downloads)
        await seeder.add(made)
        await seeder.until(Completed)
        meet(seeder, made, hub)
        async with trio.open_nursery() as nursery:
            for engine in engines:
                nursery.start_soon(engine.until, Completed, 1, 600)
