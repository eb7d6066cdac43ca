"""Folders that stay open while one thread looks at several torrents: thousands lie in few of them.

Each is opened, and seen to be the right one, once a visit. What is looked at through its descriptor lies in it,
whatever comes to lie at its path meanwhile. A visit is short: what is held open cannot be unmounted.
"""

import os
from types import TracebackType
from typing import Self

from bittern.disk.places import Place


class Visit:
    """A `with` block's; for one thread."""

    def __init__(self) -> None:
        self._open: dict[Place, int | None] = {}
        self._real: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self._open.values():
            if fd is not None:
                os.close(fd)
        self._open.clear()

    def folder(self, place: Place) -> int | None:
        """Its descriptor, open until the visit ends. None: it cannot be opened, and who goes by its path is told why.
        `PlaceGone` when it is not the one.
        """
        if place not in self._open:
            try:
                self._open[place] = place.open()
            except OSError:
                self._open[place] = None
        return self._open[place]

    def real(self, folder: str) -> str:
        """Where links lead from that folder."""
        if folder not in self._real:
            self._real[folder] = os.path.realpath(folder)
        return self._real[folder]
