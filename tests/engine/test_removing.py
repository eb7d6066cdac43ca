"""A torrent that is removed is gone, whatever was under way for it."""

import threading
from pathlib import Path

import pytest
import trio
import trio.testing

from bittern.disk.mover import Move
from bittern.disk.resume import ResumeRecord
from bittern.disk.storage import Storage
from bittern.engine.events import Checked, Completed, Failed
from bittern.engine.opening import Opened, Opener
from bittern.proto import messages as m
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent


async def test_a_swarm_that_is_stopped_while_it_wakes_does_not_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        begun, go_on = threading.Event(), threading.Event()
        real = Opener.open

        def slow(self: Opener, record: ResumeRecord, folder: str, root: str) -> Opened:
            opened = real(self, record, folder, root)
            begun.set()
            go_on.wait(300)
            return opened

        monkeypatch.setattr(Opener, "open", slow)
        engine.session.swarms.wake(engine.session.torrents[made.info_hash])
        await trio.to_thread.run_sync(begun.wait)
        await engine.session.remove(made.info_hash, reason="test")
        go_on.set()
        await engine.until_true(lambda: not engine.session.swarms._waking, "the waking's end")
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert not engine.session.swarms.live


async def test_a_torrent_removed_while_it_completes_stays_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent(files=[("a", 100_000), ("b", 70_000)], trackers=[["http://a.example/announce"]])
    begun, go_on = threading.Event(), threading.Event()
    real = Storage.sync

    def slow(self: Storage, files: range) -> None:
        begun.set()
        go_on.wait(300)
        real(self, files)

    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        monkeypatch.setattr(Storage, "sync", slow)
        await engine.add(made)
        await trio.to_thread.run_sync(begun.wait)
        await engine.session.remove(made.info_hash, reason="test")
        go_on.set()
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "the check's end")
        assert not engine.told(Completed)
        assert not engine.session.announcer._torrents
    assert not list((tmp_path / "state/resume").iterdir())


async def test_a_stop_in_the_middle_of_a_move_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent()
    begun = threading.Event()

    def endless(self: Move) -> int:
        begun.set()
        return 1

    incomplete = str(tmp_path / "incomplete")
    with monkeypatch.context() as patch:
        patch.setattr(Move, "step", endless)
        async with running(tmp_path) as engine:
            await engine.add(made, incomplete=incomplete)
            await engine.until(Checked)
            async with connected(engine.address, made.info_hash) as seed:
                await seed.say(m.HAVE_ALL, m.UNCHOKE)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(seed.serve, made)
                    await trio.to_thread.run_sync(begun.wait)
                    nursery.cancel_scope.cancel()
        assert not engine.told(Failed)
        assert not engine.bugs
    async with running(tmp_path) as engine:
        await engine.until(Completed)
        assert made.is_at(engine.downloads)
