"""Lists a watched folder and what lies below it; in threads."""

import operator
import os
import stat
from pathlib import Path
from typing import Final

from bittern.daemon.aside import ACCEPTED, REJECTED
from bittern.daemon.below import opened
from bittern.daemon.birth import born_ns
from bittern.daemon.logs import get_log
from bittern.daemon.looks import stamp_of
from bittern.daemon.sweep import Entry, Identity, Kind, Listing, Stamp, is_drop_name

SUBFOLDERS_AT_MOST: Final = 1000
DEEPEST: Final = 8
"""Below one watched folder: each sub-folder has a task and a watch of inotify."""

_LAST: Final = frozenset("tT")
"""What names of drops end in. Most of the others, receipts and sidecars, are told from them by that alone."""

log = get_log()


def list_folder(folder: str, root: str = "", before: Listing | None = None) -> Listing:
    """All candidates in it, links followed. `root`: as of `opened`. `OSError`: there is no such folder, or it cannot be
    listed whole.

    What is as it was `before` is the same object again, and so is the whole.
    """
    known = {} if before is None else {entry.name: entry for entry in before.entries}
    with opened(folder, root) as fd:
        status = os.fstat(fd)
        with os.scandir(fd) as found:
            looked_at = [
                _entry(one, known.get(one.name))
                for one in found
                if one.name[-1] in _LAST and is_drop_name(one.name)
            ]
        identity = Identity(status.st_dev, status.st_ino, born_ns(fd))
    entries = [entry for entry in looked_at if entry is not None]
    if (
        before is not None
        and identity == before.identity
        and len(entries) == len(before.entries)
        and all(map(operator.is_, entries, before.entries))
    ):
        return before
    return Listing(identity, entries)


def list_subfolders(folder: str, root: str = "") -> list[str]:
    """Those that drops may lie in: no links, none that hide, and not our own. `OSError`."""
    with opened(folder, root) as fd, os.scandir(fd) as found:
        return [
            one.name
            for one in found
            if one.is_dir(follow_symlinks=False)
            and not one.name.startswith(".")
            and one.name not in {ACCEPTED, REJECTED}
        ]


def _entry(found: "os.DirEntry[str]", before: Entry | None) -> Entry | None:
    try:
        status = found.stat()
    except OSError as error:
        if found.is_symlink():
            # To nothing, to itself, or to where we may not look.
            return Entry(found.name, "broken link", Stamp(0, 0, 0))
        # Gone since it was listed; or there, and not to be asked about now: reading it will say why.
        gone = isinstance(error, FileNotFoundError)
        return None if gone else Entry(found.name, "file", Stamp(0, 0, 0))
    if (
        before is not None
        and before.stamp == (status.st_size, status.st_mtime_ns, status.st_ino)
        and before.kind == _kind(status.st_mode)
    ):
        return before
    return Entry(found.name, _kind(status.st_mode), stamp_of(status))


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISFIFO(mode):
        return "FIFO"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def make_folder(folder: str) -> None:
    """If it is not there. `OSError`."""
    path = Path(folder)
    if not path.exists():
        path.mkdir(parents=True, exist_ok=True)
        log.info("watch.created", folder=folder)
