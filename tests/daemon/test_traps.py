"""What strangers put into a watched folder to have the daemon read or write elsewhere."""

import ctypes
import errno
import os
import shutil

import pytest

from bittern.daemon import aside, below
from bittern.daemon.aside import Put, place_aside, put_all_aside, set_lines_aside
from bittern.daemon.listing import list_folder, list_subfolders
from bittern.daemon.looks import look_at, look_at_all, stamp_of
from bittern.daemon.sidecars import SidecarError, look_at_sidecar, parse_sidecar
from bittern.daemon.sweep import Listing
from tests.fakes.drops import put_aside


@pytest.fixture
def outside(tmp_path):
    """A folder of somebody else's, into which the daemon could write."""
    made = tmp_path / "outside"
    made.mkdir()
    (made / "precious").write_text("as it was")
    return made


@pytest.fixture
def drop(tmp_path):
    path = tmp_path / "drop" / "a.torrent"
    path.parent.mkdir()
    path.write_bytes(b"one")
    return path


def untouched(outside):
    return os.listdir(outside) == ["precious"] and (outside / "precious").read_text() == "as it was"


@pytest.mark.parametrize("subfolder", ["accepted", "rejected"])
def test_our_folders_are_no_links(drop, outside, subfolder):
    (drop.parent / subfolder).symlink_to(outside)
    (drop.parent / "a.toml").write_text("priority = 1")
    with pytest.raises(NotADirectoryError, match="is a link"):
        put_aside(str(drop), stamp_of(drop.stat()), subfolder, "bad")
    with pytest.raises(NotADirectoryError):
        place_aside(str(drop), subfolder)
    if subfolder == "rejected":
        with pytest.raises(NotADirectoryError):
            set_lines_aside(str(drop), ["line"], ["bad"])
    assert drop.exists()
    assert untouched(outside)


@pytest.mark.parametrize("way", ["whole", "lines"])
def test_reasons_are_not_written_through_links(drop, outside, way):
    (drop.parent / "rejected").mkdir()
    note = drop.parent / "rejected" / "a.torrent.reason.txt"
    note.symlink_to(outside / "precious")
    if way == "whole":
        put_aside(str(drop), stamp_of(drop.stat()), "rejected", "bad")
    else:
        set_lines_aside(str(drop), ["line"], ["bad"])
    assert untouched(outside)
    assert note.read_text() == "bad\n"
    assert not note.is_symlink()


def test_a_sub_folder_that_became_a_link_is_not_followed(tmp_path, drop, outside):
    root, sub = str(drop.parent), drop.parent / "films"
    theirs = outside / "b.torrent"
    theirs.write_bytes(b"theirs")
    (outside / "b.toml").write_text("priority = 1")
    os.utime(outside / "b.toml", (1e9, 1e9))
    stamp = stamp_of(theirs.stat())
    sub.symlink_to(outside)
    path = f"{sub}/b.torrent"
    for ask in (list_folder, list_subfolders):
        with pytest.raises(NotADirectoryError):
            ask(str(sub), root)
    assert look_at(path, root=root).found == "gone"
    assert look_at_sidecar(path, root).found == "none"
    for subfolder in (None, "accepted"):
        with pytest.raises(NotADirectoryError):
            put_aside(path, stamp, subfolder, "", root)
    assert sorted(os.listdir(outside)) == ["b.toml", "b.torrent", "precious"]
    # the watched folder itself may be reached by a link, and so may what lies below
    (tmp_path / "by-link").symlink_to(drop.parent)
    (drop.parent / "deep" / "er").mkdir(parents=True)
    assert list_folder(str(tmp_path / "by-link")).entries[0].name == "a.torrent"
    assert list_folder(str(tmp_path / "by-link" / "deep" / "er"), str(tmp_path / "by-link")).entries == []


def _exchanged(drop, monkeypatch):
    """Another file takes the drop's name just before it is moved."""
    real = aside.rename_new

    def exchange(*move):
        other = drop.with_name("other")
        other.write_bytes(b"two")
        other.rename(drop)
        monkeypatch.setattr(aside, "rename_new", real)
        real(*move)

    monkeypatch.setattr(aside, "rename_new", exchange)


@pytest.fixture(params=["in one call", "kernel of old", "file system of old"])
def way_to_move(request, monkeypatch):
    """Moving without replacing, where one call does it, and where none is to be had."""

    def cannot(*args):
        ctypes.set_errno(errno.EINVAL)
        return -1

    if request.param != "in one call":
        monkeypatch.setattr(below, "_renameat2", None if "kernel" in request.param else cannot)


@pytest.mark.usefixtures("way_to_move")
def test_what_takes_the_name_in_the_last_moment_is_not_put_away_unseen(drop, monkeypatch):
    stamp = stamp_of(drop.stat())
    _exchanged(drop, monkeypatch)
    assert put_aside(str(drop), stamp, "rejected", "bad") is None
    assert drop.read_bytes() == b"two"
    assert os.listdir(drop.parent / "rejected") == []


@pytest.mark.usefixtures("way_to_move")
@pytest.mark.parametrize("reason", ["", "bad"])
def test_nothing_is_replaced(drop, outside, reason):
    (drop.parent / "accepted").mkdir()
    (drop.parent / "accepted" / "a.torrent").symlink_to(outside / "nowhere")
    (drop.parent / "accepted" / "a.1.torrent").mkdir()
    assert put_aside(str(drop), stamp_of(drop.stat()), "accepted", reason).endswith("/accepted/a.2.torrent")
    assert sorted(one for one in os.listdir(drop.parent / "accepted") if "reason" not in one) == [
        "a.1.torrent",
        "a.2.torrent",
        "a.torrent",
    ]
    assert os.listdir(drop.parent) == ["accepted"]
    assert untouched(outside)


