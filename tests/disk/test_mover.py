"""The mover: within a file system, across, and after a crash at every call into the kernel."""

import errno
import os
import pathlib
import threading

import pytest

from bittern.disk import copying, mover
from bittern.disk.mover import Move, MoveStopped, move
from bittern.disk.places import Identity, Places
from bittern.errors import PlaceGone, StorageError

PATHS = ("root/a", None, "root/sub/b", "root/sub/deeper/c")
BLOBS = {"root/a": b"a" * 100_000, "root/sub/b": b"b" * 70_000, "root/sub/deeper/c": b""}
LENGTHS = (100_000, 384, 70_000, 0)
MTIME = 1_600_000_000_123_456_789


class Died(BaseException):
    """Killed right here."""


@pytest.fixture
def folders(tmp_path):
    source, target = tmp_path / "incomplete", tmp_path / "downloads"
    fill(source)
    return source, target


@pytest.fixture(params=["same", "other", "no links"])
def file_system(request, monkeypatch):
    """Where the target lies: on the same file system, on another one, or on one that knows no hard links."""
    plain_link, plain_rename = os.link, os.rename

    def link(name, new_name, **kwargs):
        if request.param == "no links":
            raise OSError(errno.EPERM, "no links here")
        if kwargs["src_dir_fd"] != kwargs["dst_dir_fd"]:
            raise OSError(errno.EXDEV, "other file system")
        plain_link(name, new_name, **kwargs)

    if request.param != "same":
        monkeypatch.setattr(os, "link", link)
    return plain_link, plain_rename


def fill(source):
    for path, blob in BLOBS.items():
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        (source / path).write_bytes(blob)
        os.utime(source / path, ns=(MTIME, MTIME))


def go(folders):
    move(PATHS, str(folders[0]), str(folders[1]), "root", LENGTHS)


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_moved(folders):
    source, target = folders
    assert tree(target) == BLOBS
    assert not (source / "root").exists()
    assert source.is_dir()
    assert all((target / path).stat().st_mtime_ns == MTIME for path in BLOBS)


@pytest.mark.usefixtures("file_system")
def test_files_arrive_with_their_times_and_the_source_is_gone(folders):
    go(folders)
    assert_moved(folders)


