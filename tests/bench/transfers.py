"""One payload from one program to another: leeching, seeding, and both."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bittern.terms import BLOCK_SIZE
from tests.bench.measure import Meter, connected
from tests.bench.report import Run, Target
from tests.bench.runner import Place, Row
from tests.bench.sides import LONGEST_S, SUBJECTS, BitternSide, LibtorrentSide, Make
from tests.fakes.payloads import MIB, Payload, digest_of
from tests.fakes.processes import HOST, Program, wait_until
from tests.fakes.recording_tracker import RecordingTracker

GIB = 1 << 30
RSS_MIB = 96 + 64
"""What bittern may use beside piece_memory, and piece_memory's default."""


def speed(bound: float, against: str = "libtorrent") -> Target:
    return Target("mb_per_s", bound, against)


def cpu(bound: float) -> Target:
    return Target("cpu_s_per_gib", bound, "libtorrent", at_most=True)


MEMORY = Target("peak_rss_mib", RSS_MIB, at_most=True, fails_at=RSS_MIB)


def first_connection(port: int) -> float:
    wait_until(lambda: connected(port), 120, "a connection", 0.001)
    return time.monotonic()


def leech(place: Place, make: Make, payload_of: Callable[[Place], Payload], seeders: int = 1) -> Run:
    """From tuned libtorrent seeders, which dial; from the first connection until all is verified and written."""
    payload = payload_of(place)
    with (
        LibtorrentSide(place.work / "seeders", payload, True, sessions=seeders) as others,
        make(place.work / "leecher", payload, False) as leecher,
    ):
        meter = Meter(leecher.pid, others.pid)
        others.client.connect(leecher.port)
        began = first_connection(leecher.port)
        run = meter.read(began, leecher.wait_whole(), payload.total)
        status = others.client.status()
        chatter = status["sent"] + status["received"] - payload.total
        run |= leecher.extras() | {"overhead_percent": 100 * chatter / payload.total}
    run["right"] = digest_of(leecher.folder / payload.name) == payload.digest
    return run


