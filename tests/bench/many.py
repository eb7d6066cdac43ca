"""Thousands of complete torrents in one process, beside libtorrent and Transmission in the same run.

    python -m tests.bench.many                                     as `make bench-many`: 100 to 10 000, half an hour
    python -m tests.bench.many --count 100,1000 --idle 5 --settle 5   quickly
    python -m tests.bench.many --pieces 1000 --clients bittern     torrents of a thousand pieces, ours alone
    python -m tests.bench.many --json after.json                   every figure

Each client starts empty and gets all torrents at once: ours by renaming them into its watched folder, libtorrent by
one call for all, Transmission through its watched folder. All lie whole on disk, with one tracker, which is a process
of its own and only counts. Then it idles; one torrent is asked for a block; it is stopped and started again.

    dropped to announced   until the tracker has heard of each as a seed: taken in durably, checked, announced
    KiB each               resident memory a torrent: what it grew by from the run of a thousand on (or of the fewest)
    idle CPU               of one core, seconds after the last announce, between announces
    parked                 from connecting to the first block of a torrent that nobody has talked to
    told stopped           torrents of which the tracker heard `stopped`
    handshake, loaded, announced   after the start of the process; `loaded` is told by bittern only

A torrent's data is 64 KiB in one piece, or a thousand pieces of 1 KiB. Nothing is checked again at the restart.
"""

import argparse
import contextlib
import json
import os
import platform
import signal
import socket
import struct
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha1
from pathlib import Path
from typing import Any

from bittern.proto.bencode import encode
from tests.bench.measure import cpu_seconds
from tests.bench.report import Run, Target, faults, judge, medians, row_text
from tests.bench.runner import Place, Row, commit, run_row
from tests.bench.sides import monotonic_of
from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent, Transmission
from tests.fakes.counting_tracker import CountingTracker
from tests.fakes.processes import HOST, free_port, keep_bytecode, wait_until

SIZES = {1: 64 << 10, 1000: 1 << 10}
"""Bytes of a piece, by the number of pieces."""
BLOCK = 1 << 10
SLOPE_FROM = 1000
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
        for path in sorted(self.content.torrents.iterdir()):
            path.rename(self._bittern.drop / path.name)

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


class LibtorrentSession(Contender):
    def __init__(self, work: Path, library: Library) -> None:
        super().__init__(work, library)
        self._client = Libtorrent(work / "libtorrent")
        self._client.port, self._client.tuned = self.port, False

    @property
    def pid(self) -> int:
        return self._client.pid

    def start(self) -> None:
        self._client.launch()

    def give(self) -> None:
        self._client.call("add_all", folder=str(self.content.data), torrents=str(self.content.torrents))

    def stop(self) -> float:
        if self._client.alive:
            self._client.call("save_all", torrents=str(self.content.torrents), timeout_s=100)
        began = time.monotonic()
        self._client.stop()
        return began

    def restart(self) -> None:
        self.start()
        self.give()


class TransmissionDaemon(Contender):
    def __init__(self, work: Path, library: Library) -> None:
        super().__init__(work, library)
        self._client = Transmission(work / "transmission")
        self._client.port = self.port
        self._drop = work / "drop"
        self._drop.mkdir(parents=True)
        self._client.terms |= {
            "download-dir": str(library.data),
            "watch-dir": str(self._drop),
            "watch-dir-enabled": True,
            "message-level": 1,
        }

    @property
    def pid(self) -> int:
        return self._client.pid

    def start(self) -> None:
        self._client.launch()

    def give(self) -> None:
        for path in sorted(self.content.torrents.iterdir()):
            path.rename(self._drop / path.name)

    def stop(self) -> float:
        began = time.monotonic()
        self._client.stop()
        return began

    def restart(self) -> None:
        self.start()


CLIENTS: dict[str, type[Contender]] = {
    "bittern": OurDaemon,
    "libtorrent": LibtorrentSession,
    "transmission": TransmissionDaemon,
}


