"""One file's copy in another file system, a slice at a time: durable, read back, and only then given its name.

The copy grows under a name that is its file's alone, the same again after a crash, and goes on where it was. It is
synced, its pages are let go, and all of it is read from the disk: only what is the same as was read from the source
takes the file's name, by a link that replaces nobody's. Holes stay holes; times and permissions are kept.
Synchronous, for a worker thread.
"""

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Generator, Iterator
from typing import Final

from bittern.disk.folders import remove_file, take_name
from bittern.disk.holes import next_data
from bittern.disk.parts import STAT_BLOCK_BYTES
from bittern.disk.places import Place
from bittern.disk.rights import give_file
from bittern.policy.rights import Rights

SLICE_BYTES: Final = 8 << 20
"""What one step copies, or reads back; between two of them a move can be stopped."""

SYNC_BYTES: Final = 32 << 20
"""So much is copied between two syncs: with more of it the disk would be busy for seconds when somebody else has to
wait for a sync of his own.
"""

BUFFER_BYTES: Final = 1 << 20

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Copier:
    """Copies files one after the other; one thread at a time.

    `require_places` is asked after each slice and raises when either folder is not the one that it was. A file keeps
    its group where the `rights` name that. `told_folder`: the target's, as errors call it.
    """

    def __init__(self, require_places: Callable[[], None], rights: Rights, told_folder: str) -> None:
        self._require_places = require_places
        self._rights = rights
        self._told_folder = told_folder
        self._buffer = memoryview(b"")
        self.copied_bytes = 0
        """By this object; not what an earlier run had copied."""

    def copy(self, name: str, here: os.stat_result, source: int, target: int) -> Iterator[int]:
        """Copies one file, `here` in the open folder `source`, into `target`; gives what each slice has read."""
        unfinished = temporary(name)
        with contextlib.ExitStack() as opened:
            fd = os.open(name, _READ, dir_fd=source)
            opened.callback(os.close, fd)
            copy = _open_copy(unfinished, target)
            opened.callback(os.close, copy)
            try:
                yield from self._fill(fd, copy, here.st_size)
                if here.st_gid == self._rights.group:
                    give_file(copy, Rights(group=here.st_gid), f"{self._told_folder}: the copy of {name}")
                os.fchmod(copy, stat.S_IMODE(here.st_mode) & 0o777)
                os.utime(copy, ns=(here.st_atime_ns, here.st_mtime_ns))
                os.fsync(copy)
                now = os.fstat(fd)
                if (now.st_size, now.st_mtime_ns) != (here.st_size, here.st_mtime_ns):
                    raise OSError(errno.EAGAIN, "the file changed while it was copied")
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EBADMSG):
                    # others need the room, or nothing of it may be believed
                    _unlink_quietly(unfinished, target)
                raise
            take_name(unfinished, target, name, target)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished, dir_fd=target)

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

    def _copy_slice(self, fd: int, copy: int, start: int, length: int) -> bytes:
        """Holes stay holes; gives the digest of what was read."""
        digest = hashlib.sha1(usedforsecurity=False)
        at, end = start, start + length
        while at < end:
            data = next_data(fd, at, end)
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


def _open_copy(unfinished: str, target: int) -> int:
    """The unfinished copy, if there is one and it is ours alone; else a new one."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        copy = os.open(unfinished, flags & ~os.O_CREAT, dir_fd=target)
        found = os.fstat(copy)
        if stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1:
            return copy
        os.close(copy)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(unfinished, dir_fd=target)
    return os.open(unfinished, flags | os.O_EXCL, 0o600, dir_fd=target)


def unfinished_bytes(name: str, folder: int) -> int:
    """What an unfinished copy has of its room already."""
    try:
        return os.stat(temporary(name), dir_fd=folder, follow_symlinks=False).st_blocks * STAT_BLOCK_BYTES
    except FileNotFoundError:
        return 0


def compared(
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


def is_copy(name: str, here: os.stat_result, there: os.stat_result, source: int, target: int) -> bool:
    """The same in one go."""
    steps = compared(name, here, there, source, target)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return bool(end.value)


def remove_unfinished(path: str, folder: str, place: Place | None = None) -> None:
    """Deletes what a copy of that file which was broken off has left, if anything. `OSError`."""
    inner, _, name = path.rpartition("/")
    remove_file(f"{inner}/{temporary(name)}" if inner else temporary(name), folder, place)


def temporary(name: str) -> str:
    """A name of its own for each file's unfinished copy, the same again after a crash."""
    return f".{hashlib.sha1(os.fsencode(name)).hexdigest()[:16]}.bittern-moving"


def _unlink_quietly(name: str, folder: int) -> None:
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=folder)
