"""One thread at a time at a name in a folder, while what bears it is made and given its rights. Synchronous.

What is refused its group is taken away again: nobody may come upon it before that, and leave it with something in it.
Each name has a turn of its own, so a mount that hangs holds up only those who want the same thing there.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final


@dataclass(slots=True)
class _Turn:
    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: int = 0
    """That have it or wait for it: without any it is forgotten."""


_turns: Final[dict[tuple[int, int, str], _Turn]] = {}
"""By the folder's device and inode and the name in it: of the process, as the file systems are."""

_lock: Final = threading.Lock()
"""Of `_turns`, and held for nothing else."""


@contextlib.contextmanager
def turn_at(folder_fd: int, name: str) -> Iterator[None]:
    """While the block runs nobody else has the turn at that name in the open folder."""
    folder = os.fstat(folder_fd)
    key = (folder.st_dev, folder.st_ino, name)
    with _lock:
        turn = _turns.setdefault(key, _Turn())
        turn.threads += 1
    try:
        with turn.lock:
            yield
    finally:
        with _lock:
            turn.threads -= 1
            if not turn.threads:
                del _turns[key]
