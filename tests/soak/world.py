"""What the daemon lives among: a tracker and a seed with moods, liars, a small disk, and clients that come and go."""

import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from bittern.proto.bencode import encode
from tests.fakes import hostile_process
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import Payload
from tests.fakes.processes import HOST, Program, free_port


class MoodyTracker:
    """Names the one seed to everybody. Its mood: honest, garbage, slow, or dead (the port is closed)."""

    def __init__(self, seed_port: int) -> None:
        self.port, self.mood = free_port(), "dead"
        self.url = f"http://{HOST}:{self.port}/announce"
        self.asked = 0
        self._peer = socket.inet_aton(HOST) + seed_port.to_bytes(2, "big")
        self._closing = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    def be(self, mood: str) -> None:
        if mood == "dead" and self._server is not None:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None
        self.mood = mood
        if mood != "dead" and self._server is None:
            self._closing.clear()
            self._server = self._serve()

    def _serve(self) -> ThreadingHTTPServer:
        tracker = self

        class Exchange(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                tracker.asked += 1
                if tracker.mood == "slow":
                    tracker._closing.wait(random.uniform(1, 8))
                body = encode({b"interval": 60, b"min interval": 5, b"peers": tracker._peer})
                if tracker.mood == "garbage":
                    body = random.choice(
                        [os.urandom(2000), b"d8:intervali-5e5:peers7:no", b"<html>", bytes(3 << 20), b"le"]
                    )
                with contextlib.suppress(OSError):
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 512

        server = Server((HOST, self.port), Exchange)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server


class VanishingSeed:
    """libtorrent with every torrent, killed and started again at the same port."""

    def __init__(self, work: Path) -> None:
        self.data, self.torrents = work / "data", work / "torrents"
        for folder in (self.data, self.torrents):
            folder.mkdir(parents=True)
        self.client = Libtorrent(work / "seed")
        self.client.seed_mode = True
        self.client.tuned = False

    def take(self, payload: Payload) -> None:
        torrent = payload.torrent(self.torrents)
        if self.client.alive:
            self.client.add(torrent, self.data)

    def start(self) -> None:
        if not self.client.alive:
            self.client.launch()
            self.client.call("add_all", folder=str(self.data), torrents=str(self.torrents), seed_mode=True)

    def vanish(self) -> None:
        self.client.kill()


class Liars(Program):
    """A few hostile connections at one torrent: bad data, bad messages, floods, silence."""

    def attack(self, port: int, payload: Payload) -> None:
        self.kill()
        self.spawn(
            sys.executable,
            hostile_process.__file__,
            port,
            payload.info_hash,
            payload.piece_count,
            payload.piece_length,
            *("bad=3", "misshapen=2", "silent=2", "mute=2", "greedy=1", "again=1", "haves=1", "flip=1"),
            stdout=subprocess.DEVNULL,
        )


class SmallDisk:
    """A tmpfs, if we may mount one; else an ordinary folder that is never full."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.why_not = folder, "" if os.geteuid() == 0 else "only root may mount a small disk"
        if not self.why_not:
            done = subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, text=True
            )
            self.why_not = done.stderr.strip()

    def fill(self) -> None:
        if not self.why_not:
            with contextlib.suppress(OSError), (self.folder / ".filler").open("ab", buffering=0) as file:
                while file.write(bytes(1 << 16)):
                    pass

    def free(self) -> None:
        (self.folder / ".filler").unlink(missing_ok=True)

    def close(self) -> None:
        if not self.why_not:
            subprocess.run(["umount", "--lazy", self.folder], check=True)


class Streams:
    """Clients of the control socket that read a little or nothing, and leave without a word."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: list[socket.socket] = []

    def come(self) -> None:
        client = socket.socket(socket.AF_UNIX)
        self._open.append(client)
        client.setblocking(False)
        with contextlib.suppress(OSError):
            client.connect(str(self.path))
            what = random.choice([b"updates", b"events", b"torrents", b"events\r\nhalf a request"])
            client.send(b"GET /api/v1/" + what + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")

    def read(self) -> None:
        for client in self._open[::2]:
            with contextlib.suppress(OSError):
                client.recv(65536)

    def leave(self, keep: int = 0) -> None:
        while len(self._open) > keep:
            self._open.pop(random.randrange(len(self._open))).close()
