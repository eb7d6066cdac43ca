"""Where the files of one torrent lie, and how they are opened.

Each descriptor is opened through that of its folder, name by name below `folder`, and only while that is the folder
that it was when it was looked at last (`PlaceGone`). What is opened for writing is made if it is missing, and noted in
`made` until the folders that name it are synced. Files of `parts` lie in the one file of those.
"""

import errno
import os
from collections.abc import Callable, Sequence
from functools import partial

from bittern.disk.files import Lease, OpenFile, OpenFiles
from bittern.disk.parts import PARTS, Parts
from bittern.disk.paths import make_file_in, open_file_in, open_folder_beneath
from bittern.disk.places import Place
from bittern.disk.refusal import GONE, storage_error
from bittern.disk.stamps import FileStamp, stamp_of
from bittern.errors import StorageError
from bittern.policy.rights import NO_RIGHTS, Rights
from bittern.proto.layout import Layout


class TorrentFiles:
    """`paths` has one relative path per file of the layout, None for a pad. With `read_only` nothing is opened for
    writing. What is made, but for the folder itself, has the `rights`.
    """

    def __init__(
        self,
        files: OpenFiles,
        folder: str,
        paths: Sequence[str | None],
        layout: Layout,
        *,
        read_only: bool,
        place: Place | None,
        parts: Parts,
        rights: Rights,
    ) -> None:
        assert len(paths) == len(layout.lengths)
        self.folder = folder
        self.place = place or Place(folder)
        self.paths = tuple(paths)
        self.layout = layout
        self.read_only = read_only
        self.parts = parts
        self.rights = rights
        self.made: set[int] = set()
        """Files that were opened for writing, perhaps made, and whose folders were not synced since; only whole set
        operations, from any thread.
        """
        self._files = files
        self._openers: dict[int, Callable[[bool], int]] = {}
        """One per file, made when first needed: a lease on the way of every piece allocates none. They hold this object
        as it holds them: of thousands of torrents that were only checked all would stay until garbage is looked for.
        """

    def full_path(self, file_index: int) -> str:
        """Where a file lies; of a pad, the folder."""
        if file_index in self.parts.files:
            return self.parts.path
        return os.path.join(self.folder, self.paths[file_index] or "")  # noqa: PTH118 — one for each file of a torrent: building a Path (4 us) costs more than the stat that follows

    def close(self) -> None:
        """Closes the descriptors; the files may then be moved. A later use opens them again."""
        self._files.close_of(self)
        self._openers.clear()

    def real(self) -> list[int]:
        """All but pads."""
        return [index for index, path in enumerate(self.paths) if path is not None]

    def placed(self) -> list[int]:
        """Those that lie at their own places, or are to."""
        return [index for index in self.real() if index not in self.parts.files]

    def wanted(self) -> list[int]:
        """Those that are not skipped."""
        return [index for index in self.real() if index not in self.parts.skipped]

    def stamp(self, index: int, at: int | None = None) -> FileStamp | None:
        """Size and mtime of the file, or of the parts; None when it is not there or no regular file. With `at`, a
        descriptor of the folder, of a file at its own place.
        """
        try:
            if at is not None:
                return stamp_of(self.paths[index] or "", at)
            return stamp_of(self.full_path(index))
        except OSError as error:
            raise self.told(error, "read", index) from error

    def lease(self, index: int, *, writable: bool) -> Lease:
        """A `with` block's descriptor. `OSError`, `StorageError`."""
        if index in self.parts.files:
            return self.lease_parts(writable=writable)
        opener = self._openers.get(index)
        if opener is None:
            opener = self._openers[index] = partial(self._open, index)
        return self._files.lease(self, index, opener, writable=writable)

    def lease_parts(self, *, writable: bool) -> Lease:
        """The same of the file that holds the bytes of `parts`."""
        return self._files.lease(self, PARTS, self._open_parts, writable=writable)

    def pin_if_open(self, index: int) -> OpenFile | None:
        """The descriptor if there is one, or that of the parts; the caller unpins it. Loop thread."""
        return self._files.pin_if_open(self, PARTS if index in self.parts.files else index)

    def unpin(self, opened: OpenFile) -> None:
        """Ends one use."""
        self._files.unpin(opened)

    def _open_parts(self, writable: bool) -> int:
        fd = self.parts.open(writable)
        if writable:
            self.made.add(PARTS)
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
            self.made.add(index)
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

    def require_still_there(self, index: int, fd: int) -> None:
        """Raises when another file has its name, or none."""
        path = self.full_path(index)
        try:
            named = os.stat(path, follow_symlinks=False)  # noqa: PTH116 — as in full_path
        except OSError as error:
            if error.errno not in GONE:
                raise
        else:
            if os.path.samestat(named, os.fstat(fd)):
                return
        self._files.close_of(self)
        self.place.require_path()
        raise StorageError(
            f"{path}: was deleted or replaced while it was in use", errno=errno.ESTALE, path=path
        )

    def told(self, error: OSError, done: str, index: int) -> StorageError:
        """The error as one line that names the file."""
        return storage_error(error, done, self.full_path(index), self.folder)
