"""One torrent's files as one row of bytes: offsets of the torrent in, file slices out.

Synchronous: everything here may wait for a disk and runs in worker threads, several at a time, except
`read_cached`, which is for the loop thread and never waits. Pad files (BEP 47) read as zeros, swallow writes
and have no file.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from bittern.disk.atomic import make_folder
from bittern.disk.files import Lease, OpenFiles
from bittern.disk.holes import data_ranges
from bittern.disk.parts import NO_PARTS, PARTS, STAT_BLOCK_BYTES, Parts
from bittern.disk.paths import make_file_in, open_file_in, open_folder_beneath
from bittern.disk.places import Place
from bittern.disk.refusal import storage_error
from bittern.disk.rights import give_file, give_folder, is_made, is_ours, made_folders
from bittern.disk.writing import write_at
from bittern.errors import StorageError
from bittern.policy.rights import NO_RIGHTS, Rights
from bittern.proto.layout import Layout

_GONE: Final = (errno.ENOENT, errno.ENOTDIR)
_CANNOT_ALLOCATE: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV, errno.ENOSYS)

BRING_BYTES: Final = 1024 * 1024
"""Copied at a time."""


class FileStamp(NamedTuple):
    """What tells an untouched file from a changed one."""

    size: int
    mtime_ns: int


class Storage:
    """The files of one torrent below `folder`; `paths` has one relative path per file of the layout, None for
    a pad.

    Errors are `StorageError` with one line that names the path, `PlaceGone` when `folder` is not the folder that it was
    when it was looked at last. With `read_only` (data shared with another torrent) nothing is ever opened for writing.
    Files of `parts` lie there, and skipped ones are not made.
    """

    def __init__(
        self,
        files: OpenFiles,
        folder: str,
        paths: Sequence[str | None],
        layout: Layout,
        *,
        read_only: bool = False,
        place: Place | None = None,
        parts: Parts = NO_PARTS,
        of: bytes = b"",
        rights: Rights = NO_RIGHTS,
    ) -> None:
        assert len(paths) == len(layout.lengths)
        self.folder = folder
        self.place = place or Place(folder)
        self.paths = tuple(paths)
        self.layout = layout
        self.read_only = read_only
        self.parts = parts
        self.of = of
        """Which torrent's: its info hash, where somebody asks."""
        self.rights = rights
        """Of what is made here, but for the folder itself."""
        self._files = files
        self._made: set[int] = set()
        """Files that were opened for writing, perhaps made, and whose folders were not synced since; only whole set
        operations, from any thread.
        """
        self._openers = _Openers(self._open)
        self._nowait = True

    def full_path(self, file_index: int) -> str:
        """Where a file lies; of a pad, the folder."""
        if file_index in self.parts.files:
            return self.parts.path
        return os.path.join(self.folder, self.paths[file_index] or "")  # noqa: PTH118 — one for each file of a torrent: building a Path (4 us) costs more than the stat that follows

    def write(self, offset: int, body: memoryview, *, kept: bool = True) -> None:
        """Puts `body` at the torrent's `offset`; makes files and folders that are missing below `folder`,
        sparse. `kept`: in memory too, because somebody will read it soon.
        """
        if self.read_only:
            raise StorageError(
                f"{self.folder}: data shared with another torrent is never written", path=self.folder
            )
        at = 0
        for index, begin, length in self.layout.slices(offset, len(body)):
            rest = body[at : at + length]
            at += length
            if self.paths[index] is None:
                continue
            if index in self.parts.files:
                begin += self.layout.file_offset(index)
            try:
                with self._lease(index, writable=True) as fd:
                    write_at(fd, rest, begin, kept=kept)
            except OSError as error:
                raise self._told(error, "written", index) from error

    def read_into(self, offset: int, view: memoryview) -> None:
        """Fills `view`; a file that is missing or too short is an error."""
        self.read_scattered(offset, [view])

    def read_scattered(self, offset: int, views: list[memoryview]) -> None:
        """Fills `views` with contiguous bytes from `offset` on, as `read_into`."""
        missing = self._read(offset, views)
        if missing is not None:
            path = self.full_path(missing)
            raise StorageError(
                f"{path}: is missing or shorter than it should be", errno=errno.ENODATA, path=path
            )

    def read_if_there(self, offset: int, view: memoryview) -> bool:
        """The same, but False when a file is missing or too short; the view's content is then arbitrary."""
        return self._read(offset, [view]) is None

    def read_cached(self, offset: int, views: list[memoryview]) -> int:
        """Fills `views` with contiguous bytes from `offset` on as far as that takes no waiting; loop thread.

        Gives how many bytes it came: not all when a file is not open, when bytes are not in the page cache, or on any
        error. `read_scattered` in a thread brings the rest, or tells what is wrong.
        """
        if not self._nowait:
            return 0
        slices = self.layout.slices(offset, sum(map(len, views)))
        if len(slices) == 1:
            return self._read_slice_cached(*slices[0], views)
        done, rest = 0, views
        for index, begin, length in slices:
            mine, rest = cut(rest, length)
            got = self._read_slice_cached(index, begin, length, mine)
            done += got
            if got < length:
                break
        return done

    def open_for_reading(self, offset: int, length: int) -> None:
        """Opens the files of a range, so that `read_cached` can find them."""
        for index, _, _ in self.layout.slices(offset, length):
            if self.paths[index] is not None:
                try:
                    with self._lease(index, writable=False):
                        pass
                except OSError as error:
                    raise self._told(error, "read", index) from error

    def stamps(self) -> list[FileStamp | None]:
        """Size and mtime of every file; None for pads and for what is not there or no regular file. Those that lie in
        the parts have its stamp.
        """
        shared = stamp_of(self.parts.path) if self.parts.files else None
        stamps = [
            None if path is None else shared if index in self.parts.files else self._stamp(index)
            for index, path in enumerate(self.paths)
        ]
        # after looking: what was seen in another folder is never told
        self.place.require_path()
        return stamps

    def unallocated_bytes(self) -> int:
        """How much of the files has no room on the disk yet: holes, and what is not there."""
        missing = 0
        for index in self._placed_files():
            length = self.layout.lengths[index]
            try:
                status = os.stat(self.full_path(index), follow_symlinks=False)  # noqa: PTH116 — as in full_path
            except OSError as error:
                if error.errno not in _GONE:
                    raise self._told(error, "read", index) from error
                missing += length
            else:
                # what hangs over the end, or lies in blocks that are filled in part, is room for no other file
                missing += max(0, length - status.st_blocks * STAT_BLOCK_BYTES)
        return missing

    def data_ranges(self) -> list[tuple[int, int]]:
        """(start, end) offsets of the torrent where the disk has data, ascending and merged; holes, pads
        and what lies in the parts are left out.
        """
        self.place.require_path()
        found: list[tuple[int, int]] = []
        for index in self._placed_files():
            start, length = self.layout.file_offset(index), self.layout.lengths[index]
            if length == 0:
                continue
            for begin, end in self._data_of(index, length):
                if found and found[-1][1] == start + begin:
                    found[-1] = (found[-1][0], start + end)
                else:
                    found.append((start + begin, start + end))
        return found

    def missing(self, file_indices: Iterable[int]) -> frozenset[int]:
        """Those of which nothing is at their places, not even something of another kind."""
        places = {index: os.path.join(self.folder, self.paths[index] or "") for index in file_indices}  # noqa: PTH118 — as in full_path
        self.place.require_path()
        return frozenset(index for index, path in places.items() if not os.path.lexists(path))

    def ranges_of(self, index: int) -> list[tuple[int, int]]:
        """(start, end) offsets of the file where the disk has data."""
        return list(self._data_of(index, self.layout.lengths[index]))

    def ranges_apart(self) -> list[tuple[int, int]]:
        """(start, end) offsets of the torrent where the parts have data."""
        if not self.parts.files or stamp_of(self.parts.path) is None:
            return []
        starts = self.layout.file_offset
        return [
            (starts(index) + begin, starts(index) + end)
            for index in sorted(self.parts.files)
            for begin, end in self.ranges_of(index)
        ]

    def prepare(self, *, preallocate: bool) -> None:
        """Makes the folder and the empty files, and with `preallocate` gives every file its blocks at once.

        Nothing that exists is cut or overwritten. A file system that cannot allocate ahead is used sparsely. If not
        all of it has room, all files get the sizes back that they had: others may need less.
        """
        if self.read_only:
            return
        try:
            if self.place.new:
                # durably: what is synced in it is claimed, and is gone with it
                make_folder(Path(self.folder))
            else:
                # a folder that was there before is a disk that is not mounted, and is not made anew
                self.place.require_path()
        except OSError as error:
            raise storage_error(error, "made", self.folder, self.folder) from error
        grown: list[tuple[int, int]] = []
        try:
            for index in self._wanted_files():
                if self.layout.lengths[index] == 0 or preallocate:
                    self._allocate(index, grown)
        except StorageError:
            for index, size in grown:
                self._shrink(index, size)
            raise

    def _allocate(self, index: int, grown: list[tuple[int, int]]) -> None:
        """Makes one file as long as it will be; `grown` gets its index and the size it had."""
        length = self.layout.lengths[index]
        try:
            with self._lease(index, writable=True) as fd:
                size = os.fstat(fd).st_size
                if size < length:
                    grown.append((index, size))
                if length:
                    _allocate(fd, length)
        except OSError as error:
            raise self._told(error, "allocated", index) from error

    def _shrink(self, index: int, size: int) -> None:
        with (
            contextlib.suppress(OSError, StorageError),
            self._lease(index, writable=True) as fd,
        ):
            os.ftruncate(fd, size)

    def require_writable(self, file_indices: Iterable[int]) -> None:
        """Raises what writing to these files, or making them, would raise as far as rights and mounts go; changes
        nothing.
        """
        if self.read_only:
            return
        asked: set[str] = set()
        for index in file_indices:
            if self.paths[index] is None or index in self.parts.skipped:
                continue
            path = self.full_path(index)
            while path not in asked:
                asked.add(path)
                try:
                    _require_writable(path)
                    break
                except OSError as error:
                    if error.errno != errno.ENOENT or path == self.folder:
                        raise storage_error(error, "written", path, self.folder) from error
                path = os.path.dirname(path)  # noqa: PTH120 — as in full_path

    def sync(self, file_indices: Iterable[int]) -> None:
        """Makes what was written to these files durable, with the names of those that are new.

        After an error nothing written to them since the last sync may be believed, also when a later sync
        succeeds: the kernel forgets pages that it failed to write.
        """
        wanted = [
            index for index in file_indices if self.paths[index] is not None and self.layout.lengths[index]
        ]
        made = set(self._made)
        if any(index in self.parts.files for index in wanted):
            wanted = [index for index in wanted if index not in self.parts.files]
            self._sync_parts()
        for index in wanted:
            try:
                with self._lease(index, writable=False) as fd:
                    os.fdatasync(fd)
                    self._require_still_there(index, fd)
            except OSError as error:
                raise self._told(error, "synced", index) from error
        for folder in self._folders_of(made - {PARTS}):
            try:
                # The folder itself may be reached through a link, what is below it may not.
                plain = 0 if folder == self.folder else os.O_NOFOLLOW
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | plain)
                try:
                    if not plain:
                        self.place.require(fd)
                    os.fsync(fd)
                finally:
                    os.close(fd)
            except OSError as error:
                raise storage_error(error, "synced", folder, self.folder) from error
        self._made.difference_update(made)

    def _sync_parts(self) -> None:
        """Also that it is there, if we have made it; nothing of it may have been needed so far."""
        path = self.parts.path
        try:
            with self._files.lease(self, PARTS, self._open_parts, writable=False) as fd:
                os.fdatasync(fd)
                if not os.path.exists(path):  # noqa: PTH110 — as in full_path
                    self._files.close_of(self)
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            if PARTS in self._made:
                folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # noqa: PTH120 — as in full_path
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except OSError as error:
            if error.errno != errno.ENOENT or PARTS in self._made:
                raise storage_error(error, "synced", path, self.folder) from error

    def finish(self, made: bytes = b"") -> None:
        """All wanted pieces are verified and written: cuts what hangs over a file's end, makes empty files, syncs
        everything. `made`: packed bits, one a file, of those that were not there before us; who was killed as it made
        one may have left it without its rights.
        """
        if self.read_only:
            return
        for index in self._wanted_files():
            length = self.layout.lengths[index]
            stamp = self._stamp(index)
            if length and (stamp is None or stamp.size <= length):
                continue
            try:
                with self._lease(index, writable=True) as fd:
                    if os.fstat(fd).st_size > length:
                        os.ftruncate(fd, length)
            except OSError as error:
                raise self._told(error, "finished", index) from error
        if self.rights != NO_RIGHTS and any(made):
            self._give_rights(made)
        # Whoever made the files may have been another Storage, or an earlier process that was killed.
        self._made.update(self._placed_files())
        if self.parts.files and os.path.exists(self.parts.path):  # noqa: PTH110 — as in full_path
            self._made.add(PARTS)
        self.sync(self._real_files())

    def _give_rights(self, made: bytes) -> None:
        for index in self._wanted_files():
            if index in self.parts.files or not is_made(index, made):
                continue
            try:
                with self._lease(index, writable=False) as fd:
                    if is_ours(fd):
                        give_file(fd, self.rights, self.full_path(index))
            except OSError as error:
                raise self._told(error, "finished", index) from error
        for inner in made_folders(self.paths, made):
            path = f"{self.folder}/{inner}"
            try:
                fd = open_folder_beneath(self.folder, inner, top=self.place.open)
            except FileNotFoundError:
                continue  # of skipped files
            except OSError as error:
                raise storage_error(error, "finished", path, self.folder) from error
            try:
                if is_ours(fd):
                    give_folder(fd, self.rights, path)
            finally:
                os.close(fd)

    def close(self) -> None:
        """Closes the descriptors; the files may then be moved. A later use opens them again."""
        self._files.close_of(self)

    def _real_files(self) -> list[int]:
        return [index for index, path in enumerate(self.paths) if path is not None]

    def _placed_files(self) -> list[int]:
        """Those that lie at their own places, or are to."""
        return [index for index in self._real_files() if index not in self.parts.files]

    def _wanted_files(self) -> list[int]:
        return [index for index in self._real_files() if index not in self.parts.skipped]

    def _lease(self, index: int, *, writable: bool) -> Lease:
        if index in self.parts.files:
            return self._files.lease(self, PARTS, self._open_parts, writable=writable)
        return self._files.lease(self, index, self._openers[index], writable=writable)

    def _open_parts(self, writable: bool) -> int:
        fd = self.parts.open(writable)
        if writable:
            self._made.add(PARTS)
        return fd

    def _open(self, index: int, writable: bool) -> int:
        path = self.paths[index]
        assert path is not None
        full = self.full_path(index)
        if writable and self.read_only:
            raise StorageError(f"{full}: shared data is never written", path=full)
        inner, _, name = path.rpartition("/")
        flags = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        try:
            fd = self._open_in(inner, name, flags, full, make=writable)
        except FileNotFoundError:
            # The folder that we hold open is not at its path any more, or the file is not there: look again.
            self._files.close_one(self, inner)
            fd = self._open_in(inner, name, flags, full, make=writable)
        if writable:
            self._made.add(index)
        return fd

    def _open_in(self, inner: str, name: str, flags: int, full: str, *, make: bool) -> int:
        """Opens a file through the descriptor of its folder, which neighbours share: walking down to each of ten
        thousand small files would cost more than writing them.
        """

        def open_inner(_: bool) -> int:
            return open_folder_beneath(self.folder, inner, make=make, top=self.place.open, rights=self.rights)

        with self._files.lease(self, inner, open_inner, writable=False) as at:
            if make and self.rights != NO_RIGHTS:
                return make_file_in(at, name, flags, self.rights, told=full)
            return open_file_in(at, name, flags, told=full)

    def _read(self, offset: int, views: list[memoryview]) -> int | None:
        """Fills the views; the index of the first file that is missing or too short, or None."""
        rest = views
        for index, begin, length in self.layout.slices(offset, sum(map(len, views))):
            mine, rest = cut(rest, length)
            if self.paths[index] is None:
                _fill_with_zeros(mine)
                continue
            if index in self.parts.files:
                begin += self.layout.file_offset(index)
            try:
                with self._lease(index, writable=False) as fd:
                    while mine:
                        done = os.preadv(fd, mine, begin)
                        if done == 0:
                            return index
                        begin += done
                        _, mine = cut(mine, done)
            except OSError as error:
                if error.errno in _GONE:
                    return index
                raise self._told(error, "read", index) from error
        return None

    def _read_slice_cached(self, index: int, begin: int, length: int, views: list[memoryview]) -> int:
        what = index
        if index in self.parts.files:
            what, begin = PARTS, begin + self.layout.file_offset(index)
        opened = self._files.pin_if_open(self, what)
        if opened is None:
            if self.paths[index] is not None:
                return 0
            _fill_with_zeros(views)
            return length
        try:
            return os.preadv(opened.fd, views, begin, os.RWF_NOWAIT)
        except OSError as error:
            # EAGAIN is the usual answer for a cold page; this one means that no page will ever be read so.
            if error.errno == errno.EOPNOTSUPP:
                self._nowait = False
            return 0
        finally:
            self._files.unpin(opened)

    def _require_still_there(self, index: int, fd: int) -> None:
        path = self.full_path(index)
        try:
            named = os.stat(path, follow_symlinks=False)  # noqa: PTH116 — as in full_path
        except OSError as error:
            if error.errno not in _GONE:
                raise
        else:
            if os.path.samestat(named, os.fstat(fd)):
                return
        self._files.close_of(self)
        self.place.require_path()
        raise StorageError(
            f"{path}: was deleted or replaced while it was in use", errno=errno.ESTALE, path=path
        )

    def _stamp(self, index: int) -> FileStamp | None:
        try:
            return stamp_of(self.full_path(index))
        except OSError as error:
            raise self._told(error, "read", index) from error

    def _data_of(self, index: int, length: int) -> Iterator[tuple[int, int]]:
        if self._stamp(index) is None:
            return
        try:
            with self._lease(index, writable=False) as fd:
                base = self.layout.file_offset(index) if index in self.parts.files else 0
                for begin, end in data_ranges(fd, base, min(os.fstat(fd).st_size, base + length)):
                    yield begin - base, end - base
        except OSError as error:
            if error.errno not in _GONE:
                raise self._told(error, "read", index) from error

    def _folders_of(self, file_indices: Iterable[int]) -> list[str]:
        """The folders that hold these files, up to `folder` itself, each once, the deepest first."""
        folders = {self.folder}
        for index in file_indices:
            inner = os.path.dirname(self.paths[index] or "")  # noqa: PTH120 — as in full_path
            while inner:
                folders.add(os.path.join(self.folder, inner))  # noqa: PTH118 — as in full_path
                inner = os.path.dirname(inner)  # noqa: PTH120 — as in full_path
        return sorted(folders, key=len, reverse=True) if len(folders) > 1 or file_indices else []

    def _told(self, error: OSError, done: str, index: int) -> StorageError:
        return storage_error(error, done, self.full_path(index), self.folder)


