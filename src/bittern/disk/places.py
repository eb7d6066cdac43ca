"""Which folder is which: a disk that is not mounted leaves a bare folder behind, and nothing may be written there.

A folder that holds torrents is known again by a small hidden file with a random word in it: device numbers change with
every boot and many with every mount, and few file systems have a number of their own that can be asked for. Where that
file cannot be written or was not copied along, the torrents' own data tells. While bittern runs, whoever opens a file
compares device and inode of the folder that was opened with what the last look found: a disk that goes between the look
and the opening is noticed by the one who opens.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from bittern.errors import PlaceGone

SENTINEL: Final = ".bittern-folder"
"""The hidden file's name. An empty one says that the folder is meant, whatever lay there before."""

TEMPORARY: Final = f"{SENTINEL}.new"

SENTINEL_TEXT: Final = (
    "\nbittern knows this folder by this file, and waits for its disk when it is not here.\n"
)

WORD_BYTES: Final = 64
"""More is not read of a file that anybody may write."""

ROOTS_AT_MOST: Final = 64
"""So many of the torrents' names are looked for in a folder that cannot be known otherwise."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_ABSENT: Final = (errno.ENOENT, errno.ENOTDIR)
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM)


class Identity(NamedTuple):
    """What an open folder is told by, as long as its file system stays mounted."""

    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is kept of a folder, also over restarts. `word` "": its hidden file could not be written."""

    folder: str
    word: str
    device: int
    inode: int
    boot: str
    """Device and inode mean nothing after the next one."""


class Claimed(NamedTuple):
    """What a torrent's record says to lie in a folder."""

    name: str
    """The topmost name of its data."""
    moves_to: tuple[str, ...] = ()
    """Folders to which a move may have brought it that was killed before the record could say so."""


class Place:
    """A folder as those who open files in it know it. Its one attribute that changes is replaced whole, by the loop:
    threads may read it.
    """

    __slots__ = ("_seen", "folder")

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._seen: Identity | str | None = None

    @property
    def new(self) -> bool:
        """Was no folder seen here before? Then it may be made."""
        return self._seen is None

    @property
    def away(self) -> str:
        """Why it cannot be used, "" if it can."""
        return self._seen if isinstance(self._seen, str) else ""

    def found(self, identity: Identity | None) -> None:
        """The right folder is there; None: none was there yet."""
        self._seen = identity

    def lost(self, reason: str) -> None:
        """It is away, or another one lies there."""
        self._seen = reason

    def open(self) -> int:
        """A descriptor of the folder; `PlaceGone` when it is not the one, `OSError` for a new one."""
        if isinstance(self._seen, str):
            raise self._gone(self._seen)
        try:
            fd = os.open(self.folder, _FOLDER)
        except OSError as error:
            if self._seen is None or error.errno in (errno.EMFILE, errno.ENFILE, *_FORBIDDEN):
                raise
            raise self._gone(error.strerror or str(error)) from error
        try:
            self.require(fd)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def require(self, fd: int) -> None:
        """`PlaceGone` unless that descriptor is of the folder."""
        self._require(os.fstat(fd))

    def require_path(self) -> None:
        """`PlaceGone` unless the folder lies at its path at this moment."""
        if self._seen is None:
            return
        try:
            status = os.stat(self.folder)  # noqa: PTH116 — a stat, and not a Path for each look at a torrent
        except OSError as error:
            if error.errno in _FORBIDDEN:
                return
            raise self._gone(error.strerror or str(error)) from error
        self._require(status)

    def _require(self, status: os.stat_result) -> None:
        seen = self._seen
        if isinstance(seen, str):
            raise self._gone(seen)
        if seen is not None and seen != (status.st_dev, status.st_ino):
            raise self._gone("another folder lies in its place")

    def _gone(self, reason: str) -> PlaceGone:
        return PlaceGone(
            f"{self.folder}: is away ({reason}); nothing is written there until it is back",
            errno=errno.ESTALE,
            path=self.folder,
        )


