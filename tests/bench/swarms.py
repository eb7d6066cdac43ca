"""Many at once: a swarm of fifty, and fifty leechers at one seeder."""

import time

from tests.bench.measure import Meter
from tests.bench.report import Run
from tests.bench.runner import Place, Row
from tests.bench.sides import LibtorrentSide, Make
from tests.bench.transfers import MEMORY, by_each, cpu, first_connection, speed
from tests.fakes.payloads import MIB, digest_of
from tests.fakes.processes import wait_until

CROWD = 50


def in_a_swarm(place: Place, make: Make) -> Run:
    """One seed and 50 leechers, each connected with each; the one that is measured takes the last one's place."""
    payload = place.payload(place.size(64 * MIB, 16 * MIB), 256 * 1024)
    crowd = CROWD - 1 if not place.quick else 19
    with (
        LibtorrentSide(place.work / "seed", payload, True) as seed,
        LibtorrentSide(place.work / "others", payload, False, sessions=crowd) as others,
        make(place.work / "leecher", payload, False) as leecher,
    ):
        others.client.connect_all()
        others.client.connect(leecher.port)
        wait_until(
            lambda: others.client.status()["peers"] >= crowd * crowd, 60, "everybody to know each other"
        )
        meter = Meter(leecher.pid, others.pid, seed.pid)
        # The seed comes last, and to all at the same time: nobody has anything before.
        began = time.monotonic()
        seed.client.connect(*others.client.ports, leecher.port)
        run = meter.read(began, leecher.wait_whole(), payload.total) | leecher.extras()
        run["others_seconds"] = others.wait_whole() - began
    run["right"] = digest_of(leecher.folder / payload.name) == payload.digest
    return run


def seed_to_many(place: Place, make: Make) -> Run:
    """To fifty leechers that know nobody else; until the last has it whole. Figures are of all bytes that went out."""
    payload = place.payload(place.size(64 * MIB, 16 * MIB), 256 * 1024)
    crowd = CROWD if not place.quick else 20
    with (
        make(place.work / "seeder", payload, True) as seeder,
        LibtorrentSide(place.work / "leechers", payload, False, sessions=crowd) as others,
    ):
        meter = Meter(seeder.pid, others.pid)
        others.client.connect(seeder.port)
        began = first_connection(seeder.port)
        run = meter.read(began, others.wait_whole(), payload.total * crowd)
        alone = others.client.status()["uploaded"] == 0
    folders = [others.folder / str(number) for number in range(crowd)]
    run["right"] = alone and all(digest_of(folder / payload.name) == payload.digest for folder in folders)
    return run


ROWS = [
    Row(
        "swarm",
        "a swarm of 50 libtorrent sessions, 64 MiB, 1 seed: the finish of the one that is replaced",
        by_each(in_a_swarm),
        (speed(1.1), cpu(1.2), MEMORY),
    ),
    Row(
        "seed50",
        "seed to 50 leechers, 64 MiB to each",
        by_each(seed_to_many),
        (speed(1.0), cpu(0.5)),
    ),
]
