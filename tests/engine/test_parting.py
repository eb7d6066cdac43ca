"""What seeds hear when we have become one ourselves."""

from pathlib import Path

import trio
from trio.testing import MockClock

from bittern.engine.events import Checked, Completed
from bittern.engine.parting import HAVES_AT_MOST, LAST_WORD_S
from bittern.net.dialer import Dialer
from bittern.policy.selection import Choice
from bittern.proto import messages as m
from bittern.proto.bencode import encode
from bittern.proto.extension import parse_extension_handshake
from bittern.terms import BLOCK_SIZE
from tests.fakes.engine import running
from tests.fakes.scripted_peer import ScriptedPeer, connected
from tests.fakes.torrents import Made, make_torrent

DONE = b"d11:upload_onlyi1ee"


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


def _upload_only(told: bytes) -> bool | None:
    assert told[:1] == b"\0"
    return parse_extension_handshake(told[1:]).upload_only


async def test_who_has_all_that_it_wants_says_so_to_all_and_leaves_those_who_do(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = make_torrent("t", files=(("a", 65536), ("b", 65536)), piece_length=32768)
    async with running(tmp_path, dialer=Dialer()) as engine:
        await engine.add(made, selection=Choice(only=("a",)))
        await engine.until(Checked)
        async with (
            connected(engine.address, made.info_hash, seed=1) as seed,
            connected(engine.address, made.info_hash, seed=2) as leech,
            connected(engine.address, made.info_hash, seed=3) as metadata_only,
        ):
            for peer in (seed, leech, metadata_only):
                assert _upload_only(await peer.hear_until("extended")) is None
            await leech.say(m.HAVE_NONE)
            await metadata_only.say(m.HAVE_NONE, m.pack_extended(0, DONE))
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.serve(made, pieces=4)
            for peer in (seed, leech):
                assert _upload_only(await peer.hear_until("extended"))
            await seed.until_gone(LAST_WORD_S * 2)
            await engine.until(Completed)
            swarm = engine.session.swarms.live[made.info_hash]
            # b may be all that another partial seed lacks, and it does not want it; who has nothing may want metadata
            async with connected(engine.address, made.info_hash, seed=4) as partial:
                assert _upload_only(await partial.hear_until("extended"))
                await partial.say(m.pack_bitfield(b"\x30"), m.pack_extended(0, DONE))
                await partial.until_gone()
            assert len(swarm.peers) == 2


async def test_a_seed_that_was_left_is_dialled_when_more_is_wanted(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = make_torrent("t", files=(("a", 65536), ("b", 65536)), piece_length=32768)
    [door] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = encode({b"p": door.socket.getsockname()[1]})
    async with door, running(tmp_path, dialer=Dialer()) as engine:
        await engine.add(made, selection=Choice(only=("a",)))
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.pack_extended(0, port), m.HAVE_ALL, m.UNCHOKE)
            await seed.serve(made, pieces=4)
            await seed.until_gone(LAST_WORD_S * 2)
        await engine.until(Completed)
        with trio.move_on_after(600):
            await door.accept()
            raise AssertionError("dialled for nothing")
        await engine.session.select(made.info_hash, Choice(take=("b",)))
        with trio.fail_after(60):
            await (await door.accept()).aclose()


async def test_peers_may_change_their_mind(tmp_path: Path, autojump_clock: MockClock) -> None:
    made = make_torrent("t", files=(("a", 65536),), piece_length=32768)
    async with running(tmp_path, dialer=Dialer()) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        async with connected(engine.address, made.info_hash) as partial:
            told = parse_extension_handshake((await partial.hear_until("extended"))[1:])
            number = told.extensions["upload_only"]
            await partial.say(m.pack_bitfield(b"\x80"), m.pack_extended(number, b"\0"), m.INTERESTED)
            await partial.hear_until("unchoke")
            await partial.say(m.pack_extended(number, b"\1"))
            await partial.until_gone()


async def test_what_a_partial_seed_has_is_fetched(tmp_path: Path, autojump_clock: MockClock) -> None:
    made = make_torrent("t", files=(("a", 65536), ("b", 65536)), piece_length=32768)
    async with running(tmp_path, dialer=Dialer()) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash) as partial:
            await partial.say(m.pack_bitfield(b"\x30"), m.pack_extended(0, DONE), m.UNCHOKE)
            await partial.serve(made, pieces=4)
            torrent = engine.session.torrents[made.info_hash]
            await engine.until_true(lambda: torrent.pieces.count == 2, "two pieces")
            assert len(engine.session.swarms.live[made.info_hash].peers) == 1
