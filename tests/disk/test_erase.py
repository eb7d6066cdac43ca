"""Files are deleted that are ours, in the folder that is ours, and nothing else."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from bittern.disk.copying import temporary
from bittern.disk.erase import erase
from bittern.disk.places import Identity, Place
from bittern.disk.stamps import FileStamp
from bittern.errors import PlaceGone

PATHS = ("it/a/one", "it/two")
BOTH = b"\xc0"


def _write(folder: Path) -> list[FileStamp]:
    stamps = []
    for path in PATHS:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
        status = (folder / path).stat()
        stamps.append(FileStamp(status.st_size, status.st_mtime_ns))
    return stamps


def _place(folder: Path) -> Place:
    place, status = Place(str(folder)), folder.stat()
    place.found(Identity(status.st_dev, status.st_ino))
    return place


def test_in_a_folder_that_is_another_one_nothing_is_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    place = _place(folder)
    folder.rename(tmp_path / "was")
    _write(folder)
    with pytest.raises(PlaceGone):
        erase(PATHS, place, BOTH)
    assert all((folder / path).exists() for path in PATHS)


def test_a_folder_that_is_away_is_no_folder_without_files(tmp_path: Path) -> None:
    place = _place(tmp_path)
    place.lost("not mounted")
    with pytest.raises(PlaceGone):
        erase(PATHS, place, BOTH)


def test_no_stamps_of_any_file_are_no_leave_to_delete_all(tmp_path: Path) -> None:
    _write(tmp_path)
    assert erase(PATHS, _place(tmp_path), BOTH, ()) == list(PATHS)


def test_links_are_not_followed_and_not_deleted(tmp_path: Path) -> None:
    ours, foreign = tmp_path / "ours", tmp_path / "foreign"
    stamps = _write(foreign / "x")
    (ours / "it").mkdir(parents=True)
    (ours / "it/a").symlink_to(foreign / "x/it/a")
    (ours / "it/two").symlink_to(foreign / "x/it/two")
    assert erase(PATHS, _place(ours), BOTH, stamps) == ["it/two"]
    assert all((foreign / "x" / path).exists() for path in PATHS)
    assert (ours / "it/a").is_symlink()


def test_what_a_broken_off_copy_has_left_goes_too(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "it/a" / temporary("one")).write_text("half")
    assert erase(PATHS, _place(tmp_path), BOTH) == []
    assert not any(tmp_path.iterdir())


def test_a_folder_on_which_something_is_mounted_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path)
    real = os.rmdir

    def busy(path: Any, *, dir_fd: int | None = None) -> None:
        if path == "a":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        real(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", busy)
    assert erase(PATHS, _place(tmp_path), BOTH) == []
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["it", "it/a"]
