"""A torrent that is paused stands still until it is let go, whatever comes meanwhile, and a restart changes nothing."""

import threading
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from bittern.disk.storage import Storage
from bittern.engine.completion import Completion
from bittern.engine.events import Added, Checked, Completed, Downloaded, Failed
from bittern.engine.torrent import State
from bittern.errors import StorageError
from bittern.policy.add_terms import AddTerms
from bittern.proto import messages as m
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent


async def _refused(engine: Engine, made: Made) -> bool:
    """Is a peer sent away?"""
    try:
        async with connected(engine.address, made.info_hash):
            return False
    except trio.EndOfChannel:
        return True


async def test_a_paused_download_parts_with_its_peers_and_goes_on_where_it_was(tmp_path: Path) -> None:
    made = make_torrent(size=65536 * 20, trackers=[["http://a.example/announce"]])
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent = engine.session.torrents[made.info_hash]
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.serve(made, pieces=4 * 9)
            await engine.until_true(lambda: torrent.have is not None and torrent.have.count >= 1, "a piece")
            assert await engine.session.pause(made.info_hash)
            assert torrent.state is State.STOPPED
            assert made.info_hash not in engine.session.swarms.live
            assert made.info_hash not in engine.session.announcer._torrents
        assert await _refused(engine, made)
        # what had come is still being written
        await engine.disk.drain()
        assert torrent.have is not None
        had = torrent.have.count
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert torrent.state is State.STOPPED
        assert not engine.told(Checked)
        assert made.info_hash not in engine.session.announcer._torrents
        assert await _refused(engine, made)
        assert await engine.session.resume(made.info_hash)
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        assert made.info_hash in engine.session.announcer._torrents
        assert torrent.have is not None
        assert torrent.have.count == had
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(seed.serve, made)
                await engine.until(Completed)
                nursery.cancel_scope.cancel()
        assert not engine.told(Failed)
    async with running(tmp_path) as engine:
        assert engine.session.torrents[made.info_hash].state is State.SEEDING


async def test_a_paused_seed_serves_nobody(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        await engine.session.pause(made.info_hash)
        assert engine.session.torrents[made.info_hash].state is State.STOPPED
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[made.info_hash]
        assert torrent.state is State.STOPPED
        assert torrent.complete
        assert await _refused(engine, made)
        await engine.session.resume(made.info_hash)
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
        assert not await _refused(engine, made)


async def test_who_is_paused_while_it_is_checked_does_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent(trackers=[["http://a.example/announce"]])
    begun, go_on = threading.Event(), threading.Event()
    real = Storage.stamps

    def slow(self: Storage, at: int | None = None) -> object:
        begun.set()
        go_on.wait(300)
        return real(self, at)

    async with running(tmp_path) as engine:
        monkeypatch.setattr(Storage, "stamps", slow)
        await engine.add(made)
        await trio.to_thread.run_sync(begun.wait)
        torrent = engine.session.torrents[made.info_hash]
        await engine.session.pause(made.info_hash)
        go_on.set()
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "the check's end")
        assert torrent.state is State.STOPPED
        assert made.info_hash not in engine.session.announcer._torrents
        await engine.session.resume(made.info_hash)
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")


async def test_a_torrent_in_error_can_be_paused_and_is_not_tried_again(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
    (tmp_path / "downloads/payload.bin").rename(tmp_path / "away")
    async with running(tmp_path) as engine:
        await engine.until(Failed)
        torrent = engine.session.torrents[made.info_hash]
        await engine.session.pause(made.info_hash)
        assert torrent.state is State.STOPPED
        engine.session.lifecycle.failures.retry_due(trio.current_time() + 1000)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert torrent.state is State.STOPPED
        (tmp_path / "away").rename(tmp_path / "downloads/payload.bin")
        await engine.session.resume(made.info_hash)
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
        assert not torrent.error


async def test_unknown_torrents_and_a_state_folder_that_cannot_be_written(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        assert not await engine.session.pause(made.info_hash)
        assert not await engine.session.resume(made.info_hash)
        await engine.add(made)
        await engine.until(Added)
        resume = tmp_path / "state/resume"
        resume.rename(tmp_path / "gone")
        with pytest.raises(StorageError):
            await engine.session.pause(made.info_hash)
        assert engine.session.torrents[made.info_hash].state is State.STOPPED, "it stands still all the same"
        (tmp_path / "gone").rename(resume)


async def test_a_pause_amid_the_last_steps_does_not_double_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent("last.bin")
    at_work: list[int] = []
    go_on = trio.Event()
    real = Completion._make_durable

    async def slow(*args: Any) -> Any:
        at_work.append(1)
        await go_on.wait()
        return await real(*args)

    monkeypatch.setattr(Completion, "_make_durable", slow)
    async with running(tmp_path) as engine:
        await engine.session.add(
            made.blob, AddTerms(str(engine.downloads), incomplete=str(tmp_path / "incomplete"))
        )
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Downloaded)
            nursery.cancel_scope.cancel()
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: bool(at_work), "the last steps")
        await engine.session.pause(made.info_hash)
        await engine.session.resume(made.info_hash)
        assert not engine.session.recheck(torrent)
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "the look at what lies there")
        assert len(at_work) == 1
        go_on.set()
        await engine.until(Completed)
        assert made.is_at(engine.downloads)
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
    assert len(engine.told(Completed)) == 1
