"""Moves a finished torrent's files from one folder to another, also across file systems.

Synchronous, for a worker thread, and safe to repeat after a crash at any point: a file gets its name at the
target whole or not at all, no source is deleted before all targets are durable, and what is found moved
already is passed over. A file that is there and is not ours is never replaced: names are taken with `link`,
which cannot overwrite. Names are looked up in open folders, one by one, so no symbolic link inside either
folder leads out of it.
"""

import contextlib
import errno
import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from typing import Final

from bittern.disk.places import Place, Places
from bittern.disk.storage import storage_error
from bittern.errors import BitternError, StorageError

COPY_BYTES: Final = 8 << 20
"""What one `sendfile` copies; between two of them a move can be stopped."""

COMPARE_BYTES: Final = 1 << 20

_GONE: Final = (errno.ENOENT, errno.ENOTDIR)
_CANNOT_LINK: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class MoveStopped(BitternError):
    """A copy was broken off because it was asked to."""


def move(
    storage_paths: Sequence[str | None],
    source_folder: str,
    target_folder: str,
    root: str,
    lengths: Sequence[int] = (),
    stop: threading.Event | None = None,
    *,
    places: Places | None = None,
) -> None:
    """Moves the files (paths relative to both folders, None for pads; each is `root` or lies below it).

    With `lengths`, a file that is found only at the target must have its full length there to count as moved.
    `places` tells whether both folders are those that they were: `PlaceGone` if not, and nothing is made or deleted.
    Times and permissions are kept. Afterwards the target is durable, and the files and the folders that they
    leave empty are gone from the source. `StorageError` when something fails or is in the way: nothing is
    lost, and it may be tried again.
    """
    paths = [path for path in storage_paths if path is not None]
    assert all(path == root or path.startswith(root + "/") for path in paths)
    full_lengths = dict(zip(storage_paths, lengths, strict=True)) if lengths else {}
    places = places or Places()
    source_place, target_place = places.of(source_folder), places.of(target_folder)
    with _told(target_folder, target_folder):
        if target_place.new:
            _make_folder(target_folder)
        else:
            # what was there before and is not is a disk that is not mounted, and is not made anew
            target_place.require_path()
        if _same_folder(source_folder, target_folder):
            return
    for path in paths:
        with _told(f"{source_folder}/{path}", target_folder):
            _bring(path, source_place, target_place, full_lengths.get(path), stop)
    inner_folders = folders_of(paths)
    for inner in ("", *inner_folders):
        with (
            _told(f"{target_folder}/{inner}", target_folder),
            folder_at(target_folder, inner, place=target_place) as fd,
        ):
            if fd is not None:
                os.fsync(fd)
    for path in paths:
        with _told(f"{source_folder}/{path}", source_folder):
            remove_file(path, source_folder, source_place)
    for inner in sorted(inner_folders, key=len, reverse=True):
        with _told(f"{source_folder}/{inner}", source_folder):
            remove_if_empty(inner, source_folder, source_place)


def _bring(
    path: str, source_place: Place, target_place: Place, length: int | None, stop: threading.Event | None
) -> None:
    """Gives one file its name at the target; at the source it keeps its name until all are there."""
    source_folder, target_folder = source_place.folder, target_place.folder
    inner, _, name = path.rpartition("/")
    with (
        folder_at(target_folder, inner, make=True, place=target_place) as target,
        folder_at(source_folder, inner, place=source_place) as source,
    ):
        assert target is not None
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_temporary(name), dir_fd=target)
        try:
            there = _stat(name, target)
        except FileExistsError:
            raise _in_the_way(f"{target_folder}/{path}") from None
        here = None if source is None else _stat(name, source)
        if here is None or source is None:
            if there is None:
                raise StorageError(
                    f"{source_folder}/{path}: is missing and cannot be moved to {target_folder}",
                    errno=errno.ENOENT,
                    path=f"{source_folder}/{path}",
                )
            if length is not None and there.st_size != length:
                raise _in_the_way(f"{target_folder}/{path}")
        elif there is None:
            try:
                _take_name(name, source, name, target)
            except FileExistsError:
                raise _in_the_way(f"{target_folder}/{path}") from None
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                _copy(name, here, source, target, stop)
        elif not os.path.samestat(here, there) and not _equal(name, here, there, source, target):
            raise _in_the_way(f"{target_folder}/{path}")


def _take_name(name: str, source: int, new_name: str, target: int) -> None:
    """Puts a file under a second name that nobody has, or where there are no links, renames it."""
    try:
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)  # the name was free a moment ago


