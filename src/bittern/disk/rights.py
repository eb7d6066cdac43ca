"""Gives files and folders that we have just made their mode and their group, through the descriptor, so that no link
and no exchange of names can turn it on something else. Synchronous.
"""

import errno
import grp
import os
import stat
from collections.abc import Sequence

from bittern.errors import StorageError
from bittern.policy.rights import Rights


def give_file(fd: int, rights: Rights, path: str) -> None:
    """`StorageError` in one line when it cannot be."""
    _give(fd, rights.group, rights.file_mode, path)


def give_folder(fd: int, rights: Rights, path: str) -> None:
    """The same; a set-group-ID bit that the folder has from the one above stays."""
    _give(fd, rights.group, rights.folder_mode, path)


def is_ours(fd: int) -> bool:
    """Does it belong to the user that we run as?"""
    return os.fstat(fd).st_uid == os.geteuid()


def made_folders(paths: Sequence[str | None], made: bytes) -> frozenset[str]:
    """Folders below the download folder in which, however deep, every file of the torrent is one that we made."""
    ours: set[str] = set()
    others: set[str] = set()
    for index, path in enumerate(paths):
        inner = "" if path is None else path.rpartition("/")[0]
        found = ours if is_made(index, made) else others
        while inner and inner not in found:
            found.add(inner)
            inner = inner.rpartition("/")[0]
    return frozenset(ours - others)


def is_made(index: int, made: bytes) -> bool:
    """Of the packed bits of a record: did we make that file?"""
    return index // 8 < len(made) and bool(made[index // 8] & 0x80 >> index % 8)


def _give(fd: int, group: int | None, mode: int | None, path: str) -> None:
    status = os.fstat(fd)
    if group is not None and status.st_gid != group:
        try:
            os.fchown(fd, -1, group)
        except OSError as error:
            raise _told(error, f"be given to group {_name(group)}", path, _groups_remedy(group)) from error
        status = os.fstat(fd)
    if mode is None:
        return
    wanted = mode | status.st_mode & stat.S_ISGID
    # also what is right already: where systemd forbids to set that bit it may still be inherited
    if stat.S_IMODE(status.st_mode) != wanted:
        try:
            os.fchmod(fd, wanted)
        except OSError as error:
            raise _told(error, f"be given mode {wanted:04o}", path, _mode_remedy(wanted)) from error
        if stat.S_IMODE(os.fstat(fd).st_mode) != wanted:
            # of a group that we are not in the kernel silently takes the bit away; some file systems know no modes
            lost = PermissionError(errno.EPERM, "it did not stay so")
            raise _told(lost, f"be given mode {wanted:04o}", path, _mode_remedy(wanted))


def _groups_remedy(group: int) -> str:
    if "INVOCATION_ID" in os.environ:
        return (
            f"add bittern's user to that group (`usermod -aG {_name(group)} bittern`), see that its unit has "
            "`SystemCallFilter=fchown` last, and restart bittern"
        )
    return "let bittern run as a user who is in that group, or as root"


def _mode_remedy(mode: int) -> str:
    if mode & stat.S_ISGID and "INVOCATION_ID" in os.environ:
        return (
            "its folder is a set-group-ID one: run `systemctl edit bittern` and add `[Service]` and "
            f"`UMask={~mode & 0o777:04o}`, and restart bittern"
        )
    return "leave modes out where the file system has none, or let bittern's user be in the folder's group"


def _name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def _told(error: OSError, done: str, path: str, remedy: str) -> StorageError:
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path)
    return StorageError(
        f"{shown}: cannot {done} ({error.strerror}); {remedy}", errno=error.errno or 0, path=path
    )
