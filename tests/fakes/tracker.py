"""A scripted HTTP tracker: honest by itself, or misbehaving request by request.

`Tracker` decides, without I/O. `serve` puts it on a real loopback port (for the real client, in real time);
`PaperHttp` answers in its place without sockets (for virtual time).
"""

import gzip
import ipaddress
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import trio
import trio.testing

from bittern.errors import TrackerError
from bittern.net.http import HttpResponse, Unreachable
from bittern.proto.bencode import Value, encode
from bittern.terms import Address


@dataclass(frozen=True)
class Asked:
    """One request."""

    target: str
    headers: Mapping[str, str]
    client: str
    at: float

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, bytes]:
        pairs = [one.partition("=") for one in self.target.partition("?")[2].split("&") if one]
        return {name: unquote_to_bytes(value) for name, _, value in pairs}

    @property
    def event(self) -> str:
        return self.query.get("event", b"").decode()

    @property
    def info_hash(self) -> bytes:
        return self.query.get("info_hash", b"")


@dataclass(frozen=True)
class Reply:
    """What to answer. `endless` follows the body for ever; `delay_s` inf: never answers."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    endless: bytes = b""
    pause_s: float = 0.0
    """Between the parts of an endless body."""
    after: bytes = b""
    """Follows the body at once, and belongs to no answer."""
    delay_s: float = 0.0
    hang_up: bool = False
    raw: bytes | None = None
    """Instead of everything above but `endless`: these bytes, then the connection is closed."""
    later: bytes = b""
    """Follows `raw` when that was read."""
    bare: bool = False
    """The body says itself how long it is."""


Answer = Reply | Callable[[Asked], Reply]


def told(**entries: Any) -> Reply:
    """A bencoded dictionary; underscores in names are spaces."""
    return Reply(encode({name.replace("_", " ").encode(): value for name, value in entries.items()}))


def failure(reason: bytes, retry_in: int | bytes | None = None) -> Reply:
    return told(failure_reason=reason) if retry_in is None else told(failure_reason=reason, retry_in=retry_in)


def redirect(to: str, status: int = 302, endless: bytes = b"") -> Reply:
    return Reply(status=status, headers={"Location": to}, endless=endless)


def zipped(body: bytes, cut: int | None = None) -> Reply:
    return Reply(gzip.compress(body)[:cut], headers={"Content-Encoding": "gzip"})


GARBAGE = Reply(b"<html><body>It works!</body></html>")
SILENCE = Reply(delay_s=float("inf"))
ENDLESS = Reply(b"d5:peers99999999:", endless=b"x" * 65536)
HANG_UP = Reply(hang_up=True)
NOT_HTTP = Reply(raw=b"\x13BitTorrent protocol" + bytes(48))
BOMB = zipped(b"d5:peers%d:" % (64 << 20) + bytes(64 << 20) + b"e")


class Tracker:
    """Knows peers by what they announce, and answers with the others, unless the script says otherwise.

    `script`: one answer is taken from it for each request, in order; then `always` holds, if there is one. `extra`
    goes into honest answers.
    """

    def __init__(self, *, interval: int = 1800) -> None:
        self.asked: list[Asked] = []
        self.script: deque[Answer] = deque()
        self.always: Answer | None = None
        self.extra: dict[str, Any] = {}
        self.interval = interval
        self.peers: dict[bytes, dict[Address, int]] = {}
        self.url = ""

    def events(self, info_hash: bytes | None = None) -> list[str]:
        return [one.event for one in self.asked if info_hash in {None, one.info_hash}]

    def answer(self, asked: Asked) -> Reply:
        self.asked.append(asked)
        answer = self.script.popleft() if self.script else self.always
        if answer is None:
            return self.honest(asked)
        return answer if isinstance(answer, Reply) else answer(asked)

    def honest(self, asked: Asked) -> Reply:
        query = asked.query
        if len(asked.info_hash) != 20 or len(query.get("peer_id", b"")) != 20:
            return failure(b"not an announce")
        peers = self.peers.setdefault(asked.info_hash, {})
        asking = Address(asked.client, int(query["port"]))
        if asked.event == "stopped":
            peers.pop(asking, None)
            others = []
        else:
            others = [peer for peer in peers if peer != asking][: int(query.get("numwant", b"50"))]
            peers[asking] = int(query["left"])
        entries: dict[bytes, Value] = {
            b"interval": self.interval,
            b"complete": sum(left == 0 for left in peers.values()),
            b"incomplete": sum(left > 0 for left in peers.values()),
            b"peers": b"".join(
                ipaddress.ip_address(host).packed + port.to_bytes(2)
                for host, port in others
                if ":" not in host
            ),
        }
        entries.update({name.replace("_", " ").encode(): value for name, value in self.extra.items()})
        return Reply(encode(entries))


async def serve(
    tracker: Tracker,
    port: int = 0,
    host: str = "127.0.0.1",
    *,
    task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """On that loopback port (0: any) until cancelled; `started` gives (and `tracker.url` is) its announce URL."""
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(port, host=host)
        shown = f"[{host}]" if ":" in host else host
        tracker.url = f"http://{shown}:{listener.socket.getsockname()[1]}/announce"
        task_status.started(tracker.url)

        async def greet(stream: trio.SocketStream) -> None:
            try:
                async with stream:
                    while await _exchange(tracker, stream):
                        pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

        await trio.serve_listeners(greet, [listener], handler_nursery=nursery)


async def _exchange(tracker: Tracker, stream: trio.SocketStream) -> bool:
    head = b""
    while b"\r\n\r\n" not in head:
        got = await stream.receive_some(65536)
        if not got:
            return False
        head += got
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines) if name
    }
    client = stream.socket.getpeername()[0]
    reply = tracker.answer(Asked(first.split(" ")[1], headers, client, trio.current_time()))
    if reply.hang_up:
        return False
    await trio.sleep(reply.delay_s)
    if reply.raw is not None:
        await stream.send_all(reply.raw)
        if reply.later:
            await trio.testing.wait_all_tasks_blocked()
            await stream.send_all(reply.later)
        while reply.endless:
            await stream.send_all(reply.endless)
        return False
    lines = [
        f"HTTP/1.1 {reply.status} Because",
        *(f"{name}: {value}" for name, value in reply.headers.items()),
    ]
    if not reply.endless and not reply.bare:
        lines.append(f"Content-Length: {len(reply.body)}")
    await stream.send_all("\r\n".join([*lines, "", ""]).encode("latin-1") + reply.body + reply.after)
    while reply.endless:
        await stream.send_all(reply.endless)
        await trio.sleep(reply.pause_s)
    return True


class PaperHttp:
    """The HTTP client's place: `trackers` by `http://host[:port]`; whoever is not there cannot be reached."""

    def __init__(self, trackers: Mapping[str, Tracker] | None = None, *, client: str = "192.0.2.1") -> None:
        self.trackers = dict(trackers or {})
        self.client = client
        self.latency_s = 0.05
        self.dead_after_s = 3.0
        self.under_way = 0
        self.most_under_way = 0
        self.gets: list[tuple[float, str]] = []

    async def get(self, url: str, *, max_bytes: int, deadline_s: float) -> HttpResponse:
        parts = urlsplit(url)
        self.gets.append((trio.current_time(), url))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            with trio.move_on_after(deadline_s):
                await trio.sleep(self.latency_s)
                tracker = self.trackers.get(f"{parts.scheme}://{parts.netloc}")
                if tracker is None:
                    await trio.sleep(self.dead_after_s)
                    raise Unreachable("cannot be reached (on paper)")
                target = url.removeprefix(f"{parts.scheme}://{parts.netloc}")
                reply = tracker.answer(Asked(target, {}, self.client, trio.current_time()))
                await trio.sleep(reply.delay_s)
                if reply.hang_up or reply.raw is not None:
                    raise Unreachable("answered something that is not HTTP, or nothing at all")
                if reply.endless or len(reply.body) > max_bytes:
                    raise TrackerError(f"answered more than {max_bytes // 1024} KiB")
                return HttpResponse(reply.status, reply.body)
            raise Unreachable(f"no answer within {deadline_s:g} s")
        finally:
            self.under_way -= 1
