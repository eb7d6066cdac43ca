"""Where a file holds data, and where it has holes."""

import errno
import os
from collections.abc import Iterator
from typing import Final

_CANNOT_SEEK_DATA: Final = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
"""The file system does not tell: all of it counts as data."""


def next_data(fd: int, at: int, end: int) -> int:
    """Where, from there on, the file holds data: `end` when it is a hole up to there."""
    try:
        return min(os.lseek(fd, at, os.SEEK_DATA), end)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return end
        if error.errno not in _CANNOT_SEEK_DATA:
            raise
        return at


def data_ranges(fd: int, at: int, size: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of what holds data from `at` up to `size`, ascending. `OSError`."""
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
            end = min(os.lseek(fd, begin, os.SEEK_HOLE), size) if begin < size else size
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno not in _CANNOT_SEEK_DATA:
                raise
            begin, end = at, size
        if begin >= size:
            return
        yield begin, end
        at = end
