"""Storage: the torrent's bytes and the files they lie in."""

import errno
import gc
import itertools
import os
import random
import weakref
from pathlib import Path

import pytest

from bittern.disk.files import OpenFiles
from bittern.disk.refusal import storage_error
from bittern.disk.stamps import FileStamp
from bittern.disk.storage import Storage
from bittern.errors import StorageError
from bittern.proto.layout import Layout

LENGTHS = (10_000, 0, 50_000, 384, 20_000, 1)
PATHS = ("root/a", "root/empty", "root/sub/b", None, "root/sub/deeper/c", "root/d")
TOTAL = sum(LENGTHS)
LAYOUT = Layout(16_384, TOTAL, LENGTHS)


@pytest.fixture
def files():
    files = OpenFiles(16)
    yield files
    files.close_all()


@pytest.fixture
def storage(tmp_path, files):
    return Storage(files, str(tmp_path), PATHS, LAYOUT)


@pytest.fixture
def payload():
    blob = bytearray(random.Random(1).randbytes(TOTAL))
    blob[60_000:60_384] = bytes(384)  # the pad
    return bytes(blob)


def read(storage, offset, length):
    buffer = bytearray(b"\xee" * length)
    storage.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def test_what_is_written_lies_in_the_right_files_and_is_read_back(storage, payload, tmp_path):
    for offset in range(0, TOTAL, 7_777):
        storage.write(offset, memoryview(payload)[offset : offset + 7_777])
    assert (tmp_path / "root/a").read_bytes() == payload[:10_000]
    assert (tmp_path / "root/sub/b").read_bytes() == payload[10_000:60_000]
    assert (tmp_path / "root/sub/deeper/c").read_bytes() == payload[60_384:80_384]
    assert (tmp_path / "root/d").read_bytes() == payload[80_384:]
    assert read(storage, 0, TOTAL) == payload
    assert read(storage, 59_990, 500) == payload[59_990:60_490]


def test_what_was_closed_and_let_go_is_gone_without_a_look_for_garbage(files, tmp_path, payload):
    storage = Storage(files, str(tmp_path), PATHS, LAYOUT)
    storage.write(0, memoryview(payload))
    assert read(storage, 0, TOTAL) == payload
    files_of_it = weakref.ref(storage._at)
    gc.disable()
    try:
        storage.close()
        del storage
        assert files_of_it() is None
    finally:
        gc.enable()


def test_pads_read_as_zeros_swallow_writes_and_have_no_file(storage, tmp_path):
    storage.write(60_000, memoryview(b"\xff" * 384))
    assert read(storage, 60_000, 384) == bytes(384)
    assert not list(tmp_path.iterdir())


def test_a_missing_or_short_file_is_an_error_that_names_it(storage, tmp_path):
    with pytest.raises(StorageError, match="root/a: is missing or shorter") as caught:
        read(storage, 0, 10)
    assert caught.value.path == str(tmp_path / "root/a")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a").write_bytes(b"123")
    assert read(storage, 0, 3) == b"123"
    with pytest.raises(StorageError, match="shorter"):
        read(storage, 0, 4)
    assert not storage.read_if_there(0, memoryview(bytearray(4)))


def test_cached_reads_fill_scattered_views_across_files(storage, payload):
    storage.write(0, memoryview(payload))
    views = [memoryview(bytearray(n)) for n in (9_000, 2_000, 49_200, 500, 1_000)]
    storage.open_for_reading(0, 61_700)
    assert storage.read_cached(0, views) == 61_700
    assert b"".join(views) == payload[:61_700]


def test_scattered_reads_fill_views_across_files_also_when_reads_come_short(storage, payload, monkeypatch):
    storage.write(0, memoryview(payload))
    plain = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at, flags=0: plain(fd, [views[0][:1500]], at, flags))
    views = [memoryview(bytearray(n)) for n in (9_000, 2_000, 49_200, 500, 1_000)]
    storage.read_scattered(0, views)
    assert b"".join(views) == payload[:61_700]
    (Path(storage.folder) / "root/a").write_bytes(b"123")
    with pytest.raises(StorageError, match="shorter"):
        storage.read_scattered(0, views)


