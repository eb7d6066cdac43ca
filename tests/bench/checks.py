"""Checking data that is already there, with all of it in the page cache."""

import hashlib
import os
import time
from collections.abc import Callable
from functools import partial

from tests.bench.measure import GIB, cpu_seconds, peak_rss_bytes
from tests.bench.report import Run, Target
from tests.bench.runner import Place, Row
from tests.bench.sides import LONGEST_S, monotonic_of
from tests.bench.transfers import MEMORY, small_files, whole_gib
from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload


def sha1_bytes_per_s(for_s: float = 0.5) -> float:
    """One core's SHA-1 by OpenSSL, on memory that is in no cache of the processor."""
    block, hashed, began = bytes(64 * MIB), 0, time.process_time()
    while time.process_time() - began < for_s:
        hashlib.sha1(block).digest()
        hashed += len(block)
    return hashed / (time.process_time() - began)


def figures(size: int, began: float, ended: float, cpu_s: float, rss_bytes: int) -> Run:
    speed = size / (ended - began)
    return {
        "seconds": ended - began,
        "gb_per_s": speed / 1e9,
        "cpu_s_per_gib": cpu_s * GIB / size,
        "peak_rss_mib": rss_bytes / MIB,
        "of_machine": speed / ((os.cpu_count() or 1) * sha1_bytes_per_s()),
    }


def warm(payload: Payload) -> None:
    for path in payload.file_paths():
        with (payload.folder / path).open("rb") as file:
            while file.read(MIB):
                pass


def bittern_checks(place: Place, payload_of: Callable[[Place], Payload]) -> Run:
    """The .torrent is dropped where the data lies; from `torrent.added` to `torrent.checked`."""
    payload = payload_of(place)
    warm(payload)
    with Bittern(place.work / "bittern", paths={"downloads": str(payload.folder)}) as bittern:
        before = cpu_seconds(bittern.pid)
        bittern.give(payload)
        checked = bittern.wait("torrent.checked", LONGEST_S)
        bittern.wait("torrent.completed", LONGEST_S)
        [added] = bittern.events("torrent.added")
        run = figures(
            payload.total,
            monotonic_of(added),
            monotonic_of(checked),
            cpu_seconds(bittern.pid) - before,
            peak_rss_bytes(bittern.pid),
        )
    run["right"] = bool(bittern.events("torrent.completed"))
    return run


def libtorrent_rechecks(place: Place, payload_of: Callable[[Place], Payload], tuned: bool) -> Run:
    payload = payload_of(place)
    warm(payload)
    client = Libtorrent(place.work / "libtorrent")
    client.tuned, client.seed_mode = tuned, True
    with client:
        client.add(payload.torrent(client.work), payload.folder)
        client.wait_for("checked")
        before = cpu_seconds(client.pid)
        began, ended = client.call("recheck", timeout_s=LONGEST_S)
        run = figures(
            payload.total, began, ended, cpu_seconds(client.pid) - before, peak_rss_bytes(client.pid)
        )
        run["right"] = client.whole()
    return run


def by_each(payload_of: Callable[[Place], Payload]) -> dict[str, Callable[[Place], Run]]:
    return {
        "bittern": partial(bittern_checks, payload_of=payload_of),
        "libtorrent tuned": partial(libtorrent_rechecks, payload_of=payload_of, tuned=True),
        "libtorrent default": partial(libtorrent_rechecks, payload_of=payload_of, tuned=False),
    }


ROWS = [
    Row(
        "check",
        "check of a whole payload in the page cache, 1 MiB pieces",
        by_each(whole_gib),
        (Target("gb_per_s", 1.2, "libtorrent"), Target("of_machine", 0.75), MEMORY),
    ),
    Row(
        "checksmall",
        "check of 10 000 small files in the page cache, 64 KiB pieces",
        by_each(small_files),
        (Target("gb_per_s", 1.2, "libtorrent"), MEMORY),
    ),
]
