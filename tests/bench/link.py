"""Over a link of one gigabit with a round trip, where pipelining and socket buffers decide."""

from functools import partial

from tests.bench.measure import Meter
from tests.bench.report import Run
from tests.bench.runner import Place, Row
from tests.bench.sides import LibtorrentSide, Make
from tests.bench.transfers import by_each, first_connection, speed
from tests.fakes.link import GIGABIT, Link
from tests.fakes.payloads import MIB, Payload, digest_of

ROUND_TRIPS_MS = (0, 20, 100)


def payload_of(place: Place) -> Payload:
    return place.payload(place.size(256 * MIB, 64 * MIB))


def transfer(place: Place, make: Make, round_trip_ms: float, *, seeds: bool) -> Run:
    """Between the one that is measured and a tuned libtorrent at the link's other end, which dials.

    From the first connection until all is verified and written.
    """
    payload = payload_of(place)
    with Link(place.work / "link", round_trip_ms / 1000) as link:
        other = LibtorrentSide(place.work / "other", payload, not seeds)
        other.client.host = link.far.host
        subject = make(place.work / "subject", payload, seeds, host=link.near.host)
        with link.far:
            other.__enter__()
        with link.near:
            subject.__enter__()
        try:
            pass
        finally:
            pass
    run["right"] = digest_of(leecher.folder / payload.name) == payload.digest
    return run
