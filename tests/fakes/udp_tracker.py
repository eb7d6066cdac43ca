"""A scripted UDP tracker: honest by itself, or misbehaving datagram by datagram.

`UdpTracker` decides, without I/O. `serve_udp` puts it on a real loopback port; `PaperNet` carries datagrams to it
without sockets (for virtual time). It reads and writes its datagrams by itself, not with the code under test.
"""

import ipaddress
import random
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import trio

from bittern.errors import TrackerError
from bittern.net.http import Unreachable
from bittern.proto.announce import AnnounceEvent
from bittern.proto.datagram import Kind
from bittern.terms import Address

EVENTS = [AnnounceEvent.NONE, AnnounceEvent.COMPLETED, AnnounceEvent.STARTED, AnnounceEvent.STOPPED]


@dataclass(frozen=True, kw_only=True)
class Question:
    """One datagram that it was sent."""

    connection: int
    action: int
    transaction: int
    info_hashes: tuple[bytes, ...] = ()
    peer_id: bytes = b""
    downloaded: int = 0
    left: int = 0
    uploaded: int = 0
    event: AnnounceEvent = AnnounceEvent.NONE
    key: int = 0
    numwant: int = 0
    port: int = 0
    url_data: bytes = b""


def parse_question(blob: bytes) -> Question:
    connection, action, transaction = struct.unpack(">QII", blob[:16])
    words: dict[str, Any] = {"connection": connection, "action": action, "transaction": transaction}
    if action == 2:
        words["info_hashes"] = tuple(blob[at : at + 20] for at in range(16, len(blob), 20))
    if action == 1:
        words["info_hashes"] = (blob[16:36],)
        words["peer_id"] = blob[36:56]
        words["downloaded"], words["left"], words["uploaded"] = struct.unpack(">QQQ", blob[56:80])
        event, address, words["key"], words["numwant"], words["port"] = struct.unpack(">IIIIH", blob[80:98])
        assert address == 0
        words["event"], words["url_data"] = EVENTS[event], b""
        options = blob[98:]
        while options:
            assert options[0] == 2
            words["url_data"] += options[2 : 2 + options[1]]
            assert len(options) >= 2 + options[1]
            options = options[2 + options[1] :]
    return Question(**words)


def connected(transaction: int, connection: int) -> bytes:
    return struct.pack(">IIQ", 0, transaction, connection)


def announced(
    transaction: int, peers: bytes = b"", *, interval: int = 1800, leechers: int = 0, seeders: int = 0
) -> bytes:
    return struct.pack(">IIIII", 1, transaction, interval, leechers, seeders) + peers


def error(transaction: int, words: bytes) -> bytes:
    return struct.pack(">II", 3, transaction) + words


@dataclass(frozen=True)
class Heard:
    """A question, where it came from and when."""

    question: Question
    source: Address
    at: float


Answer = bytes | None | Callable[[Heard], bytes | None]
"""None: it says nothing."""


class UdpTracker:
    """Knows peers by what they announce. `script`: one answer for each datagram, in order; then `always`, if any.

    `connections` are those it gave out, with the address and the time of each.
    """

    def __init__(self, *, interval: int = 1800) -> None:
        self.heard: list[Heard] = []
        self.script: deque[Answer] = deque()
        self.always: Answer = b""
        self.interval = interval
        self.connections: dict[int, tuple[str, float]] = {}
        self.peers: dict[bytes, dict[Address, int]] = {}
        self._rng = random.Random(9)
        self.url = ""
        self.now: Callable[[], float] = trio.current_time

    def asked(self, action: int) -> list[Heard]:
        return [one for one in self.heard if one.question.action == action]

    def events(self) -> list[str]:
        return [one.question.event.value for one in self.asked(1)]

    def restart(self) -> None:
        """It forgets whom it gave connections to."""
        self.connections.clear()

    def answer(self, datagram: bytes, source: Address) -> bytes | None:
        heard = Heard(parse_question(datagram), source, self.now())
        self.heard.append(heard)
        answer = self.script.popleft() if self.script else self.always
        if answer == b"":
            return self.honest(heard)
        return answer(heard) if callable(answer) else answer

    def honest(self, heard: Heard) -> bytes:
        question, source = heard.question, heard.source
        if question.action == 0:
            assert question.connection == 0x41727101980
            connection = self._rng.getrandbits(64)
            self.connections[connection] = (source.host, heard.at)
            return connected(question.transaction, connection)
        host, since = self.connections.get(question.connection, ("", 0.0))
        if host != source.host or heard.at - since > 120:
            return error(question.transaction, b"Connection ID missmatch.\0")
        if question.action == 2:
            counts = (self._counts(info_hash) for info_hash in question.info_hashes)
            return struct.pack(">II", 2, question.transaction) + b"".join(
                struct.pack(">III", seeders, 0, leechers) for seeders, leechers in counts
            )
        peers = self.peers.setdefault(question.info_hashes[0], {})
        asking = Address(source.host, question.port)
        others = [peer for peer in peers if peer != asking and (":" in peer.host) == (":" in source.host)]
        if question.event is AnnounceEvent.STOPPED:
            peers.pop(asking, None)
        else:
            peers[asking] = question.left
        seeders, leechers = self._counts(question.info_hashes[0])
        packed = b"".join(
            ipaddress.ip_address(host).packed + port.to_bytes(2) for host, port in others[: question.numwant]
        )
        return announced(
            question.transaction, packed, interval=self.interval, leechers=leechers, seeders=seeders
        )

    def _counts(self, info_hash: bytes) -> tuple[int, int]:
        lefts = self.peers.get(info_hash, {}).values()
        return sum(left == 0 for left in lefts), sum(left > 0 for left in lefts)


