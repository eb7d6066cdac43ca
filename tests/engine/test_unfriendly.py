"""What one peer does, or is told, at a bad moment hurts nobody else."""

import struct
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bittern.engine import parking, stalls
from bittern.engine.events import Checked, Completed, PeerBanned
from bittern.engine.swarm import Swarm
from bittern.net.dialer import Dialer
from bittern.policy import room
from bittern.policy.roster import Source
from bittern.proto import messages as m
from bittern.proto.bitfield import Bitfield
from bittern.terms import Address, PeerId
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected, dialled, piece
from tests.fakes.torrents import make_torrent


async def test_a_written_span_leaves_blocks_alone_that_come_into_other_spans(tmp_path: Path) -> None:
    made = make_torrent(size=2 << 20, piece_length=2 << 20)
    async with running(tmp_path, piece_memory=6 << 20) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash, seed=1) as one:
            # all of the first span but one block, and half a block of the second
            await one.say(m.HAVE_ALL, m.UNCHOKE)
            begin = 0
            while begin < 1 << 20:
                begin = struct.unpack(">III", await one.hear_until("request"))[1]
                if 0 < begin < 1 << 20:
                    await one.say(piece(0, begin, made.payload[begin : begin + 16384]))
            block = piece(0, begin, made.payload[begin : begin + 16384])
            await one.say(block[:5000])
            swarm = engine.session.swarms.live[made.info_hash]
            (peer,) = swarm.peers
            await engine.until_true(lambda: peer.requests.placing is not None, "half a block")
            assert swarm.fetch is not None
            partial = swarm.fetch.partials[0]
            async with connected(engine.address, made.info_hash, seed=2) as two:
                await two.say(m.HAVE_ALL, m.UNCHOKE)
                await two.hear_until("interested")
                (other,) = swarm.peers - {peer}
                assert partial.ask_again(other, 0)  # the endgame would come to it in time
                other.requests.owed[0] = None
                await two.say(piece(0, 0, made.payload[:16384]))
                await engine.until_true(lambda: partial._span_written == 1, "the span is written")
                await one.say(block[5000:])
                await engine.until_true(lambda: partial.landed_count == 65, "the whole block")


async def test_nothing_is_said_before_the_greeting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_torrent()
    real = Swarm._start

    def start(self: Swarm, *args: Any, **terms: Any) -> None:
        real(self, *args, **terms)
        assert self.fetch is not None
        self.fetch._tell_all([0])  # as when a piece is written at this very moment

    monkeypatch.setattr(Swarm, "_start", start)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash) as peer:
            assert peer.theirs.info_hash == made.info_hash
            assert (await peer.hear())[0] == "have none"


async def test_who_is_banned_stays_banned_when_its_swarm_parks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "LINGER_S", 0.0)
    monkeypatch.setattr(parking, "LINGER_UNFINISHED_S", 0.0)
    made = make_torrent(size=500_000)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash, source="127.0.0.8") as liar:
            await liar.say(m.HAVE_ALL, m.UNCHOKE)
            await liar.serve(made, spoil=frozenset(range(made.piece_count)))
        await engine.until(PeerBanned)
        await engine.until_true(lambda: not engine.session.swarms.live, "parked")
        with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
            async with connected(engine.address, made.info_hash, source="127.0.0.8"):
                pass


async def test_pieces_that_nobody_brings_do_not_keep_the_memory_from_other_torrents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stalls, "STALLED_S", 0.0)
    stuck, other = make_torrent("stuck"), make_torrent("other")
    async with running(tmp_path, piece_memory=4 * 65536) as engine:
        await engine.add(stuck)
        await engine.add(other)
        await engine.until(Checked, 2)
        async with connected(engine.address, stuck.info_hash, fast=False) as choker:
            everything = m.pack_bitfield(Bitfield.full(stuck.piece_count).to_bytes())
            await choker.say(everything, m.UNCHOKE)
            swarm = engine.session.swarms.live[stuck.info_hash]
            (peer,) = swarm.peers
            peer.trusted = True  # it once brought a good piece: others get no more than a share of the memory
            await engine.until_true(
                lambda: swarm.fetch is not None and len(swarm.fetch.partials) == 4, "all memory taken"
            )
            await choker.say(m.CHOKE)
            async with connected(engine.address, other.info_hash) as seed, trio.open_nursery() as nursery:
                await seed.say(m.HAVE_ALL, m.UNCHOKE)
                nursery.start_soon(seed.serve, other)
                assert (await engine.until(Completed)).facts.info_hash == other.info_hash
                nursery.cancel_scope.cancel()


