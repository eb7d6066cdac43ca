"""A thousand hostile connections at a real daemon: it stays small, bans those who lie, and the download comes whole."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.bench.measure import peak_rss_bytes
from tests.fakes import hostile_process
from tests.fakes.bittern_process import Bittern
from tests.fakes.payloads import MIB, Payload
from tests.fakes.processes import HOST, PATIENCE_S, wait_until
from tests.fakes.raw_seeder import RawSeeder

KINDS = {
    "silent": 150,
    "mute": 150,
    "drip": 100,
    "liar": 100,
    "misshapen": 100,
    "bad": 100,
    "greedy": 100,
    "again": 70,
    "haves": 70,
    "flip": 60,
}


@pytest.mark.proof
def test_a_thousand_hostile_connections(payload_of: Callable[..., Payload], tmp_path: Path) -> None:
    payload = payload_of("besieged.bin", 192 * MIB, MIB)
    besieged = threading.Event()
    with (
        RawSeeder(payload) as seeder,
        naming(seeder.port, besieged) as tracker,
        Bittern(tmp_path / "bittern") as bittern,
    ):
        bittern.give(payload, tracker)
        bittern.wait("torrent.checked")
        told = (tmp_path / "hostile.log").open("wb")
        hostile = subprocess.Popen(
            [
                sys.executable,
                hostile_process.__file__,
                str(bittern.port),
                payload.info_hash,
                str(payload.piece_count),
                str(payload.piece_length),
                *(f"{kind}={count}" for kind, count in KINDS.items()),
            ],
            stdout=told,
        )
        try:
            wait_until(
                lambda: (tmp_path / "hostile.log").read_bytes().count(b"\n") > 5, PATIENCE_S, "the siege"
            )
            # nobody else has anything, so it is the liars' data that it tries
            bittern.wait("peer.banned")
            besieged.set()
            bittern.wait("torrent.completed", 200)
            # piece memory, send buffers, outboxes, and the program itself
            assert peak_rss_bytes(bittern.pid) < 200 * MIB
            banned = {event["host"] for event in bittern.events("peer.banned")}
            assert banned
            assert {host.split(".")[1] for host in banned} <= {
                str(10 + list(KINDS).index(kind)) for kind in ("misshapen", "bad")
            }
        finally:
            hostile.kill()
            hostile.wait()
            told.close()
    assert (bittern.downloads / payload.name).read_bytes() == (payload.folder / payload.name).read_bytes()


@contextmanager
def naming(port: int, now: threading.Event) -> Iterator[str]:
    """The URL of a tracker that names one peer, from `now` on."""
    peers = bytes([127, 0, 0, 1]) + port.to_bytes(2)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = peers if now.is_set() else b""
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"d8:intervali5e5:peers%d:" % len(found) + found + b"e")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_port}/announce"
        finally:
            server.shutdown()
            thread.join()
