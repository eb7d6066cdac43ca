"""Sockets that outlive us: systemd keeps them (FDSTORE=1) and hands them to the next run of the unit.

So a restart refuses no peer: who connects in between waits in the kernel's queue until somebody accepts again.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

FIRST_FD: Final = 3
AT_MOST: Final = 256


def inherited(environ: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """The listening sockets that systemd hands over (sd_listen_fds(3)); anything else it hands over is closed."""
    count, pid = environ.get("LISTEN_FDS", ""), environ.get("LISTEN_PID", "")
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit() and len(count) < 5):
        return []
    found = []
    for fd in range(FIRST_FD, FIRST_FD + min(int(count), AT_MOST)):
        try:
            one = socket.socket(fileno=fd)
        except OSError:
            # not a socket, or not open
            _close_quietly(fd)
            continue
        one.set_inheritable(False)
        if _listens(one):
            one.setblocking(False)
            found.append(one)
        else:
            one.close()
    return found


def _listens(one: socket.socket) -> bool:
    try:
        return one.family in {socket.AF_INET, socket.AF_INET6} and bool(
            one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        )
    except OSError:
        return False


def _close_quietly(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        pass
