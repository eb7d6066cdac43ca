"""Files that are whole or not there: temporary name, fsync, rename, fsync of the folder.

Everything that keeps state goes through here. Errors are plain `OSError`, with the path in `filename`. A
temporary file is named `.NAME.tmp…`; one that a crash left behind may be deleted by whoever owns the folder.
"""

import contextlib
import itertools
import os
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

BATCH: Final = 64
"""Files written before the first of them is synced: one journal commit then serves many, within few
descriptors.
"""

_serial = itertools.count()


def write_atomic(path: Path, blob: bytes, *, mode: int = 0o644) -> None:
    """Makes `path` hold `blob`, durably; a crash leaves the old file or the new one, whole."""
    write_many_atomic([(path, blob)], mode=mode)


def write_many_atomic(files: Sequence[tuple[Path, bytes]], *, mode: int = 0o644) -> None:
    """The same for many files with one fsync per folder; each is atomic, the batch is not.

    When it raises, each file is old or new, and none may be counted on as durable.
    """
    for start in range(0, len(files), BATCH):
        _write_batch(files[start : start + BATCH], mode)
    for folder in dict.fromkeys([_folder_of(path) for path, _ in files]):
        fsync_folder(Path(folder))


def remove_durably(path: Path) -> None:
    """Deletes `path` if it is there; it stays deleted after a crash."""
    path.unlink(missing_ok=True)
    fsync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Makes `folder` and those above it that are missing; they stay after a crash."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    fsync_folder(folder.parent)


def fsync_folder(folder: Path) -> None:
    """Makes the names in `folder` durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        raise _named(error, folder) from error
    finally:
        os.close(fd)


def fsync_folders(folders: Iterable[Path]) -> None:
    """The same for several, each once."""
    for folder in dict.fromkeys(folders):
        fsync_folder(folder)


def _write_batch(files: Sequence[tuple[Path, bytes]], mode: int) -> None:
    nameless: deque[str] = deque()
    try:
        with contextlib.ExitStack() as opened:
            written: list[tuple[int, str, Path]] = []
            for path, blob in files:
                name = f".{path.name[:50]}.tmp{os.getpid()}-{next(_serial)}"
                temporary = f"{_folder_of(path)}/{name}"
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
                nameless.append(temporary)
                opened.callback(os.close, fd)
                written.append((fd, temporary, path))
                rest = memoryview(blob)
                try:
                    while rest:
                        rest = rest[os.write(fd, rest) :]
                except OSError as error:
                    raise _named(error, path) from error
                if len(files) > 1:
                    _start_writing(fd)
            for fd, _, path in written:
                try:
                    os.fsync(fd)
                except OSError as error:
                    raise _named(error, path) from error
            for _, temporary, path in written:
                os.rename(temporary, path)  # noqa: PTH104 — one call into the kernel, as the tests' fault injection sees it
                nameless.popleft()
    finally:
        # what has got its name is not looked for: of a thousand additions that would be three thousand calls
        for temporary in nameless:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108 — a string, as above


def _folder_of(path: Path) -> str:
    """Without the Path of it, which for each of thousands of files costs more than a call into the kernel."""
    return os.path.dirname(path) or "."  # noqa: PTH120 — a string: a Path costs more than the call


def _start_writing(fd: int) -> None:
    """Else each file's place on the disk is chosen when it is synced, and costs a journal commit of its own: of 64
    files the syncs took 60 ms, and take 11.
    """
    with contextlib.suppress(OSError):
        # what it is called for, to drop pages, begins so, and what is being written stays
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _named(error: OSError, path: Path) -> OSError:
    return OSError(error.errno, error.strerror, str(path))
