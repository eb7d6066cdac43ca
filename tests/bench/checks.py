"""Checking data that is already there, with all of it in the page cache."""

import hashlib
import os
import time
from collections.abc import Callable
from functools import partial

from tests.bench.measure import GIB, Meter, cpu_seconds, peak_rss_bytes
from tests.bench.report import Run, Target
from tests.bench.runner import Place, Row
from tests.bench.sides import LONGEST_S, BitternSide, LibtorrentSide, monotonic_of
from tests.bench.transfers import MEMORY, first_connection, small_files, speed, whole_gib
from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload, digest_of


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


def bittern_checks(place: Place, payload_of: Callable[[Place], Payload], *, again: bool) -> Run:
    """The .torrent is dropped where the data lies: from `torrent.added` to `torrent.checked`; or `again`, from the
    command to recheck what is seeded to the second of them.

    By a daemon that has started: what it imports to serve its clients takes a tenth of a second of all cores.
    """
    payload = payload_of(place)
    warm(payload)
    with Bittern(place.work / "bittern", paths={"downloads": str(payload.folder)}) as bittern:
        bittern.wait("control.ready")
        before = cpu_seconds(bittern.pid)
        bittern.give(payload)
        checked = bittern.wait("torrent.checked", LONGEST_S)
        bittern.wait("torrent.completed", LONGEST_S)
        [added] = bittern.events("torrent.added")
        began = monotonic_of(added)
        if again:
            with bittern.api() as client:
                before, began = cpu_seconds(bittern.pid), time.monotonic()
                client.post(f"/api/v1/torrents/{payload.info_hash}/recheck").raise_for_status()
                checked = bittern.wait("torrent.checked", LONGEST_S, count=2)
        run = figures(
            payload.total,
            began,
            monotonic_of(checked),
            cpu_seconds(bittern.pid) - before,
            peak_rss_bytes(bittern.pid),
        )
    run["right"] = all(event["complete"] for event in bittern.events("torrent.checked"))
    return run


def libtorrent_checks(
    place: Place, payload_of: Callable[[Place], Payload], *, again: bool, tuned: bool
) -> Run:
    """From being given the .torrent; or `again`, from being asked to recheck what it believes to be whole."""
    payload = payload_of(place)
    warm(payload)
    client = Libtorrent(place.work / "libtorrent")
    client.tuned, client.seed_mode = tuned, again
    with client:
        torrent = payload.torrent(client.work)
        before, began = cpu_seconds(client.pid), time.monotonic()
        client.add(torrent, payload.folder)
        ended = client.wait_for("checked")
        if again:
            before = cpu_seconds(client.pid)
            began, ended = client.call("recheck", timeout_s=LONGEST_S)
        run = figures(
            payload.total, began, ended, cpu_seconds(client.pid) - before, peak_rss_bytes(client.pid)
        )
        run["right"] = client.whole()
    return run


def leech_beside(place: Place, *, checks: bool) -> Run:
    """A leech from a tuned libtorrent, while other data of the same size is checked, or alone."""
    half = place.size(GIB, 64 * MIB)
    payload, lying = whole_gib(place), place.payload([half, half])
    warm(lying)
    with (
        LibtorrentSide(place.work / "seeder", payload, True) as other,
        BitternSide(place.work / "leecher", payload, False) as leecher,
    ):
        for path in lying.file_paths():
            (leecher.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (leecher.folder / path).hardlink_to(lying.folder / path)
        meter = Meter(leecher.pid, other.pid)
        if checks:
            leecher.bittern.give(lying)
            leecher.bittern.wait("torrent.added", LONGEST_S, count=2)
        other.client.connect(leecher.port)
        began = first_connection(leecher.port)
        run = meter.read(began, leecher.wait_whole(), payload.total)
        if checks:
            checked = leecher.bittern.wait("torrent.checked", LONGEST_S, count=2)
            run["checked_in_s"] = monotonic_of(checked) - began
    run["right"] = digest_of(leecher.folder / payload.name) == payload.digest
    return run


def by_each(payload_of: Callable[[Place], Payload], *, again: bool) -> dict[str, Callable[[Place], Run]]:
    return {
        "bittern": partial(bittern_checks, payload_of=payload_of, again=again),
        "libtorrent tuned": partial(libtorrent_checks, payload_of=payload_of, again=again, tuned=True),
        "libtorrent default": partial(libtorrent_checks, payload_of=payload_of, again=again, tuned=False),
    }


ROWS = [
    Row(
        "check",
        "recheck of a whole payload in the page cache, 1 MiB pieces",
        by_each(whole_gib, again=True),
        (Target("gb_per_s", 1.2, "libtorrent"), Target("of_machine", 0.75), MEMORY),
    ),
    Row(
        "checksmall",
        "recheck of 10 000 small files in the page cache, 64 KiB pieces",
        by_each(small_files, again=True),
        (Target("gb_per_s", 1.2, "libtorrent"), MEMORY),
    ),
    Row(
        "firstcheck",
        "first check of a whole payload in the page cache, 1 MiB pieces",
        by_each(whole_gib, again=False),
        (Target("gb_per_s", 1.2, "libtorrent"), Target("of_machine", 0.75), MEMORY),
        in_quick=False,
    ),
    Row(
        "firstsmall",
        "first check of 10 000 small files in the page cache, 64 KiB pieces",
        by_each(small_files, again=False),
        (Target("gb_per_s", 1.2, "libtorrent"), MEMORY),
        in_quick=False,
    ),
    Row(
        "beside",
        "leech beside a check of 2 GiB in the page cache, which gives way",
        {"bittern": partial(leech_beside, checks=True), "alone": partial(leech_beside, checks=False)},
        (speed(0.7, "alone"), MEMORY),
        in_quick=False,
    ),
]
