"""A security border: which folders may be named from outside. Asks the disk, so for a thread."""

import os
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import trio

T = TypeVar("T")

_THREADS: Final = 4


class Folders:
    """Of a dead mount a question may never come back: those that wait are few, and none of the engine's."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(_THREADS)

    async def within(self, wanted: str, allowed: Sequence[str]) -> str | None:
        """That folder, if it is one of those or lies in one, also when links are followed."""
        return await self.ask(lambda: folder_within(wanted, allowed))

    async def ask(self, question: Callable[[], T]) -> T:
        """Its answer, from a thread."""
        return await trio.to_thread.run_sync(question, abandon_on_cancel=True, limiter=self._threads)


def folder_within(wanted: str, allowed: Sequence[str]) -> str | None:
    """As `Folders.within`."""
    if "\0" in wanted or not _is_encodable(wanted):
        return None
    folder = os.path.normpath(wanted)
    if not any(_lies_in(folder, base) for base in allowed):
        return None
    real = os.path.realpath(folder)
    return folder if any(_lies_in(real, os.path.realpath(base)) for base in allowed) else None


def _lies_in(folder: str, base: str) -> bool:
    return folder == base or folder.startswith(base.rstrip("/") + "/")


def _is_encodable(path: str) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True
