"""The engine against peers that do what the test says."""

import errno
import os
import struct
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bittern.disk.resume import load_record
from bittern.engine.events import Checked, Completed, DiskLow, Downloaded, Failed, Held, PeerBanned
from bittern.engine.torrent import State
from bittern.net.dialer import Dialer
from bittern.proto import messages as m
from bittern.proto.bitfield import Bitfield
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected, piece
from tests.fakes.torrents import Made, make_torrent


async def _ready(engine: Engine, made: Made) -> None:
    await engine.add(made)
    await engine.until(Checked, len(engine.told(Checked)) + 1)


async def test_a_torrent_is_fetched_from_one_seed(tmp_path: Path) -> None:
    made = make_torrent(size=700_001)
    async with running(tmp_path) as engine:
        await _ready(engine, made)
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            done = await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert done.reason == "downloaded"
        assert made.is_at(engine.downloads)
        assert len(engine.told(Downloaded)) == 1


async def test_two_seeds_and_a_slow_one_share_the_work(tmp_path: Path) -> None:
    made = make_torrent(size=3_000_000)
    async with running(tmp_path) as engine:
        await _ready(engine, made)
        async with (
            connected(engine.address, made.info_hash, seed=1) as one,
            connected(engine.address, made.info_hash, seed=2) as two,
            connected(engine.address, made.info_hash, seed=3) as silent,
            trio.open_nursery() as nursery,
        ):
            for peer in (silent, one, two):
                await peer.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(one.serve, made)
            nursery.start_soon(two.serve, made)
            # the silent one holds requests that the endgame has to get from the others
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)


async def test_who_alone_sends_a_bad_piece_is_banned_and_the_rest_comes_from_others(tmp_path: Path) -> None:
    made = make_torrent(size=500_000)
    async with running(tmp_path) as engine:
        await _ready(engine, made)
        async with connected(engine.address, made.info_hash, source="127.0.0.8") as liar:
            await liar.say(m.HAVE_ALL, m.UNCHOKE)
            await liar.serve(made, spoil=frozenset(range(made.piece_count)))
        banned = await engine.until(PeerBanned)
        assert banned.host == "127.0.0.8"
        async with (
            connected(engine.address, made.info_hash, source="127.0.0.7") as honest,
            trio.open_nursery() as nursery,
        ):
            await honest.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(honest.serve, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)
        assert {event.host for event in engine.told(PeerBanned)} == {"127.0.0.8"}


async def test_of_several_contributors_the_liar_is_found(tmp_path: Path) -> None:
    made = make_torrent(size=600_000, piece_length=262_144)
    async with running(tmp_path) as engine:
        await _ready(engine, made)
        async with (
            connected(engine.address, made.info_hash, source="127.0.0.11") as honest,
            connected(engine.address, made.info_hash, source="127.0.0.12") as liar,
            trio.open_nursery() as nursery,
        ):
            await honest.say(m.HAVE_ALL, m.UNCHOKE)
            await liar.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(honest.serve, made)
            nursery.start_soon(lambda: liar.serve(made, spoil=frozenset(range(made.piece_count))))
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)
        assert "127.0.0.11" not in {event.host for event in engine.told(PeerBanned)}


async def test_a_peer_on_parole_takes_over_what_nobody_brings_any_more(tmp_path: Path) -> None:
    made = make_torrent(size=65536, piece_length=65536)
    async with running(tmp_path) as engine:
        await _ready(engine, made)
        async with connected(engine.address, made.info_hash, source="127.0.0.11", fast=False) as first:
            await first.say(m.pack_bitfield(Bitfield.full(made.piece_count).to_bytes()), m.UNCHOKE)
            await first.serve(made, pieces=1)
            await first.say(m.CHOKE)
            async with connected(engine.address, made.info_hash, source="127.0.0.12", fast=False) as liar:
                await liar.say(m.pack_bitfield(Bitfield.full(made.piece_count).to_bytes()), m.UNCHOKE)
                await liar.serve(made, spoil=frozenset({0}), pieces=3)
                # both contributed to a bad piece: both are on parole, and the unchoked one gets the piece alone
                await liar.serve(made, pieces=1)
            async with trio.open_nursery() as nursery:
                await first.say(m.UNCHOKE)
                nursery.start_soon(first.serve, made)
                await engine.until(Completed)
                nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)


