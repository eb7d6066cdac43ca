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
import os
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Final

from bittern.disk.atomic import make_folder
from bittern.disk.copying import SLICE_BYTES, Copier, compared, is_copy, temporary, unfinished_bytes
from bittern.disk.folders import (
    folder_at,
    folders_of,
    remove_file,
    remove_if_empty,
    stat_file,
    sync_folders,
    take_name,
)
from bittern.disk.parts import STAT_BLOCK_BYTES
from bittern.disk.places import Places
from bittern.disk.refusal import in_the_way, storage_error
from bittern.disk.rights import give_folder, is_ours, made_folders
from bittern.errors import BitternError, StorageError
from bittern.policy.rights import NO_RIGHTS, Rights

SLICE_S: Final = 0.1
"""A step of many small files ends after so long."""


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
                if fd is None or stat_file(name, fd) is None:
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
        self._copier = Copier(self._require_places, rights, target_folder)
        self._work: Generator[int, None, None] | None = None
        self.deleting = False
        """All of it is at the target: it can only be ended."""

    @property
    def copied_bytes(self) -> int:
        """By this object; not what an earlier run had copied."""
        return self._copier.copied_bytes

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
                    os.unlink(temporary(name), dir_fd=target)
                self._take_back(path, name, source, target)
        for inner in sorted(folders_of(self._paths), key=len, reverse=True):
            with _told(f"{target_folder}/{inner}", target_folder):
                remove_if_empty(inner, target_folder, self._target)
        return True

    def _take_back(self, path: str, name: str, source: int | None, target: int) -> None:
        try:
            there = stat_file(name, target)
            here = None if source is None else stat_file(name, source)
        except FileExistsError:
            return
        if there is None or source is None:
            return
        if here is None:
            if path in self._brought:
                # it was renamed, where there are no links
                take_name(name, target, name, source)
        elif (
            path in self._brought
            or os.path.samestat(here, there)
            or is_copy(name, here, there, source, target)
        ):
            os.unlink(name, dir_fd=target)

    def _run(self) -> Generator[int, None, None]:
        source_folder, target_folder = self._source.folder, self._target.folder
        with _told(target_folder, target_folder):
            if self._target.new:
                make_folder(Path(target_folder))
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
            here = None if source is None else stat_file(name, source)
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
                    there = stat_file(name, target)
                except FileExistsError:
                    raise in_the_way(f"{target_folder}/{path}") from None
                if here is None or source is None or there is not None:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(temporary(name), dir_fd=target)
                if here is None or source is None:
                    if there is None and not optional:
                        raise StorageError(
                            f"{source_folder}/{path}: is missing and cannot be moved to {target_folder}",
                            errno=errno.ENOENT,
                            path=f"{source_folder}/{path}",
                        )
                    if there is not None and size is not None and there.st_size != size:
                        raise in_the_way(f"{target_folder}/{path}")
                elif there is None:
                    try:
                        take_name(name, source, name, target)
                    except FileExistsError:
                        raise in_the_way(f"{target_folder}/{path}") from None
                    except OSError as error:
                        if error.errno != errno.EXDEV:
                            raise
                        self._need_room(target)
                        yield from self._copier.copy(name, here, source, target)
                    self._brought.add(path)
                else:
                    same = os.path.samestat(here, there)
                    if not same and not (yield from compared(name, here, there, source, target)):
                        raise in_the_way(f"{target_folder}/{path}")
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
                here = None if fd is None else stat_file(name, fd)
            with folder_at(self._target.folder, inner, place=self._target) as fd:
                if here is not None:
                    needed += min(here.st_size, here.st_blocks * STAT_BLOCK_BYTES)
                    needed -= 0 if fd is None else unfinished_bytes(name, fd)
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

    def _require_places(self) -> None:
        self._source.require_path()
        self._target.require_path()


def _same_folder(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)  # noqa: PTH121 — the same
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def _told(path: str, folder: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, "moved", path, folder) from error