def cool(payload: Payload) -> None:
    """Takes the payload out of the page cache."""
    os.sync()
    for path in payload.file_paths():
        fd = os.open(payload.folder / path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def seed(place: Place, make: Make, payload_of: Callable[[Place], Payload], *, cold: bool = False) -> Run:
    """To a tuned libtorrent leecher, which dials; `cold`: from the disk and not from the page cache."""
    payload = payload_of(place)
    with (
        make(place.work / "seeder", payload, True) as seeder,
        LibtorrentSide(place.work / "leecher", payload, False) as other,
    ):
        if cold:
            cool(payload)
        meter = Meter(seeder.pid, other.pid)
        other.client.connect(seeder.port)
        began = first_connection(seeder.port)
        run = meter.read(began, other.wait_whole(), payload.total)
    run["right"] = digest_of(other.folder / payload.name) == payload.digest
    return run


class RawLeecher(Program):
    """A process of its own that asks for everything and throws it away."""

    def begin(self, payload: Payload, port: int, longest_s: float = LONGEST_S) -> None:
        script = Path(__file__).parents[1] / "fakes" / "raw_leecher_process.py"
        words = (HOST, port, payload.info_hash, payload.total, payload.piece_length, longest_s)
        self.spawn(sys.executable, script, *words, stdout=subprocess.PIPE)

    def told(self) -> dict[str, Any]:
        """What it says at its end."""
        assert self.process is not None
        line, _ = self.process.communicate(timeout=LONGEST_S)
        assert line, self.log.read_text(errors="replace")
        return json.loads(line)


def seed_raw(place: Place, make: Make) -> Run:
    payload = whole_gib(place)
    with make(place.work / "seeder", payload, True) as seeder:
        leecher = RawLeecher(place.work / "leecher")
        meter = Meter(seeder.pid)
        leecher.begin(payload, seeder.port)
        told = leecher.told()
        run = meter.read(told["began"], told["ended"], payload.total)
    run["other_cpu_s_per_gib"] = told["cpu_s"] * GIB / payload.total
    run["right"] = told["arrivals"][-1][1] <= payload.total == min(payload.total, told["blocks"] * BLOCK_SIZE)
    return run


def bittern_to_bittern(place: Place) -> Run:
    """They find each other by a tracker."""
    payload = whole_gib(place)
    with ExitStack() as stack:
        tracker = stack.enter_context(RecordingTracker())
        seeder = stack.enter_context(BitternSide(place.work / "seeder", payload, True, tracker.url))
        tracker.ports = (seeder.port,)
        leecher = BitternSide(place.work / "leecher", payload, False, tracker.url)
        leecher.start()
        stack.push(leecher)
        meter = Meter(leecher.pid, seeder.pid, together=True)
        leecher.give()
        began = first_connection(seeder.port)
        run = meter.read(began, leecher.wait_whole(), payload.total) | leecher.extras()
    run["right"] = digest_of(leecher.folder / payload.name) == payload.digest
    return run


def libtorrent_to_libtorrent(place: Place, tuned: bool) -> Run:
    payload = whole_gib(place)
    with (
        LibtorrentSide(place.work / "seeder", payload, True, tuned=tuned) as seeder,
        LibtorrentSide(place.work / "leecher", payload, False, tuned=tuned) as leecher,
    ):
        meter = Meter(leecher.pid, seeder.pid, together=True)
        seeder.client.connect(leecher.port)
        began = first_connection(leecher.port)
        run = meter.read(began, leecher.wait_whole(), payload.total)
    run["right"] = digest_of(leecher.folder / payload.name) == payload.digest
    return run


def whole_gib(place: Place) -> Payload:
    return place.payload(place.size(GIB, 128 * MIB))


def small_files(place: Place) -> Payload:
    """Sizes from nothing to twice the mean, in an order without a pattern."""
    count = 1000 if place.quick else 10_000
    mean = place.size(256 * MIB, 32 * MIB) // count
    return place.payload([mean * 2 * (number * 7919 % count) // count for number in range(count)], 64 * 1024)


def tiny_pieces(place: Place) -> Payload:
    return place.payload(place.size(256 * MIB, 32 * MIB), 16 * 1024)


def pieces_of(length: int) -> Callable[[Place], Payload]:
    return lambda place: place.payload(place.size(GIB, 128 * MIB), length)


def by_each(work: Callable[..., Run], **words: object) -> dict[str, Callable[[Place], Run]]:
    return {name: partial(work, make=make, **words) for name, make in SUBJECTS.items()}


ROWS = [
    Row(
        "leech",
        "leech from 1 seeder, 1 MiB pieces",
        by_each(leech, payload_of=whole_gib),
        (speed(1.2), cpu(1.2), MEMORY),
        quick_without="",
    ),
    Row(
        "small",
        "leech 10 000 small files, 64 KiB pieces",
        by_each(leech, payload_of=small_files),
        (speed(1.0), cpu(1.2), MEMORY),
    ),
    Row(
        "piece16k",
        "leech, 16 KiB pieces",
        by_each(leech, payload_of=tiny_pieces),
        (speed(1.0), cpu(1.2), MEMORY),
    ),
    Row(
        "piece16m",
        "leech, 16 MiB pieces",
        by_each(leech, payload_of=pieces_of(16 * MIB)),
        (speed(1.0), cpu(1.2), MEMORY),
    ),
    *(
        Row(
            f"piece{name}",
            f"leech, {title} pieces",
            by_each(leech, payload_of=pieces_of(length)),
            (speed(1.0), cpu(1.2), MEMORY),
            in_quick=False,
        )
        for name, title, length in (
            ("256k", "256 KiB", 256 * 1024),
            ("4m", "4 MiB", 4 * MIB),
            ("256m", "256 MiB", 256 * MIB),
        )
    ),
    Row(
        "leech4",
        "leech from 4 seeders",
        by_each(leech, payload_of=whole_gib, seeders=4),
        (speed(1.1), cpu(1.2), MEMORY),
    ),
    Row(
        "seed",
        "seed to a libtorrent leecher",
        by_each(seed, payload_of=whole_gib),
        (speed(0.9, "*"), cpu(0.5)),
        quick_without="",
    ),
    Row(
        "seedcold",
        "seed to a libtorrent leecher what is in no page cache",
        by_each(seed, payload_of=whole_gib, cold=True),
        (speed(1.0), cpu(0.5)),
        in_quick=False,
    ),
    Row(
        "seedraw",
        "seed to a raw leecher that only discards",
        by_each(seed_raw),
        (speed(1.0), cpu(0.5)),
    ),
    Row(
        "both",
        "from one to another of the same kind (CPU: both together)",
        {
            "bittern": bittern_to_bittern,
            "libtorrent tuned": partial(libtorrent_to_libtorrent, tuned=True),
            "libtorrent default": partial(libtorrent_to_libtorrent, tuned=False),
        },
        (speed(1.3), cpu(0.8)),
        quick_without="",
    ),
]
