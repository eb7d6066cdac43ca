"""An HTTP tracker that only counts, cheaply. Run by its path, it prints its port and serves until it is ended.

Arguments: the host, and the ports of the peers that it names for every torrent, if any. `GET /announce?…` is answered;
`GET /counts` with JSON, see `Counts`; `GET /forget` makes it forget who is there.
"""

import asyncio
import json
import sys
import time
from socket import inet_aton
from urllib.parse import unquote_to_bytes

INTERVAL_S = 1800
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"


class Counts:
    def __init__(self) -> None:
        self.seeds: set[bytes] = set()
        """Info hashes that were announced with nothing left, and not stopped since."""
        self.stopped: set[bytes] = set()
        self.announces = self.connections = 0
        self.seed_at = 0.0
        """When the last new one of `seeds` was heard, by the monotonic clock."""

    def note(self, query: dict[bytes, bytes]) -> None:
        self.announces += 1
        info_hash = unquote_to_bytes(query[b"info_hash"])
        if query.get(b"event") == b"stopped":
            self.stopped.add(info_hash)
            self.seeds.discard(info_hash)
        elif query.get(b"left") == b"0" and info_hash not in self.seeds:
            self.seeds.add(info_hash)
            self.seed_at = time.monotonic()

    def forget(self) -> None:
        self.seeds.clear()
        self.stopped.clear()

    def told(self) -> bytes:
        found = {
            "seeds": len(self.seeds),
            "stopped": len(self.stopped),
            "announces": self.announces,
            "connections": self.connections,
            "seed_at": self.seed_at,
        }
        return json.dumps(found).encode()


class Asked(asyncio.Protocol):
    def __init__(self, counts: Counts, answer: bytes) -> None:
        self._counts, self._answer = counts, answer
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._counts.connections += 1

    def data_received(self, got: bytes) -> None:
        self._head += got
        while b"\r\n\r\n" in self._head:
            head, _, self._head = self._head.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1]
            body = self._answer
            if target in (b"/counts", b"/forget"):
                if target == b"/forget":
                    self._counts.forget()
                body = self._counts.told()
            else:
                pairs = [pair.partition(b"=") for pair in target.partition(b"?")[2].split(b"&")]
                self._counts.note({key: value for key, _, value in pairs})
            self._transport.write(ANSWER % (len(body), body))
            first, *lines = head.lower().split(b"\r\n")
            if first.endswith(b"http/1.0") or b"connection: close" in lines:
                self._transport.close()


async def main(host: str, *ports: int) -> None:
    counts = Counts()
    peers = b"".join(inet_aton(host) + port.to_bytes(2) for port in ports)
    answer = b"d8:intervali%de5:peers%d:%be" % (INTERVAL_S, len(peers), peers)
    server = await asyncio.get_running_loop().create_server(
        lambda: Asked(counts, answer), host, 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main(sys.argv[1], *map(int, sys.argv[2:])))