async def serve_udp(
    tracker: UdpTracker,
    host: str = "127.0.0.1",
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """On a free loopback port until cancelled; `started` gives (and `tracker.url` is) its announce URL."""
    family = trio.socket.AF_INET6 if ":" in host else trio.socket.AF_INET
    with trio.socket.socket(family, trio.socket.SOCK_DGRAM) as listening:
        await listening.bind((host, 0))
        port = listening.getsockname()[1]
        tracker.url = f"udp://[{host}]:{port}/announce" if ":" in host else f"udp://{host}:{port}/announce"
        task_status.started(tracker.url)
        while True:
            datagram, source = await listening.recvfrom(2048)
            answer = tracker.answer(datagram, Address(source[0], source[1]))
            if answer is not None:
                await listening.sendto(answer, source)


@contextmanager
def serving_udp(tracker: UdpTracker, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The same in a thread, for tests of whole processes."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as listening:
        listening.bind((host, port))
        listening.settimeout(0.05)
        over = threading.Event()
        tracker.now = time.monotonic

        def serve() -> None:
            while not over.is_set():
                try:
                    datagram, source = listening.recvfrom(2048)
                except TimeoutError:
                    continue
                answer = tracker.answer(datagram, Address(source[0], source[1]))
                if answer is not None:
                    listening.sendto(answer, source)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            port = listening.getsockname()[1]
            yield f"udp://[{host}]:{port}/announce" if ":" in host else f"udp://{host}:{port}/announce"
        finally:
            over.set()
            thread.join()


class PaperNet:
    """The UDP sockets' place. `trackers` by their address; a datagram to anybody else is never answered.

    `lose` is asked of each datagram that we send, by its number. `unreachable` are hosts that the system knows no way
    to, `deaf` whether answers come at all.
    """

    def __init__(self, trackers: Mapping[Address, UdpTracker] | None = None) -> None:
        self.trackers = dict(trackers or {})
        self.own = {False: "192.0.2.1", True: "2001:db8::1"}
        self.latency_s = 0.05
        self.lose: Callable[[int], bool] = lambda number: False
        self.unreachable: set[str] = set()
        self.sent: list[tuple[float, bytes, Address]] = []
        self._receive: Callable[[memoryview, Address], bool] | None = None
        self.nursery: trio.Nursery | None = None

    def register(self, kind: Kind, receive: Callable[[memoryview, Address], bool]) -> None:
        assert kind is Kind.TRACKER
        self._receive = receive

    def reaches(self, host: str) -> bool:
        return (":" in host) in self.own

    def send(self, datagram: bytes, to: Address) -> bool:
        if to.host in self.unreachable:
            raise OSError(101, "Network is unreachable")
        self.sent.append((trio.current_time(), datagram, to))
        assert self.nursery is not None
        if not self.lose(len(self.sent) - 1):
            self.nursery.start_soon(self._carry, datagram, to)
        return True

    async def _carry(self, datagram: bytes, to: Address) -> None:
        tracker = self.trackers.get(to)
        if tracker is not None:
            await trio.sleep(self.latency_s / 2)
            answer = tracker.answer(datagram, Address(self.own[":" in to.host], 1729))
            await trio.sleep(self.latency_s / 2)
            if answer is not None:
                self.deliver(answer, to)

    def deliver(self, datagram: bytes, source: Address) -> bool:
        """As if it came from there."""
        assert self._receive is not None
        return self._receive(memoryview(datagram), source)


class PaperNames:
    """Names to addresses, as written down; numeric ones are themselves."""

    def __init__(self, names: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self.names = dict(names or {})

    async def lookup(self, host: str) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        found = self.names.get(host)
        if found is None:
            try:
                ipaddress.ip_address(host)
            except ValueError:
                raise Unreachable("has a name that cannot be looked up") from None
            return (host,)
        if not found:
            raise TrackerError("is not here")
        return found
