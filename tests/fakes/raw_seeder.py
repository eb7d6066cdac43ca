"""A seeder that does no more than it is told: at its own rate, gone after so many bytes, and it keeps the books.

Blocking sockets in threads: for scripted and slow things, beside a program that is measured.
"""

import contextlib
import mmap
import select
import socket
import struct
import threading
import time
from collections import Counter, deque
from typing import Self

from tests.fakes.payloads import Payload
from tests.fakes.processes import HOST

_INTERESTED, _REQUEST, _CANCEL = 2, 6, 8


class RawSeeder:
    """Serves a single-file payload while it is entered. Unchokes whoever greets it."""

    def __init__(
        self, payload: Payload, *, rate_bytes_per_s: float = 0, vanish_after_bytes: float = float("inf")
    ) -> None:
        self.payload = payload
        self._block_s_per_byte = 1 / rate_bytes_per_s if rate_bytes_per_s else 0.0
        self._vanish_after = vanish_after_bytes
        self.first_request_at = 0.0
        """By the monotonic clock; 0 before it."""
        self.blocks: Counter[tuple[int, int]] = Counter()
        """(piece, begin): how often it was sent."""
        self.sent_bytes = 0
        """Of bodies."""
        self.chatter_bytes = 0
        """All else, of both directions."""
        self.sends: list[tuple[float, int]] = []
        """When, and how many bytes of bodies had been taken off our hands by then."""
        self._over = threading.Event()
        self._vanished = False
        self._listening = socket.create_server((HOST, 0))
        self._listening.settimeout(0.1)
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._file = (self.payload.folder / self.payload.name).open("rb")
        self._data = mmap.mmap(self._file.fileno(), 0, prot=mmap.PROT_READ)
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._listening.close()
        self._data.close()
        self._file.close()

    def dial(self, port: int) -> None:
        peer = socket.create_connection((HOST, port))
        thread = threading.Thread(target=self.meet, args=(peer,))
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(TimeoutError):
                peer, _ = self._listening.accept()
                if self._vanished:
                    peer.close()
                    continue
                thread = threading.Thread(target=self.meet, args=(peer,))
                self._threads.append(thread)
                thread.start()

    def meet(self, peer: socket.socket) -> None:
        """Serves until it or the seeder is gone."""
        with peer, contextlib.suppress(ConnectionError):
            peer.setblocking(True)
            # Small, so that what we have sent is what the other side has taken, nearly.
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 << 10)
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            count = self.payload.piece_count
            bits = bytearray(
                b"\xff" * (count // 8) + (bytes([0xFF00 >> count % 8 & 0xFF]) if count % 8 else b"")
            )
            info_hash = bytes.fromhex(self.payload.info_hash)
            greeting = b"\x13BitTorrent protocol" + bytes(8) + info_hash + b"-RS0000-" + b"%012d" % self.port
            greeting += struct.pack(">IB", 1 + len(bits), 5) + bits + struct.pack(">IB", 1, 1)
            peer.sendall(greeting)
            self.chatter_bytes += len(greeting)
            self._serve(peer)

    def _serve(self, peer: socket.socket) -> None:
        asked: deque[tuple[int, int, int]] = deque()
        came = bytearray()
        greeted = False
        due = time.monotonic()
        while not self._over.is_set():
            now = time.monotonic()
            if asked and due <= now:
                index, begin, length = asked.popleft()
                at = index * self.payload.piece_length + begin
                peer.sendall(struct.pack(">IBII", 9 + length, 7, index, begin) + self._data[at : at + length])
                self.blocks[index, begin] += 1
                self.sent_bytes += length
                self.chatter_bytes += 13
                self.sends.append((time.monotonic(), self.sent_bytes))
                due = max(due, now - 0.05) + length * self._block_s_per_byte
                if self.sent_bytes >= self._vanish_after:
                    self._vanished = True
                    return
            wait_s = 0.1 if not asked else max(0.0, due - time.monotonic())
            if not select.select([peer], [], [], wait_s)[0]:
                continue
            more = peer.recv(65536)
            if not more:
                return
            self.chatter_bytes += len(more)
            came += more
            if not greeted:
                if len(came) < 68:
                    continue
                del came[:68]
                greeted = True
            self._read(came, asked)

    def _read(self, came: bytearray, asked: deque[tuple[int, int, int]]) -> None:
        while len(came) >= 4:
            (length,) = struct.unpack_from(">I", came)
            if len(came) < 4 + length:
                return
            if length and came[4] == _REQUEST:
                if not self.first_request_at:
                    self.first_request_at = time.monotonic()
                asked.append(struct.unpack_from(">III", came, 5))
            elif length and came[4] == _CANCEL:
                with contextlib.suppress(ValueError):
                    asked.remove(struct.unpack_from(">III", came, 5))
            del came[: 4 + length]