def test_a_cached_read_never_opens_a_file(storage, payload, files):
    storage.write(0, memoryview(payload))
    storage.close()
    assert storage.read_cached(0, [memoryview(bytearray(100))]) == 0
    assert len(files) == 0
    storage.open_for_reading(0, 100)
    assert storage.read_cached(0, [memoryview(bytearray(100))]) == 100


@pytest.mark.parametrize("trouble", [errno.EAGAIN, errno.EOPNOTSUPP, errno.EIO, "short"])
def test_a_cached_read_that_would_wait_says_how_far_it_came(storage, payload, monkeypatch, trouble):
    storage.write(0, memoryview(payload))
    calls = []
    plain = os.preadv

    def preadv(fd, views, offset, flags=0):
        if not flags:
            return plain(fd, views, offset)
        calls.append(flags)
        if trouble == "short":
            return 50
        raise OSError(trouble, "no")

    monkeypatch.setattr(os, "preadv", preadv)
    for _ in range(2):
        assert storage.read_cached(0, [memoryview(bytearray(100))]) == (50 if trouble == "short" else 0)
    assert calls == [os.RWF_NOWAIT] * (1 if trouble == errno.EOPNOTSUPP else 2)
    assert read(storage, 0, 100) == payload[:100]


def test_a_cached_read_past_the_end_of_a_short_file_comes_so_far(storage, tmp_path):
    storage.write(0, memoryview(b"abc"))
    assert storage.read_cached(0, [memoryview(bytearray(4))]) == 3


def test_short_writes_are_continued(storage, payload, monkeypatch):
    plain = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, body, at: plain(fd, body[:1000], at))
    storage.write(0, memoryview(payload))
    assert read(storage, 0, TOTAL) == payload


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failing_write_names_file_and_cause_in_one_line(storage, monkeypatch, number, tmp_path):
    def pwrite(fd, body, at):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(StorageError) as caught:
        storage.write(0, memoryview(b"x"))
    assert caught.value.errno == number
    assert str(caught.value).startswith(f"{tmp_path}/root/a: cannot be written ({os.strerror(number)})")
    assert "\n" not in str(caught.value)


def test_a_missing_download_folder_is_not_made_by_a_write(files, tmp_path):
    storage = Storage(files, str(tmp_path / "gone"), PATHS, LAYOUT)
    with pytest.raises(StorageError) as caught:
        storage.write(0, memoryview(b"x"))
    assert caught.value.errno == errno.ENOENT
    assert not (tmp_path / "gone").exists()


def test_a_link_in_the_way_is_not_followed(storage, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"keep")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a").symlink_to(outside)
    with pytest.raises(StorageError):
        storage.write(0, memoryview(b"x"))
    assert outside.read_bytes() == b"keep"
    assert storage.stamps()[0] is None


def test_shared_data_is_never_opened_for_writing(files, tmp_path, payload):
    Storage(files, str(tmp_path), PATHS, LAYOUT).write(0, memoryview(payload))
    shared = Storage(files, str(tmp_path), PATHS, LAYOUT, read_only=True)
    before = shared.stamps()
    with pytest.raises(StorageError, match="never written"):
        shared.write(0, memoryview(b"x"))
    with (tmp_path / "root/a").open("ab") as tail:
        tail.write(b"more")
    shared.prepare(preallocate=True)
    shared.finish()
    assert (tmp_path / "root/a").stat().st_size == 10_004
    assert shared.stamps()[2:] == before[2:]
    assert read(shared, 0, 100) == payload[:100]


def test_stamps_tell_size_and_mtime(storage, payload, tmp_path):
    storage.write(0, memoryview(payload))
    os.utime(tmp_path / "root/a", ns=(5, 123_456_789))
    stamps = storage.stamps()
    assert stamps[0] == FileStamp(10_000, 123_456_789)
    assert stamps[1] is None
    assert stamps[3] is None
    (tmp_path / "root/a").unlink()
    (tmp_path / "root/a").mkdir()
    assert storage.stamps()[0] is None


