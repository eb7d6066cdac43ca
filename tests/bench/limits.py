"""Rate limits: is the rate kept, and how evenly. The other side keeps no limit, and notes what comes and when."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial

from tests.bench.measure import Meter
from tests.bench.report import Run, Target
from tests.bench.runner import Place, Row
from tests.bench.sides import BitternSide, LibtorrentSide, Side
from tests.bench.transfers import RawLeecher
from tests.fakes.payloads import MIB, Payload
from tests.fakes.processes import wait_until
from tests.fakes.raw_seeder import RawSeeder

RATE = 20 * MIB
OTHER = "libtorrent tuned"
FIRST_S = 1.5
"""Not looked at: buffers fill up, and requests begin."""

Arrivals = Sequence[tuple[float, int]]
"""Times and the bytes that had come by then, in order."""


def bytes_by(arrivals: Arrivals, at: float) -> int:
    index = bisect_right(arrivals, at, key=lambda one: one[0])
    return arrivals[index - 1][1] if index else 0


def deviation_percent(arrivals: Arrivals, began: float, for_s: float, rate: float) -> float:
    """How far the bytes of that time are from what they should be, either way."""
    got = bytes_by(arrivals, began + for_s) - bytes_by(arrivals, began)
    return 100 * abs(got / for_s - rate) / rate


def worst_percent(
    arrivals: Arrivals, began: float, for_s: float, rate: float, window_s: float = 1.0
) -> float:
    """The largest deviation of any window, moved by a twentieth of it."""
    steps = int((for_s - window_s) / (window_s / 20)) + 1
    return max(
        deviation_percent(arrivals, began + step * window_s / 20, window_s, rate) for step in range(steps)
    )


def _read(arrivals: Arrivals, for_s: float, meter: Meter) -> Run:
    began = next(at for at, got in arrivals if got) + FIRST_S
    assert arrivals[-1][0] >= began + for_s, "it went too fast to be measured"
    moved = bytes_by(arrivals, began + for_s) - arrivals[0][1]
    return meter.read(began - FIRST_S, began + for_s, moved) | {
        "deviation_percent": deviation_percent(arrivals, began, for_s, RATE),
        "worst_second_percent": worst_percent(arrivals, began, for_s, RATE),
        "right": True,
    }


def _times(place: Place) -> tuple[float, Payload]:
    """What is looked at, in seconds, and a payload that lasts a little longer."""
    for_s = 2.0 if place.quick else 10.0
    return for_s, place.payload(int(RATE * (FIRST_S + for_s + 1.5)) // MIB * MIB)


def _limited(place: Place, payload: Payload, who: str, direction: str) -> Side:
    seeds = direction == "upload"
    if who == "bittern":
        return BitternSide(place.work / "limited", payload, seeds, limits={f"{direction}_rate": RATE})
    side = LibtorrentSide(place.work / "limited", payload, seeds, tuned=who == "libtorrent tuned")
    setattr(side.client, f"{direction}_limit", RATE)
    return side


def up(place: Place, who: str) -> Run:
    for_s, payload = _times(place)
    with _limited(place, payload, who, "upload") as seeder:
        leecher = RawLeecher(place.work / "leecher")
        meter = Meter(seeder.pid)
        leecher.begin(payload, seeder.port, FIRST_S + for_s + 0.5)
        return _read(leecher.told()["arrivals"], for_s, meter)


def down(place: Place, who: str) -> Run:
    for_s, payload = _times(place)
    with RawSeeder(payload) as seeder, _limited(place, payload, who, "download") as leecher:
        meter = Meter(leecher.pid)
        seeder.dial(leecher.port)
        wait_until(lambda: seeder.sends, 120, "the first block", 0.001)
        until = seeder.sends[0][0] + FIRST_S + for_s + 0.1
        wait_until(lambda: seeder.sends[-1][0] >= until, 120, f"{for_s:g} s of it")
        return _read([(seeder.sends[0][0], 0), *seeder.sends], for_s, meter)


def by_each(work: Callable[..., Run]) -> dict[str, Callable[[Place], Run]]:
    return {who: partial(work, who=who) for who in ("bittern", OTHER)}


KEPT = (
    Target("deviation_percent", 3, at_most=True),
    Target("worst_second_percent", 10, at_most=True),
)

ROWS = [
    Row("limitup", "upload at a limit of 20 MiB/s", by_each(up), KEPT, runs=3, quick_without=OTHER),
    Row("limitdown", "download at a limit of 20 MiB/s", by_each(down), KEPT, runs=3, quick_without=OTHER),
]
