"""Moves a torrent's files from one folder to another, also across file systems, a slice at a time.

Synchronous, for a worker thread, and safe to repeat after a crash at any point: a file gets its name at the
target whole or not at all, no source is deleted before all targets are durable, and what is found moved
already is passed over. A copy that was broken off goes on where it was. What was copied is read back from the target
before it gets its name: it has to be what was read from the source. A file that is there and is not ours is never
replaced: names are taken with `link`, which cannot overwrite. Names are looked up in open folders, one by one, so no
symbolic link inside either folder leads out of it.
"""

import contextlib
import errno
import hashlib
import os
import stat
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Final

from bittern.disk.paths import make_folder_in
from bittern.disk.places import Place, Places
from bittern.disk.rights import give_file, give_folder, is_ours, made_folders
from bittern.disk.storage import storage_error
from bittern.disk.turns import turn_at
from bittern.errors import BitternError, StorageError
from bittern.policy.rights import NO_RIGHTS, Rights

SLICE_BYTES: Final = 8 << 20
"""What one step copies, or reads back; between two of them a move can be stopped."""

SLICE_S: Final = 0.1
"""A step of many small files ends after so long."""

SYNC_BYTES: Final = 32 << 20
"""So much is copied between two syncs: with more of it the disk would be busy for seconds when somebody else has to
wait for a sync of his own.
"""

BUFFER_BYTES: Final = 1 << 20

_GONE: Final = (errno.ENOENT, errno.ENOTDIR)
_CANNOT_LINK: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_CANNOT_SEEK_DATA: Final = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class MoveStopped(BitternError):
    """A move was broken off because it was asked to."""


def move(
    storage_paths: Sequence[str | None],
    source_folder: str,
    target_folder: str,
    root: str,
    sizes: Sequence[int | None] = (),
    stop: threading.Event | None = None,
    *,
    places: Places | None = None,
) -> None:
    """The whole of a `Move` in one go. `MoveStopped` when `stop` is set meanwhile: it may be taken up again."""
    moving = Move(storage_paths, source_folder, target_folder, root, sizes, places=places)
    try:
        while moving.step() is not None:
            if stop is not None and stop.is_set():
                raise MoveStopped(f"the move to {target_folder} was stopped")
    finally:
        moving.pause()


def all_there(
    storage_paths: Sequence[str | None], sizes: Sequence[int | None], folder: str, places: Places
) -> bool:
    """Does no file lack in the folder that is to be moved out of it? `PlaceGone` when the folder is another one."""
    place = places.of(folder)
    for path, size in zip(storage_paths, sizes, strict=True):
        if path is not None and size is not None:
            inner, _, name = path.rpartition("/")
            with _told(f"{folder}/{path}", folder), folder_at(folder, inner, place=place) as fd:
                if fd is None or _stat(name, fd) is None:
                    return False
    return True


