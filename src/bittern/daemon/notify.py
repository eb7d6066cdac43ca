"""sd_notify: what systemd is told of us, over its datagram socket. Without one every call does nothing."""

import os
import socket
import time
from array import array
from collections.abc import Mapping, Sequence
from typing import Final

KEPT_NAME: Final = "FDNAME=peers"
KEPT_AT_ONCE: Final = 64
"""The kernel passes at most 253 in one message."""


class Notifier:
    """One unit's line to systemd; never blocks, never raises for what the other end does."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self._socket: socket.socket | None = None
        self.watchdog_interval_s = _watchdog_s(environ) if self._address else None
        """Within so many seconds `watchdog` must be called; None when nobody waits for it."""

    def ready(self, status: str = "") -> None:
        """Start-up, or a reload, is over."""
        self._send("READY=1", *_status(status))

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(*_status(text))

    def watchdog(self) -> None:
        """Still alive."""
        self._send("WATCHDOG=1")

    def reloading(self) -> None:
        """A reload began; `ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str = "") -> None:
        """Shutdown began."""
        self._send("STOPPING=1", *_status(status))

    def extend_timeout(self, seconds: float) -> None:
        """Start or stop may take so much longer, from now."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def keep(self, sockets: Sequence[socket.socket]) -> None:
        """Has systemd keep these, and none that it kept before, for the next run of the unit."""
        self._send("FDSTOREREMOVE=1", KEPT_NAME)
        for start in range(0, len(sockets), KEPT_AT_ONCE):
            some = sockets[start : start + KEPT_AT_ONCE]
            self._send("FDSTORE=1", KEPT_NAME, fds=[one.fileno() for one in some])

    def close(self) -> None:
        """The socket is opened again when needed."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str, fds: Sequence[int] = ()) -> None:
        if self._address is None or not lines:
            return
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        try:
            told = "\n".join(lines).encode("utf-8", "replace")
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))] if fds else []
            self._socket.sendmsg([told], rights, 0, self._address)
        except OSError:
            # Nobody there, or its queue is full: what we do does not hang on it.
            pass


def _address(written: str) -> str | None:
    """A path, or with "@" a name in the abstract space; other kinds are no Unix sockets."""
    if written.startswith("@"):
        return "\0" + written[1:]
    return written if written.startswith("/") else None


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    wanted, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    if not wanted.isascii() or not wanted.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(wanted) / 1_000_000 or None


def _status(text: str) -> tuple[str, ...]:
    return (f"STATUS={' '.join(text.split())}",) if text else ()
