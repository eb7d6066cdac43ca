"""The DHT: what a flood of datagrams costs a download, how much is answered, and what the announces of many cost.

Whoever floods takes of the same two cores: the control floods a socket beside ours that drops everything, so that the
ratio says what the datagrams cost bittern and nothing else.
"""

import socket
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

from tests.bench.busy import encode_with, make_torrents
from tests.bench.measure import cpu_seconds
from tests.bench.report import Run, Target
from tests.bench.runner import Place, Row
from tests.bench.sides import LONGEST_S, BitternSide
from tests.bench.transfers import leech, speed, whole_gib
from tests.fakes.bittern_process import Bittern
from tests.fakes.counting_tracker import CountingTracker
from tests.fakes.dht_flood import DhtFlood
from tests.fakes.payloads import Payload
from tests.fakes.processes import HOST

FLOOD_PER_S = 5000
ASKED_PER_S = 2000
DHT = {"dht": True, "dht_bootstrap": [], "dial_scope": "this-host"}


class Flooded(BitternSide):
    """bittern with a DHT node at which somebody sends, or, the control, at a socket that nobody reads."""

    def __init__(
        self, work: Path, payload: Payload, seed: bool, *, per_s: float, elsewhere: bool = False
    ) -> None:
        super().__init__(work, payload, seed, network=DHT)
        self._per_s, self._elsewhere = per_s, elsewhere
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        super().__enter__()
        port = self.bittern.udp_port
        if self._elsewhere:
            sink = self._stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            sink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 0)
            sink.bind((HOST, 0))
            port = sink.getsockname()[1]
        if self._per_s:
            flood = DhtFlood(self.bittern.work / "flood", "flood", port, self._per_s)
            self._stack.enter_context(flood)
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        self._stack.close()
        super().__exit__(kind, *rest)


def flooded(place: Place, per_s: float, *, elsewhere: bool = False) -> Run:
    return leech(place, partial(Flooded, per_s=per_s, elsewhere=elsewhere), whole_gib)


def answers(place: Place) -> Run:
    """Of queries by a hundred strangers: what one node answers of them, within the bounds of its pace."""
    for_s = 2.0 if place.quick else 10.0
    with Bittern(place.work / "bittern", network=DHT) as bittern:
        before = cpu_seconds(bittern.pid)
        with DhtFlood(place.work / "asks", "ask", bittern.udp_port, ASKED_PER_S) as asks:
            time.sleep(for_s)
        used = cpu_seconds(bittern.pid) - before
    told = asks.told
    return {
        "answers_per_s": told["answered"] / told["seconds"],
        "cpu_percent": 100 * used / told["seconds"],
        "right": told["answered"] > 0,
    }


def announces(place: Place) -> Run:
    """Of complete torrents, after a start at which nothing else has to be done."""
    count = 100 if place.quick else 1000
    make_torrents(place.work, count, 1024, 1024)
    with CountingTracker(place.work / "tracker") as tracker:
        bittern = Bittern(place.work / "bittern", paths={"downloads": str(place.work / "data")})
        del bittern.tables["hook"]
        bittern.write_config()
        for path in (place.work / "torrents").iterdir():
            (bittern.drop / path.name).write_bytes(encode_with(path.read_bytes(), tracker.url))
        with bittern:
            bittern.wait("torrent.completed", LONGEST_S, count=count)
            tracker.wait_seeds(count, LONGEST_S)
        tracker.forget()
        with bittern:
            before, began = cpu_seconds(bittern.pid), time.monotonic()
            ended = tracker.wait_seeds(count, LONGEST_S)
            used = cpu_seconds(bittern.pid) - before
    return {
        "cpu_ms_per_announce": 1000 * used / count,
        "announces_per_s": count / max(ended - began, 0.001),
        "right": True,
    }


ROWS = [
    Row(
        "announces",
        "announces of 1000 complete torrents to an HTTP tracker after a start",
        {"bittern": announces},
        (Target("cpu_ms_per_announce", 5, at_most=True),),
        runs=3,
        in_quick=False,
        quick_without="",
    ),
    Row(
        "dhtflood",
        f"leeching while {FLOOD_PER_S} bad datagrams a second come to the DHT's port",
        {
            "bittern": partial(flooded, per_s=FLOOD_PER_S),
            "flood elsewhere": partial(flooded, per_s=FLOOD_PER_S, elsewhere=True),
            "no flood": partial(flooded, per_s=0),
        },
        (speed(0.9, "flood elsewhere"),),
        in_quick=False,
        quick_without="",
    ),
    Row(
        "dhtanswers",
        f"DHT queries answered, of {ASKED_PER_S} a second",
        {"bittern": answers},
        (Target("answers_per_s", 300), Target("cpu_percent", 10, at_most=True)),
        runs=3,
        in_quick=False,
        quick_without="",
    ),
]
