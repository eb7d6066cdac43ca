"""Whom a program has started, also those who left its process group and its parents: found and ended with it.

The daemon is the one to whom orphans below it are given (`adopt_orphans`), so that nobody gets away by losing his
parent. Whose they are a word in their environment tells. All of this looks through /proc: for threads.
"""

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MARK: Final = "BITTERN_RUN"
"""The variable with a word of each run's own."""

ENVIRON_BYTES: Final = 256 * 1024
"""More than that is not read of anybody's environment: all that we hand on comes to less."""

ROUND_S: Final = 0.02
"""Between two looks for those who were started during the last one."""

_SET_CHILD_SUBREAPER: Final = 36

spawning = threading.Lock()
"""Held from before a child is made until `children` has it."""
children: Final[set[int]] = set()
"""Whom we started and wait for ourselves."""


@dataclass(frozen=True, slots=True)
class Process:
    """`started` tells it from a later one with its number."""

    pid: int
    parent: int
    group: int
    state: str
    started: int


_NOBODY: Final = Process(0, 0, 0, "Z", -1)


def adopt_orphans(*, adopt: bool = True) -> None:
    """From now on who loses his parent below us becomes our child, and not that of the first process."""
    control = getattr(ctypes.CDLL(None), "prctl", None)
    if control is not None:
        control(_SET_CHILD_SUBREAPER, int(adopt), 0, 0, 0)


def somebody_ended() -> bool:
    """Is there anybody to take leave of, an orphan or one of ours? One call, which never waits; to look through /proc
    for that every other second was most of what an idle daemon asked of the kernel.
    """
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def bury_orphans() -> None:
    """Takes leave of those that ended."""
    with spawning:
        for pid in _own_children():
            if pid not in children:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)


class Descendants:
    """Of one process, which has not been waited for. Who was seen once is known again without parents and words."""

    def __init__(self, root: int, word: str) -> None:
        self._root = root
        self._word = word.encode()
        self._known: dict[int, int] = {}

    def look(self) -> list[Process]:
        """All that there are, but not the process itself."""
        found = [one for one in _descendants(self._root, self._word, self._known) if one.state != "Z"]
        self._known |= {process.pid: process.started for process in found}
        return found

    def ask(self) -> None:
        """To end themselves, those who are not in its group: that hears it as one."""
        for process in self.look():
            if process.group != self._root:
                _signal(process, signal.SIGTERM)

    def kill(self, within_s: float) -> None:
        """Until nobody is found, so that nobody is born unseen; `within_s` bounds it against one who is faster."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            # first they stand still, all of them: one who is killed later cannot start others meanwhile
            for process in self.look():
                _signal(process, signal.SIGSTOP)
            # of a list, for all of them
            if not sum([_signal(process, signal.SIGKILL) for process in self.look()]):
                break
            time.sleep(ROUND_S)


def _descendants(root: int, word: bytes, known: Mapping[int, int]) -> list[Process]:
    everybody = {process.pid: process for process in _processes()}
    below: dict[int, bool] = {root: True, os.getpid(): False, 1: False, 0: False}
    below |= {pid: True for pid, started in known.items() if everybody.get(pid, _NOBODY).started == started}

    def is_below(pid: int) -> bool:
        path = []
        while pid not in below and pid in everybody and pid not in path:
            path.append(pid)
            pid = everybody[pid].parent
        found = below.get(pid, False)
        below.update(dict.fromkeys(path, found))
        return found

    for process in everybody.values():
        if process.parent == os.getpid() and process.pid != root and _has(process.pid, word):
            below[process.pid] = True
    return [process for process in everybody.values() if process.pid != root and is_below(process.pid)]


def _processes() -> Iterator[Process]:
    """None where we are short of descriptors: whoever is in the process group hears of it all the same."""
    with contextlib.ExitStack() as opened:
        try:
            entries = opened.enter_context(os.scandir("/proc"))
        except OSError:
            return
        for entry in entries:
            if entry.name.isdecimal():
                found = _process(int(entry.name))
                if found is not None:
                    yield found


def _process(pid: int) -> Process | None:
    try:
        # the name in parentheses may hold anything
        words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return Process(pid, int(words[1]), int(words[2]), words[0].decode(), int(words[19]))
    except (OSError, IndexError, ValueError):
        return None


def _has(pid: int, word: bytes) -> bool:
    """Was it given that word?"""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123 — no Path for each process there is
            return MARK.encode() + b"=" + word in file.read(ENVIRON_BYTES).split(b"\0")
    except OSError:
        return False


def _signal(process: Process, number: signal.Signals) -> bool:
    """Never to another one that has got its number meanwhile."""
    try:
        pidfd = os.pidfd_open(process.pid)
    except OSError:
        return False
    try:
        now = _process(process.pid)
        if now is None or now.started != process.started:
            return False
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        # gone; or a set-uid program, which is not ours to end
        return False
    finally:
        os.close(pidfd)
    return True


def _own_children() -> list[int]:
    found: list[int] = []
    try:
        tasks = os.listdir("/proc/self/task")  # noqa: PTH208 — their names are enough
    except OSError:
        # short of descriptors: they wait for the next look
        return found
    for task in tasks:
        with contextlib.suppress(OSError, ValueError):
            found += map(int, Path(f"/proc/self/task/{task}/children").read_bytes().split())
    return found


def marked(env: Mapping[str, str], word: str) -> dict[str, str]:
    """That environment, with the word."""
    return {**env, MARK: word}
