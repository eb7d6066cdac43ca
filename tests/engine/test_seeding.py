"""What peers get from us, and what they do not."""

import contextlib
import hashlib
import struct
from pathlib import Path

import trio
from trio.testing import MockClock

from bittern.engine.events import Checked, Completed
from bittern.engine.uploads import QUEUE_LIMIT
from bittern.net.dialer import Dialer
from bittern.proto import messages as m
from bittern.proto.extension import parse_extension_handshake
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import ScriptedPeer, connected
from tests.fakes.torrents import Made, make_torrent


async def _seeding(engine: Engine, made: Made) -> None:
    made.write(engine.downloads)
    await engine.add(made)
    done = await engine.until(Completed)
    assert done.reason == "already-complete"


async def _fetch_all(peer: ScriptedPeer, made: Made) -> bytes:
    await peer.say(m.INTERESTED)
    await peer.hear_until("unchoke")
    wanted = {}
    for index in range(made.piece_count):
        size = len(made.piece(index))
        for begin in range(0, size, 16384):
            wanted[index, begin] = min(16384, size - begin)
    await peer.say(m.pack_requests([(index, begin, length) for (index, begin), length in wanted.items()]))
    got = bytearray(len(made.payload))
    while wanted:
        body = await peer.hear_until("piece")
        index, begin = struct.unpack_from(">II", body)
        assert len(body) - 8 == wanted.pop((index, begin))
        at = index * made.piece_length + begin
        got[at : at + len(body) - 8] = body[8:]
    return bytes(got)


async def test_a_leecher_gets_every_byte(tmp_path: Path) -> None:
    made = make_torrent(
        "many", files=[(f"d{n % 3}/f{n}", 1000 * n + 7) for n in range(40)], piece_length=32768
    )
    async with running(tmp_path) as engine:
        await _seeding(engine, made)
        async with connected(engine.address, made.info_hash) as peer:
            assert (await peer.hear())[0] == "have all"
            told = parse_extension_handshake((await peer.hear_until("extended"))[1:])
            assert told.client == "bittern test"
            assert told.reqq == QUEUE_LIMIT
            assert told.your_ip == "127.0.0.1"
            got = await _fetch_all(peer, made)
        assert hashlib.sha1(got).digest() == hashlib.sha1(made.payload).digest()


async def test_a_parked_seed_wakes_for_a_handshake_and_parks_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = make_torrent(size=50_000)
    async with running(tmp_path, dialer=Dialer()) as engine:
        await _seeding(engine, made)
        swarms = engine.session.swarms
        assert not swarms.live
        async with connected(engine.address, made.info_hash) as peer:
            assert await _fetch_all(peer, made) == made.payload
            assert len(swarms.live) == 1
        await engine.until_true(lambda: not swarms.live, "parked again", 30)


async def test_requests_while_choked_are_rejected(tmp_path: Path) -> None:
    made = make_torrent(size=2_000_000, piece_length=16384)
    async with running(tmp_path) as engine:
        await _seeding(engine, made)
        async with connected(engine.address, made.info_hash) as peer:
            fast = {struct.unpack(">I", await peer.hear_until("allowed fast"))[0] for _ in range(10)}
            assert len(fast) == 10
            closed = next(index for index in range(made.piece_count) if index not in fast)
            await peer.say(m.pack_requests([(closed, 0, 16384)]))
            while (heard := await peer.hear())[0] != "reject":
                assert heard[0] != "allowed fast", "more than ten"
            assert struct.unpack(">III", heard[1]) == (closed, 0, 16384)
            offered = fast.pop()
            await peer.say(m.pack_requests([(offered, 0, 16384)]))
            assert struct.unpack_from(">II", await peer.hear_until("piece")) == (offered, 0)


async def test_a_request_out_of_bounds_ends_the_connection(tmp_path: Path) -> None:
    made = make_torrent(size=100_000)
    async with running(tmp_path) as engine:
        await _seeding(engine, made)
        for asked in [(99, 0, 1), (0, 65536, 1), (0, 60000, 16384), (0, 0, 16385), (0, 0, 0)]:
            async with connected(engine.address, made.info_hash) as peer:
                await peer.say(m.pack_requests([asked]))
                await peer.until_gone()


async def test_who_asks_without_reading_costs_one_queue(tmp_path: Path) -> None:
    made = make_torrent(size=4_000_000, piece_length=1 << 20)
    async with running(tmp_path) as engine:
        await _seeding(engine, made)
        async with (
            connected(engine.address, made.info_hash, seed=1) as flood,
            connected(engine.address, made.info_hash, seed=2) as honest,
        ):
            await flood.say(m.INTERESTED)
            await flood.hear_until("unchoke")
            # 100 000 rejects that it does not read are more than are kept for anybody: it may be let go.
            with trio.move_on_after(2), contextlib.suppress(trio.BrokenResourceError):
                for _ in range(200):
                    await flood.say(m.pack_requests([(n % 3, 16384 * (n % 64), 16384) for n in range(500)]))
            swarm = engine.session.swarms.live[made.info_hash]
            assert all(len(peer.uploads) <= QUEUE_LIMIT for peer in swarm.peers)
            assert await _fetch_all(honest, made) == made.payload


async def test_a_cancel_is_answered_and_obeyed(tmp_path: Path) -> None:
    made = make_torrent(size=8_000_000, piece_length=1 << 20)
    async with running(tmp_path, upload_rate=200_000.0) as engine:
        await _seeding(engine, made)
        async with connected(engine.address, made.info_hash) as peer:
            await peer.say(m.INTERESTED)
            await peer.hear_until("unchoke")
            asks = [(0, 16384 * n, 16384) for n in range(40)]
            await peer.say(m.pack_requests(asks), m.pack_cancels(asks[5:]))
            answered, rejected = 0, 0
            while answered + rejected < 40:
                name, _ = await peer.hear()
                answered += name == "piece"
                rejected += name == "reject"
            assert rejected >= 30


async def test_ourselves_strangers_and_doubles_are_turned_away(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await _seeding(engine, made)
        other = make_torrent("unknown")
        try:
            async with connected(engine.address, other.info_hash):
                raise AssertionError("an unknown torrent was answered")
        except trio.EndOfChannel:
            pass
        async with connected(engine.address, made.info_hash, seed=5) as first:
            await first.hear_until("have all")
            try:
                async with connected(engine.address, made.info_hash, seed=5) as second:
                    await second.until_gone()
            except trio.EndOfChannel:
                pass
            assert len(engine.session.swarms.live[made.info_hash].peers) == 1


async def test_a_second_bitfield_adds_to_the_first_and_takes_nothing_away(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash) as peer:
            await peer.say(m.HAVE_NONE, m.pack_bitfield(b"\x80"), m.pack_bitfield(b"\x40"), m.HAVE_NONE)
            await peer.hear_until("interested")
            (ours,) = engine.session.swarms.live[made.info_hash].peers
            await engine.until_true(lambda: list(ours.bits.indices()) == [0, 1], "both pieces")
            await peer.say(m.HAVE_ALL)
            await engine.until_true(lambda: ours.is_seed, "all pieces")
