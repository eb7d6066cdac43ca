"""A security border: names from the wild become paths that cannot leave their folder.

Two walls. Planning makes every component harmless, whatever it said. Opening walks from the folder component by
component without following a link, so that nothing already on the disk can lead outside either.
"""

import contextlib
import errno
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator
from typing import Final

from bittern.disk.rights import give_file, give_folder
from bittern.disk.turns import turn_at
from bittern.errors import StorageError
from bittern.policy.rights import NO_RIGHTS, Rights
from bittern.proto.metainfo import Metainfo
from bittern.terms import InfoHash

COMPONENT_BYTES: Final = 255
"""NAME_MAX of every file system in use, in bytes of UTF-8."""

EXTENSION_BYTES: Final = 20
"""What is kept of a long name's end, when it looks like an extension."""

NUMBERS_TRIED: Final = 8
"""Of names that collide, these many get the lowest free number; a hostile torrent would make that a search without
end."""

_JOINERS: Final = frozenset("\u200c\u200d")
"""Of the invisible characters these belong to words: Persian and Indian ones, and emoji."""

_IGNORED: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Unicode's Default_Ignorable_Code_Point: to ext4's casefolding folders names with and without them are the same."""

_PLAIN: Final = re.compile(r"[0-9A-Za-z_(][ -.0-\[\]-~]{0,254}")
"""Most names: printable ASCII without slashes, short, and no dot or space to begin with. They are left as they are."""

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def safe_component(name: str) -> str:
    """A file name that is one component on any Unix file system: never empty, `.` or `..`, at most 255 bytes."""
    if _PLAIN.fullmatch(name):
        return name
    clean = "".join("_" if c in "/\\" or not _printable(c) else c for c in name)
    if _IGNORED.sub("", clean).strip(". ") == "":
        clean = "_" * max(1, min(len(clean), 8))
    return _shortened(clean, "")


def _printable(c: str) -> bool:
    """No control characters, no lone surrogates, no characters that reorder or hide others."""
    return c in _JOINERS or unicodedata.category(c) not in {"Cc", "Cs", "Cf", "Zl", "Zp"}


def _shortened(name: str, suffix: str) -> str:
    """`name` + `suffix` (before the extension, if the name is too long or the suffix not empty) in 255 bytes."""
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension.encode()) > EXTENSION_BYTES:
        stem, dot, extension = name, "", ""
    room = COMPONENT_BYTES - len(f"{suffix}{dot}{extension}".encode())
    return stem.encode()[:room].decode("utf-8", "ignore") + suffix + dot + extension


def default_root(metainfo: Metainfo) -> str:
    """The file or folder that the torrent's data is, below the download folder."""
    return safe_component(metainfo.name)


def roots_of(name: str, info_hash: InfoHash) -> tuple[str, ...]:
    """Where a torrent's data may lie, the next for when the one before belongs to somebody else.

    `NAME`, `NAME.<first 8 hex digits of the info hash>`, and because a stranger can call a torrent that as well, with
    8 digits more each.
    """
    plain = safe_component(name)
    suffixes = ["." + info_hash.hex()[:digits] for digits in range(8, 41, 8)]
    cut = [plain.encode()[: COMPONENT_BYTES - len(suffix)].decode("utf-8", "ignore") for suffix in suffixes]
    return (plain, *map("".join, zip(cut, suffixes, strict=True)))


def plan_paths(metainfo: Metainfo, root: str | None = None) -> list[str | None]:
    """Each listed file's path below the download folder, beginning with the root; None for pad files.

    Deterministic, and no two are the same, not even on a file system that ignores case or composes accents.
    """
    root = safe_component(metainfo.name) if root is None else root
    if not metainfo.multi_file:
        return [root]
    plan = _Plan()
    return [None if file.pad else f"{root}/{plan.place(file.components)}" for file in metainfo.files]


class _Plan:
    """Folders and files that are taken, by what a file system that is blind to case would call them."""

    def __init__(self) -> None:
        self._folders: dict[tuple[str, str], str] = {}
        self._taken: set[tuple[str, str]] = set()
        self._numbers: dict[str, int] = {}
        """By folder, the number that the next colliding name gets: none is ever tried twice."""

    def place(self, components: tuple[str, ...]) -> str:
        folder = ""
        for component in components[:-1]:
            folder = self._folder(folder, component)
        return folder + self._free(folder, safe_component(components[-1]))

    def _folder(self, parent: str, component: str) -> str:
        """The same component is the same folder; another one that looks like it is another."""
        key = (parent, component)
        if key not in self._folders:
            self._folders[key] = parent + self._free(parent, safe_component(component)) + "/"
        return self._folders[key]

    def _free(self, parent: str, name: str) -> str:
        for candidate in self._candidates(parent, name):
            key = (parent, blind(candidate))
            if key not in self._taken:
                self._taken.add(key)
                return candidate
        raise AssertionError("candidates never end")

    def _candidates(self, parent: str, name: str) -> Iterator[str]:
        yield name
        for number in range(2, 2 + NUMBERS_TRIED):
            yield _shortened(name, f" ({number})")
        while True:
            number = self._numbers.get(parent, 2 + NUMBERS_TRIED)
            self._numbers[parent] = number + 1
            yield _shortened(name, f" ({number})")


