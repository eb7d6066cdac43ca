"""A folder is known again, and one that lies in its place is not taken for it."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from bittern.disk.files import OpenFiles
from bittern.disk.places import SENTINEL, Claimed, Identity, Look, Place, Places, Remembered, look
from bittern.disk.stamps import FileStamp
from bittern.disk.storage import Storage
from bittern.errors import PlaceGone
from bittern.proto.layout import Layout

LAYOUT = Layout(piece_length=16384, total_bytes=20_000, lengths=(20_000,))


def looked(folder: Path, remembered: Remembered | None = None, *roots: str, boot: str = "boot") -> Look:
    return look(str(folder), remembered, [Claimed(root) for root in roots], "f00d" * 8, boot)


def identity_of(folder: Path) -> Identity:
    status = folder.stat()
    return Identity(status.st_dev, status.st_ino)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A folder that was looked at once."""
    folder = tmp_path / "disk"
    folder.mkdir()
    assert not looked(folder).away
    return folder


def test_a_new_folder_gets_a_word_and_is_known_by_it_after_the_next_boot(disk: Path, tmp_path: Path) -> None:
    first = looked(disk)
    assert first.remembered is not None
    assert (disk / SENTINEL).read_text().startswith(first.remembered.word + "\n")
    moved = tmp_path / "elsewhere"
    disk.rename(moved)
    disk.mkdir()
    bare = looked(disk, first.remembered, boot="next")
    assert "another folder" in bare.away
    assert not list(disk.iterdir()), "nothing is written to a bare mountpoint"
    assert bare.remembered == first.remembered
    disk.rmdir()
    assert "No such file" in looked(disk, first.remembered, boot="next").away
    moved.rename(disk)
    again = looked(disk, replace(first.remembered, device=1, inode=1), boot="next")
    assert not again.away
    assert again.identity == identity_of(disk)


def test_a_hidden_file_that_was_removed_is_written_again(disk: Path) -> None:
    first = looked(disk)
    (disk / SENTINEL).unlink()
    again = looked(disk, first.remembered)
    assert not again.away
    assert again.remembered == first.remembered
    (disk / SENTINEL).unlink()
    # after a boot device and inode prove nothing
    assert looked(disk, first.remembered, boot="next").away
    assert looked(disk, replace(first.remembered, inode=1) if first.remembered else None).away


def test_data_that_was_copied_without_the_hidden_file_is_known_by_a_torrent(disk: Path) -> None:
    first = looked(disk)
    (disk / SENTINEL).unlink()
    (disk / "film").mkdir()
    assert looked(disk, first.remembered, "other", boot="next").away
    assert not looked(disk, first.remembered, "other", "film", boot="next").away
    assert (disk / SENTINEL).exists()


def test_what_an_older_bittern_has_left_is_no_bare_mountpoint_but_an_empty_folder_is(tmp_path: Path) -> None:
    folder = tmp_path / "downloads"
    folder.mkdir()
    assert "1 torrents" in looked(folder, None, "film").away
    assert not list(folder.iterdir())
    (folder / "film").touch()
    assert not looked(folder, None, "film").away


@pytest.mark.parametrize("exists", [False, True])
def test_a_new_folder_that_a_killed_move_has_emptied_is_no_bare_mountpoint(
    tmp_path: Path, *, exists: bool
) -> None:
    folder, final = tmp_path / "incomplete", tmp_path / "downloads"
    final.mkdir()
    (final / "film").touch()
    if exists:
        folder.mkdir()
    moved, lost = Claimed("film", (str(final),)), Claimed("series", (str(final),))
    assert not look(str(folder), None, [moved], "f00d" * 8, "boot").away
    (folder / SENTINEL).unlink(missing_ok=True)
    assert look(str(folder), None, [moved, lost], "f00d" * 8, "boot").away


def test_an_empty_hidden_file_says_that_the_folder_is_meant(disk: Path) -> None:
    first = looked(disk)
    (disk / SENTINEL).write_bytes(b"")
    assert not looked(disk, first.remembered, "film", boot="next").away
    assert (disk / SENTINEL).read_bytes()


