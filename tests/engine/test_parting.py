"""What seeds hear when we have become one ourselves."""

from pathlib import Path

import trio
from trio.testing import MockClock

from bittern.engine.events import Checked, Completed
from bittern.engine.parting import HAVES_AT_MOST, LAST_WORD_S
from bittern.net.dialer import Dialer
from bittern.proto import messages as m
from bittern.terms import BLOCK_SIZE
from tests.fakes.engine import running
from tests.fakes.scripted_peer import ScriptedPeer, connected
from tests.fakes.torrents import Made, make_torrent


async def fetched_from(seed: ScriptedPeer, made: Made) -> None:
    """Serves all of it."""
    await seed.say(m.HAVE_ALL, m.UNCHOKE)
    of_a_piece = -(-made.piece_length // BLOCK_SIZE)
    last = len(made.piece(made.piece_count - 1))
    await seed.serve(made, pieces=(made.piece_count - 1) * of_a_piece + -(-last // BLOCK_SIZE))


async def test_a_seed_hears_of_every_piece_and_has_the_last_word(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = make_torrent(size=300_000)
    async with running(tmp_path, dialer=Dialer()) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash) as seed:
            await fetched_from(seed, made)
            heard = set()
            while len(heard) < made.piece_count:
                heard.add(int.from_bytes(await seed.hear_until("have")))
            assert heard == set(range(made.piece_count))
            swarm = engine.session.swarms.live[made.info_hash]
            said_at = trio.current_time()
            await trio.sleep(LAST_WORD_S / 2)
            # it is theirs to close: what we said last could else be lost
            assert swarm.peers
            await seed.until_gone(LAST_WORD_S * 2)
            assert trio.current_time() - said_at >= LAST_WORD_S - 1
            await engine.until(Completed)


async def test_seeds_of_a_torrent_of_very_many_pieces_are_left_without_a_word(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = make_torrent(size=16 * (HAVES_AT_MOST + 1), piece_length=16)
    async with running(tmp_path, dialer=Dialer()) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash) as seed:
            await fetched_from(seed, made)
            assert "have" not in await seed.until_gone(LAST_WORD_S * 2)
