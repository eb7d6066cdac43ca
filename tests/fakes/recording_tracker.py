"""An HTTP tracker in the test's own process: names the peers that it is given, and notes what it is told."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

from bittern.proto.bencode import encode
from tests.fakes.processes import HOST


class RecordingTracker:
    """Runs while it is entered. `announces` are the queries as text, oldest first, `clients` where they came from.

    On `::1` it names peers of IPv6 only (BEP 7).
    """

    def __init__(self, *ports: int, host: str = HOST, listens_on: int = 0) -> None:
        self.ports = ports
        self.clients: list[str] = []
        self.announces: list[dict[str, str]] = []
        self.silent = threading.Event()
        """Set: it takes requests and answers none."""
        self._over = threading.Event()
        tracker = self

        class Announce(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query, keep_blank_values=True, encoding="latin-1")
                # before it is told: whoever reads it there may then ask for silence
                silent = tracker.silent.is_set()
                tracker.announces.append({key: values[0] for key, values in query.items()})
                tracker.clients.append(self.client_address[0])
                if silent:
                    tracker._over.wait(300)
                    return
                key, packed = b"peers", bytes([127, 0, 0, 1])
                if host == "::1":
                    key, packed = b"peers6", bytes([*bytes(15), 1])
                peers = b"".join(packed + port.to_bytes(2, "big") for port in tracker.ports)
                body = encode({b"interval": 1800, key: peers, b"tracker id": b"it's me"})
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Not on the test's terminal."""

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        self._server = Server((host, listens_on), Announce)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        shown = f"[{host}]" if ":" in host else host
        self.port: int = self._server.server_port
        self.url = f"http://{shown}:{self._server.server_port}/announce?passkey=s3cret"

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