class Move:
    """Files on their way (paths relative to both folders, None for pads; each is `root` or lies below it).

    With `sizes`, a file that is found only at the target must have that size there to count as moved, and one whose
    size is None need not be anywhere. `places` tells whether both folders are those that they were: `PlaceGone` if
    not, and nothing is made or deleted. Times and permissions are kept, holes too. At the end the target is durable,
    and the files and the folders that they leave empty are gone from the source. `StorageError` when something fails
    or is in the way: nothing is lost; it may be tried again, or undone. Folders that are made have the `rights`, and
    files keep the group that these name; `made`: packed bits of the files that we made, whose folders are ours as well.

    One thread at a time.
    """

    def __init__(
        self,
        storage_paths: Sequence[str | None],
        source_folder: str,
        target_folder: str,
        root: str,
        sizes: Sequence[int | None] = (),
        *,
        places: Places | None = None,
        reserve_bytes: int = 0,
        rights: Rights = NO_RIGHTS,
        made: bytes = b"",
    ) -> None:
        self._paths = [path for path in storage_paths if path is not None]
        assert all(path == root or path.startswith(root + "/") for path in self._paths)
        self._sizes = dict(zip(storage_paths, sizes, strict=True)) if sizes else {}
        places = places or Places()
        self._source, self._target = places.of(source_folder), places.of(target_folder)
        self._reserve_bytes = reserve_bytes
        self._rights = rights
        self._our_folders = made_folders(storage_paths, made) if rights != NO_RIGHTS else frozenset()
        self._brought: set[str] = set()
        """They have their names at the target, and by our doing."""
        self._room_asked = False
        self._buffer = memoryview(b"")
        self._work: Generator[int, None, None] | None = None
        self.deleting = False
        """All of it is at the target: it can only be ended."""
        self.copied_bytes = 0
        """By this object; not what an earlier run had copied."""

    def step(self) -> int | None:
        """Some more of it; gives the bytes that were read for that. None: it is at its end."""
        if self._work is None:
            self._work = self._run()
        done, until = 0, time.monotonic() + SLICE_S
        for size in self._work:
            done += size
            if done >= SLICE_BYTES or time.monotonic() >= until:
                return done
        return None

    def pause(self) -> None:
        """Closes what is open; what was copied stays, and this or another one goes on with it."""
        if self._work is not None:
            work, self._work = self._work, None
            work.close()

    def undo(self) -> bool:
        """Everything is at the source as it was, and nothing of ours at the target. False: it can only be ended."""
        self.pause()
        if self.deleting:
            return False
        source_folder, target_folder = self._source.folder, self._target.folder
        for path in self._paths:
            inner, _, name = path.rpartition("/")
            with (
                _told(f"{target_folder}/{path}", target_folder),
                folder_at(target_folder, inner, place=self._target) as target,
                folder_at(source_folder, inner, place=self._source) as source,
            ):
                if target is None:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_temporary(name), dir_fd=target)
                self._take_back(path, name, source, target)
        for inner in sorted(folders_of(self._paths), key=len, reverse=True):
            with _told(f"{target_folder}/{inner}", target_folder):
                remove_if_empty(inner, target_folder, self._target)
        return True

    def _take_back(self, path: str, name: str, source: int | None, target: int) -> None:
        try:
            there = _stat(name, target)
            here = None if source is None else _stat(name, source)
        except FileExistsError:
            return
        if there is None or source is None:
            return
        if here is None:
            if path in self._brought:
                # it was renamed, where there are no links
                _take_name(name, target, name, source)
        elif (
            path in self._brought
            or os.path.samestat(here, there)
            or _equal(name, here, there, source, target)
        ):
            os.unlink(name, dir_fd=target)

    def _run(self) -> Generator[int, None, None]:
        source_folder, target_folder = self._source.folder, self._target.folder
        with _told(target_folder, target_folder):
            if self._target.new:
                _make_folder(target_folder)
            else:
                # what was there before and is not is a disk that is not mounted, and is not made anew
                self._target.require_path()
            if _same_folder(source_folder, target_folder):
                return
        for path in self._paths:
            with _told(f"{source_folder}/{path}", target_folder):
                yield from self._bring(path)
        inner_folders = folders_of(self._paths)
        for inner in ("", *inner_folders):
            with (
                _told(f"{target_folder}/{inner}", target_folder),
                folder_at(target_folder, inner, place=self._target) as fd,
            ):
                if fd is not None:
                    if inner in self._our_folders and is_ours(fd):
                        # who was killed as it made one may have left it without
                        give_folder(fd, self._rights, f"{target_folder}/{inner}")
                    os.fsync(fd)
            yield 0
        self.deleting = True
        for path in self._paths:
            with _told(f"{source_folder}/{path}", source_folder):
                remove_file(path, source_folder, self._source)
            yield 0
        for inner in sorted(inner_folders, key=len, reverse=True):
            with _told(f"{source_folder}/{inner}", source_folder):
                remove_if_empty(inner, source_folder, self._source)
        with _told(source_folder, source_folder):
            sync_folders(self._paths, source_folder, self._source)

    def _bring(self, path: str) -> Iterator[int]:
        """Gives one file its name at the target; at the source it keeps its name until all are there."""
        source_folder, target_folder = self._source.folder, self._target.folder
        size = self._sizes.get(path)
        optional = path in self._sizes and size is None
        inner, _, name = path.rpartition("/")
        with folder_at(source_folder, inner, place=self._source) as source:
            here = None if source is None else _stat(name, source)
            # where nothing is to come no folder is made
            with folder_at(
                target_folder,
                inner,
                make=here is not None or not optional,
                place=self._target,
                rights=self._rights,
            ) as target:
                if target is None:
                    return
                try:
                    there = _stat(name, target)
                except FileExistsError:
                    raise _in_the_way(f"{target_folder}/{path}") from None
                if here is None or source is None or there is not None:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(_temporary(name), dir_fd=target)
                if here is None or source is None:
                    if there is None and not optional:
                        raise StorageError(
                            f"{source_folder}/{path}: is missing and cannot be moved to {target_folder}",
                            errno=errno.ENOENT,
                            path=f"{source_folder}/{path}",
                        )
                    if there is not None and size is not None and there.st_size != size:
                        raise _in_the_way(f"{target_folder}/{path}")
                elif there is None:
                    try:
                        _take_name(name, source, name, target)
                    except FileExistsError:
                        raise _in_the_way(f"{target_folder}/{path}") from None
                    except OSError as error:
                        if error.errno != errno.EXDEV:
                            raise
                        self._need_room(target)
                        yield from self._copy(name, here, source, target)
                    self._brought.add(path)
                else:
                    same = os.path.samestat(here, there)
                    if not same and not (yield from _compared(name, here, there, source, target)):
                        raise _in_the_way(f"{target_folder}/{path}")
                    self._brought.add(path)
        yield 0

    def _need_room(self, target: int) -> None:
        """Before the first byte is copied, and not when half of it is there."""
        if self._room_asked:
            return
        self._room_asked = True
        needed = 0
        for path in self._paths:
            inner, _, name = path.rpartition("/")
            with folder_at(self._source.folder, inner, place=self._source) as fd:
                here = None if fd is None else _stat(name, fd)
            with folder_at(self._target.folder, inner, place=self._target) as fd:
                if here is not None:
                    needed += min(here.st_size, here.st_blocks * 512)
                    needed -= 0 if fd is None else _allocated(name, fd)
        room = os.fstatvfs(target)
        free = room.f_bavail * room.f_frsize - self._reserve_bytes
        if needed > free:
            raise StorageError(
                f"{self._target.folder}: {needed} bytes are to be moved there and {max(0, free)} are free"
                + (f" above the reserve of {self._reserve_bytes}" if self._reserve_bytes else "")
                + "; free some space",
                errno=errno.ENOSPC,
                path=self._target.folder,
            )

    def _copy(self, name: str, here: os.stat_result, source: int, target: int) -> Iterator[int]:
        temporary = _temporary(name)
        with contextlib.ExitStack() as opened:
            fd = os.open(name, _READ, dir_fd=source)
            opened.callback(os.close, fd)
            copy = _open_copy(temporary, target)
            opened.callback(os.close, copy)
            try:
                yield from self._fill(fd, copy, here.st_size)
                if here.st_gid == self._rights.group:
                    give_file(copy, Rights(group=here.st_gid), f"{self._target.folder}: the copy of {name}")
                os.fchmod(copy, stat.S_IMODE(here.st_mode) & 0o777)
                os.utime(copy, ns=(here.st_atime_ns, here.st_mtime_ns))
                os.fsync(copy)
                now = os.fstat(fd)
                if (now.st_size, now.st_mtime_ns) != (here.st_size, here.st_mtime_ns):
                    raise OSError(errno.EAGAIN, "the file changed while it was copied")
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EBADMSG):
                    # others need the room, or nothing of it may be believed
                    _unlink_quietly(temporary, target)
                raise
            _take_name(temporary, target, name, target)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=target)

    def _fill(self, fd: int, copy: int, size: int) -> Iterator[int]:
        """Makes `copy` the same as `fd`, durably: what it has already is kept where it is right."""
        if not self._buffer:
            self._buffer = memoryview(bytearray(BUFFER_BYTES))
        # how far an earlier run came; the last bytes of it may be holes
        at = min(os.fstat(copy).st_size, size) // SLICE_BYTES * SLICE_BYTES
        os.ftruncate(copy, at)
        digests: dict[int, bytes] = {}
        unsynced = 0
        for start in range(at, size, SLICE_BYTES):
            digests[start] = self._copy_slice(fd, copy, start, min(SLICE_BYTES, size - start))
            unsynced += SLICE_BYTES
            if unsynced >= SYNC_BYTES:
                os.fdatasync(copy)
                unsynced = 0
            self._require_places()
            yield min(SLICE_BYTES, size - start)
        os.fsync(copy)
        # what is read now shall come from the disk
        os.posix_fadvise(copy, 0, 0, os.POSIX_FADV_DONTNEED)
        for start in range(0, size, SLICE_BYTES):
            length = min(SLICE_BYTES, size - start)
            wanted = digests.get(start) or self._digest(fd, start, length)
            if self._digest(copy, start, length) != wanted:
                # of an earlier run that a power cut ended, or a disk that lies
                wanted = self._copy_slice(fd, copy, start, length)
                os.fsync(copy)
                os.posix_fadvise(copy, start, length, os.POSIX_FADV_DONTNEED)
                if self._digest(copy, start, length) != wanted:
                    raise OSError(errno.EBADMSG, "what is read back is not what was written: a bad disk?")
            self._require_places()
            yield length
        os.posix_fadvise(copy, 0, 0, os.POSIX_FADV_DONTNEED)

    def _require_places(self) -> None:
        self._source.require_path()
        self._target.require_path()

    def _copy_slice(self, fd: int, copy: int, start: int, length: int) -> bytes:
        """Holes stay holes; gives the digest of what was read."""
        digest = hashlib.sha1(usedforsecurity=False)
        at, end = start, start + length
        while at < end:
            data = _next_data(fd, at, end)
            if data > at:
                digest.update(bytes(data - at))
                self._leave_hole(copy, at, data)
                at = data
                continue
            part = self._buffer[: min(BUFFER_BYTES, end - at)]
            got = os.preadv(fd, [part], at)
            if not got:
                raise OSError(errno.EAGAIN, "the file changed while it was copied")
            digest.update(part[:got])
            rest = part[:got]
            while rest:
                written = os.pwrite(copy, rest, at)
                rest, at = rest[written:], at + written
        self.copied_bytes += length
        return digest.digest()

    @staticmethod
    def _leave_hole(copy: int, at: int, end: int) -> None:
        there = os.fstat(copy).st_size
        if there > at:
            # over what should not be there
            os.pwrite(copy, bytes(min(end, there) - at), at)
        os.ftruncate(copy, max(end, there))

    def _digest(self, fd: int, start: int, length: int) -> bytes:
        digest = hashlib.sha1(usedforsecurity=False)
        at, end = start, start + length
        while at < end:
            got = os.preadv(fd, [self._buffer[: min(BUFFER_BYTES, end - at)]], at)
            if not got:
                break
            digest.update(self._buffer[:got])
            at += got
        return digest.digest()