def _copy(name: str, here: os.stat_result, source: int, target: int, stop: threading.Event | None) -> None:
    temporary = _temporary(name)
    with contextlib.ExitStack() as undo:
        fd = os.open(name, _READ, dir_fd=source)
        undo.callback(os.close, fd)
        copy = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=target)
        undo.callback(_unlink_quietly, temporary, target)
        undo.callback(os.close, copy)
        at = 0
        while done := os.sendfile(copy, fd, at, COPY_BYTES):
            at += done
            if stop is not None and stop.is_set():
                raise MoveStopped(f"the move of {name!r} was stopped after {at} bytes")
        if at != here.st_size:
            raise OSError(errno.EAGAIN, "the file changed while it was copied")
        os.fchmod(copy, stat.S_IMODE(here.st_mode) & 0o777)
        os.utime(copy, ns=(here.st_atime_ns, here.st_mtime_ns))
        os.fsync(copy)
        _take_name(temporary, target, name, target)


def _equal(name: str, here: os.stat_result, there: os.stat_result, source: int, target: int) -> bool:
    """Is the file at the target a copy that we made, before a crash kept us from deleting the source?"""
    if here.st_size != there.st_size or here.st_mtime_ns != there.st_mtime_ns:
        return False
    with (
        open(os.open(name, _READ, dir_fd=source), "rb") as one,  # noqa: PTH123 — a descriptor, no path
        open(os.open(name, _READ, dir_fd=target), "rb") as other,  # noqa: PTH123 — the same
    ):
        while part := one.read(COMPARE_BYTES):
            if part != other.read(COMPARE_BYTES):
                return False
    return True


def remove_file(path: str, folder: str, place: Place | None = None) -> None:
    """Deletes a file below the folder, if it is there. `OSError`."""
    inner, _, name = path.rpartition("/")
    with folder_at(folder, inner, place=place) as fd:
        if fd is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)


def remove_unfinished(path: str, folder: str, place: Place | None = None) -> None:
    """Deletes what a copy of that file which was broken off has left, if anything. `OSError`."""
    inner, _, name = path.rpartition("/")
    remove_file(f"{inner}/{_temporary(name)}" if inner else _temporary(name), folder, place)


def remove_if_empty(inner: str, folder: str, place: Place | None = None) -> None:
    """Deletes a folder below that one, if it is there and empty; what is mounted there stays. `OSError`."""
    above, _, name = inner.rpartition("/")
    with folder_at(folder, above, place=place) as fd:
        if fd is not None:
            try:
                os.rmdir(name, dir_fd=fd)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, *_GONE):
                    raise


def folders_of(paths: Sequence[str]) -> list[str]:
    """The relative folders that hold these files, those above them too, without the topmost one ("")."""
    found: dict[str, None] = {}
    for path in paths:
        inner = path.rpartition("/")[0]
        while inner and inner not in found:
            found[inner] = None
            inner = inner.rpartition("/")[0]
    return list(found)


@contextlib.contextmanager
def folder_at(
    base: str, inner: str, *, make: bool = False, place: Place | None = None
) -> Iterator[int | None]:
    """An open folder, found name by name; None when there is no such folder (a link to one is none)."""
    try:
        fd = (place or Place(base)).open()
    except OSError as error:
        if error.errno not in _GONE or make:
            raise
        yield None
        return
    passed = 0
    try:
        for name in inner.split("/") if inner else ():
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, dir_fd=fd)
            try:
                deeper = os.open(name, _FOLDER, dir_fd=fd)
            except OSError as error:
                if make and error.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise _in_the_way(f"{base}/{inner[: passed + len(name)]}") from None
                if error.errno not in (*_GONE, errno.ELOOP) or make:
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


def _stat(name: str, folder: int) -> os.stat_result | None:
    """A regular file's stat; None when there is nothing; anything else in its place is an error."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EEXIST, f"{name!r} is there and is no regular file")
    return found


def _make_folder(folder: str) -> None:
    """Makes a folder and those above it, durably."""
    if not os.path.isdir(folder):  # noqa: PTH112 — names need not be UTF-8 clean paths
        parent = os.path.dirname(folder.rstrip("/")) or "."  # noqa: PTH120 — the same
        _make_folder(parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)  # noqa: PTH102 — the same
        with folder_at(parent, "") as fd:
            if fd is not None:
                os.fsync(fd)


def _same_folder(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 — the same
    except FileNotFoundError:
        return False


def _temporary(name: str) -> str:
    """A name of its own for each file's unfinished copy, the same again after a crash."""
    return f".{hashlib.sha1(os.fsencode(name)).hexdigest()[:16]}.bittern-moving"


def _unlink_quietly(name: str, folder: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)


def _in_the_way(path: str) -> StorageError:
    return StorageError(
        f"{path}: something else is in the way and is not replaced; move it aside",
        errno=errno.EEXIST,
        path=path,
    )


@contextlib.contextmanager
def _told(path: str, folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, "moved", path, folder) from error
