"""A bug that one dropped file trips costs that file only."""

from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import trio

from bittern.daemon import aside, looks, sweep, watch
from bittern.daemon.app import Daemon
from bittern.daemon.config import Config, Paths, Watch
from bittern.daemon.config_reader import Folder
from bittern.daemon.watch import Watcher
from bittern.engine import supervision
from bittern.engine.supervision import Supervisor
from tests.fakes.drops import DropSession, hash_of, torrent
from tests.fakes.faults import Bug, Fault


class World:
    def __init__(self, base):
        self.folder = base / "drop"
        self.session = DropSession()
        self.told = []
        (base / "state").mkdir()
        self._config = lambda terms: Config(
            paths=Paths(state=Folder(str(base / "state")), downloads=Folder(str(base / "dl"))),
            watch=(Watch(folder=Folder(str(self.folder)), **terms),),
        )

    @asynccontextmanager
    async def watching(self, **terms):
        supervisor = self.supervisor = Supervisor(self.told.append)
        watcher = Watcher(self._config(terms), self.session, supervisor, sweep_s=0.05)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(supervisor.serve, dispensable=True), "watcher", watcher.run)
            yield watcher
            nursery.cancel_scope.cancel()

    def knows(self, blob):
        return hash_of(blob) in self.session.torrents


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "LOOK_AGAIN_S", 0.05)
    monkeypatch.setattr(watch, "MIN_GAP_S", 0.01)
    return World(tmp_path)


async def until(true, seconds=60.0):
    with trio.fail_after(seconds):
        while not true():
            await trio.sleep(0.005)


@pytest.mark.parametrize("where", ["look", "add", "put away"])
async def test_a_file_that_trips_a_bug_stays_and_the_others_go_on(world, monkeypatch, where):
    bad, good, mended = torrent("bad"), torrent("good"), torrent("mended")
    fault = {
        "look": lambda: Fault(monkeypatch, looks, "_look_at", lambda name, *_: name == "bad.torrent"),
        "add": lambda: Fault(monkeypatch, world.session, "add", lambda blob, _: blob == bad),
        "put away": lambda: Fault(monkeypatch, aside, "_put", lambda _, put: put.name == "bad.torrent"),
    }[where]()
    async with world.watching():
        path = world.folder / "bad.torrent"
        path.write_bytes(bad)
        await until(lambda: world.told)
        for number in range(3):
            # each drop is a sweep more, and the bad one is not looked at again in any
            (world.folder / f"{number}.torrent").write_bytes(torrent(f"good {number}"))
            await until(lambda number=number: world.knows(torrent(f"good {number}")))
        (world.folder / "good.torrent").write_bytes(good)
        await until(lambda: world.knows(good))
        (told,) = world.told
        bug = told.exception.__cause__ or told.exception
        assert isinstance(bug, Bug)
        assert bug.__traceback__ is not None
        assert told.where.endswith("bad.torrent")
        assert path.read_bytes() == bad
        assert fault.count == 1
        if where == "add":
            path.write_bytes(mended)
            await until(lambda: world.knows(mended))
            await until(lambda: not path.exists())
        assert len(world.told) == 1


async def test_a_removal_that_trips_a_bug_is_not_tried_at_every_sweep(world, monkeypatch):
    blobs = {name: torrent(name) for name in ("a", "b")}
    fault = Fault(
        monkeypatch, world.session, "remove", lambda info_hash, **_: info_hash == hash_of(blobs["a"])
    )
    async with world.watching(after_add="keep", tie=True):
        for name, blob in blobs.items():
            (world.folder / f"{name}.torrent").write_bytes(blob)
        await until(lambda: all(map(world.knows, blobs.values())))
        (world.folder / "a.torrent").unlink()
        await until(lambda: world.told)
        (world.folder / "b.torrent").unlink()
        await until(lambda: not world.knows(blobs["b"]))
        assert fault.count == len(world.told) == 1


async def test_a_watcher_whose_loop_falls_is_started_again_and_takes_in_what_lies_there(world, monkeypatch):
    monkeypatch.setattr(supervision, "RESTART_PAUSE_S", 0.01)
    async with world.watching():
        fault = Fault(monkeypatch, watch, "list_folder", times=2)
        blob = torrent("one")
        (world.folder / "one.torrent").write_bytes(blob)
        await until(lambda: world.knows(blob))
        assert [event.where for event in world.told] == ["watcher"] * fault.count
        assert fault.count == 2


async def test_a_watcher_that_falls_again_and_again_is_no_reason_to_end_the_others(world, monkeypatch):
    monkeypatch.setattr(supervision, "RESTART_PAUSE_S", 0.001)
    fault = Fault(monkeypatch, watch, "list_folder")
    async with world.watching() as watcher:  # not waiting for a start that never comes
        await until(lambda: len(world.told) > 6 and world.supervisor.resting == {"watcher"})
        with trio.fail_after(60):
            await watcher.pulse()  # systemd is told that all is well
        fault.on = False
        blob = torrent("one")
        (world.folder / "one.torrent").write_bytes(blob)
        await until(lambda: world.knows(blob))
        assert not world.supervisor.resting


async def test_who_fails_is_named_in_the_status():
    told = []
    counts = SimpleNamespace(
        torrents=3,
        metadata=0,
        downloading=1,
        complete=2,
        errors=0,
        held=0,
        offline=0,
        peers=0,
        download_rate=0.0,
        upload_rate=0.0,
    )
    daemon = SimpleNamespace(
        _notifier=SimpleNamespace(status=told.append), _supervisor=SimpleNamespace(resting={"watcher", "dht"})
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Daemon._report_status, daemon, SimpleNamespace(counts=lambda: counts))
        await until(lambda: told)
        nursery.cancel_scope.cancel()
    assert told[0].startswith("3 torrents")
    assert told[0].endswith("; failing: dht, watcher")
