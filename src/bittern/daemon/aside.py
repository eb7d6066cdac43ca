"""Where dropped files go: into `accepted` or `rejected` beside them, or away; all of it in threads.

Nothing is overwritten, and nothing is written or moved through a link that somebody has put there: these folders are
written by strangers, and what comes to lie in them was theirs.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Final, NamedTuple

from bittern.daemon.below import lexists, opened, read_plain, rename_new, write_new
from bittern.daemon.logs import get_log
from bittern.daemon.looks import stamp_of, told
from bittern.daemon.sidecars import sidecar_path
from bittern.daemon.sweep import Stamp
from bittern.disk.attempt import JobCrashed, attempt

ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"

NOTE: Final = ".reason.txt"
_MAX_NAME_BYTES: Final = 255
_DROPS: Final = (".torrent", ".magnet")

log = get_log()


class Put(NamedTuple):
    """One dropped file that goes: into `subfolder` beside it, or away (None); a `reason` goes first."""

    name: str
    stamp: Stamp
    subfolder: str | None
    reason: str = ""
    sidecar: bool = True
    """Did something lie beside it, called as its sidecar, when it was looked at?"""


def put_all_aside(above: str, root: str, puts: Sequence[Put]) -> list[str | OSError | JobCrashed | None]:
    """Of each its new path, "" when deleted, None when it is not that file any more. `root`: as of `opened`. `OSError`.

    The folder, and each of ours in it, is opened once for all of them.
    """
    with opened(above, root) as folder, ExitStack() as stack:
        aside = _Aside(folder, stack)
        return [attempt(_put_or_error, above, aside, put) for put in puts]


class _Aside:
    """Our folders in an open one, by name; each is opened when something is to go there."""

    def __init__(self, above: int, stack: ExitStack) -> None:
        self.above = above
        self._stack = stack
        self._opened: dict[str, int] = {}

    def __getitem__(self, subfolder: str) -> int:
        """`OSError`: something else lies in its place."""
        found = self._opened.get(subfolder)
        if found is None:
            found = self._opened[subfolder] = self._stack.enter_context(_beside(self.above, subfolder))
        return found

    def forget(self) -> None:
        """Opened anew from here on."""
        self._opened.clear()


def _put_or_error(above: str, aside: _Aside, put: Put) -> str | OSError | None:
    try:
        try:
            to = _put(aside, put)
        except FileNotFoundError:
            # it is gone by now, which is seen this time; or our folder was deleted after it was opened
            aside.forget()
            to = _put(aside, put)
    except OSError as error:
        return error
    return f"{above.rstrip('/')}/{put.subfolder}/{to}" if to else to


def _put(aside: _Aside, put: Put) -> str | None:
    """Its name there."""
    name, stamp, subfolder, reason, sidecar = put
    folder = aside.above
    try:
        before = os.lstat(name, dir_fd=folder)
        meant = os.stat(name, dir_fd=folder) if stat.S_ISLNK(before.st_mode) else before
    except FileNotFoundError:
        return None
    if stamp_of(meant) != stamp:
        return None
    if subfolder is None:
        os.unlink(name, dir_fd=folder)
        to = ""
    else:
        to = _move(name, folder, aside[subfolder], reason)
        if stamp_of(os.lstat(to, dir_fd=aside[subfolder])) != stamp_of(before):
            # In the last moment another one took its name, which nobody has looked at yet.
            _move(to, aside[subfolder], folder, wanted=name)
            if reason:
                os.unlink(to + NOTE, dir_fd=aside[subfolder])
            return None
    if sidecar:
        _follow(name, folder, to, None if subfolder is None else aside[subfolder])
    return to


def _move(name: str, folder: int, to: int, reason: str = "", *, wanted: str = "") -> str:
    """To the first name that is free there, after its reason; gives that name."""
    names = _names(wanted or name)
    while True:
        new = next(names)
        if reason:
            if lexists(new, to):
                continue
            _write_note(new, (reason,), to)
        try:
            rename_new(name, folder, new, to)
        except OSError as error:
            if reason:
                os.unlink(new + NOTE, dir_fd=to)
            if isinstance(error, FileExistsError):
                continue
            raise
        return new


def _follow(name: str, folder: int, to: str, aside: int | None) -> None:
    """A sidecar goes where its drop has gone; one of two drops follows the last. What cannot go stays, and means
    nothing without a drop.
    """
    sidecar = sidecar_path(name)
    try:
        if read_plain(sidecar, 0, folder) is None or any(
            lexists(name.rpartition(".")[0] + kind, folder) for kind in _DROPS
        ):
            return
        if aside is None:
            os.unlink(sidecar, dir_fd=folder)
        else:
            _move(sidecar, folder, aside, wanted=sidecar_path(to))
    except OSError as error:
        log.debug("sidecar.stays", path=sidecar, reason=told(error))


def place_aside(path: str, subfolder: str, root: str = "") -> str:
    """Where that file would be put now. `OSError`: it cannot be."""
    above, _, name = path.rpartition("/")
    with opened(above or "/", root) as folder, _beside(folder, subfolder) as aside:
        for place, one in ((above, folder), (f"{above}/{subfolder}", aside)):
            if not os.access(".", os.W_OK, dir_fd=one):
                raise OSError(errno.EACCES, os.strerror(errno.EACCES), place)
        return f"{above}/{subfolder}/{_free_name(aside, name)}"


def set_lines_aside(path: str, lines: list[str], reasons: list[str], root: str = "") -> str:
    """Some lines of that file into `rejected` beside it, with their reasons; once, when it is seen again and again.
    Gives where they are. `OSError`.
    """
    above, _, name = path.rpartition("/")
    text = "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")
    with opened(above or "/", root) as folder, _beside(folder, REJECTED) as aside:
        to = name
        if read_plain(name, len(text) + 1, aside) != text:
            to = _free_name(aside, name)
            _write_note(to, reasons, aside)
            write_new(to, text, aside)
    return f"{above}/{REJECTED}/{to}"


@contextmanager
def _beside(folder: int, subfolder: str) -> Iterator[int]:
    """That folder of ours, made if need be. `OSError`: something else lies in its place."""
    try:
        fd = _open_ours(folder, subfolder)
    except FileNotFoundError:
        try:
            os.mkdir(subfolder, dir_fd=folder)
        except FileExistsError:
            pass
        fd = _open_ours(folder, subfolder)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_ours(folder: int, subfolder: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(subfolder, flags, dir_fd=folder)
    except NotADirectoryError:
        reason = f"{subfolder} is a link or no folder, and has to be a folder"
        raise NotADirectoryError(errno.ENOTDIR, reason, subfolder) from None


def _write_note(to: str, reasons: Sequence[str], aside: int) -> None:
    """One that lies there already was left by a crash, or is a trap: it goes."""
    try:
        os.unlink(to + NOTE, dir_fd=aside)
    except FileNotFoundError:
        pass
    text = "\n".join(reasons) + "\n"
    write_new(to + NOTE, text.encode("utf-8", "backslashreplace"), aside)


def _free_name(folder: int, name: str) -> str:
    return next(found for found in _names(name) if not lexists(found, folder))


def _names(name: str) -> Iterator[str]:
    """`NAME.torrent`, then `NAME.1.torrent` and so on, without end; room is left for `.reason.txt`."""
    stem, dot, extension = name.rpartition(".")
    extension = dot + extension
    for number in count():
        tail = f".{number}{extension}" if number else extension
        room = _MAX_NAME_BYTES - len(os.fsencode(tail)) - len(NOTE)
        # A character that the cut breaks apart stays as surrogates, as any name that is not UTF-8.
        yield os.fsdecode(os.fsencode(stem)[:room]) + tail