def test_data_ranges_skip_holes_pads_and_missing_files(storage, tmp_path):
    assert storage.data_ranges() == []
    assert not storage.holds_data(storage.stamps())
    (tmp_path / "root/sub").mkdir(parents=True)
    (tmp_path / "root/a").write_bytes(b"x" * 10_000)
    with (tmp_path / "root/sub/b").open("wb") as sparse:
        sparse.write(b"x" * 4096)
        sparse.seek(40_960)
        sparse.write(b"x" * 5)
    ranges = storage.data_ranges()
    assert storage.holds_data(storage.stamps())
    assert ranges[0][0] == 0
    assert ranges[0][1] >= 14_096
    covered = {at for start, end in ranges for at in range(start, end)}
    assert covered >= {*range(14_096), *range(50_960, 50_965)}
    assert max(covered) < 50_965
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))


def test_data_ranges_take_the_whole_file_where_holes_cannot_be_asked_for(storage, tmp_path, monkeypatch):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a").write_bytes(b"x" * 12_000)

    def lseek(fd, at, how):
        raise OSError(errno.EINVAL, "no")

    monkeypatch.setattr(os, "lseek", lseek)
    assert storage.data_ranges() == [(0, 10_000)]


def test_a_sparse_file_of_holes_has_no_data(storage, tmp_path):
    (tmp_path / "root").mkdir()
    with (tmp_path / "root/a").open("wb") as sparse:
        sparse.truncate(10_000)
    assert storage.data_ranges() == []
    assert not storage.holds_data(storage.stamps())


def test_prepare_makes_the_folder_and_empty_files_only(files, tmp_path):
    storage = Storage(files, str(tmp_path / "x/y"), PATHS, LAYOUT)
    storage.prepare(preallocate=False)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"x/y/root/empty"}


