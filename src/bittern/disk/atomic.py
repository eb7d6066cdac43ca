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
from typing import Final, TypeAlias

Files: TypeAlias = Sequence[tuple[Path | str, bytes]]

BATCH: Final = 64
"""Files written before the first of them is synced: one journal commit then serves many, within few
descriptors.
"""

_serial = itertools.count()


def write_atomic(path: Path, blob: bytes, *, mode: int = 0o644) -> None:
    """Makes `path` hold `blob`, durably; a crash leaves the old file or the new one, whole."""
    write_many_atomic([(path, blob)], mode=mode)


def write_many_atomic(files: Files, *, mode: int = 0o644) -> None:
    """The same for many files with one fsync per folder; each is atomic, the batch is not.

    When it raises, each file is old or new, and none may be counted on as durable.
    """
    write_in_turn([files], mode=mode)


def write_in_turn(groups: Sequence[Files], *, mode: int = 0o644) -> None:
    """The same for several batches, of which no file has its name before those of the batches before it have theirs
    durably: their bytes wait for the disk together.
    """
    if sum(map(len, groups)) <= BATCH:
        _write_batch(groups, mode)
        return
    for files in groups:
        folders: dict[str, None] = {}
        for start in range(0, len(files), BATCH):
            folders |= _write_batch([files[start : start + BATCH]], mode, last=False)
        fsync_folders(map(Path, folders))


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


def _write_batch(groups: Sequence[Files], mode: int, *, last: bool = True) -> dict[str, None]:
    """Not the `last` of a batch that is too large: gives the folders that have yet to be synced."""
    nameless: deque[str] = deque()
    folders: dict[str, None] = {}
    try:
        for turn in _write_nameless(groups, mode, nameless):
            for temporary, path, _ in turn:
                os.rename(temporary, path)  # noqa: PTH104 — one call into the kernel, as the tests' fault injection sees it
                nameless.popleft()
            folders = dict.fromkeys(folder for _, _, folder in turn)
            if last:
                fsync_folders(map(Path, folders))
        return folders
    finally:
        # what has got its name is not looked for: of a thousand additions that would be three thousand calls
        for temporary in nameless:
            with contextlib.suppress(OSError):
                os.unlink(temporary)  # noqa: PTH108 — a string, as above


def _write_nameless(
    groups: Sequence[Files], mode: int, nameless: deque[str]
) -> list[list[tuple[str, str, str]]]:
    """All of them, durably; notes in `nameless` what was made. Gives each one's temporary path, path and folder."""
    turns: list[list[tuple[str, str, str]]] = []
    written: list[tuple[int, str]] = []
    several = sum(map(len, groups)) > 1
    unique = f".tmp{os.getpid()}-"
    try:
        for files in groups:
            turns.append(turn := [])
            for path, blob in files:
                # strings: a Path for each of thousands of files costs more than a call into the kernel
                folder, name = os.path.split(os.fspath(path))
                temporary = f"{folder or '.'}/.{name[:50]}{unique}{next(_serial)}"
                fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
                nameless.append(temporary)
                written.append((fd, os.fspath(path)))
                turn.append((temporary, os.fspath(path), folder or "."))
                _write(fd, blob, path)
                if several:
                    _start_writing(fd)
        for fd, named in written:
            try:
                os.fsync(fd)
            except OSError as error:
                raise _named(error, named) from error
    finally:
        # all of them, whatever one says: a network's disk may tell of its trouble here
        with contextlib.ExitStack() as all_of_them:
            for fd, _ in written:
                all_of_them.callback(os.close, fd)
    return turns


def _write(fd: int, blob: bytes, path: Path | str) -> None:
    rest = memoryview(blob)
    try:
        while rest:
            rest = rest[os.write(fd, rest) :]
    except OSError as error:
        raise _named(error, path) from error


def _start_writing(fd: int) -> None:
    """Else each file's place on the disk is chosen when it is synced, and costs a journal commit of its own: of 64
    files the syncs took 60 ms, and take 11.
    """
    with contextlib.suppress(OSError):
        # what it is called for, to drop pages, begins so, and what is being written stays
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def _named(error: OSError, path: Path | str) -> OSError:
    return OSError(error.errno, error.strerror, str(path))
