"""Files and folders get their modes and their group from the start, and keep them."""

import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bittern.disk.files import OpenFiles
from bittern.disk.mover import Move
from bittern.disk.rights import made_folders
from bittern.disk.storage import Storage
from bittern.errors import StorageError
from bittern.policy.rights import Rights
from bittern.proto.layout import Layout

PATHS = ("r/a", "r/sub/b", "r/other/c")
LAYOUT = Layout(16, 30, (10, 10, 10))
RIGHTS = Rights(file_mode=0o640, folder_mode=0o750)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def another_group() -> int:
    """One that we may give and do not have anyway."""
    if os.geteuid() == 0:
        return 12345
    for group in os.getgroups():
        if group != os.getegid():
            return group
    pytest.skip("this user is in one group only")


@pytest.fixture(autouse=True, params=[0o022, 0o077, 0o000])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    """Modes do not depend on it."""
    before = os.umask(request.param)
    yield
    os.umask(before)


def storage_of(folder: Path, rights: Rights = RIGHTS) -> Storage:
    return Storage(OpenFiles(8), str(folder), PATHS, LAYOUT, rights=rights)


def test_what_is_made_has_its_modes_and_the_folder_itself_is_left_alone(tmp_path: Path) -> None:
    before = mode(tmp_path)
    storage = storage_of(tmp_path, Rights(file_mode=0o660, folder_mode=0o770, group=another_group()))
    storage.write(0, memoryview(bytes(30)))
    assert [mode(tmp_path / path) for path in PATHS] == [0o660] * 3
    for folder in ("r", "r/sub", "r/other"):
        assert mode(tmp_path / folder) == 0o770
    assert {(tmp_path / path).stat().st_gid for path in (*PATHS, "r", "r/sub")} == {another_group()}
    assert mode(tmp_path) == before


def test_what_was_there_before_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir(mode=0o700)
    (tmp_path / "r/a").write_bytes(b"x")
    (tmp_path / "r/a").chmod(0o600)
    storage = storage_of(tmp_path)
    storage.write(0, memoryview(bytes(30)))
    storage.finish(made=b"\x60")
    assert (mode(tmp_path / "r/a"), mode(tmp_path / "r")) == (0o600, 0o700)
    assert (mode(tmp_path / "r/sub/b"), mode(tmp_path / "r/sub")) == (0o640, 0o750)


def test_a_set_group_id_folder_passes_its_bit_and_its_group_on(tmp_path: Path) -> None:
    os.chown(tmp_path, -1, another_group())
    tmp_path.chmod(0o2770)
    storage = storage_of(tmp_path)
    storage.write(0, memoryview(bytes(30)))
    assert mode(tmp_path / "r") == mode(tmp_path / "r/sub") == 0o2750
    assert mode(tmp_path / "r/sub/b") == 0o640
    assert (tmp_path / "r/sub/b").stat().st_gid == another_group()


def test_a_kill_between_making_and_giving_is_made_good_at_the_end(tmp_path: Path) -> None:
    storage_of(tmp_path, Rights()).write(0, memoryview(bytes(30)))
    for path in (*PATHS, "r", "r/sub", "r/other"):
        (tmp_path / path).chmod(0o700)
    storage_of(tmp_path).finish(made=b"\xc0")
    assert [mode(tmp_path / path) for path in PATHS] == [0o640, 0o640, 0o700]
    assert [mode(tmp_path / path) for path in ("r", "r/sub", "r/other")] == [0o700, 0o750, 0o700]


def test_what_cannot_be_given_is_told_in_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, uid: int, gid: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    storage = storage_of(tmp_path, Rights(group=another_group()))
    with pytest.raises(StorageError, match=r"cannot be given to group .* as root") as caught:
        storage.write(0, memoryview(bytes(30)))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "r").mkdir()
    with pytest.raises(StorageError, match="be given to group"):
        storage.write(0, memoryview(bytes(10)))
    assert list((tmp_path / "r").iterdir()) == []


@pytest.mark.parametrize("refused", [stat.S_ISDIR, stat.S_ISREG])
def test_another_write_at_the_same_moment_finds_nothing_without_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[int], bool]
) -> None:
    """It waits for the first, and is refused like it."""
    told: list[str] = []
    storage = storage_of(tmp_path, Rights(group=another_group()))

    def write() -> None:
        try:
            storage.write(0, memoryview(bytes(10)))
        except StorageError as error:
            told.append(str(error))

    second = threading.Thread(target=write)

    def refuse(fd: int, uid: int, gid: int) -> None:
        if not refused(os.fstat(fd).st_mode):
            return
        if second.ident is None:
            second.start()
            second.join(0.2)  # whoever does not wait is through by now
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    write()
    second.join()
    assert len(told) == 2, told
    assert [path.name for path in tmp_path.rglob("*")] == ([] if refused is stat.S_ISDIR else ["r"])


def test_a_mode_that_does_not_stay_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fchmod", lambda fd, mode: None)
    os.umask(0o077)
    with pytest.raises(StorageError, match="cannot be given mode 0750"):
        storage_of(tmp_path).write(0, memoryview(bytes(10)))


@pytest.mark.parametrize("copied", [False, True])
def test_a_move_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, copied: bool) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    rights = Rights(file_mode=0o640, folder_mode=0o750, group=another_group())
    storage_of(source, rights).write(0, memoryview(bytes(30)))
    if copied:
        real = os.link

        def across(name: str, new: str, **where: object) -> None:
            if where["src_dir_fd"] != where["dst_dir_fd"]:
                raise OSError(18, "Invalid cross-device link")
            real(name, new, **where)  # type: ignore[arg-type] — handed on

        monkeypatch.setattr(os, "link", across)
    # as a kill would have left one that it came upon
    (target / "r/sub").mkdir(parents=True)
    (target / "r").chmod(0o700)
    (target / "r/sub").chmod(0o700)
    move = Move(PATHS, str(source), str(target), "r", rights=rights, made=b"\xe0")
    while move.step() is not None:
        pass
    assert [mode(target / path) for path in PATHS] == [0o640] * 3
    assert [mode(target / path) for path in ("r", "r/sub", "r/other")] == [0o750] * 3
    assert {(target / path).stat().st_gid for path in (*PATHS, "r", "r/sub")} == {another_group()}


def test_whose_folders_are_ours() -> None:
    paths = ("r/a", "r/x/b", "r/x/y/c", None, "r/z/d", "r/z/pad")
    assert made_folders(paths, b"\xfc") == {"r", "r/x", "r/x/y", "r/z"}
    assert made_folders(paths, b"\x78") == {"r/x", "r/x/y"}
    assert made_folders(paths, b"") == frozenset()
