"""An HTTP tracker in the test's own process: names the peers that it is given, and notes what it is told."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

from bittern.proto.bencode import encode
from tests.fakes.processes import HOST


class RecordingTracker:
    """Runs while it is entered. `announces` are the queries as text, oldest first."""

    def __init__(self, *ports: int) -> None:
        self.ports = ports
        self.announces: list[dict[str, str]] = []
        self.silent = threading.Event()
        """Set: it takes requests and answers none."""
        self._over = threading.Event()
        tracker = self

        class Announce(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query, keep_blank_values=True, encoding="latin-1")
                tracker.announces.append({key: values[0] for key, values in query.items()})
                if tracker.silent.is_set():
                    tracker._over.wait(30)
                    return
                peers = b"".join(bytes([127, 0, 0, 1]) + port.to_bytes(2, "big") for port in tracker.ports)
                body = encode({b"interval": 1800, b"peers": peers, b"tracker id": b"it's me"})
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Not on the test's terminal."""

        self._server = ThreadingHTTPServer((HOST, 0), Announce)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://{HOST}:{self._server.server_port}/announce?passkey=s3cret"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def told(self, event: str) -> list[dict[str, str]]:
        return [one for one in self.announces if one.get("event", "") == event]
