"""One torrent's files as one row of bytes: offsets of the torrent in, file slices out.

Synchronous: everything here may wait for a disk and runs in worker threads, several at a time, except
`read_cached`, which is for the loop thread and never waits. Pad files (BEP 47) read as zeros, swallow writes
and have no file. How files are opened is told in `torrent_files.py`, in which order they become durable in
`durability.py`, how they are made in `preparing.py`.
"""

import errno
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from bittern.disk import durability, preparing
from bittern.disk.files import OpenFiles
from bittern.disk.holes import data_ranges
from bittern.disk.parts import NO_PARTS, Parts
from bittern.disk.places import Place
from bittern.disk.refusal import GONE
from bittern.disk.stamps import FileStamp, stamp_of
from bittern.disk.torrent_files import TorrentFiles
from bittern.disk.writing import write_at
from bittern.errors import StorageError
from bittern.policy.rights import NO_RIGHTS, Rights
from bittern.proto.layout import Layout

BRING_BYTES: Final = 1024 * 1024
"""Copied at a time."""


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
        self._at = TorrentFiles(
            files,
            folder,
            paths,
            layout,
            read_only=read_only,
            place=place,
            parts=parts,
            rights=rights,
        )
        self.folder = folder
        self.place = self._at.place
        self.paths = self._at.paths
        self.layout = layout
        self.read_only = read_only
        self.parts = parts
        self.of = of
        """Which torrent's: its info hash, where somebody asks."""
        self.rights = rights
        """Of what is made here, but for the folder itself."""
        self._nowait = True

    def full_path(self, file_index: int) -> str:
        """Where a file lies; of a pad, the folder."""
        return self._at.full_path(file_index)

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
                with self._at.lease(index, writable=True) as fd:
                    write_at(fd, rest, begin, kept=kept)
            except OSError as error:
                raise self._at.told(error, "written", index) from error

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
                    with self._at.lease(index, writable=False):
                        pass
                except OSError as error:
                    raise self._at.told(error, "read", index) from error

    def stamps(self, at: int | None = None) -> list[FileStamp | None]:
        """Size and mtime of every file; None for pads and for what is not there or no regular file. Those that lie in
        the parts have its stamp. `at`: a descriptor of the folder (`Visit`).
        """
        shared = stamp_of(self.parts.path) if self.parts.files else None
        stamps = [
            None if path is None else shared if index in self.parts.files else self._at.stamp(index, at)
            for index, path in enumerate(self.paths)
        ]
        if at is None:
            # after looking: what was seen in another folder is never told
            self.place.require_path()
        return stamps

    def data_ranges(self) -> list[tuple[int, int]]:
        """(start, end) offsets of the torrent where the disk has data, ascending and merged; holes, pads
        and what lies in the parts are left out.
        """
        self.place.require_path()
        found: list[tuple[int, int]] = []
        for index in self._at.placed():
            start, length = self.layout.file_offset(index), self.layout.lengths[index]
            if length == 0:
                continue
            for begin, end in self._data_of(index, length):
                if found and found[-1][1] == start + begin:
                    found[-1] = (found[-1][0], start + end)
                else:
                    found.append((start + begin, start + end))
        return found

    def holds_data(self, stamps: Sequence[FileStamp | None]) -> bool:
        """Is there anything that `data_ranges` would tell? Of many files, which have these stamps, only as many are
        opened as that takes.
        """
        there = (index for index in self._at.placed() if (stamp := stamps[index]) and stamp.size)
        return any(True for index in there for _ in self._data_in(index, self.layout.lengths[index]))

    def missing(self, file_indices: Collection[int]) -> frozenset[int]:
        """Those of which nothing is at their places, not even something of another kind."""
        if not file_indices:
            return frozenset()
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

    def unallocated_bytes(self) -> int:
        """How much of the files has no room on the disk yet: holes, and what is not there."""
        return preparing.unallocated_bytes(self._at)

    def prepare(self, *, preallocate: bool) -> None:
        """Makes the folder and the empty files, and with `preallocate` gives every file its blocks at once."""
        preparing.prepare(self._at, preallocate=preallocate)

    def require_writable(self, file_indices: Iterable[int]) -> None:
        """Raises what writing to these files, or making them, would raise as far as rights and mounts go."""
        preparing.require_writable(self._at, file_indices)

    def sync(self, file_indices: Iterable[int]) -> None:
        """Makes what was written to these files durable, with the names of those that are new."""
        durability.sync(self._at, file_indices)

    def finish(self, made: bytes = b"") -> None:
        """All wanted pieces are verified and written: cuts what hangs over, makes empty files, syncs all. `made`:
        packed bits, one a file, of those that were not there before us.
        """
        durability.finish(self._at, made)

    def close(self) -> None:
        """Closes the descriptors; the files may then be moved. A later use opens them again."""
        self._at.close()

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
                with self._at.lease(index, writable=False) as fd:
                    while mine:
                        done = os.preadv(fd, mine, begin)
                        if done == 0:
                            return index
                        begin += done
                        _, mine = cut(mine, done)
            except OSError as error:
                if error.errno in GONE:
                    return index
                raise self._at.told(error, "read", index) from error
        return None

    def _read_slice_cached(self, index: int, begin: int, length: int, views: list[memoryview]) -> int:
        if index in self.parts.files:
            begin += self.layout.file_offset(index)
        opened = self._at.pin_if_open(index)
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
            self._at.unpin(opened)

    def _data_of(self, index: int, length: int) -> Iterator[tuple[int, int]]:
        if self._at.stamp(index) is not None:
            yield from self._data_in(index, length)

    def _data_in(self, index: int, length: int) -> Iterator[tuple[int, int]]:
        try:
            with self._at.lease(index, writable=False) as fd:
                base = self.layout.file_offset(index) if index in self.parts.files else 0
                for begin, end in data_ranges(fd, base, min(os.fstat(fd).st_size, base + length)):
                    yield begin - base, end - base
        except OSError as error:
            if error.errno not in GONE:
                raise self._at.told(error, "read", index) from error


def bring(index: int, source: Storage, target: Storage) -> None:
    """Copies what there is of one file from one of a torrent's storages to another; in a thread, `StorageError`."""
    start, length = source.layout.file_offset(index), source.layout.lengths[index]
    buffer = bytearray(min(BRING_BYTES, length))
    for begin, end in source.ranges_of(index):
        for at in range(begin, end, BRING_BYTES):
            view = memoryview(buffer)[: min(BRING_BYTES, end - at)]
            source.read_into(start + at, view)
            target.write(start + at, view)


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
