"""Modes and groups as people write them: `"0640"`, `"media"`, `1003`; and what a sidecar may have of them."""

import grp
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from bittern.policy.rights import GROUP_MOST, Rights, file_mode_fault, folder_mode_fault, umask_fault


class FileMode(int):
    """What a file's owner, its group and others may do."""


class FolderMode(int):
    """The same of a folder."""


class Umask(int):
    """What is taken away from 0666 for files and from 0777 for folders."""


class Group(int):
    """Its number."""


class Says(Protocol):
    """A table of the configuration, or a sidecar."""

    @property
    def file_mode(self) -> FileMode | None:
        """Each None where nothing is said."""

    @property
    def folder_mode(self) -> FolderMode | None:
        """Of folders."""

    @property
    def umask(self) -> Umask | None:
        """Of both, where neither is said."""

    @property
    def group(self) -> Group | None:
        """Of both."""


def rights_of(said: Says) -> Rights:
    """In numbers."""
    mask = said.umask
    file_mode = 0o666 & ~mask if said.file_mode is None and mask is not None else said.file_mode
    folder_mode = 0o777 & ~mask if said.folder_mode is None and mask is not None else said.folder_mode
    return Rights(file_mode=file_mode, folder_mode=folder_mode, group=said.group)


def parse_file_mode(written: object) -> FileMode:
    """`ValueError` says in one clause what is wrong with it; so the next ones."""
    return FileMode(_octal(written, file_mode_fault))


def parse_folder_mode(written: object) -> FolderMode:
    """Of a folder."""
    return FolderMode(_octal(written, folder_mode_fault))


def parse_umask(written: object) -> Umask:
    """What is taken away."""
    return Umask(_octal(written, umask_fault))


def parse_group(written: object) -> Group:
    """A name is looked up."""
    if isinstance(written, int) and not isinstance(written, bool):
        if not 0 <= written <= GROUP_MOST:
            raise ValueError("no group has this number")
        return Group(written)
    if not isinstance(written, str) or not written:
        raise ValueError("not a group")
    try:
        return Group(grp.getgrnam(written).gr_gid)
    except (KeyError, ValueError, OSError):
        # also with a NUL or a lone surrogate in it
        raise ValueError("there is no group of this name") from None


def shown_group(group: int) -> str:
    """For people: its name, if it has one."""
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


PROCESS_STATUS: Final = "/proc/self/status"


def without_word() -> Rights:
    """What files and folders get of which nothing is said; in a thread. The owner's alone where that is hidden."""
    mask = 0o077
    try:
        with open(PROCESS_STATUS, encoding="ascii", errors="replace") as status:  # noqa: PTH123 — no Path is needed for a constant
            for line in status:
                if line.startswith("Umask:"):
                    mask = int(line.split()[1], 8)
    except (OSError, ValueError, IndexError):
        pass
    return Rights(file_mode=0o666 & ~mask, folder_mode=0o777 & ~mask)


def widened(wanted: Rights, given: Rights) -> str:
    """What of it gives somebody more than he would have without, in one clause; "" when nothing does."""
    for key, one, other in (
        ("file_mode", wanted.file_mode, given.file_mode),
        ("folder_mode", wanted.folder_mode, given.folder_mode),
    ):
        if one is not None and other is not None and one & ~other:
            return f"{key}: {one:04o} gives more than {other:04o}, which holds without it: only take away"
    return ""


def narrowed(given: Rights) -> Rights:
    """The same with what goes without a word filled in; in a thread."""
    if given.file_mode is not None and given.folder_mode is not None:
        return given
    return replace(given.over(without_word()), group=given.group)


def _octal(written: object, fault: Callable[[int], str]) -> int:
    # TOML's 640 would be another number than the one that is meant
    if not isinstance(written, str) or not 3 <= len(written) <= 5 or set(written) - set("01234567"):
        raise ValueError("not octal digits in quotes")
    mode = int(written, 8)
    if wrong := fault(mode):
        raise ValueError(wrong)
    return mode
