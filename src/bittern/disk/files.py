"""Open descriptors, least recently used first out, shared by all torrents and by the loop and the worker
threads.

A descriptor in use is pinned, and a pinned one is never closed: a closed number may be another file's a
moment later. The lock is held for look-ups only; opening and closing, which may wait for a disk, happen
outside it.
"""

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import islice
from types import TracebackType
from typing import Final

Opener = Callable[[bool], int]
"""Opens the file and gives the descriptor; its argument tells whether it has to be writable (and made)."""

_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE)


class OpenFile:
    """One descriptor; `fd` may be used between the pin and the unpin.

    `writing` is held by the one lease that writes: the kernel lets in one writer per file, and a second one would
    spin at its gate (a seventh of all CPU time at 300 MB/s) while it could sleep at ours.
    """

    __slots__ = ("doomed", "fd", "key", "pins", "writable", "writing")

    def __init__(self, key: tuple[Hashable, Hashable], fd: int, *, writable: bool) -> None:
        self.key = key
        self.fd = fd
        self.writable = writable
        self.pins = 1
        self.doomed = False
        self.writing = threading.Lock()


class Lease:
    """Holds a pin while its block runs and gives the descriptor; a writer is alone with its file."""

    __slots__ = ("_files", "_open", "_writable")

    def __init__(self, files: "OpenFiles", opened: OpenFile, *, writable: bool) -> None:
        self._files = files
        self._open = opened
        self._writable = writable

    def __enter__(self) -> int:
        if self._writable:
            self._open.writing.acquire()
        return self._open.fd

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writable:
            self._open.writing.release()
        self._files.unpin(self._open)


class OpenFiles:
    """At most `limit` descriptors stay open, but for those in use at this very moment."""

    def __init__(self, limit: int = 128) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._entries: OrderedDict[tuple[Hashable, Hashable], OpenFile] = OrderedDict()
        self._of: dict[Hashable, dict[Hashable, OpenFile]] = {}
        """The same by storage: of hundreds that are open, those of one that is closed are a few."""
        self._closings = 0
        """How often files were closed on purpose: what was opened across such a moment may be stale, and
        is not kept.
        """

    def __len__(self) -> int:
        return len(self._entries)

    def lease(self, storage: Hashable, what: Hashable, opener: Opener, *, writable: bool) -> Lease:
        """A `with` block's descriptor, opened when it is not open yet (or only for reading); errors are
        the opener's. `what` tells the storage's files (and folders) apart.
        """
        key = (storage, what)
        with self._lock:
            found = self._entries.get(key)
            if found is not None and (found.writable or not writable):
                self._entries.move_to_end(key)
                found.pins += 1
                return Lease(self, found, writable=writable)
            closings = self._closings
        fresh = OpenFile(key, self._open(opener, writable), writable=writable)
        unused: list[int] = []
        with self._lock:
            found = self._entries.get(key)
            if closings != self._closings:
                fresh.doomed = True
            elif found is not None and (found.writable or not writable):
                unused.append(fresh.fd)
                found.pins += 1
                fresh = found
            else:
                if found is not None:
                    unused += self._drop(found)
                self._entries[key] = fresh
                self._of.setdefault(storage, {})[what] = fresh
                unused += self._evict()
        _close(unused)
        return Lease(self, fresh, writable=writable)

    def pin_if_open(self, storage: Hashable, what: Hashable) -> OpenFile | None:
        """The descriptor if there is one; the caller unpins it. Never waits: for the loop thread."""
        key = (storage, what)
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                found.pins += 1
                self._entries.move_to_end(key)
            return found

    def unpin(self, opened: OpenFile) -> None:
        """Ends one use."""
        unused: list[int] = []
        with self._lock:
            opened.pins -= 1
            if opened.pins == 0:
                if opened.doomed:
                    unused.append(opened.fd)
                elif len(self._entries) > self._limit:
                    unused = self._evict()
        _close(unused)

    def close_one(self, storage: Hashable, what: Hashable) -> None:
        """Closes one: it is not at its path any more."""
        with self._lock:
            found = self._entries.get((storage, what))
            unused = [] if found is None else self._drop(found)
        _close(unused)

    def close_of(self, storage: Hashable) -> None:
        """Closes all files of one storage: what lies at their paths may have changed. Those in use close
        after it.
        """
        with self._lock:
            self._closings += 1
            unused = [fd for opened in [*self._of.get(storage, {}).values()] for fd in self._drop(opened)]
        _close(unused)

    def close_all(self) -> None:
        """Closes everything that is not in use, and the rest after its use."""
        with self._lock:
            self._closings += 1
            unused = [fd for opened in list(self._entries.values()) for fd in self._drop(opened)]
        _close(unused)

    def set_limit(self, limit: int) -> None:
        """A new limit, kept from now on."""
        with self._lock:
            self._limit = limit
            unused = self._evict()
        _close(unused)

    def _open(self, opener: Opener, writable: bool) -> int:
        try:
            return opener(writable)
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
        # Sockets took the numbers: give back all of ours that rest, once.
        with self._lock:
            unused = self._evict(keep=0)
        _close(unused)
        return opener(writable)

    def _drop(self, opened: OpenFile) -> list[int]:
        del self._entries[opened.key]
        storage, what = opened.key
        del self._of[storage][what]
        if not self._of[storage]:
            del self._of[storage]
        opened.doomed = True
        return [] if opened.pins else [opened.fd]

    def _evict(self, keep: int | None = None) -> list[int]:
        surplus = len(self._entries) - (self._limit if keep is None else keep)
        if surplus <= 0:
            return []
        resting = (opened for opened in self._entries.values() if opened.pins == 0)
        return [fd for opened in list(islice(resting, surplus)) for fd in self._drop(opened)]


def _close(descriptors: list[int]) -> None:
    for fd in descriptors:
        os.close(fd)
