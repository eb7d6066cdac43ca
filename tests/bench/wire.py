"""What the wire costs beyond the payload: duplicates in the endgame, and what is lost when peers vanish.

(The bytes of protocol around a plain transfer are in the leeching rows, as `overhead %`.)
"""

import time
from contextlib import ExitStack

from tests.bench.measure import Meter
from tests.bench.report import Run, Target
from tests.bench.runner import Place, Row
from tests.bench.sides import Make
from tests.bench.transfers import by_each, speed
from tests.fakes.payloads import MIB, digest_of
from tests.fakes.raw_seeder import RawSeeder

UNEQUAL = (2 * MIB, 5 * MIB, 11 * MIB)
"""Bytes a second of the three seeders of the endgame."""


def _leech_from(place: Place, make: Make, seeders: list[RawSeeder]) -> Run:
    payload = seeders[0].payload
    with ExitStack() as stack:
        leecher = stack.enter_context(make(place.work / "leecher", payload, False))
        for seeder in seeders:
            stack.enter_context(seeder)
        meter = Meter(leecher.pid)
        began = time.monotonic()
        for seeder in seeders:
            seeder.dial(leecher.port)
        run = meter.read(began, leecher.wait_whole(), payload.total) | leecher.extras()
    sent = sum(seeder.sent_bytes for seeder in seeders)
    distinct = {block for seeder in seeders for block in seeder.blocks}
    run["blocks_sent"] = sum(seeder.blocks.total() for seeder in seeders)
    run["blocks_distinct"] = len(distinct)
    run["duplicate_percent"] = 100 * (run["blocks_sent"] / len(distinct) - 1)
    run["waste_percent"] = 100 * (sent / payload.total - 1)
    run["overhead_percent"] = 100 * sum(seeder.chatter_bytes for seeder in seeders) / payload.total
    run["right"] = digest_of(leecher.folder / payload.name) == payload.digest
    return run


def endgame(place: Place, make: Make) -> Run:
    payload = place.payload(place.size(64 * MIB, 20 * MIB))
    return _leech_from(place, make, [RawSeeder(payload, rate_bytes_per_s=rate) for rate in UNEQUAL])


def vanishing(place: Place, make: Make) -> Run:
    """Four go in the middle of a piece, and are not met again; one stays."""
    payload = place.payload(place.size(64 * MIB, 20 * MIB))
    seeders = [RawSeeder(payload, rate_bytes_per_s=10 * MIB)]
    seeders += [
        RawSeeder(payload, rate_bytes_per_s=10 * MIB, vanish_after_bytes=(number + 0.4) * MIB)
        for number in range(2, 6)
    ]
    return _leech_from(place, make, seeders)


ROWS = [
    Row(
        "endgame",
        "64 MiB from 3 unequal seeders of 2, 5 and 11 MiB/s",
        by_each(endgame),
        # The speed, so that nobody avoids duplicates by waiting for the slowest.
        (Target("duplicate_percent", 1, at_most=True), speed(0.9)),
        runs=3,
    ),
    Row(
        "vanish",
        "64 MiB from 5 seeders of 10 MiB/s, of which 4 vanish in the middle of a piece",
        by_each(vanishing),
        (Target("waste_percent", 1, at_most=True), speed(0.9)),
        runs=3,
    ),
]
