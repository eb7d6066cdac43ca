"""A secret that lies in a file: a webhook's key, the page's password."""

import errno
import os
import stat
from pathlib import Path
from typing import Final

SECRET_BYTES: Final = 64 * 1024


def read_secret(path: Path) -> bytes:
    """What is in it, without the line end that editors leave. A FIFO, which nobody may ever write to, is none."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "is no regular file", str(path))
        return os.read(fd, SECRET_BYTES).rstrip(b"\r\n")
    finally:
        os.close(fd)
