"""Private torrents (BEP 27): whom to dial is said by their tracker alone, and by one tracker at a time."""

from pathlib import Path

import pytest
import trio.testing

from bittern.engine.swarm import Swarm
from bittern.engine.torrent import State
from bittern.policy.roster import Source
from bittern.proto import messages as m
from bittern.proto.extension import pack_extension_handshake
from bittern.terms import Address
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent

NOBODY = Address("127.0.0.1", 1)
LISTENS_ON = Address("127.0.0.1", 4567)
INTRODUCED = m.pack_extended(
    0,
    pack_extension_handshake(client="x", port=LISTENS_ON.port, reqq=100, your_ip="127.0.0.1"),
)


def _swarm(engine: Engine) -> Swarm:
    (swarm,) = engine.session.swarms.live.values()
    return swarm


@pytest.mark.parametrize("private", [True, False])
async def test_peers_of_one_tracker_are_no_bridge_to_anothers(tmp_path: Path, private: bool) -> None:
    made = make_torrent(private=private)
    async with running(tmp_path) as engine:
        await engine.add(made)
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        async with connected(engine.address, made.info_hash) as peer:
            await engine.until_true(lambda: bool(engine.session.swarms.live), "the peer")
            swarm = _swarm(engine)
            swarm.roster.add(NOBODY, Source.TRACKER)
            torrent.tracker_switched()
            assert (NOBODY in swarm.roster) is not private
            if private:
                await peer.until_gone()
                await engine.until_true(lambda: not swarm.peers, "its leaving")
                assert torrent.resting == b""
            else:
                await peer.say(m.INTERESTED)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert len(swarm.peers) == 1


@pytest.mark.parametrize("private", [True, False])
async def test_whoever_comes_by_himself_is_not_dialled_later(tmp_path: Path, private: bool) -> None:
    made = make_torrent(private=private)
    async with running(tmp_path) as engine:
        await engine.add(made)
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        async with connected(engine.address, made.info_hash) as peer:
            await peer.say(INTRODUCED)
            await engine.until_true(
                lambda: any(one.listens_on == LISTENS_ON for one in _swarm(engine).peers), "where it listens"
            )
            swarm = _swarm(engine)
        await engine.until_true(lambda: not swarm.peers, "its leaving")
        assert (LISTENS_ON in swarm.roster) is not private