async def test_unasked_and_misshapen_blocks_do_no_harm(tmp_path: Path) -> None:
    made = make_torrent(size=200_000)
    async with running(tmp_path) as engine:
        await _ready(engine, made)
        async with connected(engine.address, made.info_hash, seed=1) as odd:
            await odd.say(m.HAVE_ALL)
            await odd.say(piece(0, 0, b"x" * 16384), piece(1, 7, b"y" * 100), piece(2, 16384, b"z" * 16384))
            await odd.say(m.KEEP_ALIVE)
            await odd.hear_until("interested")
        async with connected(engine.address, made.info_hash, seed=2) as wrong:
            await wrong.say(m.HAVE_ALL, piece(10_000, 0, b"x"))
            await wrong.until_gone()
        async with connected(engine.address, made.info_hash, seed=3) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)


async def test_a_choke_without_fast_extension_voids_requests(tmp_path: Path) -> None:
    made = make_torrent(size=3 * 65536)
    async with running(tmp_path) as engine:
        await _ready(engine, made)
        async with connected(engine.address, made.info_hash, seed=1, fast=False) as peer:
            await peer.say(m.pack_bitfield(Bitfield.full(made.piece_count).to_bytes()), m.UNCHOKE)
            first = await peer.hear_until("request")
            await peer.say(m.CHOKE)
            await peer.say(m.UNCHOKE)
            again = await peer.hear_until("request")
            assert struct.unpack(">III", first)[2] == struct.unpack(">III", again)[2] == 16384
            async with trio.open_nursery() as nursery:
                nursery.start_soon(peer.serve, made)
                await engine.until(Downloaded)
                nursery.cancel_scope.cancel()


async def test_a_reject_is_not_asked_again_in_circles(tmp_path: Path) -> None:
    made = make_torrent(size=65536 * 2)
    async with running(tmp_path) as engine:
        await _ready(engine, made)
        async with connected(engine.address, made.info_hash, seed=1) as peer:
            await peer.say(m.HAVE_ALL, m.UNCHOKE)
            asked = 1
            await peer.say(m.pack_reject(*struct.unpack(">III", await peer.hear_until("request"))))
            with trio.move_on_after(3):
                while True:
                    name, body = await peer.hear()
                    if name == "request":
                        asked += 1
                        await peer.say(m.pack_reject(*struct.unpack(">III", body)))
            assert asked <= 8 * 4


async def test_a_refused_piece_does_not_keep_the_others_from_coming(tmp_path: Path) -> None:
    made = make_torrent(size=65536 * 6)
    async with running(tmp_path) as engine:
        await _ready(engine, made)
        async with connected(engine.address, made.info_hash, seed=1) as peer, trio.open_nursery() as nursery:
            await peer.say(m.HAVE_ALL, m.UNCHOKE)
            refused = struct.unpack(">III", await peer.hear_until("request"))
            await peer.say(m.pack_reject(*refused))

            async def serve_the_rest() -> None:
                while True:
                    name, body = await peer.hear()
                    index, begin, length = struct.unpack(">III", body) if name == "request" else (0, 0, 0)
                    if name == "request" and index == refused[0]:
                        await peer.say(m.pack_reject(index, begin, length))
                    elif name == "request":
                        await peer.say(piece(index, begin, made.piece(index)[begin : begin + length]))

            nursery.start_soon(serve_the_rest)
            torrent = engine.session.torrents[made.info_hash]
            await engine.until_true(
                lambda: torrent.have is not None and torrent.have.count == made.piece_count - 1, "the others"
            )
            nursery.cancel_scope.cancel()


async def test_a_stop_in_the_middle_loses_nothing_and_hashes_nothing_again(tmp_path: Path) -> None:
    made = make_torrent(size=65536 * 20)
    async with running(tmp_path) as engine:
        await _ready(engine, made)
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.serve(made, pieces=4 * 9)
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.have is not None and torrent.have.count >= 1, "a piece")
    record = load_record((tmp_path / f"state/resume/{made.info_hash.hex()}.toml").read_bytes())
    assert record.clean
    claimed = Bitfield.from_bytes(made.piece_count, record.have)
    on_disk = (tmp_path / "downloads" / made.name).read_bytes()
    for index in claimed.indices():
        assert on_disk[index * 65536 : (index + 1) * 65536] == made.piece(index)
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        assert torrent.have == claimed
        assert not engine.told(Checked)
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)


