"""A download while programs ask: what Transmission's RPC under load costs it."""

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

from tests.bench.report import Run
from tests.bench.runner import Place, Row
from tests.bench.sides import BitternSide
from tests.bench.transfers import leech, speed, whole_gib
from tests.fakes.payloads import Payload

CLIENTS: Final = 5
EVERY_S: Final = 1.0
"""As tremc and the web clients ask; the usual ones are slower."""

FIELDS: Final = (
    "id", "name", "status", "error", "errorString", "rateDownload", "rateUpload", "eta", "percentDone",
    "uploadRatio", "sizeWhenDone", "leftUntilDone", "peersConnected", "peersSendingToUs",
    "peersGettingFromUs", "queuePosition", "addedDate", "labels", "downloadDir", "hashString", "peers",
    "trackerStats", "pieces", "files", "fileStats", "totalSize", "uploadedEver", "downloadedEver",
)  # fmt: skip
QUESTIONS: Final[list[dict[str, Any]]] = [
    {"method": "torrent-get", "arguments": {"fields": FIELDS}},
    {"method": "session-stats"},
    {"method": "session-get"},
]


class _Asker(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def _ask(path: Path, over: threading.Event, answered: list[int]) -> None:
    asker, session_id = _Asker(path), ""
    try:
        while not over.is_set():
            for question in QUESTIONS:
                headers = {"X-Transmission-Session-Id": session_id, "Content-Type": "application/json"}
                asker.request("POST", "/transmission/rpc", json.dumps(question), headers)
                answer = asker.getresponse()
                session_id = answer.headers.get("X-Transmission-Session-Id", session_id)
                answer.read()
                answered.append(answer.status)
            over.wait(EVERY_S)
    finally:
        asker.close()


@contextmanager
def asking(path: Path) -> Iterator[list[int]]:
    """Clients that ask until it is left; the statuses of their answers."""
    over, answered = threading.Event(), list[int]()
    clients = [threading.Thread(target=_ask, args=(path, over, answered)) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield answered
    finally:
        over.set()
        for client in clients:
            client.join()


def _side(work: Path, payload: Payload, seed: bool) -> BitternSide:
    return BitternSide(work, payload, seed, control={"socket": str(work / "control.sock")})


def while_asked(place: Place) -> Run:
    """With clients."""

    class Asked(BitternSide):
        def __enter__(self) -> Self:
            super().__enter__()
            self._asking = asking(Path(self.bittern.tables["control"]["socket"]))
            self.answered = self._asking.__enter__()
            return self

        def __exit__(self, kind: object, *rest: object) -> None:
            self._asking.__exit__(None, None, None)
            super().__exit__(kind, *rest)
            assert self.answered.count(200) >= CLIENTS, "nobody was answered"

    def make(work: Path, payload: Payload, seed: bool) -> BitternSide:
        return Asked(work, payload, seed, control={"socket": str(work / "control.sock")})

    return leech(place, make, whole_gib)


def alone(place: Place) -> Run:
    """Without."""
    return leech(place, _side, whole_gib)


CONTENDERS: Final[dict[str, Callable[[Place], Run]]] = {"bittern": while_asked, "nobody asks": alone}

ROWS = [
    Row(
        "asked",
        f"1 GiB while {CLIENTS} clients of Transmission's RPC ask for everything once a second",
        CONTENDERS,
        (speed(0.95, "nobody asks"),),
        runs=3,
        quick_without="",
        by_name_only=True,
    )
]