class Places:
    """One `Place` for each folder, the same for all who ask, from any thread."""

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}

    def of(self, folder: str) -> Place:
        """The place of that folder; new when nobody asked before."""
        found = self._places.get(folder)
        return found if found is not None else self._places.setdefault(folder, Place(folder))

    def away_above(self, folder: str) -> str:
        """Of the folders that are known the one that holds that folder, if its disk is not mounted; else ""."""
        for place in list(self._places.values()):
            if place.away and folder.startswith(place.folder.rstrip("/") + "/"):
                return place.folder
        return ""

    def require_above(self, folder: str) -> None:
        """`PlaceGone` when that folder would be made on the bare mountpoint of one that is known."""
        above = self.away_above(folder)
        if above:
            self._places[above].require_path()


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a folder found.

    `identity` None: there is no folder. `away` says why it is not the one that it was, "" when it is. `device` and
    `free_bytes` are those of the nearest folder above when there is none; None when that cannot be told either.
    `size_bytes` is the file system's, 0 when it was not looked at.
    """

    identity: Identity | None
    away: str
    remembered: Remembered | None
    device: int | None
    free_bytes: int
    size_bytes: int = 0


def look(
    folder: str, remembered: Remembered | None, claims: Sequence[Claimed], new_word: str, boot: str
) -> Look:
    """Looks at a folder, in a thread that a dead mount may hang; never raises.

    `claims` are those of torrents with data in it; `new_word` is for a folder that gets its hidden file now.
    """
    try:
        fd = os.open(folder, _FOLDER)
    except OSError as error:
        device, free = _room_above(folder)
        # who may not look into it is told so by whoever writes; a new folder is made when its first torrent starts
        missing = error.errno in _ABSENT and remembered is None and not _missed(claims)
        away = "" if missing or error.errno in _FORBIDDEN else error.strerror or str(error)
        return Look(None, away, remembered, device, free)
    try:
        status = os.fstat(fd)
        identity = Identity(status.st_dev, status.st_ino)
        room = os.fstatvfs(fd)
        free = room.f_bavail * room.f_frsize
        word = _read_word(fd)
        away = _why_another(remembered, identity, word, fd, claims, boot)
        if not away:
            if not word:
                word = _write_word(fd, remembered.word if remembered and remembered.word else new_word)
            remembered = Remembered(folder, word, identity.device, identity.inode, boot)
        return Look(identity, away, remembered, identity.device, free, room.f_blocks * room.f_frsize)
    except OSError as error:
        return Look(None, error.strerror or str(error), remembered, None, 0)
    finally:
        os.close(fd)


def boot_id() -> str:
    """Of this boot of the machine; "" where that cannot be told."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123 — no Path is needed for a constant
            return file.read().strip()
    except OSError:
        return ""


def _why_another(
    remembered: Remembered | None,
    identity: Identity,
    word: str | None,
    fd: int,
    claims: Sequence[Claimed],
    boot: str,
) -> str:
    """Why the folder is not the one that it was, "" if it is."""
    if word == "" or (remembered is not None and word is not None and word == remembered.word):
        return ""
    if remembered is None and word is not None:
        return ""
    same = remembered is not None and identity == (remembered.device, remembered.inode)
    if same and remembered is not None and boot and remembered.boot == boot:
        # only the hidden file was removed
        return ""
    if any(_is_there(claim.name, fd) for claim in claims[:ROOTS_AT_MOST]):
        return ""
    if remembered is not None:
        return (
            "another folder lies in its place; mount the right disk, or if this one is meant "
            f"create an empty file {SENTINEL} in it"
        )
    missed = _missed(claims)
    if missed:
        return (
            f"nothing of the {missed} torrents is there that should be; mount their disk, or if this "
            f"folder is meant create an empty file {SENTINEL} in it"
        )
    return ""


def _missed(claims: Sequence[Claimed]) -> int:
    """Of those that are not in the folder: how many are not where a move would have brought them either."""
    return sum(
        not any(_is_there(f"{folder}/{claim.name}") for folder in claim.moves_to)
        for claim in claims[:ROOTS_AT_MOST]
    )


def _is_there(path: str, folder: int | None = None) -> bool:
    try:
        os.stat(path, dir_fd=folder, follow_symlinks=False)
    except (OSError, ValueError):
        return False
    return True


def _read_word(folder: int) -> str | None:
    """What the hidden file says; None when there is none that can be read."""
    try:
        fd = os.open(SENTINEL, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return os.read(fd, WORD_BYTES).split(b"\n", 1)[0].strip().decode("ascii", "replace")
    except OSError:
        return None
    finally:
        os.close(fd)


def _write_word(folder: int, word: str) -> str:
    """Gives the folder its hidden file; "" when that cannot be: it is tried again at the next look."""
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(TEMPORARY, dir_fd=folder)
        fd = os.open(TEMPORARY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=folder)
    except OSError:
        return ""
    try:
        blob = (word + SENTINEL_TEXT).encode()
        if os.write(fd, blob) != len(blob):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(fd)
        os.rename(TEMPORARY, SENTINEL, src_dir_fd=folder, dst_dir_fd=folder)
        os.fsync(folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(TEMPORARY, dir_fd=folder)
        return ""
    finally:
        os.close(fd)
    return word


def _room_above(folder: str) -> tuple[int | None, int]:
    """Device and free bytes of the nearest folder above that is there."""
    while (above := os.path.dirname(folder)) != folder:  # noqa: PTH120 — names need not be UTF-8 clean paths
        folder = above
        try:
            room = os.statvfs(folder)
            return os.stat(folder).st_dev, room.f_bavail * room.f_frsize  # noqa: PTH116 — the same
        except OSError:
            continue
    return None, 0
