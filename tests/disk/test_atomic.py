"""Atomic files: at whatever call the machine dies, the old file or the new one is there, whole."""

import contextlib
import errno
import os
import stat
from pathlib import Path

import pytest

from bittern.disk import atomic
from bittern.disk.atomic import (
    fsync_folder,
    remove_durably,
    write_atomic,
    write_in_turn,
    write_many_atomic,
)


class Died(BaseException):
    """The machine stops here: nothing after it runs, no clean-up either."""


CALLS = ("open", "write", "fsync", "rename", "unlink")


class Faults:
    """Counts calls into the kernel and lets the n-th die or fail, in turn for every n."""

    def __init__(self, monkeypatch, at, error):
        self.left = at
        self.error = error
        self.log = []
        self.dead = False
        for name in CALLS:
            monkeypatch.setattr(os, name, self._guarded(name, getattr(os, name)))

    def _guarded(self, name, plain):
        def call(*args, **kwargs):
            if self.dead:
                raise Died
            self.log.append(name)
            self.left -= 1
            if self.left == -1:
                if isinstance(self.error, Died):
                    self.dead = True
                raise self.error
            return plain(*args, **kwargs)

        return call


def test_a_file_is_written_with_its_mode_and_replaced(tmp_path):
    path = tmp_path / "x"
    write_atomic(path, b"one", mode=0o600)
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write_atomic(path, b"two" * 100_000)
    assert path.read_bytes() == b"two" * 100_000
    assert os.listdir(tmp_path) == ["x"]


def test_the_order_is_write_sync_rename_sync_folder(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        faults = Faults(patch, 10**9, Died())
        write_atomic(tmp_path / "x", b"1")
    interesting = [name for name in faults.log if name != "unlink"]
    assert interesting == ["open", "write", "fsync", "rename", "open", "fsync"]


def test_a_batch_syncs_each_folder_once(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    batch = [(tmp_path / "ab"[n % 2] / str(n), b"%d" % n) for n in range(200)]
    folders = []
    plain = atomic.fsync_folder
    monkeypatch.setattr(atomic, "fsync_folder", lambda folder: (folders.append(folder), plain(folder)))
    write_many_atomic(batch)
    assert sorted(folders) == [tmp_path / "a", tmp_path / "b"]
    assert all(path.read_bytes() == blob for path, blob in batch)
    assert len(list(tmp_path.rglob("*"))) == 202


def test_the_last_of_two_for_one_path_wins(tmp_path):
    write_many_atomic([(tmp_path / "x", b"1"), (tmp_path / "x", b"2")])
    assert (tmp_path / "x").read_bytes() == b"2"
    write_many_atomic([])


def test_long_names_fit(tmp_path):
    path = tmp_path / ("\N{SNOWMAN}" * 85)
    write_atomic(path, b"1")
    assert path.read_bytes() == b"1"


@pytest.mark.parametrize("kind", ["dies", "fails"])
def test_at_every_call_that_dies_or_fails_each_file_is_old_or_new(tmp_path, monkeypatch, kind):
    paths = [tmp_path / name for name in "abc"]
    at = 0
    while True:
        for path in paths:
            path.write_bytes(b"old " + path.name.encode())
        error = Died() if kind == "dies" else OSError(errno.ENOSPC, "full")
        with monkeypatch.context() as patch:
            faults = Faults(patch, at, error)
            try:
                write_many_atomic([(path, b"new " + path.name.encode()) for path in paths])
            except (Died, OSError):
                assert faults.left < 0
        for path in paths:
            assert path.read_bytes() in (b"old " + path.name.encode(), b"new " + path.name.encode())
        if kind == "fails":
            assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]
        for left in tmp_path.glob(".*.tmp*"):
            left.unlink()
        assert sorted(os.listdir(tmp_path)) == ["a", "b", "c"]
        if faults.left >= 0:
            break
        at += 1
    assert at > 10


def test_an_error_names_the_file_that_was_meant(tmp_path, monkeypatch):
    def fsync(fd):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="broken") as caught:
        write_atomic(tmp_path / "x", b"1")
    assert caught.value.filename == str(tmp_path / "x")
    assert not os.listdir(tmp_path)
    with pytest.raises(OSError, match="broken") as caught:
        fsync_folder(tmp_path)
    assert caught.value.filename == str(tmp_path)