def test_what_cannot_be_moved_stays_and_is_told_with_its_errno(drop, monkeypatch):
    def cannot(*args):
        ctypes.set_errno(errno.EROFS)
        return -1

    monkeypatch.setattr(below, "_renameat2", cannot)
    with pytest.raises(OSError, match="Read-only") as told:
        put_aside(str(drop), stamp_of(drop.stat()), "rejected", "bad")
    assert told.value.errno == errno.EROFS
    assert os.listdir(drop.parent / "rejected") == []
    assert drop.exists()


def test_many_that_go_at_once_share_their_folders(drop, monkeypatch):
    folder = drop.parent
    names = [f"{number}.torrent" for number in range(20)]
    for name in names:
        (folder / name).write_bytes(b"one")
    real, opened = os.open, []

    def counting(path, *args, **keys):
        opened.append(str(path).rpartition("/")[2])
        return real(path, *args, **keys)

    monkeypatch.setattr(os, "open", counting)
    assert [look.blob for look in look_at_all(str(folder), names)] == [b"one"] * 20
    assert opened == ["drop", *names]
    opened.clear()
    puts = [Put(name, stamp_of((folder / name).stat()), "accepted", sidecar=False) for name in names]
    put_all_aside(str(folder), "", puts[:10])
    assert opened == ["drop", "accepted", "accepted"]
    opened.clear()
    assert put_all_aside(str(folder), "", puts[10:]) == [f"{folder}/accepted/{name}" for name in names[10:]]
    assert opened == ["drop", "accepted"]
    assert len(os.listdir(folder / "accepted")) == 20


def test_a_folder_of_ours_that_is_deleted_among_many_moves_is_made_again(drop, monkeypatch):
    folder = drop.parent
    (folder / "b.torrent").write_bytes(b"two")
    (folder / "gone.torrent").write_bytes(b"gone")
    puts = [
        Put(name, stamp_of((folder / name).stat()), "accepted")
        for name in ("a.torrent", "gone.torrent", "b.torrent")
    ]
    (folder / "gone.torrent").unlink()
    real = aside._put

    def tidied(*args):
        to = real(*args)
        if to == "a.torrent":
            shutil.rmtree(folder / "accepted")
        return to

    monkeypatch.setattr(aside, "_put", tidied)
    first, gone, second = put_all_aside(str(folder), "", puts)
    assert (first, gone) == (f"{folder}/accepted/a.torrent", None)
    assert second == f"{folder}/accepted/b.torrent"
    assert os.listdir(folder / "accepted") == ["b.torrent"]


def test_two_drops_of_one_sidecar_take_it_along_with_the_last(drop):
    other, sidecar = drop.with_suffix(".magnet"), drop.with_suffix(".toml")
    other.write_text("link")
    sidecar.write_text("priority = 1")
    put_aside(str(drop), stamp_of(drop.stat()), "accepted")
    assert sidecar.exists()
    put_aside(str(other), stamp_of(other.stat()), None)
    assert not sidecar.exists()


@pytest.mark.parametrize("key", [b"a.", b'"\\"".', b"'\\'.", b"a . "])
def test_a_key_of_very_many_steps_costs_nothing(key):
    # it took the parser a minute, in which nothing else ran
    with pytest.raises(SidecarError, match="nested too deeply"):
        parse_sidecar(key * (65_000 // len(key)) + b"a = 1", "a.toml")
    assert parse_sidecar(b'take = ["' + b"a." * 60 + b'mkv"]', "a.toml").take is not None


def test_a_sidecar_that_is_written_while_it_is_read_is_read_again(drop, monkeypatch):
    sidecar = drop.with_suffix(".toml")
    sidecar.write_text("priority = 1\n")
    os.utime(sidecar, (1e9, 1e9))
    real = os.read

    def read_and_write(fd, count):
        sidecar.write_text("priority = 1\nlab")
        return real(fd, count)

    monkeypatch.setattr(os, "read", read_and_write)
    assert look_at_sidecar(str(drop)).found == "unsettled"


def test_a_folder_in_which_nothing_has_changed_is_the_same_listing(tmp_path):
    for name in ("a.torrent", "B.MAGNET", "a.torrent.status.json", "a.torrent.toml", "t"):
        (tmp_path / name).write_bytes(b"1")
    first = list_folder(str(tmp_path))
    assert sorted(entry.name for entry in first.entries) == ["B.MAGNET", "a.torrent"]
    (tmp_path / "c.txt").write_bytes(b"1")
    assert list_folder(str(tmp_path), "", first) is first
    (tmp_path / "a.torrent").write_bytes(b"12")
    second = list_folder(str(tmp_path), "", first)
    changed = [entry.name for entry in second.entries if entry not in first.entries]
    assert changed == ["a.torrent"]
    (tmp_path / "a.torrent").unlink()
    third = list_folder(str(tmp_path), "", second)
    assert [entry.name for entry in third.entries] == ["B.MAGNET"]
    (tmp_path / "B.MAGNET").unlink()
    (tmp_path / "B.MAGNET").mkdir()
    assert [entry.kind for entry in list_folder(str(tmp_path), "", third).entries] == ["folder"]
    assert list_folder(str(tmp_path), "", Listing(first.identity._replace(inode=1), first.entries)) != first