def bring(index: int, source: Storage, target: Storage) -> None:
    """Copies what there is of one file from one of a torrent's storages to another; in a thread, `StorageError`."""
    start, length = source.layout.file_offset(index), source.layout.lengths[index]
    buffer = bytearray(min(BRING_BYTES, length))
    for begin, end in source.ranges_of(index):
        for at in range(begin, end, BRING_BYTES):
            view = memoryview(buffer)[: min(BRING_BYTES, end - at)]
            source.read_into(start + at, view)
            target.write(start + at, view)


class _Openers(dict[int, Callable[[bool], int]]):
    """One opener per file, made when first needed: a lease on the way of every piece allocates none."""

    def __init__(self, open_file: Callable[[int, bool], int]) -> None:
        super().__init__()
        self._open_file = open_file

    def __missing__(self, index: int) -> Callable[[bool], int]:
        opener = self[index] = lambda writable: self._open_file(index, writable)
        return opener


def _fill_with_zeros(views: list[memoryview]) -> None:
    for view in views:
        view[:] = bytes(len(view))


def cut(views: list[memoryview], length: int) -> tuple[list[memoryview], list[memoryview]]:
    """The views of the first `length` bytes, and those of the rest."""
    mine: list[memoryview] = []
    for position, view in enumerate(views):
        if length == 0:
            return mine, views[position:]
        if len(view) > length:
            mine.append(view[:length])
            return mine, [view[length:], *views[position + 1 :]]
        mine.append(view)
        length -= len(view)
    return mine, []


def stamp_of(path: str) -> FileStamp | None:
    """Size and mtime; None for what is not there or no regular file. `OSError`."""
    try:
        found = os.stat(path, follow_symlinks=False)  # noqa: PTH116 — as in full_path
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    return FileStamp(found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


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