def test_trouble_at_a_close_keeps_no_descriptor_open(tmp_path, monkeypatch):
    plain, closed = os.close, []

    def late(fd):
        plain(fd)
        closed.append(fd)
        if len(closed) == 1:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    before = set(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "close", late)
        with pytest.raises(OSError, match="quota"):
            write_many_atomic([(tmp_path / name, b"x") for name in "abc"])
    assert len(closed) == 3
    assert set(os.listdir("/proc/self/fd")) == before
    assert not list(tmp_path.iterdir())


def test_removing_is_durable_and_may_be_repeated(tmp_path, monkeypatch):
    (tmp_path / "x").write_bytes(b"1")
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    remove_durably(tmp_path / "x")
    remove_durably(tmp_path / "x")
    assert not os.listdir(tmp_path)
    assert len(synced) == 2


def test_of_many_files_all_are_on_their_way_to_the_disk_before_one_is_waited_for(tmp_path, monkeypatch):
    calls = []
    fadvise, fsync = os.posix_fadvise, os.fsync
    monkeypatch.setattr(
        os, "posix_fadvise", lambda fd, *rest: (calls.append(("start", fd)), fadvise(fd, *rest))
    )
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(("wait", fd)), fsync(fd)))
    write_many_atomic([(tmp_path / str(n), bytes(3000)) for n in range(3)])
    assert [what for what, _ in calls] == ["start"] * 3 + ["wait"] * 4  # the last is the folder
    assert [fd for _, fd in calls[:3]] == [fd for _, fd in calls[3:6]]


def test_a_file_system_that_takes_no_advice_holds_files_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(os, "posix_fadvise", refuse)
    write_many_atomic([(tmp_path / str(n), b"%d" % n) for n in range(3)])
    assert [(tmp_path / str(n)).read_bytes() for n in range(3)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("count", [2, 2 * atomic.BATCH])
def test_a_batch_that_has_to_come_first_is_there_whenever_one_of_the_next_is(tmp_path, monkeypatch, count):
    """And on the disk: its folder is synced before the first rename of the next."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    groups = [[(folder / str(n), b"%d" % n) for n in range(count)] for folder in (first, second)]
    calls = []
    rename, sync = os.rename, atomic.fsync_folder
    monkeypatch.setattr(os, "rename", lambda old, new: (calls.append(Path(new).parent), rename(old, new)))
    monkeypatch.setattr(atomic, "fsync_folder", lambda folder: (calls.append(f"{folder}!"), sync(folder)))
    write_in_turn(groups)
    assert calls == [first] * count + [f"{first}!"] + [second] * count + [f"{second}!"]
    assert all(path.read_bytes() == blob for files in groups for path, blob in files)


def test_two_batches_that_are_small_wait_for_the_disk_together(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        faults = Faults(patch, 10**9, Died())
        write_in_turn([[(tmp_path / "a", b"1")], [(tmp_path / "b", b"2")]])
    assert "".join(name[0] for name in faults.log) == "owow" + "ff" + "rof" + "rof"


@pytest.mark.parametrize("kind", ["dies", "fails"])
def test_at_every_call_that_dies_or_fails_nothing_of_the_next_batch_is_there_alone(
    tmp_path, monkeypatch, kind
):
    at, left = 0, -1
    while left < 0:
        error = Died() if kind == "dies" else OSError(errno.ENOSPC, "full")
        with monkeypatch.context() as patch:
            faults = Faults(patch, at, error)
            with contextlib.suppress(Died, OSError):
                write_in_turn([[(tmp_path / "a", b"1")], [(tmp_path / "b", b"2")]])
            left = faults.left
        names = {name for name in os.listdir(tmp_path) if kind == "fails" or name[0] != "."}
        assert names in (set(), {"a"}, {"a", "b"})
        for path in tmp_path.iterdir():
            path.unlink()
        at += 1
    assert at > 10
