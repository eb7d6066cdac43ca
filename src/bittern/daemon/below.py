"""Opens what lies in a watched folder, of which strangers may exchange any part for a link at any moment.

The watched folder itself is named by the configuration, and may be reached by links. What lies below it may not: each
step down is taken from the folder that was reached before, and none through a link.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

_NOREPLACE: Final = 1
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
_UNHEARD_OF: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""What a kernel or a file system says that cannot rename without replacing."""


@contextmanager
def opened(folder: str, root: str = "") -> Iterator[int]:
    """The descriptor of a folder; of a sub-folder `root` is the watched folder that it lies in. `OSError`."""
    fd = os.open(root or folder, _FOLDER)
    try:
        if root and folder != root:
            for name in folder.removeprefix(root).strip("/").split("/"):
                above, fd = fd, os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=fd)
                os.close(above)
        yield fd
    finally:
        os.close(fd)


def lexists(name: str, folder: int) -> bool:
    """Is there anything of that name, were it a link to nowhere?"""
    try:
        os.lstat(name, dir_fd=folder)
    except OSError:
        return False
    return True


def rename_new(name: str, folder: int, to: str, beside: int) -> None:
    """Moves it to a name that nothing has: `FileExistsError`, or another `OSError`, and it stays where it is."""
    if _renameat2 is not None:
        if not _renameat2(folder, os.fsencode(name), beside, os.fsencode(to), _NOREPLACE):
            return
        if (number := ctypes.get_errno()) not in _UNHEARD_OF:
            raise OSError(number, os.strerror(number), name)
    if lexists(to, beside):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), to)
    os.rename(name, to, src_dir_fd=folder, dst_dir_fd=beside)


def write_new(name: str, blob: bytes, folder: int, *, mode: int = 0o666) -> None:
    """A file that was not there, and no link. `OSError`."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, mode, dir_fd=folder), "wb") as file:
        file.write(blob)


def read_plain(name: str, at_most_bytes: int, folder: int) -> bytes | None:
    """None for anything but a plain file that can be read."""
    try:
        fd = os.open(
            name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=folder
        )
    except OSError:
        return None
    try:
        return os.read(fd, at_most_bytes) if stat.S_ISREG(os.fstat(fd).st_mode) else None
    except OSError:
        return None
    finally:
        os.close(fd)
