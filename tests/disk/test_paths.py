"""Names from the wild end up below their folder, each in a place of its own; nothing on the disk leads elsewhere."""

import os
import re
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.disk.paths import (
    COMPONENT_BYTES,
    default_root,
    open_file_in,
    open_folder_beneath,
    plan_paths,
    roots_of,
    safe_component,
)
from bittern.errors import StorageError
from bittern.proto.metainfo import FileEntry, Metainfo
from bittern.terms import InfoHash

HASH = InfoHash(bytes.fromhex("0123456789abcdef0123456789abcdef01234567"))


def torrent(name: str, *paths: tuple[str, ...], pads: tuple[int, ...] = ()) -> Metainfo:
    files = tuple(FileEntry(path, 1, pad=number in pads) for number, path in enumerate(paths))
    return Metainfo(
        info_hash=HASH,
        name=name,
        piece_length=16384,
        total_bytes=len(files) or 1,
        piece_hashes=bytes(20),
        multi_file=bool(paths),
        files=files or (FileEntry((), 1),),
        private=False,
        trackers=(),
        web_seeds=(),
        comment=None,
        created_by=None,
        creation_date=None,
        hybrid=False,
    )


def blind(name: str) -> str:
    """What a file system that folds case and composes accents makes of it."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def must_be_harmless(component: str) -> None:
    assert component not in {"", ".", ".."}
    assert len(component.encode()) <= COMPONENT_BYTES
    assert not re.search(r"[\x00-\x1f\x7f/\\\u202a-\u202e\u2066-\u2069]", component)


hostile = st.sampled_from(
    ["", ".", "..", "...", " ", ". .", "/", "/etc/passwd", "../../x", "a/b", "a\\b", "..\\..\\x", "C:\\x", "a\0b", "\0",
     "a\nb", "\x1b[31m", "~", "-rf", "con", "a" * 255, "a" * 256, "a" * 300 + ".txt", "é" * 200, "e\u0301" * 100,
     "\U0001f600" * 90, "x" + "\U0001f600" * 90 + ".mkv", "\u202etxt.exe", "\ud800", "\ufeff", "\u200d", "a\u200cb",
     "." * 300, "." + "a" * 300, "a." + "b" * 300, "a (2)", "A (2)", "STRASSE", "straße", "\u017f", "K", "\u212a",
     "\ufe0f", "❤", "❤\ufe0f", "ﬁ", "fi"]
)  # fmt: skip
names = hostile | st.text(max_size=12) | st.text(st.sampled_from("aAbBéÉ./ "), max_size=4)


@given(names)
def test_any_name_becomes_one_harmless_component(name: str) -> None:
    safe = safe_component(name)
    must_be_harmless(safe)
    assert safe_component(safe) == safe, "what is safe stays as it is"


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "a.txt",
        ".hidden",
        "a b",
        "übung.mkv",
        "日本語.txt",
        "a..b",
        "x.tar.gz",
        "a" * 255,
        "…",
        "👩‍👧.png",
        "می‌خواهم",
    ],
)
def test_what_is_harmless_is_left_alone(name: str) -> None:
    assert safe_component(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("", "_"),
        (".", "_"),
        ("..", "__"),
        (" ", "_"),
        ("a/b", "a_b"),
        ("../x", ".._x"),
        ("a\\b", "a_b"),
        ("a\0b\n", "a_b_"),
        ("\u202etxt.exe", "_txt.exe"),
        ("a" * 300 + ".txt", "a" * 251 + ".txt"),
        ("é" * 200 + ".txt", "é" * 125 + ".txt"),
        ("." * 300, "_" * 8),
    ],
)
def test_what_is_not_is_replaced(name: str, safe: str) -> None:
    assert safe_component(name) == safe


@given(names, st.lists(st.lists(names, min_size=1, max_size=3).map(tuple), min_size=1, max_size=8))
def test_any_names_lie_below_their_folder_and_apart(name: str, paths: list[tuple[str, ...]]) -> None:
    plan = plan_paths(torrent(name, *paths))
    assert plan == plan_paths(torrent(name, *paths)), "deterministic"
    _must_lie_apart([one for one in plan if one is not None], safe_component(name))
    assert len(plan) == len(paths)


def _must_lie_apart(plan: list[str], root: str) -> None:
    files, folders = set(), set()
    spellings: dict[str, str] = {}
    for path in plan:
        parts = path.split("/")
        assert parts[0] == root
        for part in parts:
            must_be_harmless(part)
        assert blind(path) not in files, "two files in one place"
        files.add(blind(path))
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            folders.add(blind(folder))
            assert spellings.setdefault(blind(folder), folder) == folder, "one folder under two spellings"
    assert not files & folders, "a file where a folder is"


@given(st.lists(st.sampled_from(["a", "A", "a (2)", "A (2)", "a (3)", "á", "a\u0301", "Á"]), max_size=20))
def test_colliding_names_are_told_apart(listed: list[str]) -> None:
    if not listed:
        return
    plan = plan_paths(torrent("r", *((name,) for name in listed)))
    _must_lie_apart([one for one in plan if one is not None], "r")
    assert plan[0] == f"r/{listed[0]}", "the first keeps its name"


def test_how_they_are_told_apart() -> None:
    paths = (("a.txt",), ("A.txt",), ("a.txt",), ("d", "x"), ("D", "x"), ("d",), ("d", "y"), ("a (2).txt",))
    assert plan_paths(torrent("r", *paths)) == [
        "r/a.txt",
        "r/A (2).txt",
        "r/a (3).txt",
        "r/d/x",
        "r/D (2)/x",
        "r/d (3)",
        "r/d/y",
        "r/a (2) (2).txt",
    ]


def test_ext4s_casefolding_folders_ignore_what_cannot_be_seen() -> None:
    plan = plan_paths(torrent("r", ("❤",), ("❤\ufe0f",), ("a\u200cb",), ("ab",)))
    assert plan == ["r/❤", "r/❤\ufe0f (2)", "r/a\u200cb", "r/ab (2)"]


def test_pads_have_no_place_and_take_none() -> None:
    metainfo = torrent("r", ("a",), ("x",), ("x",), pads=(1,))
    assert plan_paths(metainfo) == ["r/a", None, "r/x"]


def test_one_file_is_the_root() -> None:
    assert plan_paths(torrent("a/../b")) == ["a_.._b"]
    assert plan_paths(torrent("a"), "a.01234567") == ["a.01234567"]
    assert plan_paths(torrent("a", ("b",)), "other") == ["other/b"]


@pytest.mark.parametrize(
    "paths",
    [
        [("same",)] * 30_000,
        [("n" * 250 + f"{number // 2:05d}",) for number in range(30_000)],
        [(f"a ({number})",) for number in range(2, 15_000)] + [("a",)] * 15_000,
        [("S" if number % 2 else "s", f"{number}") for number in range(30_000)],
    ],
)  # fmt: skip
def test_many_that_collide_take_no_time_to_tell_apart(paths: list[tuple[str, ...]]) -> None:
    began = time.process_time()
    plan = plan_paths(torrent("r", *paths))
    # a search from the lowest number on would take an hour
    assert time.process_time() - began < 100
    assert len({blind(path) for path in plan if path}) == len(paths)


@given(names)
def test_roots(name: str) -> None:
    metainfo = torrent(name)
    assert default_root(metainfo) == safe_component(name)
    first, *others = roots_of(name, HASH)
    assert first == safe_component(name)
    assert others[0].endswith(".01234567")
    for number, other in enumerate(others, 1):
        must_be_harmless(other)
        stem, _, digits = other.rpartition(".")
        assert digits == HASH.hex()[: 8 * number]
        assert first.startswith(stem)
    assert others[-1].endswith("." + HASH.hex())


# -- opening ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A download folder with a neighbour that nobody may reach from it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(b"secret")
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


def open_beneath(folder: str, relative: str, flags: int, *, make_folders: bool = False) -> int:
    inner, _, name = relative.rpartition("/")
    at = open_folder_beneath(folder, inner, make=make_folders)
    try:
        return open_file_in(at, name, flags, told=f"{folder}/{relative}")
    finally:
        os.close(at)


def contents(fd: int) -> bytes:
    with os.fdopen(fd, "rb") as opened:
        return opened.read()


def test_files_are_made_with_their_folders(folder: Path) -> None:
    fd = open_beneath(str(folder), "a/b/c", os.O_RDWR | os.O_CREAT, make_folders=True)
    os.write(fd, b"x")
    os.close(fd)
    assert (folder / "a/b/c").read_bytes() == b"x"
    assert contents(open_beneath(str(folder), "a/b/c", os.O_RDONLY)) == b"x"
    fd = open_beneath(str(folder), "a/b/c", os.O_RDONLY)
    assert not os.get_inheritable(fd), "hooks do not get it"
    os.close(fd)


def test_what_is_absent_is_absent(folder: Path) -> None:
    for path in ("a", "a/b"):
        with pytest.raises(FileNotFoundError):
            open_beneath(str(folder), path, os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        open_beneath(str(folder), "a/b", os.O_RDWR | os.O_CREAT)
    with pytest.raises(FileNotFoundError):
        open_beneath(str(folder / "gone"), "a", os.O_RDWR | os.O_CREAT, make_folders=True)
    assert list(folder.iterdir()) == [], "a look makes nothing"


def test_the_folder_itself_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folder)
    (folder / "a").write_bytes(b"x")
    assert contents(open_beneath(str(tmp_path / "link"), "a", os.O_RDONLY)) == b"x"


MODES = [
    (os.O_RDONLY, False),
    (os.O_RDWR, False),
    (os.O_RDWR | os.O_CREAT, True),
]


@pytest.mark.parametrize(("flags", "make"), MODES)
@pytest.mark.parametrize(
    "target", ["../outside/secret", "../outside/new", "{outside}/secret", "inside", "loop"]
)
def test_a_link_in_the_files_place_is_never_followed(
    folder: Path, tmp_path: Path, flags: int, make: bool, target: str
) -> None:
    (folder / "inside").write_bytes(b"mine")
    name = "loop" if target == "loop" else "link"
    (folder / name).symlink_to(target.format(outside=tmp_path / "outside"))
    with pytest.raises(StorageError, match="in its way"):
        open_beneath(str(folder), name, flags, make_folders=make)
    assert [one.name for one in (tmp_path / "outside").iterdir()] == ["secret"]


@pytest.mark.parametrize(("flags", "make"), MODES)
@pytest.mark.parametrize("target", ["../outside", "{outside}", "real", ".", "..", "nowhere"])
@pytest.mark.parametrize("path", ["link/secret", "link/new", "sub/link/secret"])
def test_a_link_in_a_folders_place_is_never_followed(
    folder: Path, tmp_path: Path, flags: int, make: bool, target: str, path: str
) -> None:
    (folder / "real").mkdir()
    (folder / "sub").mkdir()
    (folder / path).parent.symlink_to(target.format(outside=tmp_path / "outside"))
    with pytest.raises(StorageError, match="in its way"):
        open_beneath(str(folder), path, flags, make_folders=make)
    assert [one.name for one in (tmp_path / "outside").iterdir()] == ["secret"]
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_CREAT])
def test_what_is_no_regular_file_is_refused_at_once(folder: Path, flags: int) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "dir").mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for path in ("fifo", "dir", "fifo/x"):
        with pytest.raises(StorageError, match="in its way"):
            open_beneath(str(folder), path, flags, make_folders=bool(flags & os.O_CREAT))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_in_a_folders_place_is_refused(folder: Path) -> None:
    (folder / "a").write_bytes(b"")
    with pytest.raises(StorageError, match="in its way"):
        open_beneath(str(folder), "a/b", os.O_RDWR | os.O_CREAT, make_folders=True)


@pytest.mark.parametrize(
    "path",
    [
        "",
        ".",
        "..",
        "../outside/secret",
        "/etc/passwd",
        "a/../../outside/secret",
        "a//b",
        "a/",
        "/",
        "a/./b",
        "a/b\0c",
        "a/\ud800",
    ],
)
def test_paths_that_are_not_below_are_refused(folder: Path, path: str) -> None:
    (folder / "a").mkdir()
    with pytest.raises(StorageError, match="not a path below"):
        open_beneath(str(folder), path, os.O_RDWR | os.O_CREAT, make_folders=True)
    assert list((folder / "a").iterdir()) == []


def test_no_descriptor_is_left_behind(folder: Path) -> None:
    (folder / "a").mkdir()
    (folder / "a" / "link").symlink_to("..")
    before = len(os.listdir("/proc/self/fd"))
    for path in ("a/b", "a/link/x", "a/link", "x", "a/b/c"):
        with pytest.raises((OSError, StorageError)):
            open_beneath(str(folder), path, os.O_RDONLY)
    os.close(open_beneath(str(folder), "d/e/f", os.O_RDWR | os.O_CREAT, make_folders=True))
    assert len(os.listdir("/proc/self/fd")) == before


@given(names, st.lists(st.lists(names, min_size=1, max_size=3).map(tuple), min_size=1, max_size=4))
def test_any_plan_can_be_made_and_stays_below(
    tmp_path_factory: pytest.TempPathFactory, name: str, paths: list[tuple[str, ...]]
) -> None:
    base = tmp_path_factory.mktemp("any")
    (base / "folder").mkdir()
    plan = plan_paths(torrent(name, *paths))
    for path in plan:
        assert path is not None
        os.close(
            open_beneath(str(base / "folder"), path, os.O_RDWR | os.O_CREAT | os.O_EXCL, make_folders=True)
        )
    found = [str(one.relative_to(base / "folder")) for one in base.rglob("*") if one.is_file()]
    assert sorted(found) == sorted(str(path) for path in plan)