def test_preallocation_reserves_every_file_and_spares_what_is_there(storage, tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root/a").write_bytes(b"x" * 12_000)
    storage.prepare(preallocate=True)
    assert (tmp_path / "root/a").read_bytes() == b"x" * 12_000
    stat = (tmp_path / "root/sub/b").stat()
    assert stat.st_size == 50_000
    assert stat.st_blocks * 512 >= 50_000
    assert (tmp_path / "root/empty").stat().st_size == 0


def test_preallocation_falls_back_where_unsupported_and_fails_when_full(storage, monkeypatch, tmp_path):
    number = errno.EOPNOTSUPP

    def posix_fallocate(fd, at, length):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", posix_fallocate)
    storage.prepare(preallocate=True)
    number = errno.ENOSPC
    with pytest.raises(StorageError, match="free some space") as caught:
        storage.prepare(preallocate=True)
    assert caught.value.errno == errno.ENOSPC


def test_a_preallocation_that_fails_gives_everything_back(storage, monkeypatch, tmp_path):
    real = os.posix_fallocate
    room = 2

    def posix_fallocate(fd, at, length):
        nonlocal room
        room -= 1
        real(fd, at, length if room >= 0 else length // 2)
        if room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", posix_fallocate)
    storage.write(10_000, memoryview(b"kept"))
    with pytest.raises(StorageError, match="free some space"):
        storage.prepare(preallocate=True)
    assert [stamp and stamp.size for stamp in storage.stamps()] == [0, 0, 4, None, 0, None]
    assert read(storage, 10_000, 4) == b"kept"


def test_leave_to_write_is_asked_of_the_files_that_are_there_and_of_the_folders_of_the_others(
    storage, monkeypatch, tmp_path
):
    asked = []
    refused = None

    def access(path, mode):
        asked.append(os.path.relpath(path, tmp_path))
        return path != refused

    monkeypatch.setattr(os, "access", access)
    storage.require_writable(range(len(PATHS)))
    assert asked == ["."]
    asked.clear()
    storage.write(10_000, memoryview(b"x"))
    storage.require_writable(range(len(PATHS)))
    assert asked == ["root", "root/sub/b", "root/sub"]
    assert sorted(os.listdir(tmp_path / "root")) == ["sub"]
    refused = str(tmp_path / "root/sub")
    storage.require_writable([0, 2])
    with pytest.raises(StorageError, match="right to it") as caught:
        storage.require_writable([0, 4])
    assert (caught.value.errno, caught.value.path) == (errno.EACCES, refused)
    refused = None
    storage.close()
    tmp_path.rename(f"{tmp_path}.away")
    with pytest.raises(StorageError) as caught:
        storage.require_writable([0])
    assert (caught.value.errno, caught.value.path) == (errno.ENOENT, str(tmp_path))


def test_sync_flushes_files_and_the_folders_of_new_ones_once(storage, payload, monkeypatch, tmp_path):
    storage.write(0, memoryview(payload))
    synced = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    storage.sync(range(len(PATHS)))
    inner = [str(tmp_path / name) for name in ("root/a", "root/sub/b", "root/sub/deeper/c", "root/d")]
    assert synced[:4] == inner
    assert set(synced[4:]) == {str(tmp_path / name) for name in (".", "root", "root/sub", "root/sub/deeper")}
    synced.clear()
    storage.sync([0, 3])
    assert synced == inner[:1]


def test_the_folder_may_be_a_link_and_none_below_it(files, payload, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    storage = Storage(files, str(tmp_path / "link"), PATHS, LAYOUT)
    storage.prepare(preallocate=False)
    storage.write(0, memoryview(payload))
    storage.sync(range(len(PATHS)))
    storage.finish()
    assert read(storage, 0, TOTAL) == payload


def test_a_failed_sync_is_an_error_and_folders_are_synced_next_time(storage, payload, monkeypatch):
    storage.write(0, memoryview(payload))

    def fdatasync(fd):
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fdatasync)
        with pytest.raises(StorageError, match="cannot be synced"):
            storage.sync([0])
    folders = []
    monkeypatch.setattr(os, "fsync", folders.append)
    storage.sync([0])
    assert folders


@pytest.mark.parametrize("how", ["deleted", "moved away", "replaced"])
def test_a_file_that_was_taken_away_while_open_is_noticed_by_sync(storage, payload, tmp_path, how):
    storage.write(0, memoryview(payload))
    if how == "deleted":
        (tmp_path / "root/a").unlink()
    else:
        (tmp_path / "root/a").rename(tmp_path / "elsewhere")
    if how == "replaced":
        (tmp_path / "root/a").write_bytes(b"other")
    storage.sync([2, 4, 5])
    with pytest.raises(StorageError, match="root/a: was deleted or replaced"):
        storage.sync([0])
    # What is written from now on goes to the file at the path again.
    storage.write(0, memoryview(payload))
    storage.sync([0])
    assert (tmp_path / "root/a").read_bytes() == payload[:10_000]


def test_finish_cuts_tails_and_makes_empty_files(storage, payload, tmp_path):
    storage.write(0, memoryview(payload))
    (tmp_path / "root/empty").write_bytes(b"was longer")
    with (tmp_path / "root/a").open("ab") as tail:
        tail.write(b"from an older version")
    mtime = (tmp_path / "root/sub/b").stat().st_mtime_ns
    storage.finish()
    assert (tmp_path / "root/a").read_bytes() == payload[:10_000]
    assert (tmp_path / "root/empty").read_bytes() == b""
    assert (tmp_path / "root/sub/b").stat().st_mtime_ns == mtime


def test_finish_refuses_when_a_file_is_gone(storage, payload, tmp_path):
    storage.write(0, memoryview(payload))
    storage.close()
    (tmp_path / "root/d").unlink()
    with pytest.raises(StorageError, match="root/d"):
        storage.finish()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_under_systemd_the_reason_names_the_drop_in(monkeypatch, number):
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    plain = str(storage_error(OSError(number, "no"), "written", "/srv/d/x", "/srv/d"))
    assert "systemctl" not in plain
    monkeypatch.setenv("INVOCATION_ID", "1")
    reason = str(storage_error(OSError(number, "no"), "written", "/srv/d/x", "/srv/d"))
    assert reason.startswith("/srv/d/x: cannot be written")
    assert "systemctl edit bittern" in reason
    assert "[Service]" in reason
    assert "ReadWritePaths=/srv/d" in reason


def test_a_reason_is_one_line_whatever_the_path():
    reason = str(storage_error(OSError(5, "no"), "read", "/srv/a\nb\x1b\udcff", "/srv"))
    assert reason.isprintable()
    reason.encode()


def test_a_folder_that_was_removed_while_held_open_is_made_anew(storage, payload, tmp_path):
    storage.write(10_000, memoryview(payload)[10_000:20_000])
    os.unlink(tmp_path / "root/sub/b")
    os.rmdir(tmp_path / "root/sub")
    os.rmdir(tmp_path / "root")
    storage.write(0, memoryview(payload)[:10])
    assert (tmp_path / "root/a").read_bytes() == payload[:10]