async def test_nobody_is_thrown_out_by_a_copy_of_his_peer_id(tmp_path: Path) -> None:
    made = make_torrent(size=500_000)
    theirs = PeerId(
        b"\xff" * 20
    )  # greater than ours: from the same host the connection that it opened would stay
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent = engine.session.torrents[made.info_hash]

        def dial(address: Address) -> None:
            engine.session.swarms.addresses_found(torrent, (address,), Source.TRACKER)

        async with dialled(dial, made.info_hash, theirs) as honest, trio.open_nursery() as nursery:
            await honest.say(m.HAVE_ALL, m.UNCHOKE)
            begun = trio.Event()

            async def serve() -> None:
                await honest.serve(made, pieces=1)
                begun.set()
                await honest.serve(made)

            nursery.start_soon(serve)
            await begun.wait()
            swarm = engine.session.swarms.live[made.info_hash]
            (peer,) = swarm.peers
            await engine.until_true(lambda: peer.useful, "a block has come")
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                async with connected(engine.address, made.info_hash, peer_id=theirs, source="127.0.0.9"):
                    pass
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)


async def test_who_is_of_no_use_gives_way_to_who_knocks(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "NOTHING_S", 0.01)
    made = make_torrent(size=500_000)
    async with running(tmp_path, dialer=Dialer(), max_peers_per_torrent=2, max_peers=3) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with (
            connected(engine.address, made.info_hash, source="127.0.0.2"),
            connected(engine.address, made.info_hash, source="127.0.0.3"),
        ):
            await trio.sleep(0.05)
            async with connected(engine.address, made.info_hash, source="127.0.0.4") as honest:
                await honest.say(m.HAVE_ALL, m.UNCHOKE)
                swarm = engine.session.swarms.live[made.info_hash]
                # which of two that are of equally little use is a matter of their ports (BEP 40)
                both = {"127.0.0.2", "127.0.0.3"}
                await engine.until_true(
                    lambda: len(both - {peer.address.host for peer in swarm.peers}) == 1, "one gone"
                )
                (gone,) = both - {peer.address.host for peer in swarm.peers}
                # who was shown out does not come back in somebody else's place
                with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                    async with connected(engine.address, made.info_hash, source=gone):
                        pass
                await honest.serve(made, pieces=made.piece_count * 4)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(honest.serve, made)
                    await engine.until(Completed)
                    nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)


async def test_who_sends_what_is_no_block_is_banned(tmp_path: Path) -> None:
    made = make_torrent(size=500_000)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash, source="127.0.0.8") as liar:
            await liar.say(m.HAVE_ALL, m.UNCHOKE)
            index, begin, length = struct.unpack(">III", await liar.hear_until("request"))
            await liar.say(piece(index, begin, bytes(length - 1)))
            await liar.until_gone()
        assert (await engine.until(PeerBanned)).host == "127.0.0.8"


async def test_peers_without_a_good_piece_hold_a_share_of_the_memory_only(tmp_path: Path) -> None:
    made = make_torrent(size=64 * 65536)
    async with running(tmp_path, piece_memory=16 * 65536) as engine, AsyncExitStack() as stack:
        await engine.add(made)
        await engine.until(Checked)
        for n in range(30):
            liar = await stack.enter_async_context(
                connected(engine.address, made.info_hash, source=f"127.0.1.{n + 1}")
            )
            await liar.say(m.HAVE_ALL, m.UNCHOKE)
            await liar.hear_until("interested")
        swarm = engine.session.swarms.live[made.info_hash]
        await engine.until_true(
            lambda: sum(bool(peer.requests.owed) for peer in swarm.peers) == 1, "liars asked"
        )
        assert swarm.fetch is not None
        assert len(swarm.fetch.partials) == 4
        async with (
            connected(engine.address, made.info_hash) as honest,
            trio.open_nursery() as nursery,
        ):
            (peer,) = (peer for peer in swarm.peers if peer.address.host == "127.0.0.1")
            peer.trusted = True
            await honest.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(honest.serve, made)
            await engine.until(Completed, timeout_s=60)
            nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)


async def test_who_says_the_same_again_and_again_is_not_heard_for_a_while(tmp_path: Path) -> None:
    made = make_torrent(size=500_000)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with (
            connected(engine.address, made.info_hash, source="127.0.0.8") as flood,
            connected(engine.address, made.info_hash) as honest,
            trio.open_nursery() as nursery,
        ):
            swarm = engine.session.swarms.live[made.info_hash]
            (peer,) = (peer for peer in swarm.peers if peer.address.host == "127.0.0.8")

            async def say_it() -> None:
                while True:
                    await flood.say(m.pack_have(0) * 5000)

            nursery.start_soon(say_it)
            await engine.until_true(lambda: peer._patience_bytes < 0, "enough")
            before = peer.last_received_at
            await honest.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(honest.serve, made)
            await engine.until(Completed)
            assert peer.last_received_at == before
            nursery.cancel_scope.cancel()
