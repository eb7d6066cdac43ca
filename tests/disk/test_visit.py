"""Folders that stay open while several torrents are looked at."""

import os
from pathlib import Path

import pytest

from bittern.disk.places import Identity, Place
from bittern.disk.visit import Visit
from bittern.errors import PlaceGone


def known(folder: Path) -> Place:
    place, status = Place(str(folder)), folder.stat()
    place.found(Identity(status.st_dev, status.st_ino))
    return place


def test_a_folder_is_opened_once_and_closed_at_the_end(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "a").write_bytes(b"abc")
    place = known(first)
    with Visit() as visit:
        at = visit.folder(place)
        assert at is not None
        assert visit.folder(place) == at
        assert visit.folder(known(second)) != at
        first.rename(tmp_path / "elsewhere")
        assert os.stat("a", dir_fd=at).st_size == 3
        assert visit.folder(place) == at
    assert os.listdir("/proc/self/fd") == before
    with Visit() as visit, pytest.raises(PlaceGone):
        visit.folder(place)


def test_another_folder_in_its_place_is_not_looked_into(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    folder = tmp_path / "disk"
    folder.mkdir()
    place = known(folder)
    folder.rename(tmp_path / "away")
    folder.mkdir()
    with Visit() as visit:
        for _ in range(2):
            with pytest.raises(PlaceGone):
                visit.folder(place)
        place.lost("not mounted")
        with pytest.raises(PlaceGone):
            visit.folder(place)
    assert os.listdir("/proc/self/fd") == before


def test_one_that_cannot_be_opened_is_none(tmp_path: Path) -> None:
    with Visit() as visit:
        assert visit.folder(Place(str(tmp_path / "not yet"))) is None


def test_where_links_lead(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Visit() as visit:
        for _ in range(2):
            assert visit.real(str(tmp_path / "link")) == str((tmp_path / "real").resolve())
