"""A bug that one dropped file trips costs that file only."""

import shutil
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
        self.folders = [self.folder]
        self.config = lambda **terms: Config(
            paths=Paths(state=Folder(str(base / "state")), downloads=Folder(str(base / "dl"))),
            watch=tuple(Watch(folder=Folder(str(folder)), **terms) for folder in self.folders),
        )

    @asynccontextmanager
    async def watching(self, **terms):
        supervisor = self.supervisor = Supervisor(self.told.append)
        watcher = Watcher(self.config(**terms), self.session, supervisor, sweep_s=0.05)
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(supervisor.serve, dispensable=True), "watcher", watcher.run)
            yield watcher
            nursery.cancel_scope.cancel()

    def name_of(self, folder):
        return f"watched folder {folder}"

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


async def test_a_folder_whose_loop_falls_is_started_again_and_takes_in_what_lies_there(world, monkeypatch):
    monkeypatch.setattr(supervision, "RESTART_PAUSE_S", 0.01)
    async with world.watching():
        fault = Fault(monkeypatch, watch, "list_folder", times=2)
        blob = torrent("one")
        (world.folder / "one.torrent").write_bytes(blob)
        await until(lambda: world.knows(blob))
        assert {event.where for event in world.told} == {world.name_of(world.folder)}
        assert fault.count == world.supervisor.crashes == 2


async def test_a_folder_that_falls_again_and_again_is_no_reason_to_end_the_others(world, monkeypatch):
    monkeypatch.setattr(supervision, "RESTART_PAUSE_S", 0.001)
    fault = Fault(monkeypatch, watch, "list_folder")
    async with world.watching() as watcher:  # not waiting for a start that never comes
        await until(
            lambda: world.supervisor.crashes > 6 and world.supervisor.resting == {world.name_of(world.folder)}
        )
        with trio.fail_after(60):
            await watcher.pulse()  # systemd is told that all is well
        fault.on = False
        blob = torrent("one")
        (world.folder / "one.torrent").write_bytes(blob)
        await until(lambda: world.knows(blob))
        assert not world.supervisor.resting


@pytest.mark.parametrize("below", [False, True], ids=["another folder", "a sub-folder"])
async def test_a_bug_in_one_folder_lets_that_one_pause_and_the_others_go_on(world, monkeypatch, below):
    monkeypatch.setattr(supervision, "RESTART_PAUSE_S", 3600)
    bad = world.folder / "sub" if below else world.folder.with_name("other")
    bad.mkdir(parents=True)
    if not below:
        world.folders.append(bad)
    fault = Fault(monkeypatch, watch, "list_folder", lambda folder, *_: folder == str(bad))
    fault.on = False
    async with world.watching(subfolders=below, after_add="keep") as watcher:
        for folder in (world.folder, bad):
            (folder / "before.torrent").write_bytes(torrent(f"before {folder}"))
            await until(lambda folder=folder: world.knows(torrent(f"before {folder}")))
        fault.on = True
        (bad / "worse.torrent").write_bytes(torrent("worse"))
        await until(lambda: world.supervisor.resting == {world.name_of(bad)})
        intake = watcher._folders[str(world.folder)]._intake
        calls = len(world.session.calls)
        for number in range(3):
            (world.folder / f"{number}.torrent").write_bytes(torrent(f"good {number}"))
            await until(lambda number=number: world.knows(torrent(f"good {number}")))
        # what it knew it knows: nothing is read again
        assert watcher._folders[str(world.folder)]._intake is intake
        assert len(world.session.calls) == calls + 3
        assert not world.knows(torrent("worse"))
        assert [event.where for event in world.told] == [world.name_of(bad)]
        with trio.fail_after(60):
            await watcher.pulse()
        # nor is it said to fail once it is not watched any more
        world.folders.remove(bad) if not below else shutil.rmtree(bad)
        watcher.apply(world.config(subfolders=below, after_add="keep"))
        await until(lambda: not world.supervisor.resting)


async def test_of_a_folder_that_falls_the_next_start_knows_nothing(world, monkeypatch):
    monkeypatch.setattr(supervision, "RESTART_PAUSE_S", 0.01)
    async with world.watching(after_add="keep"):
        (world.folder / "one.torrent").write_bytes(torrent("one"))
        await until(lambda: len(world.session.calls) == 1)
        # a state that is broken for good
        fault = Fault(monkeypatch, sweep.FolderState, "sweep", times=1)
        await until(lambda: fault.count == 1)
        await until(lambda: len(world.session.calls) == 2)
        assert not world.supervisor.resting


@pytest.mark.parametrize(
    ("resting", "said"),
    [
        ({"schedule", "dht"}, "dht, schedule"),
        ({f"watcher {n}" for n in range(7)}, "watcher 3, watcher 4 and 2 more"),
    ],
)
async def test_who_fails_is_named_in_the_status(resting, said):
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
        _notifier=SimpleNamespace(status=told.append), _supervisor=SimpleNamespace(resting=resting)
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Daemon._report_status, daemon, SimpleNamespace(counts=lambda: counts))
        await until(lambda: told)
        nursery.cancel_scope.cancel()
    assert told[0].startswith("3 torrents")
    assert told[0].partition("; failing: ")[2].endswith(said)
