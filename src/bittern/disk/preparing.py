"""Before a torrent's first byte is written: its folder and its room on the disk, and whether it may be written at all.

Nothing that exists is cut or overwritten, and no folder that was there before is made anew: it is a disk that is not
mounted. Synchronous, for worker threads.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from bittern.disk.atomic import make_folder
from bittern.disk.parts import STAT_BLOCK_BYTES
from bittern.disk.refusal import GONE, storage_error
from bittern.disk.torrent_files import TorrentFiles
from bittern.errors import StorageError

_CANNOT_ALLOCATE: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV, errno.ENOSYS)


def unallocated_bytes(files: TorrentFiles) -> int:
    """How much of the files has no room on the disk yet: holes, and what is not there."""
    missing = 0
    for index in files.placed():
        length = files.layout.lengths[index]
        try:
            status = os.stat(files.full_path(index), follow_symlinks=False)  # noqa: PTH116 — as in full_path
        except OSError as error:
            if error.errno not in GONE:
                raise files.told(error, "read", index) from error
            missing += length
        else:
            # what hangs over the end, or lies in blocks that are filled in part, is room for no other file
            missing += max(0, length - status.st_blocks * STAT_BLOCK_BYTES)
    return missing


def prepare(files: TorrentFiles, *, preallocate: bool) -> None:
    """Makes the folder and the empty files, and with `preallocate` gives every file its blocks at once.

    Nothing that exists is cut or overwritten. A file system that cannot allocate ahead is used sparsely. If not
    all of it has room, all files get the sizes back that they had: others may need less.
    """
    if files.read_only:
        return
    try:
        if files.place.new:
            # durably: what is synced in it is claimed, and is gone with it
            make_folder(Path(files.folder))
        else:
            # a folder that was there before is a disk that is not mounted, and is not made anew
            files.place.require_path()
    except OSError as error:
        raise storage_error(error, "made", files.folder, files.folder) from error
    grown: list[tuple[int, int]] = []
    try:
        for index in files.wanted():
            if files.layout.lengths[index] == 0 or preallocate:
                _lengthen(files, index, grown)
    except StorageError:
        for index, size in grown:
            _shrink(files, index, size)
        raise


def _lengthen(files: TorrentFiles, index: int, grown: list[tuple[int, int]]) -> None:
    """Makes one file as long as it will be; `grown` gets its index and the size it had."""
    length = files.layout.lengths[index]
    try:
        with files.lease(index, writable=True) as fd:
            size = os.fstat(fd).st_size
            if size < length:
                grown.append((index, size))
            if length:
                _allocate(fd, length)
    except OSError as error:
        raise files.told(error, "allocated", index) from error


def _shrink(files: TorrentFiles, index: int, size: int) -> None:
    with (
        contextlib.suppress(OSError, StorageError),
        files.lease(index, writable=True) as fd,
    ):
        os.ftruncate(fd, size)


def require_writable(files: TorrentFiles, file_indices: Iterable[int]) -> None:
    """Raises what writing to these files, or making them, would raise as far as rights and mounts go; changes
    nothing.
    """
    if files.read_only:
        return
    asked: set[str] = set()
    for index in file_indices:
        if files.paths[index] is None or index in files.parts.skipped:
            continue
        path = files.full_path(index)
        while path not in asked:
            asked.add(path)
            try:
                _require_writable(path)
                break
            except OSError as error:
                if error.errno != errno.ENOENT or path == files.folder:
                    raise storage_error(error, "written", path, files.folder) from error
            path = os.path.dirname(path)  # noqa: PTH120 — as in full_path


def _allocate(fd: int, length: int) -> None:
    try:
        os.posix_fallocate(fd, 0, length)
    except OSError as error:
        if error.errno not in _CANNOT_ALLOCATE:
            raise


def _require_writable(path: str) -> None:
    """The kernel is asked for its leave; only its refusal has to be put into words."""
    folder = stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 — as in full_path
    if os.access(path, os.W_OK | os.X_OK if folder else os.W_OK):
        return
    read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    number = errno.EROFS if read_only else errno.EACCES
    raise OSError(number, os.strerror(number))
