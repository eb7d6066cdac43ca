"""Who may read and write the files and folders of a torrent: modes, and the group that they are given to.

Nothing here can say that everybody may write, that a file is a program, or that one runs as somebody else: what is in
the files comes from strangers.
"""

import functools
from dataclasses import dataclass
from typing import Final, Self

FILE_NEEDS: Final = 0o600
FOLDER_NEEDS: Final = 0o700
"""What bittern itself cannot do without."""
FILE_MAY: Final = 0o664
FOLDER_MAY: Final = 0o775
GROUP_MOST: Final = 2**32 - 2
"""The one above means none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """None: as the process's umask and the folder above make it. `group` is a number."""

    file_mode: int | None = None
    folder_mode: int | None = None
    group: int | None = None

    def over(self, below: Self) -> "Rights":
        """What is said here, and of the rest what is said there."""
        if below == NO_RIGHTS:
            return self
        return Rights(
            file_mode=below.file_mode if self.file_mode is None else self.file_mode,
            folder_mode=below.folder_mode if self.folder_mode is None else self.folder_mode,
            group=below.group if self.group is None else self.group,
        )


NO_RIGHTS: Final = Rights()


def file_mode_fault(mode: int) -> str:
    """What is wrong with it for files, in one clause; "" when nothing is."""
    if mode & 0o111:
        return "files that strangers wrote are not made programs"
    return _fault(mode, FILE_NEEDS, FILE_MAY, "its owner has to read and write a file")


def folder_mode_fault(mode: int) -> str:
    """The same for folders."""
    return _fault(mode, FOLDER_NEEDS, FOLDER_MAY, "its owner has to read, write and enter a folder")


def umask_fault(mask: int) -> str:
    """The same of what is taken away from all."""
    if mask & ~0o777 or mask & 0o700:
        return "what is taken away from the owner too, bittern lacks"
    return "" if mask & 0o002 else "everybody could write"


def _fault(mode: int, needs: int, may: int, why: str) -> str:
    if mode & ~0o777:
        return (
            "set-user-ID, set-group-ID and sticky bits are not given (a folder's set-group-ID is inherited)"
        )
    if mode & 0o002:
        return "everybody could write"
    return "" if mode & needs == needs and not mode & ~may else why


def as_text(rights: Rights) -> str:
    """For a record; "" for none."""
    parts = (
        ("file", rights.file_mode, "04o"),
        ("folder", rights.folder_mode, "04o"),
        ("group", rights.group, "d"),
    )
    return " ".join(f"{key}={value:{form}}" for key, value, form in parts if value is not None)


@functools.lru_cache(maxsize=256)
def from_text(text: str) -> Rights:
    """The reverse; what could not have been written there is left out."""
    found: dict[str, int] = {}
    for part in text.split():
        key, _, value = part.partition("=")
        if not (value.isascii() and value.isdecimal() and len(value) <= 10):
            continue
        match key:
            case "file" if "8" not in value and "9" not in value and not file_mode_fault(int(value, 8)):
                found["file_mode"] = int(value, 8)
            case "folder" if "8" not in value and "9" not in value and not folder_mode_fault(int(value, 8)):
                found["folder_mode"] = int(value, 8)
            case "group" if int(value) <= GROUP_MOST:
                found["group"] = int(value)
    return Rights(**found)
