"""What hurts a transfer that is under way: hostile peers by the thousand, and ten thousand torrents dropped at once.

Each is done by the same daemon with and without, in turn; the honest peers move no more than an ordinary line does, so
that what is seen is what they are left, and not what the enemies take of the processor.
"""

import contextlib
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Self

from tests.bench.crowd import make_library
from tests.bench.limits import bytes_by
from tests.bench.many import greet
from tests.bench.measure import peak_rss_bytes
from tests.bench.report import Run, Target
from tests.bench.runner import Place, Row
from tests.fakes import hostile_process
from tests.fakes.bittern_process import Bittern
from tests.fakes.counting_tracker import CountingTracker
from tests.fakes.payloads import MIB, Payload
from tests.fakes.processes import HOST, wait_until
from tests.fakes.raw_seeder import RawSeeder

Trouble = Callable[[Place, Bittern, tuple[Payload, Payload]], AbstractContextManager[Run]]

RATE = 10 * MIB
BLOCK = 16384
IN_FLIGHT = 32
AGAIN_S = 0.5
"""Who is turned away knocks again."""

SEEDS_HOST, LEECHERS_HOST = "127.0.0.2", "127.0.0.3"
"""Each its own: what one does is not held against the other."""

KINDS = {"silent": 15, "mute": 15, "drip": 10, "liar": 10, "misshapen": 10, "bad": 10, "greedy": 10}
KINDS |= {"again": 7, "haves": 7, "flip": 6}
"""Of a hundred."""


