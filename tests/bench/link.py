"""Over a link of one gigabit with a round trip, where pipelining and socket buffers decide."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.bench.measure import Meter, cpu_seconds
from tests.bench.report import Run
from tests.bench.runner import Place, Row
from tests.bench.sides import BitternSide, LibtorrentSide, Side
from tests.bench.transfers import first_connection, speed
from tests.fakes.link import Link
from tests.fakes.payloads import MIB, Payload, digest_of

ROUND_TRIPS_MS = (0, 20, 100)
TARGETED_MS = 100

MakeAt = Callable[[Path, Payload, bool, str], Side]
"""(a folder to work in, the torrent, does it seed?, its address)"""


def bittern(work: Path, payload: Payload, seed: bool, host: str) -> Side:
    return BitternSide(work, payload, seed, network={"listen": [host]})


def libtorrent(work: Path, payload: Payload, seed: bool, host: str, *, tuned: bool = True) -> LibtorrentSide:
    side = LibtorrentSide(work, payload, seed, tuned=tuned)
    side.client.host = host
    return side


SUBJECTS: dict[str, MakeAt] = {
    "bittern": bittern,
    "libtorrent tuned": libtorrent,
    "libtorrent default": partial(libtorrent, tuned=False),
}


def transfer(place: Place, make: MakeAt, round_trip_ms: float, *, seeds: bool) -> Run:
    """Between the one that is measured and a tuned libtorrent at the link's other end, which dials.

    From the first connection until all is verified and written.
    """
    payload = place.payload(place.size(256 * MIB, 32 * MIB))
    with ExitStack() as stack:
        link = stack.enter_context(Link(place.work / "link", round_trip_ms / 1000))
        other = libtorrent(place.work / "other", payload, not seeds, link.far.host)
        with link.far:
            stack.enter_context(other)
        with link.near:
            subject = stack.enter_context(make(place.work / "subject", payload, seeds, link.near.host))
            meter, wire_cpu_s = Meter(subject.pid, other.pid), -cpu_seconds(link.pid)
            other.client.call("connect", host=link.near.host, ports=[subject.port])
            began = first_connection(subject.port)
            leecher = other if seeds else subject
            run = meter.read(began, leecher.wait_whole(), payload.total)
            wire_cpu_s += cpu_seconds(link.pid)
    run["strange_cpu_s"] = max(0.0, run["strange_cpu_s"] - wire_cpu_s)
    run["right"] = digest_of(leecher.folder / payload.name) == payload.digest
    return run


def row(name: str, title: str, round_trip_ms: float, *, seeds: bool) -> Row:
    contenders = {
        who: partial(transfer, make=make, round_trip_ms=round_trip_ms, seeds=seeds)
        for who, make in SUBJECTS.items()
    }
    return Row(
        f"{name}{round_trip_ms}ms",
        f"{title}, 1 Gbit/s, {round_trip_ms} ms round trip",
        contenders,
        (speed(1.0),),
        by_name_only=round_trip_ms != TARGETED_MS,
    )


ROWS = [
    make_row
    for round_trip_ms in ROUND_TRIPS_MS
    for make_row in (
        row("leech", "leech", round_trip_ms, seeds=False),
        row("seed", "seed to a libtorrent leecher", round_trip_ms, seeds=True),
    )
]