@pytest.mark.usefixtures("file_system")
def test_a_single_file(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.iso").write_bytes(b"x")
    (tmp_path / "in/x.iso").chmod(0o755)
    move(["x.iso"], str(tmp_path / "in"), str(tmp_path / "new/out"), "x.iso")
    assert tree(tmp_path / "new/out") == {"x.iso": b"x"}
    assert (tmp_path / "new/out/x.iso").stat().st_mode & 0o777 == 0o755
    assert not tree(tmp_path / "in")


@pytest.mark.usefixtures("file_system")
def test_moving_twice_is_moving_once(folders):
    go(folders)
    go(folders)
    assert_moved(folders)


@pytest.mark.usefixtures("file_system")
def test_other_files_in_the_source_stay(folders):
    (folders[0] / "root/sub/mine.txt").write_bytes(b"keep")
    go(folders)
    assert tree(folders[0]) == {"root/sub/mine.txt": b"keep"}
    assert tree(folders[1]) == BLOBS


@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("foreign", [b"mine", b"b" * 70_000])
def test_a_foreign_file_is_never_overwritten(folders, foreign):
    (folders[1] / "root/sub").mkdir(parents=True)
    (folders[1] / "root/sub/b").write_bytes(foreign)
    with pytest.raises(StorageError, match="in the way") as caught:
        go(folders)
    assert caught.value.path == str(folders[1] / "root/sub/b")
    assert (folders[1] / "root/sub/b").read_bytes() == foreign
    assert (folders[0] / "root/sub/b").exists()
    # With the obstacle gone it goes through.
    (folders[1] / "root/sub/b").unlink()
    go_again_after_no_links(folders)


@pytest.mark.parametrize(
    ("obstacle", "make"),
    [
        ("root/sub", pathlib.Path.touch),
        ("root/sub", lambda at: at.symlink_to("/")),
        ("root/sub/b", pathlib.Path.mkdir),
    ],
)
def test_what_is_no_file_or_folder_in_its_place_is_named(folders, obstacle, make):
    at = folders[1] / obstacle
    at.parent.mkdir(parents=True)
    make(at)
    with pytest.raises(StorageError, match="in the way") as caught:
        go(folders)
    assert caught.value.path == str(at)
    assert tree(folders[0]) == BLOBS


def go_again_after_no_links(folders):
    go(folders)
    assert_moved(folders)


def test_the_same_size_and_time_do_not_make_a_foreign_file_ours(folders):
    (folders[1] / "root").mkdir(parents=True)
    (folders[1] / "root/a").write_bytes(b"z" * 100_000)
    os.utime(folders[1] / "root/a", ns=(MTIME, MTIME))
    with pytest.raises(StorageError, match="in the way"):
        go(folders)
    assert tree(folders[0]) == BLOBS


def test_what_is_nowhere_is_an_error_and_a_short_target_too(folders):
    (folders[0] / "root/a").unlink()
    with pytest.raises(StorageError, match="root/a: is missing"):
        go(folders)
    (folders[1] / "root").mkdir(exist_ok=True)
    (folders[1] / "root/a").write_bytes(b"short")
    with pytest.raises(StorageError, match="in the way"):
        go(folders)
    (folders[1] / "root/a").write_bytes(BLOBS["root/a"])
    go(folders)
    assert tree(folders[1]) == BLOBS


def test_links_inside_either_folder_lead_nowhere(folders, tmp_path):
    (tmp_path / "outside").mkdir()
    folders[1].mkdir()
    (folders[1] / "root").symlink_to(tmp_path / "outside")
    with pytest.raises(StorageError):
        go(folders)
    assert not tree(tmp_path / "outside")
    assert tree(folders[0]) == BLOBS
    (folders[1] / "root").unlink()
    (folders[0] / "root/a").unlink()
    (folders[0] / "root/a").symlink_to("/etc/passwd")
    with pytest.raises(StorageError, match="no regular file"):
        go(folders)


def test_moving_onto_itself_does_nothing(folders, tmp_path):
    (tmp_path / "alias").symlink_to(folders[0])
    move(PATHS, str(folders[0]), str(tmp_path / "alias"), "root", LENGTHS)
    assert tree(folders[0]) == BLOBS


@pytest.mark.parametrize("file_system", ["other"], indirect=True)
@pytest.mark.usefixtures("file_system")
def test_a_full_target_leaves_the_source_and_no_crumbs(folders, monkeypatch):
    plain = os.pwrite

    def pwrite(fd, body, at):
        if at >= 65_536:
            raise OSError(errno.ENOSPC, "No space left on device")
        return plain(fd, body[:65_536], at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(StorageError, match="free some space") as caught:
            go(folders)
    assert caught.value.errno == errno.ENOSPC
    assert tree(folders[0]) == BLOBS
    assert not tree(folders[1])
    go(folders)
    assert_moved(folders)


@pytest.fixture
def small_slices(monkeypatch):
    for module in (copying, mover):
        monkeypatch.setattr(module, "SLICE_BYTES", 16_384)
    monkeypatch.setattr(mover, "SLICE_S", 0.0)


def until_copied(folders, size):
    """A move that got so far, and no further."""
    moving = Move(PATHS, str(folders[0]), str(folders[1]), "root", LENGTHS)
    while moving.copied_bytes < size:
        assert moving.step() is not None
    moving.pause()
    return moving


def to_its_end(moving):
    while moving.step() is not None:
        pass


@pytest.mark.parametrize("file_system", ["other"], indirect=True)
@pytest.mark.usefixtures("file_system", "small_slices")
def test_a_stopped_copy_goes_on_where_it_was(folders):
    stop = threading.Event()
    stop.set()
    with pytest.raises(MoveStopped):
        move(PATHS, str(folders[0]), str(folders[1]), "root", LENGTHS, stop)
    assert tree(folders[0]) == BLOBS
    until_copied(folders, 49_152)
    moving = Move(PATHS, str(folders[0]), str(folders[1]), "root", LENGTHS)
    to_its_end(moving)
    # what the two runs before had copied of the first file is not copied again
    assert moving.copied_bytes <= 170_000 - 49_152
    assert_moved(folders)


@pytest.mark.parametrize("file_system", ["other"], indirect=True)
@pytest.mark.usefixtures("file_system", "small_slices")
def test_what_a_power_cut_left_of_a_copy_is_not_believed(folders):
    until_copied(folders, 65_536)
    [copy] = folders[1].rglob("*.bittern-moving")
    torn = bytearray(copy.read_bytes())
    torn[20_000:40_000] = bytes(20_000)
    copy.write_bytes(torn)
    go(folders)
    assert_moved(folders)


@pytest.mark.parametrize("file_system", ["other"], indirect=True)
@pytest.mark.usefixtures("file_system")
@pytest.mark.parametrize("lies", [1, 1000])
def test_a_target_that_gives_back_something_else_never_gets_the_name(folders, monkeypatch, lies):
    plain = os.pwrite
    left = lies

    def pwrite(fd, body, at):
        nonlocal left
        left -= 1
        return plain(fd, bytes(len(body)) if left >= 0 else body, at)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        if lies == 1:
            go(folders)
            assert_moved(folders)
            return
        with pytest.raises(StorageError, match="a bad disk"):
            go(folders)
    assert tree(folders[0]) == BLOBS
    assert not tree(folders[1])


@pytest.mark.parametrize("file_system", ["other"], indirect=True)
@pytest.mark.usefixtures("file_system", "small_slices")
def test_holes_stay_holes(tmp_path):
    folders = (tmp_path / "in", tmp_path / "out")
    folders[0].mkdir()
    blob = bytearray(1 << 20)
    with (folders[0] / "x").open("wb") as file:
        file.truncate(len(blob))
        for at in (0, 400_000, 900_000):
            file.seek(at)
            file.write(b"data")
            blob[at : at + 4] = b"data"
    move(["x"], str(folders[0]), str(folders[1]), "x", [len(blob)])
    assert tree(folders[1]) == {"x": bytes(blob)}
    assert (folders[1] / "x").stat().st_blocks * 512 < len(blob) // 2


@pytest.mark.usefixtures("file_system", "small_slices")
@pytest.mark.parametrize("copied", range(0, 180_000, 30_000))
def test_a_move_that_is_undone_leaves_everything_as_it_was(folders, copied):
    (folders[1] / "root").mkdir(parents=True)
    (folders[1] / "root/mine").write_bytes(b"keep")
    moving = Move(PATHS, str(folders[0]), str(folders[1]), "root", LENGTHS)
    for _ in range(copied // 16_384):
        if moving.deleting or moving.step() is None:
            break
    if moving.deleting:
        assert not moving.undo()
        go(folders)
        assert not (folders[0] / "root").exists()
    else:
        assert moving.undo()
        assert tree(folders[0]) == BLOBS
        assert tree(folders[1]) == {"root/mine": b"keep"}
        # and again, by one who knows nothing of the first
        assert Move(PATHS, str(folders[0]), str(folders[1]), "root", LENGTHS).undo()
        assert tree(folders[0]) == BLOBS


def test_what_is_not_wanted_need_not_be_anywhere(folders):
    (folders[0] / "root/a").unlink()
    sizes = (None, 384, 70_000, 0)
    move(PATHS, str(folders[0]), str(folders[1]), "root", sizes)
    assert tree(folders[1]) == {path: blob for path, blob in BLOBS.items() if path != "root/a"}
    assert not (folders[0] / "root").exists()


@pytest.mark.parametrize("file_system", ["other"], indirect=True)
@pytest.mark.usefixtures("file_system")
def test_too_little_room_is_told_before_anything_is_copied(folders):
    moving = Move(PATHS, str(folders[0]), str(folders[1]), "root", LENGTHS, reserve_bytes=1 << 60)
    with pytest.raises(StorageError, match="above the reserve") as caught:
        to_its_end(moving)
    assert caught.value.errno == errno.ENOSPC
    assert moving.undo()
    assert tree(folders[0]) == BLOBS
    assert not tree(folders[1])


CALLS = (
    "link",
    "rename",
    "unlink",
    "rmdir",
    "mkdir",
    "preadv",
    "pwrite",
    "ftruncate",
    "fsync",
    "utime",
    "fchmod",
    "open",
    "stat",
)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_at_any_call_is_healed_by_moving_again(tmp_path, monkeypatch, file_system, when):
    for at in range(1000):
        base = tmp_path / str(at)
        folders = (base / "incomplete", base / "downloads")
        fill(folders[0])
        count = 0
        dead = False

        def guarded(plain, at=at):
            def call(*args, **kwargs):
                nonlocal count, dead
                if dead:
                    raise Died
                count += 1
                dead = count > at
                if dead and when == "before":
                    raise Died
                result = plain(*args, **kwargs)
                if dead:
                    raise Died
                return result

            return call

        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, guarded(getattr(os, name)))
            try:
                go(folders)
            except Died:
                pass
        for path, blob in BLOBS.items():
            places = [folder / path for folder in folders if (folder / path).exists()]
            assert places
            assert all(place.read_bytes() == blob for place in places)
        go(folders)
        assert_moved(folders)
        assert not list(pathlib.Path(base).rglob("*.bittern-moving"))
        if not dead:
            assert at > 20
            return
    pytest.fail("never came to an end")


@pytest.mark.parametrize("end", ["source", "target"])
@pytest.mark.parametrize("bare", [True, False])
def test_nothing_is_made_or_deleted_where_a_disk_is_away(folders, tmp_path, end, bare):
    places = Places()
    folders[1].mkdir()
    for folder in folders:
        status = folder.stat()
        places.of(str(folder)).found(Identity(status.st_dev, status.st_ino))
    gone = folders[end == "target"]
    gone.rename(tmp_path / "away")
    if bare:
        gone.mkdir()
    with pytest.raises(PlaceGone):
        move(PATHS, str(folders[0]), str(folders[1]), "root", LENGTHS, places=places)
    assert gone.exists() == bare
    assert not bare or not list(gone.iterdir())
    if bare:
        gone.rmdir()
    (tmp_path / "away").rename(gone)
    move(PATHS, str(folders[0]), str(folders[1]), "root", LENGTHS, places=places)
    assert tree(folders[1]) == BLOBS
