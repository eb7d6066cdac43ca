"""Names that somebody gave to files and folders of a torrent."""

import os
from pathlib import Path

import pytest

from bittern.disk.places import Place
from bittern.disk.renames import (
    Renaming,
    find,
    may_rename,
    pack_renaming,
    rename_in,
    renamed,
    unpack_renames,
    unpack_renaming,
)
from bittern.errors import FileSelectionError, StorageError

PLANNED = ["box/a", "box/sub/b", None, "box/sub/deep/c", "box/d"]


def give(packed: str, path: str, name: str) -> Renaming:
    found = find(PLANNED, packed, "box", path, name, lone=False)
    assert found is not None
    return found


def test_names_are_given_and_given_back() -> None:
    one = give("", "box/sub/b", "B2")
    assert (one.old, one.new, one.index) == ("box/sub/b", "box/sub/B2", 1)
    two = give(one.renames, "box/sub", "folder")
    assert (two.old, two.new, two.index) == ("box/sub", "box/folder", None)
    assert renamed(PLANNED, two.renames) == ["box/a", "box/folder/B2", None, "box/folder/deep/c", "box/d"]
    three = give(two.renames, "folder/deep", "x")
    assert renamed(PLANNED, three.renames)[3] == "box/folder/x/c"
    for path, name in (("folder/x", "deep"), ("box/folder/B2", "b"), ("folder", "sub")):
        three = give(three.renames, path, name)
    assert three.renames == ""
    assert find(PLANNED, "", "box", "box/a", "a", lone=False) is None


def test_the_root_by_its_name_or_the_torrents() -> None:
    one = find(["box.1234/a"], "", "box", "box", "new", lone=False)
    assert one is not None
    assert (one.old, one.new, one.root, one.name_before) == ("box.1234", "new", "new", "box")
    found = find(["box.1234/a"], "", "box", "box/a", "b", lone=False)
    assert found is not None
    assert found.old == "box.1234/a"
    lone = find(["one.bin"], "", "one.bin", "one.bin", "two.bin", lone=True)
    assert lone is not None
    assert (lone.new, lone.index, lone.renames) == ("two.bin", 0, "")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/etc", "a\0", "a\nb", "x" * 256, "\u202eexe", "\ud800", " "]
)
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(FileSelectionError, match="is no name"):
        find(PLANNED, "", "box", "box/a", name, lone=False)


@pytest.mark.parametrize(
    ("path", "name", "why"),
    [
        ("box/a", "d", "already"),
        ("box/a", "SUB", "already"),
        ("sub", "A", "already"),
        ("nothing", "x", "no file"),
        ("", "x", "no file"),
        ("../box/a", "x", "no file"),
        ("box/sub/", "d", "already"),
        ("box/su", "x", "no file"),
    ],
)
def test_what_cannot_be_named_so(path: str, name: str, why: str) -> None:
    with pytest.raises(FileSelectionError, match=why):
        find(PLANNED, "", "box", path, name, lone=False)


def test_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bittern.disk.renames.PACKED_CHARACTERS_AT_MOST", 10)
    with pytest.raises(FileSelectionError, match="too many"):
        give("", "sub/b", "something else")


@pytest.mark.parametrize("text", ["{", "[]", "7", '{"a":7}', '{"a":"../x"}', '{"a":"/etc"}', "[" * 100_000])
def test_a_damaged_record_renames_nothing(text: str) -> None:
    assert unpack_renames(text) == {}
    assert unpack_renaming(text) is None


def test_a_renaming_under_way_is_kept() -> None:
    one = give("", "box/sub/b", "B2")
    known = unpack_renaming(pack_renaming(one))
    assert known == ("box/sub/b", "box/sub/B2", "box", "box", "")
    assert unpack_renaming('["a/../b","a/c","a","a",""]') is None


def test_on_disk(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    (tmp_path / "box/sub").mkdir(parents=True)
    (tmp_path / "box/a").write_text("a")
    (tmp_path / "box/d").write_text("d")
    assert not may_rename(place, "box/none", "box/x")
    assert not may_rename(place, "none/none", "none/x")
    assert may_rename(place, "box/a", "box/x")
    for _ in range(2):
        rename_in(place, "box/a", "box/x")
        rename_in(place, "box/sub", "box/folder")
    assert sorted(os.listdir(tmp_path / "box")) == ["d", "folder", "x"]
    rename_in(place, "box", "crate")
    assert (tmp_path / "crate/x").read_text() == "a"


def test_killed_between_its_two_steps(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    rename_in(Place(str(tmp_path)), "a", "b")
    assert os.listdir(tmp_path) == ["b"]


def test_what_is_in_the_way_is_not_replaced(tmp_path: Path) -> None:
    place = Place(str(tmp_path))
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    (tmp_path / "f").mkdir()
    (tmp_path / "g").mkdir()
    (tmp_path / "link").symlink_to("a")
    for old, new in (("a", "b"), ("a", "f"), ("f", "g"), ("f", "a"), ("link", "x"), ("a", "link")):
        with pytest.raises(StorageError):
            may_rename(place, old, new)
        with pytest.raises(StorageError):
            rename_in(place, old, new)
    with pytest.raises(StorageError, match="in the way"):
        may_rename(place, "none", "b")
    assert (tmp_path / "a").read_text() == "a"
    assert (tmp_path / "b").read_text() == "b"
    # two names of one file that were there before us are two names
    (tmp_path / "c").hardlink_to(tmp_path / "a")
    with pytest.raises(StorageError):
        may_rename(place, "a", "c")


def test_no_link_leads_out(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("a")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/sub").symlink_to("../out")
    place = Place(str(tmp_path / "in"))
    assert not may_rename(place, "sub/a", "sub/b")
    rename_in(place, "sub/a", "sub/b")
    assert os.listdir(tmp_path / "out") == ["a"]