async def test_a_full_disk_holds_downloads_and_heals(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, other = make_torrent("sick.bin", size=400_000), make_torrent("well.bin", size=400_000, seed=2)
    full = True
    real = os.pwrite
    sick_fds: set[int] = set()

    def pwrite(fd: int, body: bytes, offset: int) -> int:
        if full and os.readlink(f"/proc/self/fd/{fd}").endswith("sick.bin"):
            sick_fds.add(fd)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, body, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    async with running(tmp_path, dialer=Dialer()) as engine, trio.open_nursery() as nursery:
        await _ready(engine, made)
        await _ready(engine, other)

        async def seed(what: Made) -> None:
            while True:
                try:
                    async with connected(engine.address, what.info_hash) as peer:
                        await peer.say(m.HAVE_ALL, m.UNCHOKE)
                        await peer.serve(what)
                except (trio.EndOfChannel, OSError, trio.BrokenResourceError):
                    pass
                await trio.sleep(0.1)

        nursery.start_soon(seed, made)
        held = await engine.until(Held)
        low = await engine.until(DiskLow)
        assert low.path == str(engine.downloads)
        assert held.facts.info_hash == made.info_hash
        nursery.start_soon(seed, other)
        assert (await engine.until(Completed, timeout_s=90)).facts.info_hash == other.info_hash
        assert sick_fds
        full = False
        assert (await engine.until(Completed, 2, timeout_s=90)).facts.info_hash == made.info_hash
        assert not engine.told(Failed)
        assert engine.told(DiskLow)
        # where the figures show room, one that is refused again and again holds up nobody else
        assert {one.facts.info_hash for one in engine.told(Held)} == {made.info_hash}
        nursery.cancel_scope.cancel()
    assert made.is_at(tmp_path / "downloads")


async def test_a_swarm_whose_peers_are_gone_gives_its_memory_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bittern.engine.parking.LINGER_UNFINISHED_S", 0.5)
    made = make_torrent(size=65536 * 20)
    async with running(tmp_path) as engine:
        await _ready(engine, made)
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.serve(made, pieces=2)
            assert engine.buffers.in_use_bytes
        await engine.until_true(lambda: not engine.session.swarms.live, "parked")
        assert engine.buffers.in_use_bytes == 0
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
    assert made.is_at(tmp_path / "downloads")


async def test_pieces_larger_than_the_memory_are_fetched_in_spans(tmp_path: Path) -> None:
    made = make_torrent(size=9_000_000, piece_length=4 << 20)
    async with running(tmp_path, piece_memory=4 << 20) as engine:
        await _ready(engine, made)
        async with connected(engine.address, made.info_hash, source="127.0.0.21") as liar:
            await liar.say(m.HAVE_ALL, m.UNCHOKE)
            await liar.serve(made, spoil=frozenset({0, 1, 2}))
        await engine.until(PeerBanned)
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert engine.buffers.in_use_bytes + engine.buffers.kept_bytes <= 4 << 20
    assert made.is_at(tmp_path / "downloads")


async def test_two_torrents_share_a_memory_that_holds_one_piece(tmp_path: Path) -> None:
    one = make_torrent("one", size=3_000_000, piece_length=1 << 20)
    two = make_torrent("two", size=3_000_000, piece_length=1 << 20)
    async with running(tmp_path, piece_memory=4 << 20) as engine:
        await _ready(engine, one)
        await _ready(engine, two)
        async with (
            connected(engine.address, one.info_hash) as first,
            connected(engine.address, two.info_hash) as second,
            trio.open_nursery() as nursery,
        ):
            for peer, made in ((first, one), (second, two)):
                await peer.say(m.HAVE_ALL, m.UNCHOKE)
                nursery.start_soon(peer.serve, made)
            await engine.until(Completed, 2)
            nursery.cancel_scope.cancel()


async def test_a_stop_in_the_middle_of_a_large_piece_hashes_nothing_again(tmp_path: Path) -> None:
    made = make_torrent(size=12 << 20, piece_length=4 << 20)
    memory = 8 << 20
    async with running(tmp_path, piece_memory=memory, preallocate=True) as engine:
        await _ready(engine, made)
    async with running(tmp_path, piece_memory=memory) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        assert not engine.told(Checked), "preallocated files were taken for data"
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.serve(made, pieces=(4 << 20) // 16384 + 150)
        await engine.until_true(lambda: torrent.have is not None and torrent.have.count >= 1, "a piece")
    async with running(tmp_path, piece_memory=memory) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        assert not engine.told(Checked)
        assert torrent.have is not None
        assert torrent.have.count >= 1
