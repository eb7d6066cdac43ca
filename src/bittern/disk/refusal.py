"""What the file system refused, in one line: the path, why, and where it helps, what would allow it."""

import errno
import os
from typing import Final

from bittern.errors import StorageError

GONE: Final = (errno.ENOENT, errno.ENOTDIR)
"""There is nothing at that path."""

_FORBIDDEN: Final = (errno.EROFS, errno.EACCES)


def storage_error(error: OSError, done: str, path: str, folder: str) -> StorageError:
    """The kernel's refusal as one line: `path` cannot be `done`, why, and where it helps, what would allow
    it.
    """
    reason = f"{path}: cannot be {done} ({error.strerror or error})"
    if error.errno in _FORBIDDEN:
        if "INVOCATION_ID" in os.environ:  # set by systemd, whose sandbox is the likely cause
            reason += (
                "; to allow it run `systemctl edit bittern`, add the lines `[Service]` and "
                f"`ReadWritePaths={folder}`, and restart bittern"
            )
        elif error.errno == errno.EACCES:
            reason += "; give the user that bittern runs as the right to it"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        reason += "; free some space"
    return StorageError(_one_line(reason), errno=error.errno or 0, path=path)


def in_the_way(path: str) -> StorageError:
    """What has its name is not ours."""
    return StorageError(
        f"{path}: something else is in the way and is not replaced; move it aside",
        errno=errno.EEXIST,
        path=path,
    )


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
