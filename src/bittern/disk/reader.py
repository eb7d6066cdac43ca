"""Reading a torrent's files from front to back, for checks."""

import errno
import os
import threading
from typing import Final

from bittern.disk.paths import open_file_in, open_folder_beneath, open_folder_in
from bittern.disk.refusal import storage_error
from bittern.disk.storage import Storage

_GONE: Final = (errno.ENOENT, errno.ENOTDIR)


class ReadStopped(Exception):
    """Whoever wanted the bytes does not want them any more."""


class SequentialReader:
    """Reads with two descriptors of its own: the present file, and the folder that holds it.

    Of ten thousand small files each then costs an open, a read and a close, and the descriptors that transfers
    share are not pushed out by those that nobody will ask for again. For one thread at a time. After `close` it
    can be used again. Once `stop` is set every read raises `ReadStopped`. `top`: a descriptor of the torrent's folder,
    which stays open (`Visit`).
    """

    def __init__(self, storage: Storage, stop: threading.Event, top: int | None = None) -> None:
        self._storage = storage
        self._stop = stop
        self._top = top
        self._index = -1
        self._fd = -1
        self._inner: str | None = None
        self._inner_fd = -1

    def read_if_there(self, offset: int, view: memoryview) -> bool:
        """Fills `view` with the torrent's bytes from `offset` on; False when a file is missing or too short, the
        view's content is then arbitrary. Any other trouble is a `StorageError`.
        """
        if self._stop.is_set():
            raise ReadStopped
        storage = self._storage
        at = 0
        for index, begin, length in storage.layout.slices(offset, len(view)):
            rest = view[at : at + length]
            at += length
            if storage.paths[index] is None:
                rest[:] = bytes(length)
                continue
            if index in storage.parts.files:
                begin += storage.layout.file_offset(index)
            try:
                if index != self._index:
                    self._open(index)
                while (done := os.preadv(self._fd, (rest,), begin)) != len(rest):
                    if done == 0:
                        return False
                    begin += done
                    rest = rest[done:]
            except OSError as error:
                if error.errno in _GONE:
                    return False
                raise storage_error(error, "read", storage.full_path(index), storage.folder) from error
        return True

    def sync(self) -> None:
        """Makes the bytes of the file that was read last durable. `StorageError`."""
        try:
            os.fdatasync(self._fd)
        except OSError as error:
            storage = self._storage
            raise storage_error(error, "synced", storage.full_path(self._index), storage.folder) from error

    def close(self) -> None:
        """Closes what is open."""
        self._close_file()
        self._close_folder()

    def _open(self, index: int) -> None:
        storage = self._storage
        path = storage.paths[index]
        assert path is not None
        inner, _, name = path.rpartition("/")
        self._close_file()
        if index in storage.parts.files:
            self._fd, self._index = storage.parts.open(writable=False), index
            return
        if inner != self._inner:
            self._close_folder()
            self._inner_fd = self._open_folder(inner)
            self._inner = inner
        # whoever has a file hashed has its stamp; to look again would be a sixth of a check of 10 000 small files
        self._fd = open_file_in(
            self._inner_fd, name, os.O_RDONLY, told=storage.full_path(index), known_regular=True
        )
        self._index = index

    def _open_folder(self, inner: str) -> int:
        storage = self._storage
        if self._top is None:
            return open_folder_beneath(storage.folder, inner, top=storage.place.open)
        return open_folder_in(self._top, inner, told=f"{storage.folder}/{inner}") if inner else self._top

    def _close_file(self) -> None:
        fd, self._fd, self._index = self._fd, -1, -1
        if fd >= 0:
            os.close(fd)

    def _close_folder(self) -> None:
        fd, self._inner_fd, self._inner = self._inner_fd, -1, None
        if fd >= 0 and fd != self._top:
            os.close(fd)