def blind(name: str) -> str:
    """The same for names that a file system which folds case (ext4's, or a Mac's over the network) takes for one."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", _IGNORED.sub("", name)).casefold())


def open_folder_beneath(
    folder: str,
    relative: str,
    *,
    make: bool = False,
    top: Callable[[], int] | None = None,
    rights: Rights = NO_RIGHTS,
) -> int:
    """A descriptor of a folder below `folder` ("" is itself). The folder itself may be reached through links, or is
    opened by `top`; below it a link is an error. What is made gets those rights.

    Raises `OSError` as the kernel says it, `StorageError` for what is in the way.
    """
    at = os.open(folder, _FOLDER_FLAGS) if top is None else top()
    if not relative:
        return at
    try:
        return open_folder_in(at, relative, told=f"{folder}/{relative}", make=make, rights=rights)
    finally:
        os.close(at)


def open_folder_in(
    top: int, relative: str, *, told: str, make: bool = False, rights: Rights = NO_RIGHTS
) -> int:
    """The same below an open folder, which stays open; `told` is the path for people."""
    at = top
    try:
        for part in relative.split("/"):
            _require_plain(part, told)
            inner = _open_folder(at, part, told, make=make, rights=rights)
            if at != top:
                os.close(at)
            at = inner
    except BaseException:
        if at != top:
            os.close(at)
        raise
    return at


def open_file_in(
    at: int, name: str, flags: int, *, told: str, mode: int = 0o666, known_regular: bool = False
) -> int:
    """A descriptor of a file in the folder `at`. Whatever is not a regular file is an error (a FIFO does not even hang
    us), unless the caller looked a moment ago (`known_regular`) and is content with the kernel's refusal to read it.

    Raises as `open_folder_beneath` does; `told` is the file's path for people.
    """
    _require_plain(name, told)
    try:
        fd = os.open(
            name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, mode, dir_fd=at
        )
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENODEV}:
            raise _in_the_way(told) from error
        raise
    if not known_regular and not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise _in_the_way(told)
    return fd


def make_file_in(at: int, name: str, flags: int, rights: Rights, *, told: str) -> int:
    """The same, made if it is not there; then it has those rights before anybody can write to it."""
    with turn_at(at, name):
        while True:
            with contextlib.suppress(FileNotFoundError):
                return open_file_in(at, name, flags & ~os.O_CREAT, told=told)
            mode = 0o666 if rights.file_mode is None else rights.file_mode
            with contextlib.suppress(FileExistsError):
                fd = open_file_in(at, name, flags | os.O_CREAT | os.O_EXCL, told=told, mode=mode)
                break
        try:
            give_file(fd, rights, told)
        except BaseException:
            # one without its rights would be taken as it is at the next try
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(name, dir_fd=at, follow_symlinks=False), os.fstat(fd)):
                    os.unlink(name, dir_fd=at)
            os.close(fd)
            raise
        return fd


def make_folder_in(at: int, name: str, rights: Rights, *, told: str) -> None:
    """A folder in the folder `at`, with those rights; for whoever has the turn at that name, until it is open.
    `OSError` (also when it is there), `StorageError`.
    """
    os.mkdir(name, 0o777 if rights.folder_mode is None else rights.folder_mode, dir_fd=at)
    if rights == NO_RIGHTS:
        return
    fd = os.open(name, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=at)
    try:
        give_folder(fd, rights, told)
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=at)
        raise
    finally:
        os.close(fd)


def _require_plain(part: str, told: str) -> None:
    if part in {"", ".", ".."} or not _nameable(part):
        raise StorageError(f"{told!r} is not a path below its folder", path=told)


def _nameable(part: str) -> bool:
    """Can the kernel be given this name at all?"""
    try:
        return b"\0" not in os.fsencode(part)
    except UnicodeEncodeError:
        return False


def _open_folder(at: int, part: str, told: str, *, make: bool, rights: Rights) -> int:
    try:
        if not make:
            return os.open(part, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=at)
        with turn_at(at, part):
            while True:
                with contextlib.suppress(FileNotFoundError):
                    return os.open(part, _FOLDER_FLAGS | os.O_NOFOLLOW, dir_fd=at)
                with contextlib.suppress(FileExistsError):
                    make_folder_in(at, part, rights, told=told)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise _in_the_way(told) from error
        raise


def _in_the_way(path: str) -> StorageError:
    return StorageError(
        f"{path}: a link, or something that is no regular file, is in its way; move it aside",
        errno=errno.ELOOP,
        path=path,
    )
