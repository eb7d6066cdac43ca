"""Hints from the kernel that a watched folder changed: watchdog's door.

A hint only says "sweep now". None is ever relied upon: a folder on a file system without inotify gives none,
and neither does one that was renamed away and made anew.
"""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from watchdog.events import (
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers.api import ObservedWatch
from watchdog.observers.inotify import InotifyObserver

from bittern.daemon.sweep import is_drop_name

# Our own moves out of a folder look like the first half of a rename, and watchdog would hold every later
# event back for half a second while it waits for the second. Halves are all we need. (Before 7.0 the class
# had another name; there hints may be that late.)
try:
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper
except ImportError:
    pass
else:
    InotifyMoveEventGrouper.delay = 0

# Not "opened" and "closed without writing": our own reading makes those.
_EVENTS: Final[list[type[FileSystemEvent]]] = [
    FileCreatedEvent,
    FileMovedEvent,
    FileClosedEvent,
    FileDeletedEvent,
    DirCreatedEvent,
    DirDeletedEvent,
    DirMovedEvent,
]


class Hints:
    """Calls `poke` from a thread of its own. Its methods block, and may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._observer: InotifyObserver | None = None
        self._stopped = False
        self._watches: dict[str, ObservedWatch] = {}

    def watch(self, folder: str, poke: Callable[[], None], *, folders: bool = False) -> None:
        """Replaces an earlier watch on that path; with `folders` also for sub-folders that come and go.

        `OSError`: it is not there, or a limit of inotify is reached.
        """
        with self._lock:
            if self._stopped:
                return
            self._unwatch(folder)
            if self._observer is None:
                observer = InotifyObserver()
                observer.start()
                self._observer = observer
            # A watch on a link would be on the link itself.
            real = str(Path(folder).resolve(strict=True))
            watch = self._observer.schedule(_Poker(real, poke, folders=folders), real, event_filter=_EVENTS)
            self._watches[folder] = watch

    def unwatch(self, folder: str) -> None:
        """Does nothing when there is no watch."""
        with self._lock:
            self._unwatch(folder)

    def stop(self) -> None:
        """For good."""
        with self._lock:
            self._stopped = True
            observer, self._observer = self._observer, None
            if observer is not None:
                observer.stop()
                observer.join()

    def _unwatch(self, folder: str) -> None:
        watch = self._watches.pop(folder, None)
        if watch is not None and self._observer is not None:
            self._observer.unschedule(watch)


class _Poker(FileSystemEventHandler):
    def __init__(self, folder: str, poke: Callable[[], None], *, folders: bool) -> None:
        self._folder = folder
        self._folders = folders
        self._poke = poke

    def dispatch(self, event: FileSystemEvent) -> None:
        """Only what concerns a drop: downloads may lie in the same folder, and are written all the time."""
        if event.is_directory and self._folders:
            self._poke()
            return
        for path in (event.src_path, event.dest_path):
            text = os.fsdecode(path)
            if text == self._folder or is_drop_name(text.rpartition("/")[2]):
                self._poke()
                return
