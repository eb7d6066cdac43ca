import errno
import json
import os
import shutil
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace

import msgspec
import pytest
import structlog
import trio

from bittern.daemon import hints, sweep, watch
from bittern.daemon import watch as watch_module
from bittern.daemon.birth import born_ns
from bittern.daemon.chronicle import Chronicle
from bittern.daemon.config import Config, Paths, Watch
from bittern.daemon.config_reader import Folder
from bittern.daemon.intake import AT_ONCE
from bittern.daemon.listing import list_folder
from bittern.daemon.logs import get_log
from bittern.daemon.watch import Watcher
from bittern.engine.supervision import Supervisor
from tests.fakes.drops import DropSession, hash_of, torrent


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(sweep, "LOOK_AGAIN_S", 0.1)
    monkeypatch.setattr(sweep, "SHORT_PATIENCE_S", 0.6)
    monkeypatch.setattr(watch, "MISSING_S", 0.05)
    monkeypatch.setattr(watch, "MIN_GAP_S", 0.01)


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


class World:
    """A watched folder, a session that takes what is dropped, and the watcher between them."""

    def __init__(self, tmp_path):
        self.base = tmp_path
        self.folder = tmp_path / "drop"
        self.state = tmp_path / "state"
        self.state.mkdir()
        self.session = DropSession()
        self.supervisor = Supervisor(lambda event: None, strict=True)

    def config(self, **terms):
        return Config(
            paths=Paths(state=Folder(str(self.state)), downloads=Folder(str(self.base / "dl"))),
            watch=(Watch(folder=Folder(str(self.folder)), **terms),),
        )

    @asynccontextmanager
    async def watching(self, sweep_s=60.0, config=None, chronicle=None, **terms):
        watcher = Watcher(
            config or self.config(**terms),
            self.session,
            self.supervisor,
            chronicle=chronicle,
            sweep_s=sweep_s,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(watcher.run)
            yield watcher
            nursery.cancel_scope.cancel()

    def drop(self, name, blob):
        path = self.folder / name
        path.write_bytes(blob)
        return path


async def until(true, seconds=60.0):
    with trio.fail_after(seconds):
        while not true():
            await trio.sleep(0.005)


def events(log, name):
    return [line for line in log if line["event"] == name]


async def test_files_there_at_the_start_and_files_dropped_later(world):
    world.folder.mkdir()
    world.drop("old.torrent", torrent("old"))
    world.drop("ignored.txt", torrent("x"))
    world.drop(".hidden.torrent", torrent("y"))
    async with world.watching():
        await until(lambda: (world.folder / "accepted" / "old.torrent").exists())
        # in place, by rename from within, by rename from outside: each by its hint alone
        world.drop("NEW.TORRENT", torrent("new"))
        world.drop("part", torrent("renamed")).rename(world.folder / "renamed.torrent")
        outside = world.base / "outside"
        outside.write_bytes(torrent("moved"))
        outside.rename(world.folder / "moved.torrent")
        await until(lambda: len(list((world.folder / "accepted").iterdir())) == 4)
    assert set(world.session.torrents) == {hash_of(torrent(n)) for n in ("old", "new", "renamed", "moved")}
    assert sorted(p.name for p in world.folder.iterdir()) == [".hidden.torrent", "accepted", "ignored.txt"]


async def test_a_missing_folder_is_made_with_its_parents(world, log):
    world.folder = world.base / "a" / "b" / "drop"
    async with world.watching():
        assert world.folder.is_dir()
        world.drop("a.torrent", torrent("1"))
        await until(lambda: world.session.torrents)
    assert events(log, "watch.created")


async def test_a_folder_that_cannot_be_made_is_waited_for(world, log):
    blocker = world.base / "blocker"
    blocker.write_text("")
    world.folder = blocker / "drop"
    async with world.watching():
        await until(lambda: events(log, "watch.missing"))
        await trio.sleep(0.2)
        assert len(events(log, "watch.missing")) == 1
        blocker.unlink()
        world.folder.mkdir(parents=True)
        world.drop("a.torrent", torrent("1"))
        await until(lambda: world.session.torrents)
    assert events(log, "watch.returned")


async def test_without_hints_the_sweep_does_it_alone(world, log, monkeypatch):
    class NoInotify:
        def __init__(self):
            raise OSError(errno.EMFILE, "inotify instance limit reached")

    monkeypatch.setattr(hints, "InotifyObserver", NoInotify)
    async with world.watching(sweep_s=0.05):
        await trio.sleep(0.2)
        world.drop("a.torrent", torrent("1"))
        await until(lambda: world.session.torrents)
    (line,) = events(log, "watch.no_hints")
    assert "inotify instance limit" in line["reason"]


async def test_poke_sweeps_now(world, monkeypatch):
    monkeypatch.setattr(hints.Hints, "watch", lambda self, folder, poke, *, folders: None)
    world.folder.mkdir()
    world.drop("old.torrent", torrent("old"))
    async with world.watching(sweep_s=3600) as watcher:
        # of which the first sweep is told by this
        await until(lambda: (world.folder / "accepted" / "old.torrent").exists())
        world.drop("a.torrent", torrent("1"))
        watcher.poke()
        await until(lambda: (world.folder / "accepted" / "a.torrent").exists())
    assert len(world.session.torrents) == 2


async def test_a_slow_writer_is_waited_for(world, monkeypatch):
    """Twice as long as somebody is who does not write: a machine that takes so long for one byte needs more of both."""
    for patience_s in (0.6, 3.0, 15.0):
        monkeypatch.setattr(sweep, "SHORT_PATIENCE_S", patience_s)
        longest_s, began = 0.0, time.monotonic()
        shutil.rmtree(world.folder / "rejected", ignore_errors=True)
        world.session.torrents.clear()
        async with world.watching():
            with (world.folder / "slow.torrent").open("wb", buffering=0) as file:
                for byte in torrent("slowly"):
                    at = time.monotonic()
                    file.write(bytes([byte]))
                    await trio.sleep(patience_s / 4)
                    longest_s = max(longest_s, time.monotonic() - at)
            assert time.monotonic() - began > 1.9 * patience_s
            if longest_s < 0.8 * patience_s:
                await until(lambda: world.session.torrents)
                break
    else:
        pytest.fail("this machine took 12 s for a byte")
    assert not (world.folder / "rejected").exists()


async def test_what_is_refused_does_not_hold_up_the_rest(world):
    async with world.watching():
        world.drop("bad.torrent", b"<html>")
        world.drop("empty.torrent", b"")
        world.drop("half.torrent", b"dhalf")
        world.drop("good.torrent", torrent("1"))
        await until(lambda: (world.folder / "accepted" / "good.torrent").exists())
        await until(lambda: len(list((world.folder / "rejected").glob("*.reason.txt"))) == 3)
    rejected = {path.name for path in (world.folder / "rejected").glob("*.torrent")}
    assert rejected == {"bad.torrent", "empty.torrent", "half.torrent"}
    assert len(world.session.torrents) == 1


async def test_the_same_torrent_dropped_twice_and_under_two_names_is_one(world):
    async with world.watching():
        for name in ("a.torrent", "b.torrent"):
            world.drop(name, torrent("1"))
        await until(lambda: len(list((world.folder / "accepted").glob("*"))) == 2)
        world.drop("a.torrent", torrent("1"))
        await until(lambda: len(list((world.folder / "accepted").glob("*"))) == 3)
    assert len(world.session.torrents) == 1


async def test_odd_things_stay_are_told_once_and_hang_nothing(world, log):
    world.folder.mkdir()
    os.mkfifo(world.folder / "fifo.torrent")
    (world.folder / "folder.torrent").mkdir()
    (world.folder / "loop.torrent").symlink_to("loop.torrent")
    (world.folder / "dangling.torrent").symlink_to("nothing")
    (world.base / "elsewhere").write_bytes(torrent("linked"))
    (world.folder / "link.torrent").symlink_to(world.base / "elsewhere")
    async with world.watching(sweep_s=0.05):
        await until(lambda: (world.folder / "accepted" / "link.torrent").is_symlink())
        await until(lambda: len(events(log, "drop.ignored")) >= 4)
        await trio.sleep(0.3)
    assert sorted(line["reason"] for line in events(log, "drop.ignored")) == [
        "a FIFO, not a file",
        "a broken link, not a file",
        "a broken link, not a file",
        "a folder, not a file",
    ]
    assert (world.folder / "fifo.torrent").exists()
    assert (world.base / "elsewhere").exists()
    assert (world.folder / "accepted" / "link.torrent").is_symlink()


async def test_names_that_are_not_utf8(world):
    async with world.watching():
        raw = os.fsencode(world.folder) + b"/\xff\xfe.torrent"
        with open(raw, "wb") as file:
            file.write(torrent("1"))
        await until(lambda: world.session.torrents)
        await until(lambda: not os.path.exists(raw))
    assert os.listdir(os.fsencode(world.folder / "accepted")) == [b"\xff\xfe.torrent"]


async def test_a_thousand_at_once(world):
    async with world.watching():
        for number in range(1000):
            world.drop(f"{number}.torrent", torrent(str(number)))
        await until(lambda: len(world.session.torrents) == 1000)
        await until(lambda: not list(world.folder.glob("*.torrent")))
    assert len(world.session.calls) <= 1010
    assert world.session.most_adding <= AT_ONCE


async def test_kept_files_are_read_once_also_when_swept_often(world):
    world.folder.mkdir()
    for number in range(20):
        world.drop(f"{number}.torrent", torrent(str(number)))
    async with world.watching(sweep_s=0.02, after_add="keep"):
        await until(lambda: len(world.session.calls) >= 20)
        await trio.sleep(0.3)
        assert len(world.session.calls) == 20
        world.drop("3.torrent", torrent("another"))
        await until(lambda: len(world.session.calls) == 21)


async def test_a_folder_renamed_away_and_made_anew_is_watched_again(world):
    async with world.watching(sweep_s=0.1):
        world.drop("a.torrent", torrent("1"))
        await until(lambda: (world.folder / "accepted" / "a.torrent").exists())
        world.folder.rename(world.base / "away")
        world.folder.mkdir()
        world.drop("b.torrent", torrent("2"))
        await until(lambda: (world.folder / "accepted" / "b.torrent").exists())
    assert len(world.session.torrents) == 2
    assert [path.name for path in (world.base / "away" / "accepted").iterdir()] == ["a.torrent"]


# ---------------------------------------------------------------------------------------- tied files


async def test_removing_a_tied_file_stops_its_torrent(world):
    async with world.watching(after_add="keep", tie=True):
        path = world.drop("a.torrent", torrent("1"))
        world.drop("b.torrent", torrent("2"))
        await until(lambda: len(world.session.torrents) == 2)
        path.unlink()
        await until(lambda: world.session.removed)
    ((info_hash, reason),) = world.session.removed
    assert info_hash == hash_of(torrent("1"))
    assert "removed" in reason


async def test_a_tied_file_that_is_renamed_or_rewritten_stays(world):
    async with world.watching(after_add="keep", tie=True, sweep_s=0.05):
        path = world.drop("a.torrent", torrent("1"))
        await until(lambda: world.session.torrents)
        path.rename(world.folder / "b.torrent")
        await trio.sleep(0.4)
        assert not world.session.removed
        (world.folder / "b.torrent").unlink()
        await until(lambda: world.session.removed)


async def test_a_folder_that_vanishes_and_returns_empty_stops_nothing(world, log):
    async with world.watching(after_add="keep", tie=True, sweep_s=0.05):
        world.drop("a.torrent", torrent("1"))
        await until(lambda: world.session.torrents)
        await trio.sleep(0.1)
        world.folder.rename(world.base / "away")
        await until(lambda: events(log, "watch.missing"))
        world.folder.mkdir()
        await until(lambda: events(log, "watch.returned"))
        await trio.sleep(0.3)
        world.folder.rmdir()
        (world.base / "away").rename(world.folder)
        await trio.sleep(0.3)
        assert not world.session.removed
        (world.folder / "a.torrent").unlink()
        await until(lambda: world.session.removed)


@pytest.mark.parametrize("in_its_place", [False, True])
async def test_what_was_removed_while_the_folder_was_away_is_noticed_when_it_is_back(
    world, log, in_its_place
):
    away = world.base / "away"
    async with world.watching(after_add="keep", tie=True, sweep_s=0.05):
        for name in ("a", "b"):
            world.drop(f"{name}.torrent", torrent(name))
        await until(lambda: len(world.session.torrents) == 2)
        await trio.sleep(0.1)
        world.folder.rename(away)
        await until(lambda: events(log, "watch.missing"))
        (away / "a.torrent").unlink()
        if in_its_place:
            world.folder.mkdir()
            await until(lambda: events(log, "watch.returned"))
            await trio.sleep(0.3)
            world.folder.rmdir()
        assert not world.session.removed
        away.rename(world.folder)
        await until(lambda: world.session.removed)
        await trio.sleep(0.3)
    assert [info_hash for info_hash, _ in world.session.removed] == [hash_of(torrent("a"))]


async def test_a_folder_that_is_deleted_and_made_anew_was_not_emptied(world):
    """Its inode is often given to the next folder at once."""
    async with world.watching(after_add="keep", tie=True, sweep_s=0.05):
        world.drop("a.torrent", torrent("1"))
        await until(lambda: world.session.torrents)
        await trio.sleep(0.1)
        shutil.rmtree(world.folder)
        world.folder.mkdir()
        fd = os.open(world.folder, os.O_RDONLY)
        if not born_ns(fd):
            pytest.skip("NOT TESTED: this file system does not say when a folder was made")
        os.close(fd)
        await trio.sleep(0.5)
    assert not world.session.removed


async def test_a_file_that_cannot_be_asked_about_is_still_there(world, log, monkeypatch):
    real = os.scandir
    broken = False

    class Entry:
        def __init__(self, entry):
            self._entry, self.name, self.is_symlink = entry, entry.name, entry.is_symlink

        def stat(self):
            if broken:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return self._entry.stat()

    @contextmanager
    def scandir(fd):
        with real(fd) as found:
            yield map(Entry, found)

    monkeypatch.setattr(os, "scandir", scandir)
    async with world.watching(after_add="keep", tie=True, sweep_s=0.05):
        world.drop("a.torrent", torrent("1"))
        await until(lambda: world.session.torrents)
        await trio.sleep(0.1)
        broken = True
        await trio.sleep(0.4)
    assert not world.session.removed


@pytest.mark.parametrize("same_folder", [True, False])
async def test_a_tied_file_removed_while_down_stops_its_torrent_in_the_same_folder_only(world, same_folder):
    async with world.watching(after_add="keep", tie=True):
        world.drop("a.torrent", torrent("1"))
        await until((world.state / "watched.json").exists)
    [noted] = json.loads((world.state / "watched.json").read_text()).items()
    assert noted[0] == str(world.folder)
    assert noted[1]["inode"] == world.folder.stat().st_ino
    if same_folder:
        (world.folder / "a.torrent").unlink()
    else:
        world.folder.rename(world.base / "away")
        world.folder.mkdir()
    async with world.watching(after_add="keep", tie=True):
        if same_folder:
            await until(lambda: world.session.removed)
        else:
            await trio.sleep(0.4)
            assert not world.session.removed


# ---------------------------------------------------------------------------------------- reload, dead mounts


async def test_apply_opens_closes_and_changes_folders(world):
    other = world.base / "other"
    async with world.watching() as watcher:
        world.drop("a.torrent", torrent("1"))
        await until(lambda: (world.folder / "accepted" / "a.torrent").exists())
        config = world.config(after_add="keep", label="new")
        watcher.apply(
            msgspec.structs.replace(config, watch=(*config.watch, Watch(folder=Folder(str(other)))))
        )
        world.drop("b.torrent", torrent("2"))
        await until(lambda: len(world.session.torrents) == 2)
        assert world.session.torrents[hash_of(torrent("2"))].label == "new"
        await until(other.exists)
        (other / "c.torrent").write_bytes(torrent("3"))
        await until(lambda: len(world.session.torrents) == 3)
        watcher.apply(msgspec.structs.replace(config, watch=()))
        await trio.sleep(0.05)
        world.drop("d.torrent", torrent("4"))
        await trio.sleep(0.2)
    assert len(world.session.torrents) == 3
    assert (world.folder / "b.torrent").exists()


async def test_a_folder_that_hangs_holds_up_neither_the_others_nor_the_start_nor_the_end(world, monkeypatch):
    release = threading.Event()
    hung = world.base / "hung"
    hung.mkdir()

    def hang(folder, root, before):
        if folder == str(hung):
            release.wait(120)
        return list_folder(folder, root, before)

    monkeypatch.setattr(watch, "list_folder", hang)
    monkeypatch.setattr(watch, "SERVED_WITHIN_S", 0.1)
    config = world.config()
    config = msgspec.structs.replace(config, watch=(Watch(folder=Folder(str(hung))), *config.watch))
    started = time.monotonic()
    async with world.watching(config=config):
        world.drop("a.torrent", torrent("1"))
        await until(lambda: world.session.torrents)
    assert not release.is_set()
    assert time.monotonic() - started < 60
    release.set()


async def test_it_can_be_run_again(world):
    watcher = Watcher(world.config(), world.session, world.supervisor)
    for number in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(watcher.run)
            world.drop("a.torrent", torrent(str(number)))
            await until(lambda number=number: len(world.session.torrents) == number + 1)
            nursery.cancel_scope.cancel()
    assert {terms.drop_path for terms in world.session.torrents.values()} == {str(world.folder / "a.torrent")}


async def test_a_hint_after_a_quiet_time_is_followed_at_once_and_many_hints_are_not(
    world, monkeypatch, autojump_clock
):
    swept_at = []

    async def sweep_and_note(_folder):
        swept_at.append(trio.current_time())
        return 60.0

    monkeypatch.setattr(watch, "MIN_GAP_S", 0.5)
    monkeypatch.setattr(watch._Folder, "_sweep", sweep_and_note)
    began_at = trio.current_time()
    async with world.watching() as watcher:
        await trio.sleep(10)
        watcher.poke()
        for _ in range(4):
            await trio.sleep(0.1)
            watcher.poke()
        await trio.sleep(100)
    assert [at - began_at for at in swept_at] == pytest.approx([0, 10, 10.5, 70.5])


async def test_hints_wake_the_loop_once_for_each_listing(world, monkeypatch):
    async with world.watching() as watcher:
        (folder,) = watcher._folders.values()
        await until(lambda: folder.due_at < float("inf"))
        wakes = []
        monkeypatch.setattr(folder, "_token", SimpleNamespace(run_sync_soon=wakes.append))
        for _ in range(3):
            folder._poke_from_thread()
        assert len(wakes) == 1
        wakes.pop()()
        folder._poke_from_thread()
        assert not wakes  # the folder is to be listed anyhow
        await until(lambda: not folder._hint.is_set())
        folder._poke_from_thread()
        assert len(wakes) == 1


async def test_a_crowd_is_taken_in_without_hints_and_what_comes_meanwhile_is_seen(world, monkeypatch):
    monkeypatch.setattr(watch, "CROWD", 3)
    watched = []

    async def add_and_look(self, blob, terms, add=DropSession.add):
        watched.append(bool(watcher._hints._watches))
        if not self.calls:
            world.drop("meanwhile.torrent", torrent("meanwhile"))
        return await add(self, blob, terms)

    monkeypatch.setattr(DropSession, "add", add_and_look)
    world.folder.mkdir()
    async with world.watching() as watcher:
        for name in "abc":
            world.drop(f".{name}", torrent(name))
        for name in "abc":
            (world.folder / f".{name}").rename(world.folder / f"{name}.torrent")
        watcher.poke()
        await until(lambda: len(world.session.torrents) == 4)
        await until(lambda: watcher._hints._watches)
        # and this one is seen by its hint
        world.drop("later.torrent", torrent("later"))
        await until(lambda: len(world.session.torrents) == 5)
    assert watched[0] is False
    assert watched[-1] is True


async def test_sub_folders_are_folders_of_their_own(world, log):
    films = world.folder / "films" / "old"
    films.mkdir(parents=True)
    (world.folder / ".hidden").mkdir()
    (world.folder / ".hidden" / "h.torrent").write_bytes(torrent("hidden"))
    outside = world.base / "outside"
    outside.mkdir()
    (outside / "o.torrent").write_bytes(torrent("outside"))
    (world.folder / "link").symlink_to(outside)
    (films / "a.torrent").write_bytes(torrent("a"))
    async with world.watching(subfolders=True):
        await until(lambda: (films / "accepted" / "a.torrent").exists())
        # one that is made now, by its hint alone
        (world.folder / "new").mkdir()
        (world.folder / "new" / "b.torrent").write_bytes(torrent("b"))
        await until(lambda: (world.folder / "new" / "accepted" / "b.torrent").exists())
        assert world.session.torrents[hash_of(torrent("a"))].watch == str(films)
        shutil.rmtree(world.folder / "new")
        world.drop("c.torrent", torrent("c"))
        await until(lambda: hash_of(torrent("c")) in world.session.torrents)
        await trio.sleep(0.2)
        assert not (world.folder / "new").exists()
    assert len(world.session.torrents) == 3
    assert not events(log, "watch.missing")


async def test_without_the_key_sub_folders_are_left_alone(world):
    (world.folder / "films").mkdir(parents=True)
    (world.folder / "films" / "a.torrent").write_bytes(torrent("a"))
    async with world.watching() as watcher:
        world.drop("c.torrent", torrent("c"))
        await until(lambda: world.session.torrents)
        assert hash_of(torrent("a")) not in world.session.torrents
        watcher.apply(world.config(subfolders=True))
        await until(lambda: hash_of(torrent("a")) in world.session.torrents)
        watcher.apply(world.config())
        (world.folder / "films" / "b.torrent").write_bytes(torrent("b"))
        world.drop("d.torrent", torrent("d"))
        await until(lambda: hash_of(torrent("d")) in world.session.torrents)
        await trio.sleep(0.1)
    assert hash_of(torrent("b")) not in world.session.torrents


async def test_sub_folders_are_bounded(world, log, monkeypatch):
    monkeypatch.setattr(watch_module, "SUBFOLDERS_AT_MOST", 3)
    monkeypatch.setattr(watch_module, "DEEPEST", 2)
    for number in range(5):
        folder = world.folder / f"f{number}" / "x" / "y"
        folder.mkdir(parents=True)
        (folder / "a.torrent").write_bytes(torrent(str(number)))
    async with world.watching(subfolders=True) as watcher:
        await until(lambda: events(log, "watch.too_many"))
        watcher.poke()
        await trio.sleep(0.2)
    assert not world.session.torrents
    assert len(events(log, "watch.too_many")) == 1


async def test_who_reads_along_hears_what_is_wrong_with_a_drop(world):
    lines = []
    async with world.watching(chronicle=Chronicle(get_log(), lines.append)) as watcher:
        world.drop("bad.torrent", b"nonsense")
        watcher.poke()
        await until(lambda: lines)
    [told] = lines
    assert (told["event"], told["level"]) == ("drop.rejected", "warning")
    assert told["path"] == str(world.folder / "bad.torrent")
    assert told["reason"]
