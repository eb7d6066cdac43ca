"""A link with a round trip and a rate: two network namespaces, and a process that is the wire between them."""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.fakes.need import need
from tests.fakes.processes import Program

GIGABIT = 1e9
QUEUE_S = 0.05
"""Of packets, at the link's rate: what a router in the world holds before it drops."""

NEAR, FAR = "10.99.0.1", "10.99.0.2"
MACHINES_OWN: Mapping[str, str] = {}

CLONE_NEWNET = 0x40000000


def _enter(namespace: int) -> None:
    """For the calling thread, and the processes that it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


class End:
    """One of the two: what is started while it is entered lives there for good."""

    def __init__(self, host: str, namespace: int) -> None:
        self.host, self._namespace = host, namespace
        self._home = -1

    def __enter__(self) -> Self:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        _enter(self._namespace)
        return self

    def __exit__(self, *_: object) -> None:
        _enter(self._home)
        os.close(self._home)

    def close(self) -> None:
        os.close(self._namespace)


class Link(Program):
    """While it is entered there is a wire from `near` to `far`. The namespaces have no names: with the processes in
    them they are gone, however those end.
    """

    def __init__(
        self,
        work: Path,
        round_trip_s: float,
        *,
        bits_per_s: float = GIGABIT,
        queue_s: float = QUEUE_S,
        settings: Mapping[str, str] = MACHINES_OWN,
    ) -> None:
        """`settings` are those of /proc/sys/net/ipv4 that shall differ from the machine's."""
        need("ip", "/dev/net/tun", root=True)
        super().__init__(work)
        self._terms = (round_trip_s, bits_per_s, queue_s, json.dumps(dict(settings)))

    def __enter__(self) -> Self:
        script = Path(__file__).with_name("link_process.py")
        self.spawn(
            sys.executable, script, *self._terms, NEAR, FAR, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text(errors="replace")
        self.near, self.far = (
            End(host, os.open(f"/proc/{self.pid}/fd/{number}", os.O_RDONLY))
            for host, number in zip((NEAR, FAR), json.loads(line), strict=True)
        )
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        was_alive = self.alive
        self.near.close()
        self.far.close()
        self.stop()
        assert kind or was_alive, f"the link broke:\n{self.log.read_text(errors='replace')}"