class Knocker:
    """An honest peer that dials, and again when it is turned away or thrown out."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._over = threading.Event()
        self._peer: socket.socket | None = None
        self._thread = threading.Thread(target=self._knock)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            if self._peer is not None:
                self._peer.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _knock(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError, struct.error), self.connect() as self._peer:
                self.use(self._peer)
            self._over.wait(AGAIN_S)

    def connect(self) -> socket.socket:
        raise NotImplementedError

    def use(self, peer: socket.socket) -> None:
        raise NotImplementedError


class HonestSeed(Knocker):
    def __init__(self, port: int, seeder: RawSeeder) -> None:
        super().__init__(port)
        self._seeder = seeder

    def connect(self) -> socket.socket:
        return socket.create_connection((HOST, self._port), 10, (SEEDS_HOST, 0))

    def use(self, peer: socket.socket) -> None:
        self._seeder.meet(peer)

    @property
    def arrivals(self) -> list[tuple[float, int]]:
        return list(self._seeder.sends)


class HonestLeecher(Knocker):
    """Takes the first block of each piece, round and round, at the rate of its line."""

    def __init__(self, port: int, payload: Payload, rate: float) -> None:
        super().__init__(port)
        self._payload = payload
        self._rate = rate
        self.arrivals: list[tuple[float, int]] = []

    def connect(self) -> socket.socket:
        return greet(self._port, bytes.fromhex(self._payload.info_hash), LEECHERS_HOST)

    def use(self, peer: socket.socket) -> None:
        self._take(peer)

    def _take(self, peer: socket.socket) -> None:
        """Until it is hung up on."""
        peer.settimeout(60)
        pieces = self._payload.piece_count - 1
        asked = 0
        due = time.monotonic()
        with peer.makefile("rb") as stream:
            peer.sendall(struct.pack(">IB", 1, 2))
            while not self._over.is_set():
                (length,) = struct.unpack(">I", stream.read(4))
                message = stream.read(length)
                if message[:1] == b"\x00":
                    asked = 0
                elif message[:1] == b"\x01":
                    asked += IN_FLIGHT
                    peer.sendall(b"".join(self._request(number % pieces) for number in range(IN_FLIGHT)))
                elif message[:1] == b"\x07" and asked:
                    now = time.monotonic()
                    before = self.arrivals[-1][1] if self.arrivals else 0
                    self.arrivals.append((now, before + length - 9))
                    due = max(due, now - 0.05) + BLOCK / self._rate
                    time.sleep(max(0.0, due - now))
                    peer.sendall(self._request(len(self.arrivals) % pieces))

    @staticmethod
    def _request(piece: int) -> bytes:
        return struct.pack(">IBIII", 13, 6, piece, 0, BLOCK)


@contextmanager
def besieged(place: Place, port: int, payload: Payload, count: int) -> Iterator[None]:
    """So many hostile connections, each kind of them."""
    log = place.work / f"hostile-{payload.name}.log"
    with log.open("wb") as told:
        kinds = [f"{kind}={of_hundred * count // 100}" for kind, of_hundred in KINDS.items()]
        hostile = subprocess.Popen(
            [
                sys.executable,
                hostile_process.__file__,
                str(port),
                payload.info_hash,
                str(payload.piece_count),
                str(payload.piece_length),
                *kinds,
            ],
            stdout=told,
        )
        try:
            wait_until(lambda: log.read_bytes().count(b"\n") > 3, 60, "the siege")
            yield
        finally:
            hostile.kill()
            hostile.wait()


@contextmanager
def nothing(*_: object) -> Iterator[Run]:
    yield {}


@contextmanager
def siege(place: Place, ours: Bittern, payloads: tuple[Payload, Payload]) -> Iterator[Run]:
    with ExitStack() as stack:
        for payload in payloads:
            stack.enter_context(besieged(place, ours.port, payload, 500 if not place.quick else 50))
        yield {}


def honest(place: Place, trouble: Trouble) -> Run:
    """One torrent comes from a seed and another goes to a leecher, both of which knock when the trouble is there."""
    for_s = 2.0 if place.quick else 12.0
    with Line(place, for_s) as line, trouble(place, line.ours, (line.coming, line.going)) as told:
        line.knock()
        return line.read(for_s) | told


def intake(place: Place, trouble: Trouble) -> Run:
    """The same, and the trouble comes when both are under way; it lasts longer than what is looked at."""
    for_s = 2.0 if place.quick else 12.0
    with Line(place, for_s) as line:
        line.knock()
        line.read(1)
        with trouble(place, line.ours, (line.coming, line.going)) as told:
            return line.read(for_s) | told


class Line:
    """Both transfers."""

    def __init__(self, place: Place, for_s: float, rate: float = RATE) -> None:
        self._rate = rate
        self.coming = place.payload(int(rate * (2 * for_s + 20)) // MIB * MIB)
        self.going = place.payload(17 * MIB)
        self.ours = Bittern(place.work / "bittern")
        del self.ours.tables["hook"]
        self.ours.write_config()
        shutil.copy(self.going.folder / self.going.name, self.ours.downloads)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._seeder = stack.enter_context(RawSeeder(self.coming, rate_bytes_per_s=self._rate))
            stack.enter_context(self.ours)
            for payload in (self.going, self.coming):
                self.ours.give(payload)
            self.ours.wait("torrent.checked", 60, count=2)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)

    def knock(self) -> None:
        """Both begin."""
        self._began = time.monotonic()
        self._seed = self._stack.enter_context(HonestSeed(self.ours.port, self._seeder))
        self._leecher = self._stack.enter_context(HonestLeecher(self.ours.port, self.going, self._rate))

    def read(self, for_s: float) -> Run:
        """Each for so long: from now, or from a second after its first block."""
        now = time.monotonic()
        rates = []
        for one in (self._seed, self._leecher):
            wait_until(lambda one=one: one.arrivals, 300, "its first block")
            start = max(now, one.arrivals[0][0] + 1)
            wait_until(lambda until=start + for_s: time.monotonic() > until, for_s + 30, "the time")
            rates.append(
                (bytes_by(one.arrivals, start + for_s) - bytes_by(one.arrivals, start)) / for_s / 1e6
            )
        return {
            "mb_per_s": rates[0],
            "up_mb_per_s": rates[1],
            "seed_in_s": self._seed.arrivals[0][0] - self._began,
            "leecher_in_s": self._leecher.arrivals[0][0] - self._began,
            "peak_rss_mib": peak_rss_bytes(self.ours.pid) / MIB,
            "banned": len(self.ours.events("peer.banned")),
            "right": True,
        }


@contextmanager
def drop(place: Place, ours: Bittern, _: object) -> Iterator[Run]:
    """Torrents whose data lies there whole; all are taken in before it ends."""
    count = 10_000 if not place.quick else 300
    with CountingTracker(place.work / "tracker") as tracker:
        library = make_library(place.work / "library", count, 1, tracker.url)
        for path in library.data.iterdir():
            (ours.downloads / path.name).hardlink_to(path)
        began = time.monotonic()
        for path in sorted(library.torrents.iterdir()):
            path.rename(ours.drop / path.name)
        told: Run = {}
        yield told
        told["taken_in_s"] = tracker.wait_seeds(count, 300) - began
        assert not list(ours.drop.glob("*.torrent")), "some were left lying"


def among(work: Callable[..., Run], trouble: Trouble) -> dict[str, Callable[[Place], Run]]:
    return {"bittern": partial(work, trouble=trouble), "alone": partial(work, trouble=nothing)}


def kept(share: float) -> tuple[Target, Target]:
    return Target("mb_per_s", share, "alone"), Target("up_mb_per_s", share, "alone")


ROWS = [
    Row(
        "siege",
        "1000 hostile connections: an honest seed and an honest leecher, 10 MiB/s each way",
        among(honest, siege),
        (*kept(0.8), Target("peak_rss_mib", 200, at_most=True)),
        runs=3,
        quick_without="",
        by_name_only=True,
    ),
    Row(
        "drop",
        "10 000 torrents dropped at once beside transfers of 10 MiB/s each way",
        among(intake, drop),
        kept(0.9),
        runs=3,
        quick_without="",
        by_name_only=True,
    ),
]
