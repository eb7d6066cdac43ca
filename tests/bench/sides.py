"""The two sides of a transfer under one set of names: bittern, and libtorrent tuned or with its defaults.

A side has one torrent and is entered when that is checked; times are those of the monotonic clock, which all processes
of a machine share.
"""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, Self

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import Payload

LONGEST_S = 300


class Side(Protocol):
    """One program with one torrent."""

    folder: Path
    """Its data lies below it."""

    @property
    def pid(self) -> int: ...
    @property
    def port(self) -> int: ...
    def wait_whole(self) -> float:
        """Until the last piece is verified and written: that time."""

    def extras(self) -> dict[str, float]:
        """What else it has to tell of its run, when it is whole."""

    def __enter__(self) -> Self: ...
    def __exit__(self, kind: object, *_: object) -> None: ...


Make = Callable[[Path, Payload, bool], Side]
"""(a folder to work in, the torrent, does it seed?)"""


def monotonic_of(event: dict[str, Any]) -> float:
    """When that line of the log was written."""
    told_at = datetime.fromisoformat(event["timestamp"]).timestamp()
    # whoever is interrupted between the two clocks looks at them again
    _, ahead_s = min(_clocks() for _ in range(20))
    return told_at + ahead_s


def _clocks() -> tuple[float, float]:
    """How long it took to look at both, and how far the monotonic one is ahead of the other."""
    before, wall = time.monotonic(), time.time()
    took_s = time.monotonic() - before
    return took_s, before + took_s / 2 - wall


class BitternSide:
    """bittern, by the command that its users start."""

    def __init__(
        self, work: Path, payload: Payload, seed: bool, *trackers: str, **tables: dict[str, Any]
    ) -> None:
        if seed:
            tables["paths"] = {"downloads": str(payload.folder)}
        self.bittern = Bittern(work, **tables)
        self.folder = payload.folder if seed else self.bittern.downloads
        self._payload, self._seed, self._trackers = payload, seed, trackers

    def start(self) -> None:
        """To its end: what it imports to serve its clients costs a sixth of a second, which is of no transfer."""
        self.bittern.start()
        self.bittern.wait("control.ready", LONGEST_S)

    def __enter__(self) -> Self:
        self.start()
        self.give()
        self.bittern.wait("torrent.completed" if self._seed else "torrent.checked", LONGEST_S)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.bittern.__exit__(kind)

    def give(self) -> None:
        self.bittern.give(self._payload, *self._trackers)

    @property
    def pid(self) -> int:
        return self.bittern.pid

    @property
    def port(self) -> int:
        return self.bittern.port

    def wait_whole(self) -> float:
        return monotonic_of(self.bittern.wait("torrent.downloaded", LONGEST_S))

    def extras(self) -> dict[str, float]:
        completed = self.bittern.wait("torrent.completed", LONGEST_S)
        return {"to_completed_s": monotonic_of(completed) - self.wait_whole()}


class LibtorrentSide:
    """libtorrent, in a process of its own."""

    def __init__(
        self, work: Path, payload: Payload, seed: bool, *, tuned: bool = True, sessions: int = 1
    ) -> None:
        self.client = Libtorrent(work)
        self.client.seed_mode, self.client.tuned, self.client.sessions = seed, tuned, sessions
        self.folder = payload.folder if seed else work / "got"
        self._payload = payload

    def __enter__(self) -> Self:
        self.client.launch()
        self.client.add(self._payload.torrent(self.client.work), self.folder)
        self.client.wait_for("checked")
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop()

    @property
    def pid(self) -> int:
        return self.client.pid

    @property
    def port(self) -> int:
        return self.client.port

    def wait_whole(self) -> float:
        return self.client.wait_for("finished", LONGEST_S)

    def extras(self) -> dict[str, float]:
        return {}


def bittern(work: Path, payload: Payload, seed: bool) -> Side:
    return BitternSide(work, payload, seed)


def libtorrent_tuned(work: Path, payload: Payload, seed: bool) -> Side:
    return LibtorrentSide(work, payload, seed)


def libtorrent_default(work: Path, payload: Payload, seed: bool) -> Side:
    return LibtorrentSide(work, payload, seed, tuned=False)


SUBJECTS: dict[str, Make] = {
    "bittern": bittern,
    "libtorrent tuned": libtorrent_tuned,
    "libtorrent default": libtorrent_default,
}
"""Who is measured, against the same other side; in this order they take turns."""
