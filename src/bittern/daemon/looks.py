"""One look at a dropped file: its bytes, or why there are none; in threads."""

import errno
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from bittern.daemon.below import lexists, opened
from bittern.daemon.sidecars import sidecar_path
from bittern.daemon.sweep import Stamp, is_magnet_name
from bittern.disk.attempt import JobCrashed, attempt
from bittern.proto.metainfo import MAX_METAINFO_BYTES

MAX_LINKS_BYTES: Final = 8 * 1024 * 1024
"""Of a .magnet: some twenty thousand links."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found: the bytes, or why there are none."""

    found: Literal["bytes", "big", "changed", "gone", "odd", "too big", "unreadable"]
    stamp: Stamp | None = None
    blob: bytes = b""
    reason: str = ""
    sidecar: bool = False
    """Does something lie beside it that is called as its sidecar?"""


def look_at(path: str, root: str = "") -> Look:
    """Of that file alone, however large it may be."""
    above, _, name = path.rpartition("/")
    (look,) = look_at_all(above or "/", [name], root=root)
    if isinstance(look, JobCrashed):
        raise look
    return look


def look_at_all(
    above: str, names: Sequence[str], *, at_most_bytes: int = MAX_METAINFO_BYTES, root: str = ""
) -> list[Look | JobCrashed]:
    """Reads those that have no more bytes; whatever lies there, nothing hangs but a dead mount.

    The folder is opened once for all of them. `root`: as of `opened`.
    """
    try:
        with opened(above, root) as folder:
            return [attempt(_look_at, name, folder, at_most_bytes) for name in names]
    except (FileNotFoundError, NotADirectoryError):
        return [Look("gone") for _ in names]
    except OSError as error:
        return [Look("unreadable", reason=told(error)) for _ in names]


def _look_at(name: str, folder: int, at_most_bytes: int) -> Look:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=folder)
    except (FileNotFoundError, NotADirectoryError):
        return Look("gone")
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:
            return Look("odd")
        return Look("unreadable", _stamp_at(name, folder), reason=told(error))
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            return Look("odd")
        stamp = stamp_of(before)
        magnets = is_magnet_name(name)
        limit = MAX_LINKS_BYTES if magnets else MAX_METAINFO_BYTES
        if before.st_size > limit:
            what = ".magnet" if magnets else ".torrent"
            return Look(
                "too big",
                stamp,
                reason=f"{before.st_size} bytes are more than a {what} may have ({limit >> 20} MiB)",
                sidecar=lexists(sidecar_path(name), folder),
            )
        if before.st_size > at_most_bytes:
            return Look("big", stamp)
        # One byte more than there are: what is as long as its stamp says has been read to its end.
        chunks, missing = [], before.st_size
        while chunk := os.read(fd, missing + 1):
            chunks.append(chunk)
            missing -= len(chunk)
            if missing <= 0:
                break
        if missing or stamp_of(os.fstat(fd)) != stamp:
            return Look("changed")
        return Look("bytes", stamp, b"".join(chunks), sidecar=lexists(sidecar_path(name), folder))
    except OSError as error:
        return Look("unreadable", reason=told(error))
    finally:
        os.close(fd)


def _stamp_at(name: str, folder: int) -> Stamp | None:
    try:
        return stamp_of(os.stat(name, dir_fd=folder))
    except OSError:
        return None


def told(error: OSError) -> str:
    """The kernel's word for it."""
    return error.strerror or str(error)


def stamp_of(status: os.stat_result) -> Stamp:
    """What changes when that file does."""
    return Stamp(status.st_size, status.st_mtime_ns, status.st_ino)
