"""Torrents that need the same thing at the same time: none takes all of it."""

from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path

import pytest
import trio

from bittern.engine.events import Checked, Completed
from bittern.engine.peer import Peer
from bittern.policy.roster import Source
from bittern.proto import messages as m
from bittern.terms import PeerId
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import ScriptedPeer, dialled
from tests.fakes.torrents import Made, make_torrent


async def test_a_download_that_has_nobody_shares_the_connections_of_who_has_most(tmp_path: Path) -> None:
    rich, poor = make_torrent("rich"), make_torrent("poor")
    async with running(tmp_path, max_peers=3) as engine, AsyncExitStack() as stack:
        for made in (rich, poor):
            await engine.add(made)
        await engine.until(Checked, 2)
        for number in range(3):
            # of use, or may be soon: they would not have to give way for a minute
            seed = await stack.enter_async_context(dialled_for(engine, rich, number))
            await seed.say(m.HAVE_ALL)
            await seed.hear_until("interested")
        giver = await stack.enter_async_context(dialled_for(engine, poor, 3))
        await engine.until_true(lambda: len(peers_of(engine, rich)) == 2, "two are left to the first")
        async with trio.open_nursery() as nursery:
            await giver.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(giver.serve, poor)
            assert (await engine.until(Completed)).facts.info_hash == poor.info_hash
            nursery.cancel_scope.cancel()


async def test_nobody_loses_his_only_connection(tmp_path: Path) -> None:
    """And who has somebody to dial, and only lacks a connection, asks trackers for nobody else."""
    rich, poor = make_torrent("rich"), make_torrent("poor")
    hungry = set()
    async with running(tmp_path, max_peers=1) as engine, AsyncExitStack() as stack:
        for made in (rich, poor):
            await engine.add(made)
        await engine.until(Checked, 2)
        seed = await stack.enter_async_context(dialled_for(engine, rich, 0))
        await seed.say(m.HAVE_ALL)
        await seed.hear_until("interested")
        (peer,) = peers_of(engine, rich)
        engine.session.lifecycle.hungry = lambda torrent: hungry.add(torrent.info_hash)  # type: ignore[method-assign]
        with pytest.raises(trio.TooSlowError):
            async with dialled_for(engine, poor, 1, within_s=2.5):
                pass
        assert peers_of(engine, rich) == {peer}
        assert hungry == {rich.info_hash}


def dialled_for(
    engine: Engine, made: Made, number: int, within_s: float = 60
) -> AbstractAsyncContextManager[ScriptedPeer]:
    torrent = engine.session.torrents[made.info_hash]
    return dialled(
        lambda address: engine.session.swarms.addresses_found(torrent, (address,), Source.TRACKER),
        made.info_hash,
        PeerId(b"-HO0000-%012d" % number),
        within_s=within_s,
    )


def peers_of(engine: Engine, made: Made) -> set[Peer]:
    return engine.session.swarms.live[made.info_hash].peers
