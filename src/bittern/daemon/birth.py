"""When a folder was made: the kernel knows it, and Python's `os.stat` does not tell."""

import ctypes
import struct
from typing import Final

_AT_EMPTY_PATH: Final = 0x1000
_STATX_BTIME: Final = 0x800
_STATX_BYTES: Final = 256
_MASK: Final = struct.Struct("=I")
_BTIME: Final = struct.Struct("=qI")
_BTIME_AT: Final = 0x50
"""`struct statx` of linux/stat.h, the same on all machines."""


def born_ns(fd: int) -> int:
    """Unix time in nanoseconds; 0 when the file system does not keep it."""
    statx = getattr(ctypes.CDLL(None), "statx", None)
    if statx is None:
        return 0
    found = ctypes.create_string_buffer(_STATX_BYTES)
    if statx(fd, b"", _AT_EMPTY_PATH, _STATX_BTIME, found):
        return 0
    if not _MASK.unpack_from(found)[0] & _STATX_BTIME:
        return 0
    seconds, nanoseconds = _BTIME.unpack_from(found, _BTIME_AT)
    return int(seconds * 1_000_000_000 + nanoseconds)