def _open_copy(temporary: str, target: int) -> int:
    """The unfinished copy, if there is one and it is ours alone; else a new one."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        copy = os.open(temporary, flags & ~os.O_CREAT, dir_fd=target)
        found = os.fstat(copy)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1:
            return copy
        os.close(copy)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=target)
    return os.open(temporary, flags | os.O_EXCL, 0o600, dir_fd=target)


def _next_data(fd: int, at: int, end: int) -> int:
    """Where, from there on, the file holds data: `end` when it is a hole up to there."""
    try:
        return min(os.lseek(fd, at, os.SEEK_DATA), end)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return end
        if error.errno not in _CANNOT_SEEK_DATA:
            raise
        return at


def _allocated(name: str, folder: int) -> int:
    """What an unfinished copy has of its room already."""
    try:
        return os.stat(_temporary(name), dir_fd=folder, follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0


def _take_name(name: str, source: int, new_name: str, target: int) -> None:
    """Puts a file under a second name that nobody has, or where there are no links, renames it."""
    try:
        os.link(name, new_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        os.rename(name, new_name, src_dir_fd=source, dst_dir_fd=target)  # the name was free a moment ago


def _compared(
    name: str, here: os.stat_result, there: os.stat_result, source: int, target: int
) -> Generator[int, None, bool]:
    """Is the file at the target a copy that we made, before a crash kept us from deleting the source?"""
    if here.st_size != there.st_size or here.st_mtime_ns != there.st_mtime_ns:
        return False
    with (
        open(os.open(name, _READ, dir_fd=source), "rb") as one,  # noqa: PTH123 — a descriptor, no path
        open(os.open(name, _READ, dir_fd=target), "rb") as other,  # noqa: PTH123 — the same
    ):
        while part := one.read(BUFFER_BYTES):
            if part != other.read(BUFFER_BYTES):
                return False
            yield len(part)
    return True


def _equal(name: str, here: os.stat_result, there: os.stat_result, source: int, target: int) -> bool:
    compared = _compared(name, here, there, source, target)
    while True:
        try:
            next(compared)
        except StopIteration as end:
            return bool(end.value)


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


def sync_folders(paths: Sequence[str], folder: str, place: Place | None = None) -> None:
    """Makes durable which of these files are there, and which not: else what was deleted may be back after a power cut,
    when no record knows of it any more. `OSError`.
    """
    for inner in ("", *folders_of(paths)):
        with folder_at(folder, inner, place=place) as fd:
            if fd is not None:
                os.fsync(fd)


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
    base: str, inner: str, *, make: bool = False, place: Place | None = None, rights: Rights = NO_RIGHTS
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
            try:
                with turn_at(fd, name) if make else contextlib.nullcontext():
                    if make:
                        with contextlib.suppress(FileExistsError):
                            make_folder_in(fd, name, rights, told=f"{base}/{inner[: passed + len(name)]}")
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
