"""Files and folders on their way into a .torrent, or compared with one: found, and hashed on all cores."""

import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from bittern.disk.files import OpenFiles
from bittern.disk.hashing import READ_BYTES, hash_range
from bittern.disk.storage import Storage
from bittern.errors import StorageError
from bittern.proto.layout import Layout

SLICE_BYTES: Final = 16 * 1024 * 1024
"""What a thread hashes in one go."""

OPEN_FILES: Final = 128

Progress = Callable[[int], None]
"""Is told how many more bytes are done, by the thread that asked."""


@dataclass(frozen=True, slots=True)
class Content:
    """What a torrent is to be made of. `paths` lead from `folder` and begin with the root; a lone file's is it."""

    folder: str
    root: str
    lone: bool
    paths: tuple[str, ...]
    lengths: tuple[int, ...]
    left_out: tuple[str, ...]
    """Links, devices and the like."""

    @property
    def total_bytes(self) -> int:
        return sum(self.lengths)


def find_content(path: str) -> Content:
    """Everything at and below `path`; `StorageError` when something cannot be read, or nothing is there."""
    if not path:
        # the folder where one stands is hardly what an unset variable of a script means
        raise StorageError("an empty path names nothing")
    real = os.path.realpath(path)
    folder, root = os.path.split(real)
    if not root:
        raise StorageError(f"{path}: has no name that a torrent could bear", path=path)
    try:
        status = os.stat(real)  # noqa: PTH116 — as the walk below
        if stat.S_ISREG(status.st_mode):
            return Content(folder, root, True, (root,), (status.st_size,), ())
        if not stat.S_ISDIR(status.st_mode):
            raise StorageError(f"{path}: neither a file nor a folder", path=path)
        files, left_out = _walk(real, root)
    except OSError as error:
        raise StorageError(f"{error.filename or path}: cannot be read ({error.strerror})") from error
    if not files:
        raise StorageError(f"{path}: there is no file in it", path=path)
    # transmission-create's order, for names in ASCII
    files.sort(key=lambda file: (os.fsencode(file[0]).lower(), os.fsencode(file[0])))
    paths, lengths = zip(*files, strict=True)
    return Content(folder, root, False, paths, lengths, tuple(sorted(left_out)))


def _walk(folder: str, named: str) -> tuple[list[tuple[str, int]], list[str]]:
    files: list[tuple[str, int]] = []
    left_out: list[str] = []
    waiting = [(folder, named)]
    while waiting:
        at, told = waiting.pop()
        with os.scandir(at) as found:
            for entry in found:
                name = f"{told}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, name))
                elif entry.is_file(follow_symlinks=False):
                    files.append((name, entry.stat(follow_symlinks=False).st_size))
                else:
                    left_out.append(name)
    return files, left_out


def piece_digests(
    folder: str, paths: Sequence[str | None], layout: Layout, progress: Progress
) -> list[bytes | None]:
    """The SHA-1 of each piece as it lies below `folder`; None where a file is missing, too short or unreadable."""
    files = OpenFiles(OPEN_FILES)
    storage = Storage(files, folder, paths, layout, read_only=True)
    buffers = threading.local()

    def work(first: int, behind: int) -> list[bytes | None]:
        buffer = getattr(buffers, "own", None)
        if buffer is None:
            buffer = buffers.own = bytearray(READ_BYTES)
        return [_digest(storage, layout, index, buffer) for index in range(first, behind)]

    digests: list[bytes | None] = []
    threads = len(os.sched_getaffinity(0))
    under_way: deque[tuple[Future[list[bytes | None]], int]] = deque()
    pool = ThreadPoolExecutor(threads, "hashing")
    try:
        for first, behind in _slices(layout):
            size = (
                layout.piece_offset(behind - 1) + layout.piece_size(behind - 1) - layout.piece_offset(first)
            )
            under_way.append((pool.submit(work, first, behind), size))
            if len(under_way) > 2 * threads:
                _take(under_way, digests, progress)
        while under_way:
            _take(under_way, digests, progress)
    finally:
        pool.shutdown(cancel_futures=True)
        files.close_all()
    return digests


def _take(
    under_way: deque[tuple[Future[list[bytes | None]], int]], digests: list[bytes | None], progress: Progress
) -> None:
    future, size = under_way.popleft()
    digests += future.result()
    progress(size)


def _slices(layout: Layout) -> Iterator[tuple[int, int]]:
    step = max(1, SLICE_BYTES // layout.piece_length)
    for first in range(0, layout.piece_count, step):
        yield first, min(first + step, layout.piece_count)


def _digest(storage: Storage, layout: Layout, index: int, buffer: bytearray) -> bytes | None:
    try:
        return hash_range(storage, layout.piece_offset(index), layout.piece_size(index), buffer)
    except StorageError:
        return None
