"""Limits of one torrent: they hold at once, for it alone, and after a restart."""

from pathlib import Path

import pytest
import trio
import trio.testing

from bittern.engine.events import Checked, Completed, SeedingDone
from bittern.engine.torrent import State
from bittern.errors import StorageError
from bittern.policy.limits import NO_LIMITS, Limits
from bittern.proto import messages as m
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent

MADE = make_torrent("one.bin", size=65536 * 8, piece_length=65536)


async def test_they_are_durable_when_they_are_set(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.add(MADE, limits={"max_peers": 9})
        session = engine.session
        assert session.torrents[MADE.info_hash].record.limits == Limits(max_peers=9)
        assert await session.limit(MADE.info_hash, download_rate=5000, download_limited=True, seed_ratio=0.5)
        written = (tmp_path / "state" / "resume" / f"{MADE.info_hash.hex()}.toml").read_text()
        assert "limit_download_rate = 5000.0" in written
        assert not await session.limit(bytes(20), max_peers=1)  # type: ignore[arg-type] — no torrent of ours
        with pytest.raises(ValueError, match="max_peers"):
            await session.limit(MADE.info_hash, seed_ratio=9.0, max_peers="many")
    expected = Limits(max_peers=9, download_rate=5000, download_limited=True, seed_ratio=0.5)
    async with running(tmp_path) as engine:
        assert engine.session.torrents[MADE.info_hash].record.limits == expected
        await engine.session.limit(
            MADE.info_hash, max_peers=0, download_rate=0.0, download_limited=False, seed_ratio=2.0
        )
        assert engine.session.torrents[MADE.info_hash].record.limits is NO_LIMITS


async def test_a_record_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as engine:
        await engine.add(MADE)
        await engine.until(Checked)

        def full(records: object) -> None:
            raise StorageError("the disk is full")

        monkeypatch.setattr(engine.store, "write", full)
        with pytest.raises(StorageError):
            await engine.session.limit(MADE.info_hash, max_peers=3)
        assert engine.session.torrents[MADE.info_hash].record.limits.max_peers == 3
        monkeypatch.undo()


async def test_nothing_is_asked_for_at_a_rate_of_0_and_all_again_without(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.add(MADE, limits={"download_limited": True})
        await engine.until(Checked)
        async with connected(engine.address, MADE.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.hear_until("interested")
            await trio.testing.wait_all_tasks_blocked(0.02)
            (peer,) = engine.session.swarms.live[MADE.info_hash].peers
            assert not peer.requests.owed
            assert await engine.session.limit(MADE.info_hash, download_limited=False)
            assert peer.requests.owed
            async with trio.open_nursery() as nursery:
                nursery.start_soon(seed.serve, MADE)
                await engine.until(Completed)
                nursery.cancel_scope.cancel()


async def test_nobody_is_let_ask_at_an_upload_rate_of_0(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        MADE.write(engine.downloads)
        await engine.add(MADE)
        await engine.until(Completed)
        async with connected(engine.address, MADE.info_hash) as leecher:
            await leecher.say(m.INTERESTED)
            await leecher.hear_until("unchoke")
            await engine.session.limit(MADE.info_hash, upload_limited=True)
            await leecher.hear_until("choke")
            await trio.testing.wait_all_tasks_blocked(0.02)
            (peer,) = engine.session.swarms.live[MADE.info_hash].peers
            assert peer.am_choking
            await engine.session.limit(MADE.info_hash, upload_limited=False)
            await leecher.hear_until("unchoke")


async def test_the_limit_for_all_of_0_stops_those_who_heed_it(tmp_path: Path) -> None:
    other = make_torrent("other.bin", size=65536)
    async with running(tmp_path, download_rate=0.0) as engine:
        await engine.add(MADE)
        await engine.add(other, limits={"heeds_session": False})
        await engine.until(Checked, 2)
        async with (
            connected(engine.address, MADE.info_hash) as idle,
            connected(engine.address, other.info_hash) as seed,
        ):
            await idle.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(seed.serve, other)
                assert (await engine.until(Completed)).facts.name == "other.bin"
                nursery.cancel_scope.cancel()
            (peer,) = engine.session.swarms.live[MADE.info_hash].peers
            assert not peer.requests.owed


async def test_more_peers_than_it_may_have_leave(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.add(MADE)
        await engine.until(Checked)
        async with (
            connected(engine.address, MADE.info_hash, source="127.0.0.2"),
            connected(engine.address, MADE.info_hash, source="127.0.0.3"),
        ):
            swarm = engine.session.swarms.live[MADE.info_hash]
            await engine.until_true(lambda: len(swarm.peers) == 2, "two peers")
            await engine.session.limit(MADE.info_hash, max_peers=1)
            await engine.until_true(lambda: len(swarm.peers) == 1, "one peer")
            assert not swarm.wants_peers


async def test_a_ratio_of_its_own_stops_it_without_any_rule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bittern.engine.seeding.LOOK_EVERY_S", 0.01)
    async with running(tmp_path) as engine:
        MADE.write(engine.downloads)
        await engine.add(MADE)
        await engine.until(Completed)
        torrent = engine.session.torrents[MADE.info_hash]
        assert engine.session.seeding.outlook(torrent) is None
        await engine.session.limit(MADE.info_hash, seed_ratio=0.0, seed_ratio_mode="own")
        assert (await engine.until(SeedingDone)).action == "stop"
        await engine.until_true(lambda: torrent.state is State.STOPPED, "stopped")
        # whoever lets it go on does not want that limit; whoever sets one again does
        await engine.session.resume(MADE.info_hash)
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding again")
        assert engine.session.seeding.outlook(torrent) is None
        await engine.session.limit(
            MADE.info_hash, seed_idle_s=1e6, seed_idle_mode="own", seed_ratio_mode="never"
        )
        outlook = engine.session.seeding.outlook(torrent)
        assert outlook is not None
        assert outlook.rule.name == "its own idle limit"
