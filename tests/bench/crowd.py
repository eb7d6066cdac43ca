"""Thousands of complete torrents on the disk, and the clients that are given all of them at once."""

import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

from bittern.proto.bencode import encode
from tests.bench.report import Run
from tests.bench.sides import monotonic_of
from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent, Transmission
from tests.fakes.processes import free_port

SIZES = {1: 64 << 10, 1000: 1 << 10}
"""Bytes of a piece, by the number of pieces."""
LINKS_AT_MOST = 30_000
"""Names of one file; file systems have a limit."""


@dataclass(frozen=True)
class Library:
    """`count` torrents: their data below `data`, .torrent files below `torrents`."""

    data: Path
    torrents: Path
    info_hashes: tuple[bytes, ...]


def make_library(folder: Path, count: int, pieces: int, tracker: str) -> Library:
    """All of the same bytes, which lie on the disk once; their names make them different torrents."""
    data, torrents = folder / "data", folder / "torrents"
    data.mkdir(parents=True)
    torrents.mkdir()
    size = SIZES[pieces]
    content = os.urandom(pieces * size)
    hashes = b"".join(sha1(content[at : at + size]).digest() for at in range(0, len(content), size))
    found = []
    for number in range(count):
        source = folder / f"content{number // LINKS_AT_MOST}"
        if number % LINKS_AT_MOST == 0:
            source.write_bytes(content)
        name = f"torrent{number:05d}"
        (data / name).hardlink_to(source)
        info = {b"name": name.encode(), b"length": len(content), b"piece length": size, b"pieces": hashes}
        (torrents / f"{name}.torrent").write_bytes(encode({b"announce": tracker.encode(), b"info": info}))
        found.append(sha1(encode(info)).digest())
    os.sync()
    return Library(data, torrents, tuple(found))


class Contender(ABC):
    """One client; started empty, given the library, stopped, started again."""

    def __init__(self, work: Path, library: Library) -> None:
        self.content = library
        self.port = free_port()

    @property
    @abstractmethod
    def pid(self) -> int: ...

    @abstractmethod
    def start(self) -> None:
        """Returns when it can be given torrents."""

    @abstractmethod
    def give(self) -> None:
        """All torrents at once."""

    @abstractmethod
    def stop(self) -> float:
        """When it began to (what it must be asked first is not counted); returns when it has ended."""

    @abstractmethod
    def restart(self) -> None:
        """Returns as soon as it is started."""

    def told(self) -> Run:
        """What else it says of its restart."""
        return {}


def drop_all(torrents: Path, watched: Path) -> None:
    """Renames them into a watched folder, in the order of their names."""
    for path in sorted(torrents.iterdir()):
        path.rename(watched / path.name)


class OurDaemon(Contender):
    def __init__(self, work: Path, library: Library) -> None:
        super().__init__(work, library)
        paths = {"downloads": str(library.data)}
        self._bittern = Bittern(work / "bittern", network={"port": self.port}, paths=paths)
        del self._bittern.tables["hook"]
        self._bittern.write_config()

    @property
    def pid(self) -> int:
        return self._bittern.pid

    def start(self) -> None:
        self._bittern.start()

    def give(self) -> None:
        drop_all(self.content.torrents, self._bittern.drop)

    def stop(self) -> float:
        began = time.monotonic()
        status = self._bittern.stop()
        assert status == 0, f"exit status {status}"
        self._bittern.check_unhurt()
        return began

    def restart(self) -> None:
        self._began = time.monotonic()
        self._bittern.start(until="")

    def told(self) -> Run:
        return {"loaded_s": monotonic_of(self._bittern.wait("daemon.loaded", 300)) - self._began}


class Other(Contender):
    """Somebody else's, in a process that is told of the same port."""

    def __init__(self, work: Path, library: Library, client: Libtorrent | Transmission) -> None:
        super().__init__(work, library)
        self._client = client
        client.port = self.port

    @property
    def pid(self) -> int:
        return self._client.pid

    def start(self) -> None:
        self._client.launch()

    def stop(self) -> float:
        began = time.monotonic()
        self._client.stop()
        return began


class LibtorrentSession(Other):
    def __init__(self, work: Path, library: Library) -> None:
        client = Libtorrent(work / "libtorrent")
        client.tuned = False
        super().__init__(work, library, client)

    def give(self) -> None:
        self._client.call("add_all", folder=str(self.content.data), torrents=str(self.content.torrents))

    def stop(self) -> float:
        if self._client.alive:
            self._client.call("save_all", torrents=str(self.content.torrents), timeout_s=100)
        return super().stop()

    def restart(self) -> None:
        self.start()
        self.give()


class TransmissionDaemon(Other):
    def __init__(self, work: Path, library: Library) -> None:
        client = Transmission(work / "transmission")
        super().__init__(work, library, client)
        self._drop = work / "drop"
        self._drop.mkdir(parents=True)
        client.terms |= {
            "download-dir": str(library.data),
            "watch-dir": str(self._drop),
            "watch-dir-enabled": True,
            "message-level": 1,
        }

    def give(self) -> None:
        drop_all(self.content.torrents, self._drop)

    def restart(self) -> None:
        self.start()


CLIENTS: dict[str, type[Contender]] = {
    "bittern": OurDaemon,
    "libtorrent": LibtorrentSession,
    "transmission": TransmissionDaemon,
}
