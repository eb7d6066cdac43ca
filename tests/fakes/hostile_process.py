"""Hostile peers by the hundred, in a process of their own: each connection comes from a loopback host of its own.

Run by its path, so it knows nothing of bittern. Arguments: port, info hash, piece count, piece length,
then `kind=count` for each kind. Whoever is thrown out comes back a second later. Every second it prints, as JSON,
how many of each kind are connected.
"""

import heapq
import json
import os
import random
import selectors
import socket
import struct
import sys
import time

HOST = "127.0.0.1"
BLOCK = 16384
AGAIN_S = 1.0
FLOOD_BYTES = 64 * 1024


def message(kind: int, body: bytes = b"") -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


CHOKE, UNCHOKE, INTERESTED, HAVE_ALL = message(0), message(1), message(2), message(14)


class Enemy:
    """One connection that does what its kind does."""

    def __init__(self, swarm: "Hostile", kind: str, number: int) -> None:
        self.swarm, self.kind = swarm, kind
        self.host = f"127.{10 + swarm.kinds.index(kind)}.{number >> 8}.{1 + (number & 255) % 254}"
        self.rng = random.Random(f"{kind} {number}")
        self.socket: socket.socket | None = None
        self.out = b""
        self.heard = bytearray()
        self.greeted = self.reads = False

    def connect(self) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.bind((self.host, 0))
        self.socket.connect_ex((HOST, self.swarm.port))
        self.greeted = False
        self.reads = self.kind != "greedy"
        self.heard.clear()
        self.out = self.opening()
        self.swarm.watch(self)

    def opening(self) -> bytes:
        hello = b"\x13BitTorrent protocol" + bytes([0, 0, 0, 0, 0, 0x10, 0, 0x04]) + self.swarm.info_hash
        hello += b"-HO0000-" + self.rng.randbytes(12)
        match self.kind:
            case "silent":
                return b""
            case "mute":
                return hello
            case "drip":
                return hello + struct.pack(">IB", 1000, 20)
            case "liar" | "misshapen" | "bad":
                return hello + HAVE_ALL + UNCHOKE
            case "greedy":
                return hello + message(15) + INTERESTED
            case "again" | "haves" | "flip":
                return hello + message(15) + INTERESTED
        raise ValueError(self.kind)

    def more(self) -> bytes:
        """What it says whenever there is room."""
        swarm, rng = self.swarm, self.rng
        match self.kind:
            case "greedy":
                asked = []
                for _ in range(64):
                    begin = BLOCK * rng.randrange(swarm.piece_length // BLOCK)
                    asked.append(message(6, struct.pack(">III", rng.randrange(swarm.pieces), begin, BLOCK)))
                return b"".join(asked)
            case "again":
                return message(6, struct.pack(">III", 0, 0, BLOCK)) * (FLOOD_BYTES // 17)
            case "haves":
                return message(4, struct.pack(">I", rng.randrange(swarm.pieces))) * (FLOOD_BYTES // 9)
            case "flip":
                return (message(3) + INTERESTED + CHOKE + UNCHOKE) * (FLOOD_BYTES // 20)
        return b""

    def minute(self) -> None:
        if self.kind == "drip" and self.socket is not None:
            self.out += b"x"
            self.swarm.watch(self)

    def ready(self, mask: int) -> None:
        try:
            if mask & selectors.EVENT_READ:
                self.read()
                if self.out and self.socket is not None:
                    self.swarm.watch(self)
            if mask & selectors.EVENT_WRITE and self.socket is not None:
                if not self.out:
                    self.out = self.more()
                if self.out:
                    self.out = self.out[self.socket.send(self.out) :]
                self.swarm.watch(self)
        except BlockingIOError:
            pass
        except OSError:
            self.gone()

    def read(self) -> None:
        assert self.socket is not None
        came = self.socket.recv(65536)
        if not came:
            self.gone()
            return
        if self.kind not in {"bad", "misshapen"}:
            return
        heard = self.heard
        heard += came
        if not self.greeted and len(heard) >= 68:
            self.greeted = True
            del heard[:68]
        while self.greeted and len(heard) >= 4:
            (length,) = struct.unpack_from(">I", heard)
            if len(heard) < 4 + length:
                return
            if length == 13 and heard[4] == 6 and len(self.out) < 1 << 20:
                index, begin, size = struct.unpack_from(">III", heard, 5)
                if self.kind == "misshapen":
                    size -= 1
                self.out += struct.pack(">IBII", 9 + size, 7, index, begin) + bytes(size)
            del heard[: 4 + length]

    def gone(self) -> None:
        if self.socket is not None:
            self.swarm.leave(self)
            self.socket.close()
            self.socket = None


class Hostile:
    def __init__(self, argv: list[str]) -> None:
        self.port = int(argv[0])
        self.info_hash = bytes.fromhex(argv[1])
        self.pieces, self.piece_length = int(argv[2]), int(argv[3])
        wanted = dict(word.split("=") for word in argv[4:])
        self.kinds = list(wanted)
        self.selector = selectors.DefaultSelector()
        self.enemies = [Enemy(self, kind, n) for kind in wanted for n in range(int(wanted[kind]))]
        self.due: list[tuple[float, int, str]] = []
        self.banned: dict[str, int] = {}

    def watch(self, enemy: Enemy) -> None:
        writes = enemy.out or enemy.kind in {"greedy", "again", "haves", "flip"}
        mask = (selectors.EVENT_READ if enemy.reads else 0) | (selectors.EVENT_WRITE if writes else 0)
        assert enemy.socket is not None
        known = self.selector.get_map().get(enemy.socket)
        if known is None:
            self.selector.register(enemy.socket, mask, enemy)
        elif known.events != mask:
            self.selector.modify(enemy.socket, mask, enemy)

    def leave(self, enemy: Enemy) -> None:
        assert enemy.socket is not None
        self.selector.unregister(enemy.socket)
        heapq.heappush(self.due, (time.monotonic() + AGAIN_S, self.enemies.index(enemy), "connect"))

    def run(self) -> None:
        now = time.monotonic()
        order = list(range(len(self.enemies)))
        random.Random(7).shuffle(order)  # some of each kind come early
        for place, number in enumerate(order):
            self.due.append((now + place / 1000, number, "connect"))
        told_at = minute_at = now
        while True:
            for key, mask in self.selector.select(0.05):
                key.data.ready(mask)
            now = time.monotonic()
            while self.due and self.due[0][0] <= now:
                _, number, _ = heapq.heappop(self.due)
                self.enemies[number].connect()
            if now - minute_at > 60:
                minute_at = now
                for enemy in self.enemies:
                    enemy.minute()
            if now - told_at > 1:
                told_at = now
                here = dict.fromkeys(self.kinds, 0)
                for enemy in self.enemies:
                    here[enemy.kind] += enemy.socket is not None
                print(json.dumps(here), flush=True)
                if os.getppid() == 1:
                    return


if __name__ == "__main__":
    Hostile(sys.argv[1:]).run()
