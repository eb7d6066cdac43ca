"""Where dropped files go: into `accepted` or `rejected` beside them, or away; all of it in threads.

Nothing is overwritten, and nothing is written or moved through a link that somebody has put there: these folders are
written by strangers, and what comes to lie in them was theirs.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

from bittern.daemon.below import lexists, opened, read_plain, write_new
from bittern.daemon.logs import get_log
from bittern.daemon.looks import stamp_of, told
from bittern.daemon.sidecars import sidecar_path
from bittern.daemon.sweep import Stamp

ACCEPTED: Final = "accepted"
REJECTED: Final = "rejected"

NOTE: Final = ".reason.txt"
_MAX_NAME_BYTES: Final = 255
_DROPS: Final = (".torrent", ".magnet")

Put: TypeAlias = tuple[str, Stamp, str | None, str, str]
"""What `put_aside` is told."""

log = get_log()


def put_aside_or_error(
    path: str, stamp: Stamp, subfolder: str | None, reason: str, root: str
) -> str | OSError | None:
    """As `put_aside`, for many in one go."""
    try:
        return put_aside(path, stamp, subfolder, reason, root)
    except OSError as error:
        return error


def put_aside(path: str, stamp: Stamp, subfolder: str | None, reason: str = "", root: str = "") -> str | None:
    """Moves the file of that stamp into `subfolder` beside it, or deletes it (None); a reason goes first.

    Returns the new path, "" when deleted, None when it is not that file any more. `root`: as of `opened`. `OSError`.
    """
    above, _, name = path.rpartition("/")
    with opened(above or "/", root) as folder:
        try:
            before = os.lstat(name, dir_fd=folder)
            if stamp_of(os.stat(name, dir_fd=folder)) != stamp:
                return None
        except FileNotFoundError:
            return None
        if subfolder is None:
            os.unlink(name, dir_fd=folder)
            _follow(name, folder, "", None)
            return ""
        with _beside(folder, subfolder) as aside:
            to = _free_name(aside, name)
            if reason:
                _write_note(to, (reason,), aside)
            try:
                os.rename(name, to, src_dir_fd=folder, dst_dir_fd=aside)
            except OSError:
                if reason:
                    os.unlink(to + NOTE, dir_fd=aside)
                raise
            if stamp_of(os.lstat(to, dir_fd=aside)) != stamp_of(before):
                # In the last moment another one took its name, which nobody has looked at yet.
                os.rename(to, _free_name(folder, name), src_dir_fd=aside, dst_dir_fd=folder)
                if reason:
                    os.unlink(to + NOTE, dir_fd=aside)
                return None
            _follow(name, folder, to, aside)
    return f"{above}/{subfolder}/{to}"


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
            os.rename(sidecar, _free_name(aside, sidecar_path(to)), src_dir_fd=folder, dst_dir_fd=aside)
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
        os.mkdir(subfolder, dir_fd=folder)
    except FileExistsError:
        pass
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(subfolder, flags, dir_fd=folder)
    except NotADirectoryError:
        reason = f"{subfolder} is a link or no folder, and has to be a folder"
        raise NotADirectoryError(errno.ENOTDIR, reason, subfolder) from None
    try:
        yield fd
    finally:
        os.close(fd)


def _write_note(to: str, reasons: Sequence[str], aside: int) -> None:
    """One that lies there already was left by a crash, or is a trap: it goes."""
    try:
        os.unlink(to + NOTE, dir_fd=aside)
    except FileNotFoundError:
        pass
    text = "\n".join(reasons) + "\n"
    write_new(to + NOTE, text.encode("utf-8", "backslashreplace"), aside)


def _free_name(folder: int, name: str) -> str:
    """`NAME.torrent`, or `NAME.1.torrent` and so on where that is taken; room is left for `.reason.txt`."""
    stem, dot, extension = name.rpartition(".")
    extension = dot + extension
    number = 0
    while True:
        tail = f".{number}{extension}" if number else extension
        room = _MAX_NAME_BYTES - len(os.fsencode(tail)) - len(NOTE)
        # A character that the cut breaks apart stays as surrogates, as any name that is not UTF-8.
        found = os.fsdecode(os.fsencode(stem)[:room]) + tail
        if not lexists(found, folder):
            return found
        number += 1
