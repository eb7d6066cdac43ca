"""Real programs under test: started by us, ended by their own process id, never by name."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

HOST = "127.0.0.1"
PATIENCE_S = 120.0
"""For what comes within a second where the machine has nothing else to do: only a failure takes so long."""

_UNTRIED = iter(random.Random(os.getpid()).sample(range(10_000, 32_000), 22_000))
"""Ports that the kernel gives to nobody who asks for any: those begin at 32768."""


def keep_bytecode() -> None:
    """Programs of ours find themselves compiled, as installed ones do, also where none is to lie beside the sources:
    to compile what the daemon imports takes as long as all else at its start.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(sys.prefix, "bytecode"))


def free_port() -> int:
    """For a program that cannot pick its own, of TCP or UDP: no other test gets it while this process runs."""
    for port in _UNTRIED:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as ours:
            # a name that only one process of this host can have, and has until it ends
            ours.bind(f"\0bittern tests: port {port}")
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind(("", port))
            ours.detach()
            return port
    raise AssertionError("no port is free")


def wait_until(check: Callable[[], Any], timeout_s: float, what: str, step_s: float = 0.02) -> Any:
    """What `check` gives once that is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := check()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s:g} s"
        time.sleep(step_s)
    return found


class Program:
    """One process with a folder of its own; what it prints is in `log`."""

    started: ClassVar[set["Program"]] = set()
    """All that may still run: each test's end ends them."""

    def __init__(self, work: Path) -> None:
        work.mkdir(parents=True, exist_ok=True)
        self.work = work
        self.log = work / "program.log"
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, *argv: object, **options: Any) -> None:
        quiet = {name: "" for name in os.environ if name.lower().endswith("_proxy")}
        options.setdefault("stdin", subprocess.DEVNULL)
        with self.log.open("ab") as log:
            options.setdefault("stdout", log)
            self.process = subprocess.Popen(
                [str(word) for word in argv],
                stderr=log,
                cwd=self.work,
                env={**os.environ, **quiet, "HOME": str(self.work)},
                **options,
            )
        self.started.add(self)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def waits_s(self) -> dict[str, float]:
        """For how long each of its threads (those that live) could have run and had no processor to run on."""
        waited = {}
        for thread in Path(f"/proc/{self.pid}/task").glob("*"):
            with contextlib.suppress(OSError):
                waited[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
        return waited

    def held_up_s(self, before: Mapping[str, float]) -> float:
        """For how long the one that waited longest has waited since `waits_s` was that.

        Not all together: they wait at the same time, and of ten seconds none would be left to judge.
        """
        waits = self.waits_s().items()
        return max((waited_s - before.get(thread, 0.0) for thread, waited_s in waits), default=0.0)

    def must_live(self) -> None:
        assert self.alive, f"{type(self).__name__} ended by itself:\n{self.log.read_text(errors='replace')}"

    def signal(self, number: int) -> None:
        if self.alive:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """At once and without a word, as a power cut would."""
        self.signal(signal.SIGKILL)
        self._reap(60)
        self._close()

    def stop(self) -> int:
        """Politely; by force after a minute. Gives the exit status."""
        self.signal(signal.SIGTERM)
        if not self._reap(60):
            self.kill()
        return self._close()

    def _reap(self, timeout_s: float) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.process is not None:
                self.process.wait(timeout_s)
            return True
        return False

    def _close(self) -> int:
        if self.process is None:
            return 0
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        assert self.process.returncode is not None
        return self.process.returncode
