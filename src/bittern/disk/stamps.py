"""How a file looks from outside: what tells that nobody has touched it since."""

import os
import stat
from typing import NamedTuple

from bittern.disk.refusal import GONE


class FileStamp(NamedTuple):
    """What tells an untouched file from a changed one."""

    size: int
    mtime_ns: int


def stamp_of(path: str, at: int | None = None) -> FileStamp | None:
    """Size and mtime; None for what is not there or no regular file. `OSError`. The path is one from the open folder
    `at`, if there is one.
    """
    try:
        found = os.stat(path, dir_fd=at, follow_symlinks=False)
    except OSError as error:
        if error.errno in GONE:
            return None
        raise
    return FileStamp(found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None
