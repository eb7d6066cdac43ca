"""A torrent that fails says so once, whatever else befalls it while it rests."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bittern.engine.events import Checked, Completed, Failed, Recovered, Stalled
from bittern.engine.failures import RETRY_MOST_S
from bittern.engine.supervision import RESTARTS_AT_MOST
from bittern.engine.torrent import State
from bittern.errors import MetainfoError, StorageError
from bittern.net.dialer import Dialer
from bittern.policy.roster import Source
from tests.fakes.engine import running
from tests.fakes.memory_peers import Manner, Town
from tests.fakes.torrents import make_torrent


async def test_a_quarantine_of_what_rests_already_is_no_second_failure(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent, lifecycle = engine.session.torrents[made.info_hash], engine.session.lifecycle
        lifecycle.torrent_failed(torrent, StorageError("the disk is full"))
        for _ in range(RESTARTS_AT_MOST + 1):
            lifecycle.swarm_fell(torrent, RuntimeError("a bug"))
        assert torrent.state is State.ERROR
        assert "quarantined" in torrent.error
        assert [event.reason for event in engine.told(Failed)] == ["the disk is full"]


async def test_what_is_stopped_stays_so_whatever_falls(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent, lifecycle = engine.session.torrents[made.info_hash], engine.session.lifecycle
        await engine.session.pause(made.info_hash)
        for _ in range(RESTARTS_AT_MOST + 1):
            lifecycle.swarm_fell(torrent, RuntimeError("a bug"))
        lifecycle.useless_metadata(torrent, MetainfoError("of no use"))
        assert torrent.state is State.STOPPED
        assert not engine.told(Failed)
        assert not lifecycle.failures._resting


async def test_a_removed_torrents_last_fall_is_no_failure(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent, lifecycle = engine.session.torrents[made.info_hash], engine.session.lifecycle
        assert await engine.session.remove(made.info_hash, reason="test")
        for _ in range(RESTARTS_AT_MOST + 1):
            lifecycle.swarm_fell(torrent, RuntimeError("a bug"))
        assert not engine.told(Failed)
        assert not lifecycle.failures._resting


async def test_what_fails_for_weeks_is_tried_again_all_the_same(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent, lifecycle = engine.session.torrents[made.info_hash], engine.session.lifecycle
        for _ in range(2000):
            torrent.retry_at = None
            lifecycle.torrent_failed(torrent, StorageError("the disk is bad"))
        assert torrent.retry_at is not None
        assert torrent.retry_at - trio.current_time() <= RETRY_MOST_S


async def test_what_had_failed_before_a_restart_and_is_well_after_it_is_told(tmp_path: Path) -> None:
    made, other = make_torrent(), make_torrent("other.bin")
    async with running(tmp_path) as engine:
        for one in (made, other):
            one.write(engine.downloads)
            await engine.add(one)
        await engine.until(Completed, 2)
        torrent = engine.session.torrents[made.info_hash]
        engine.session.lifecycle.torrent_failed(torrent, StorageError("the disk is bad"))
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[made.info_hash]
        told = await engine.until(Recovered)
        assert told.facts.info_hash == made.info_hash
        assert not torrent.record.ailing
    async with running(tmp_path) as engine:
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "all are checked")
        assert not engine.told(Recovered)


@pytest.mark.parametrize("ailment", ["failed", "stalled"])
async def test_so_is_a_download_when_it_gets_something_again(
    ailment: str, tmp_path: Path, autojump_clock: MockClock
) -> None:
    made, town = make_torrent(size=4_000_000), Town()
    async with running(tmp_path, dialer=town, stalled_after_s=60.0) as engine:
        await engine.add(made)
        await engine.until(Checked)
        if ailment == "failed":
            engine.session.lifecycle.torrent_failed(
                engine.session.torrents[made.info_hash], StorageError("the disk is bad")
            )
        else:
            await engine.until(Stalled)
    async with running(tmp_path, dialer=town, stalled_after_s=60.0) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "it downloads")
        await trio.sleep(30)
        assert not engine.told(Recovered), "nobody is there who has it"
        address = town.settle(made, Manner.GIVES, 100_000)
        engine.session.swarms.addresses_found(torrent, (address,), Source.TRACKER)
        await engine.until(Completed)
        assert [event.facts.info_hash for event in engine.told(Recovered)] == [made.info_hash]
        assert not engine.told(Failed)
        assert not torrent.record.ailing


async def test_so_is_one_that_stood_still_and_is_whole_all_the_same(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Somebody has put its data there, and has it hashed."""
    made = make_torrent()
    async with running(tmp_path, dialer=Dialer(), stalled_after_s=60.0) as engine:
        await engine.add(made)
        await engine.until(Stalled)
        torrent = engine.session.torrents[made.info_hash]
        made.write(engine.downloads)
        assert engine.session.recheck(torrent)
        await engine.until(Completed)
        await engine.until_true(lambda: torrent.state is State.SEEDING, "it seeds")
        assert len(engine.told(Recovered)) == 1
        assert not torrent.record.ailing
    async with running(tmp_path, stalled_after_s=60.0) as engine:
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "all are checked")
        assert not engine.told(Recovered)