def test_a_folder_that_cannot_be_written_to_works_without(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (disk / SENTINEL).unlink()
    real = os.open

    def read_only(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT:
            raise OSError(30, "Read-only file system")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", read_only)
    found = looked(disk)
    assert not found.away
    assert found.remembered is not None
    assert found.remembered.word == ""
    assert not looked(disk, found.remembered).away
    assert looked(disk, found.remembered, "film", boot="next").away
    (disk / "film").mkdir()
    assert not looked(disk, found.remembered, "film", boot="next").away


@pytest.mark.parametrize("kind", ["folder", "fifo", "link", "garbage"])
def test_a_hidden_file_of_somebody_elses_making(disk: Path, kind: str) -> None:
    (disk / SENTINEL).unlink()
    match kind:
        case "folder":
            (disk / SENTINEL).mkdir()
        case "fifo":
            os.mkfifo(disk / SENTINEL)
        case "link":
            (disk / SENTINEL).symlink_to("/etc/passwd")
        case "garbage":
            (disk / SENTINEL).write_bytes(os.urandom(1000))
    known = Remembered(str(disk), "f00d" * 8, 1, 1, "")
    assert looked(disk, known).away
    assert looked(disk, None).remembered is not None


def test_no_folder_yet(tmp_path: Path) -> None:
    found = looked(tmp_path / "not" / "yet")
    assert (found.identity, found.away) == (None, "")
    assert found.device == tmp_path.stat().st_dev
    assert found.free_bytes > 0
    assert not (tmp_path / "not").exists()
    assert looked(tmp_path / "not", None, "film").away, "its torrents were there"


class Bench:
    """A storage whose folder is swapped for an empty one, as an unmounted disk does."""

    def __init__(self, tmp_path: Path) -> None:
        self.folder, self.away = tmp_path / "disk", tmp_path / "away"
        self.folder.mkdir()
        self.place = Places().of(str(self.folder))
        self.place.found(identity_of(self.folder))
        self.files = OpenFiles(8)
        self.storage = Storage(self.files, str(self.folder), ["r/a"], LAYOUT, place=self.place)
        self.storage.write(0, memoryview(bytes(20_000)))
        self.storage.close()

    def unmount(self, *, bare: bool = True) -> None:
        self.folder.rename(self.away)
        if bare:
            self.folder.mkdir()


USES: dict[str, Callable[[Storage], object]] = {
    "write": lambda storage: storage.write(0, memoryview(b"x")),
    "read": lambda storage: storage.read_if_there(0, memoryview(bytearray(9))),
    "prepare": lambda storage: storage.prepare(preallocate=True),
    "finish": lambda storage: storage.finish(),
    "sync": lambda storage: storage.sync([0]),
    "stamps": lambda storage: storage.stamps(),
    "ranges": lambda storage: storage.data_ranges(),
    "data": lambda storage: storage.holds_data([FileStamp(1, 1)]),
}


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("use", USES)
def test_nothing_is_done_in_another_folder(tmp_path: Path, use: str, bare: bool) -> None:
    bench = Bench(tmp_path)
    bench.unmount(bare=bare)
    with pytest.raises(PlaceGone, match="nothing is written"):
        USES[use](bench.storage)
    assert not bare or not list(bench.folder.iterdir())
    assert bench.folder.exists() == bare
    bench.place.lost("not mounted")
    with pytest.raises(PlaceGone):
        USES[use](bench.storage)


def test_the_folder_is_swapped_between_the_look_and_the_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very moment before the kernel is asked."""
    bench = Bench(tmp_path)
    real = os.open

    def racing(path: str, *args: int, **kwargs: int | None) -> int:
        if path == str(bench.folder) and not bench.away.exists():
            bench.unmount()
        return real(path, *args, **kwargs)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(os, "open", racing)
    with pytest.raises(PlaceGone):
        bench.storage.write(0, memoryview(b"x"))
    assert not list(bench.folder.iterdir())


def test_a_write_that_was_under_way_goes_to_the_old_disk(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.storage.write(0, memoryview(b"before"))
    bench.unmount()
    bench.storage.write(0, memoryview(b"after!"))
    assert (bench.away / "r/a").read_bytes().startswith(b"after!")
    assert not list(bench.folder.iterdir())


def test_a_new_place_is_made_and_an_old_one_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    storage = Storage(OpenFiles(8), str(folder), ["r/a"], LAYOUT, place=Place(str(folder)))
    storage.prepare(preallocate=False)
    assert folder.is_dir()


def test_what_is_not_on_the_disk_yet(tmp_path: Path) -> None:
    layout = Layout(piece_length=16384, total_bytes=3 << 20, lengths=(1 << 20, 1 << 20, 1 << 20))
    storage = Storage(OpenFiles(8), str(tmp_path), ["r/a", "r/b", None], layout)
    assert storage.unallocated_bytes() == 2 << 20
    storage.write(0, memoryview(bytes(1 << 19)))
    assert storage.unallocated_bytes() == 3 << 19
    with (tmp_path / "r/b").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
    assert storage.unallocated_bytes() == 1 << 19
