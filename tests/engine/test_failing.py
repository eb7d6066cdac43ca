"""A torrent that fails says so once, whatever else befalls it while it rests."""

from pathlib import Path

import trio

from bittern.engine.events import Checked, Failed
from bittern.engine.failures import RETRY_MOST_S
from bittern.engine.supervision import RESTARTS_AT_MOST
from bittern.engine.torrent import State
from bittern.errors import MetainfoError, StorageError
from tests.fakes.engine import running
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
