"""From a .torrent that is renamed into the watched folder to the first request, and to a finished download's hook."""

import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.bench.report import Run, Target
from tests.bench.runner import Place, Row
from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload, digest_of, make_payload
from tests.fakes.processes import wait_until
from tests.fakes.raw_seeder import RawSeeder
from tests.fakes.recording_tracker import RecordingTracker

HOOK = """#!/bin/sh
: >"$1"
"""
IDLE_S = 0.2
"""Between two drops."""

Sample = tuple[float, float]
"""Seconds to the first request, and to the end."""


def _drops(place: Place, drop: Callable[[Payload, RecordingTracker, RawSeeder], Sample]) -> Run:
    count = 5 if place.quick else 20
    samples = []
    for number in range(count):
        payload = make_payload(place.scratch / "drops", f"drop{number}", MIB, 65536)
        with RawSeeder(payload) as seeder, RecordingTracker(seeder.port) as tracker:
            time.sleep(IDLE_S)
            samples.append(drop(payload, tracker, seeder))
    requests, ends = zip(*samples, strict=True)
    return {
        "first_request_ms": 1000 * statistics.median(requests),
        "worst_request_ms": 1000 * max(requests),
        "hook_ms": 1000 * statistics.median(ends),
        "worst_hook_ms": 1000 * max(ends),
        "samples": samples,
    }


def bittern_starts(place: Place) -> Run:
    """One daemon, idle; the tracker knows one seed, which unchokes at once; the hook is a shell script."""
    work = place.work / "bittern"
    hook = place.scratch / "hook"
    hook.write_text(HOOK)
    hook.chmod(0o755)
    bittern = Bittern(work)
    bittern.tables["hook"] = {"on": ["completed"], "command": [str(hook), f"{work}/{{name}}.done"]}
    bittern.write_config()
    digests = []

    def drop(payload: Payload, tracker: RecordingTracker, seeder: RawSeeder) -> Sample:
        done = Path(work, f"{payload.name}.done")
        coming = work / ".coming"
        coming.write_bytes(payload.blob(tracker.url))
        began, by_the_clock = time.monotonic(), time.time()
        coming.rename(bittern.drop / f"{payload.name}.torrent")
        wait_until(done.exists, 120, "the hook", 0.001)
        digests.append(digest_of(bittern.downloads / payload.name) == payload.digest)
        return seeder.first_request_at - began, done.stat().st_mtime - by_the_clock

    with bittern:
        run = _drops(place, drop)
        bittern.wait("hook.done", count=len(digests))
    run["right"] = all(digests)
    return run


def libtorrent_starts(place: Place, tuned: bool) -> Run:
    """From the call that adds it, in a process that runs, to the finished download: no folder, and no hook."""
    digests = []

    def add(payload: Payload, tracker: RecordingTracker, seeder: RawSeeder) -> Sample:
        torrent = payload.torrent(client.work, tracker.url)
        began = time.monotonic()
        client.add(torrent, client.work / "got")
        ended = client.wait_for("finished")
        digests.append(client.whole())
        return seeder.first_request_at - began, ended - began

    client = Libtorrent(place.work / "libtorrent")
    client.tuned = tuned
    with ExitStack() as stack:
        stack.enter_context(client)
        run = _drops(place, add)
    run["right"] = all(digests)
    return run


ROWS = [
    Row(
        "start",
        "drop to first request, and to 1 MiB complete with its hook started: medians of 20 (libtorrent: add, finished)",
        {
            "bittern": bittern_starts,
            "libtorrent tuned": lambda place: libtorrent_starts(place, tuned=True),
        },
        (
            Target("first_request_ms", 100, at_most=True, fails_at=1000),
            Target("hook_ms", 400, at_most=True, fails_at=4000),
        ),
        runs=1,
    )
]
