"""Names below a folder of ours, found one by one in open folders: no symbolic link leads out of it.

Synchronous, for worker threads. Who gives the `Place` of the folder is sure that it is the folder that it was: nothing
is made or deleted in another. Errors are plain `OSError`; what is in the way of a folder is a `StorageError`.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from bittern.disk.paths import make_folder_in
from bittern.disk.places import Place
from bittern.disk.refusal import GONE, in_the_way
from bittern.disk.turns import turn_at
from bittern.policy.rights import NO_RIGHTS, Rights

_CANNOT_LINK: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def folder_at(
    base: str, inner: str, *, make: bool = False, place: Place | None = None, rights: Rights = NO_RIGHTS
) -> Iterator[int | None]:
    """An open folder, found name by name; None when there is no such folder (a link to one is none)."""
    try:
        fd = (place or Place(base)).open()
    except OSError as error:
        if error.errno not in GONE or make:
            raise
        yield None
        return
    passed = 0
    try:
        for name in inner.split("/") if inner else ():
            try:
                with turn_at(fd, name) if make else contextlib.nullcontext():
                    if make:
                        with contextlib.suppress(FileExistsError):
                            make_folder_in(fd, name, rights, told=f"{base}/{inner[: passed + len(name)]}")
                    deeper = os.open(name, _FOLDER, dir_fd=fd)
            except OSError as error:
                if make and error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise in_the_way(f"{base}/{inner[: passed + len(name)]}") from None
                if error.errno not in (*GONE, errno.ELOOP) or make:
                    raise
                os.close(fd)
                fd = -1
                break
            os.close(fd)
            fd = deeper
            passed += len(name) + 1
        yield None if fd < 0 else fd
    finally:
        if fd >= 0:
            os.close(fd)


def folders_of(paths: Sequence[str]) -> list[str]:
    """The relative folders that hold these files, those above them too, without the topmost one ("")."""
    found: dict[str, None] = {}
    for path in paths:
        inner = path.rpartition("/")[0]
        while inner and inner not in found:
            found[inner] = None
            inner = inner.rpartition("/")[0]
    return list(found)


def stat_file(name: str, folder: int) -> os.stat_result | None:
    """A regular file's stat; None when there is nothing; anything else in its place is an error."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EEXIST, f"{name!r} is there and is no regular file")
    return found


def take_name(name: str, source: int, new_name: str, target: int) -> None:
    """Puts a file under a second name that nobody has, or where there are no links, renames it."""
    try:
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)  # the name was free a moment ago


def remove_file(path: str, folder: str, place: Place | None = None) -> None:
    """Deletes a file below the folder, if it is there. `OSError`."""
    inner, _, name = path.rpartition("/")
    with folder_at(folder, inner, place=place) as fd:
        if fd is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)


def remove_if_empty(inner: str, folder: str, place: Place | None = None) -> None:
    """Deletes a folder below that one, if it is there and empty; what is mounted there stays. `OSError`."""
    above, _, name = inner.rpartition("/")
    with folder_at(folder, above, place=place) as fd:
        if fd is not None:
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, *GONE):
                    raise


def sync_folders(paths: Sequence[str], folder: str, place: Place | None = None) -> None:
    """Makes durable which of these files are there, and which not: else what was deleted may be back after a power cut,
    when no record knows of it any more. `OSError`.
    """
    for inner in ("", *folders_of(paths)):
        with folder_at(folder, inner, place=place) as fd:
            if fd is not None:
                os.fsync(fd)