def rss_mib(pid: int) -> float:
    with open(f"/proc/{pid}/status") as status:
        [line] = [line for line in status if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def greet(port: int, info_hash: bytes, source: str = HOST) -> socket.socket:
    """A connection on which the handshake was answered; `OSError` when it was not."""
    connection = socket.create_connection((HOST, port), 10, (source, 0))
    try:
        connection.sendall(b"\x13BitTorrent protocol" + bytes(8) + info_hash + b"-XX0000-" + os.urandom(12))
        got = b""
        while len(got) < 68:
            more = connection.recv(68 - len(got))
            if not more:
                raise ConnectionResetError("no answer to a handshake")
            got += more
        assert got[28:48] == info_hash
    except BaseException:
        connection.close()
        raise
    return connection


def first_greeting(port: int, info_hash: bytes, timeout_s: float) -> None:
    """Returns when a handshake is answered."""

    def answered() -> bool:
        try:
            greet(port, info_hash).close()
        except OSError:
            return False
        return True

    wait_until(answered, timeout_s, "an answer to a handshake", 0.005)


def first_block(port: int, info_hash: bytes) -> None:
    """Returns with the first block of a torrent in hand."""
    with contextlib.closing(greet(port, info_hash)) as connection, connection.makefile("rb") as stream:
        connection.sendall(struct.pack("!IB", 1, 2))
        while True:
            (length,) = struct.unpack("!I", stream.read(4))
            message = stream.read(length)
            if message[:1] == b"\x01":
                connection.sendall(struct.pack("!IBIII", 13, 6, 0, 0, BLOCK))
            elif message[:1] == b"\x07":
                assert len(message) == 9 + BLOCK
                return


def one(place: Place, kind: type[Contender], count: int, pieces: int, words: argparse.Namespace) -> Run:
    """All figures of one client with so many torrents."""
    place.work.mkdir(parents=True)
    with CountingTracker(place.work / "tracker") as tracker:
        library = make_library(place.work, count, pieces, tracker.url)
        client = kind(place.work / "client", library)
        client.start()
        try:
            run: Run = {"count": count}
            began = time.monotonic()
            client.give()
            run["taken_in_s"] = tracker.wait_seeds(count, words.limit) - began
            run["taken_in_cpu_s"] = cpu_seconds(client.pid)
            time.sleep(words.settle)
            run["rss_mib"] = rss_mib(client.pid)
            before = cpu_seconds(client.pid)
            time.sleep(words.idle)
            run["idle_cpu_percent"] = 100 * (cpu_seconds(client.pid) - before) / words.idle
            began = time.monotonic()
            first_block(client.port, library.info_hashes[count // 2])
            run["parked_ms"] = 1000 * (time.monotonic() - began)
            began = client.stop()
            run["stop_s"] = time.monotonic() - began
            run["told_stopped"] = tracker.counts()["stopped"]
            run |= again(client, tracker, library, words)
            client.stop()
        except BaseException:
            with contextlib.suppress(AssertionError):
                client.stop()
            raise
    run["right"] = True
    return run


def again(client: Contender, tracker: CountingTracker, library: Library, words: argparse.Namespace) -> Run:
    """The restart."""
    count = len(library.info_hashes)
    heard = tracker.counts()
    tracker.forget()
    began = time.monotonic()
    client.restart()
    first_greeting(client.port, library.info_hashes[-1], 120)
    run: Run = {"handshake_s": time.monotonic() - began}
    run["announced_s"] = tracker.wait_seeds(count, words.limit) - began
    run["restart_cpu_s"] = cpu_seconds(client.pid)
    run["connections"] = tracker.counts()["connections"] - heard["connections"]
    time.sleep(words.settle)
    run["restart_rss_mib"] = rss_mib(client.pid)
    return run | client.told()


def targets(count: int) -> list[Target]:
    """For our daemon; what they are is for ten thousand but where it says otherwise."""
    each = [
        Target("idle_cpu_percent", 0.5, at_most=True),
        Target("parked_ms", 20, at_most=True),
        Target("stop_s", 5, at_most=True),
        Target("handshake_s", 0.7, at_most=True),
        Target("loaded_s", 3, at_most=True),
        Target("kib_per_torrent", 3, at_most=True),
        Target("restart_kib_per_torrent", 3, at_most=True),
    ]
    bound = 4.0 if count <= 1000 else 45.0
    return [Target("taken_in_s", bound, at_most=True), *each]


def add_slopes(runs: dict[str, list[Run]], first: dict[str, Run]) -> None:
    """What a torrent more costs, from the first count on."""
    for name, [run] in ((name, of_one) for name, of_one in runs.items() if len(of_one) == 1):
        if "failed" in run:
            continue
        base = first.setdefault(name, run)
        if base["count"] < SLOPE_FROM <= run["count"]:
            # what the first hundred cost is mostly what the process costs
            base = first[name] = run
        for key, slope in (("rss_mib", "kib_per_torrent"), ("restart_rss_mib", "restart_kib_per_torrent")):
            if run["count"] > base["count"]:
                run[slope] = 1024 * (run[key] - base[key]) / (run["count"] - base["count"])


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main(argv: Sequence[str]) -> int:
    """Gives the exit status: 1 when a run failed."""
    parser = argparse.ArgumentParser(
        prog="tests.bench.many", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--count", type=numbers, default=[100, 1000, 5000, 10_000], help="torrents, ascending"
    )
    parser.add_argument("--pieces", type=numbers, default=[1, 1000], help="of a torrent: 1, 1000, or both")
    parser.add_argument("--clients", default=",".join(CLIENTS), help="of " + ", ".join(CLIENTS))
    parser.add_argument("--idle", type=float, default=60, help="seconds over which idling is measured")
    parser.add_argument(
        "--settle", type=float, default=20, help="seconds before it, and before memory is measured"
    )
    parser.add_argument("--limit", type=float, default=300, help="seconds that anything may take")
    parser.add_argument("--hasty", action="store_true", help="do not wait for a quiet machine")
    parser.add_argument("--scratch", type=Path, help="a folder with room for 4 GiB (the usual temporary)")
    parser.add_argument("--json", type=Path, help="write every figure there")
    words = parser.parse_args(argv)
    keep_bytecode()
    results: dict[str, Any] = {
        "commit": commit(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": f"{os.cpu_count()} cores, {platform.release()}, Python {platform.python_version()}",
        "rows": {},
        "faults": [],
    }
    with tempfile.TemporaryDirectory(prefix="bittern-many-", dir=words.scratch) as scratch:
        place = Place(Path(scratch), quick=False)
        for pieces in words.pieces:
            first: dict[str, Run] = {}
            failed: set[str] = set()
            for count in sorted(words.count):
                contenders = {
                    name: partial(one, kind=CLIENTS[name], count=count, pieces=pieces, words=words)
                    for name in words.clients.split(",")
                    if name not in failed  # who could not do fewer
                }
                row = Row(f"many{count}x{pieces}", f"{count} torrents, pieces each: {pieces}", contenders)
                runs = run_row(row, place, 1, only="", hasty=words.hasty)
                failed |= {name for name, of_one in runs.items() if any("failed" in run for run in of_one)}
                add_slopes(runs, first)
                found = medians(runs)
                verdicts = [judge(found, target) for target in targets(count)]
                results["faults"] += faults(row.name, runs, verdicts)
                results["rows"][row.name] = {
                    "medians": found,
                    "verdicts": [asdict(verdict) for verdict in verdicts],
                    "runs": runs,
                }
                print("\n" + row_text(row.title, found, verdicts, 1) + "\n", flush=True)
                if words.json:
                    words.json.write_text(json.dumps(results, indent=2) + "\n")
    if results["faults"]:
        print("\n".join(["BROKEN:", *results["faults"]]))
    return 1 if results["faults"] else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main(sys.argv[1:]))
