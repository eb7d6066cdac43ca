"""GETs of `http://` URLs without httpx: what nearly every announce is.

httpx makes six objects of a URL and passes an answer through as many generators: 0.6 ms of the loop for each announce,
where this takes a sixth. It is asked for all others, and wherever this leads. What is said is the same for all but for
the host and the path, and answers are h11's to read but for the plainest (`whole_answer.py`, `odd_answer.py`): it is
imported for the first of those.
"""

import errno
import functools
import os
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from bittern import __version__
from bittern.errors import TrackerError
from bittern.net.answer import Body, NotHttp, PlainAnswer
from bittern.net.doors import NEXT_DOOR_S, Doors, Unreachable, words
from bittern.net.whole_answer import whole_answer

if TYPE_CHECKING:
    from bittern.net.odd_answer import OddAnswers

KEPT_CONNECTIONS: Final = 64
"""As many as are ever asked at once: at a stop each new one would take longer than the `stopped` that it is for."""

KEPT_FOR_S: Final = 30.0
TIMEOUT_S: Final = 10.0
USER_AGENT: Final = f"bittern/{__version__}"

RECEIVE_BYTES: Final = 64 * 1024
_REST: Final = r"[A-Za-z0-9_.~!$&()*+,;=:@/?-]*(?:%[0-9A-Fa-f]{2}[A-Za-z0-9_.~!$&()*+,;=:@/?-]*)*"
"""What goes over the wire as it is: nothing to be escaped, no fragment."""

_PLAIN: Final = re.compile(rf"http://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{{1,5}}))?(/{_REST})")
_PLAIN_QUERY: Final = re.compile(_REST)


class Target(NamedTuple):
    """Where to connect, and what to ask there. `host` without brackets."""

    host: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """`body` is decompressed and no longer than asked for."""

    status: int
    body: bytes


class CannotConnect(TrackerError):
    """Nobody at that address."""


class BrokeOff(TrackerError):
    """The connection ended in the middle."""


def plain_target(url: str) -> Target | None:
    """None: that is for httpx."""
    bare, mark, query = url.partition("?")
    target = _bare_target(bare)
    if target is None or not mark:
        return target
    if _PLAIN_QUERY.fullmatch(query) is None:
        return None
    return Target(target.host, target.port, f"{target.path}?{query}")


# the same few trackers again and again
@functools.lru_cache(maxsize=1024)
def _bare_target(url: str) -> Target | None:
    """The same of a URL without a query."""
    found = _PLAIN.fullmatch(url)
    if found is None or "/." in found[3]:
        return None
    port = int(found[2] or 80)
    return Target(found[1].strip("[]").lower(), port, found[3]) if 0 < port < 65536 else None


class PlainLine:
    """One connection, for one request at a time."""

    def __init__(self, sock: socket.socket, address: str) -> None:
        self._sock = sock
        self.address = address
        self._odd: OddAnswers | None = None
        """Made when it gets an answer that is not read at one look."""
        self.at_rest = True
        """As far as was read, the other side means to go on, and has said no more than it was asked."""
        self.used = False
        """Something was asked over it."""
        self.heard = False
        """Something came back to what was asked last."""
        self.came_bytes = 0
        """... and how much."""

    @classmethod
    async def open(cls, address: str, port: int) -> "PlainLine":
        """To a numeric address; `CannotConnect`."""
        try:
            sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        except OSError as error:
            raise CannotConnect(str(error)) from None
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            trouble = sock.connect_ex((address, port))
            if trouble == errno.EINPROGRESS:
                await trio.lowlevel.wait_writable(sock)
                trouble = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            else:
                await trio.lowlevel.checkpoint()
            if trouble:
                raise OSError(trouble, os.strerror(trouble))
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError | ValueError | OverflowError):
                raise CannotConnect(str(error)) from None
            raise
        return cls(sock, address)

    @property
    def usable(self) -> bool:
        """... and by now it has neither closed it nor said more."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return self.at_rest
        except OSError:
            pass
        return False

    def close(self) -> None:
        self._sock.close()

    async def get(self, target: Target, max_bytes: int) -> PlainAnswer:
        """Afterwards, if it did not fail, it is `at_rest` or has to be closed."""
        self.heard = self.at_rest = False
        self.used = True
        self.came_bytes = 0
        try:
            await self._send(
                b"GET %b%b" % (target.path.encode("ascii"), rest_of_request(target.host, target.port))
            )
            came = await self.receive()
            answer = whole_answer(came)
            if answer is None:
                return await self._odd_answers().read(headers(target.host, target.port), came, max_bytes)
        except OSError as error:
            raise BrokeOff(f"broke off ({type(error).__name__})") from None
        body = answer.body
        if answer.encoding != "identity" or len(body) > max_bytes:
            found = Body(answer.encoding, max_bytes)
            found.feed(body)
            body = found.whole()
        self.at_rest = answer.keeps
        return PlainAnswer(200, body)

    def _odd_answers(self) -> "OddAnswers":
        if self._odd is None:
            from bittern.net.odd_answer import OddAnswers

            self._odd = OddAnswers(self)
        return self._odd

    async def receive(self) -> bytes:
        """Empty at the end; `OSError`."""
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                came = self._sock.recv(RECEIVE_BYTES)
            except BlockingIOError:
                continue
            self.heard = self.heard or bool(came)
            self.came_bytes += len(came)
            return came

    async def _send(self, asked: bytes) -> None:
        rest = memoryview(asked)
        while rest:
            try:
                rest = rest[self._sock.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self._sock)


class PlainLines:
    """Connections for plain requests, kept and shared per host."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._free: list[tuple[float, tuple[str, int], PlainLine]] = []
        """Since when, and to whom; the last is the one that was used last."""

    async def get(self, target: Target, max_bytes: int) -> PlainAnswer:
        """One GET; `TrackerError`."""
        line = self._kept(target) or await self._open(target)
        while True:
            kept, done = line.used, False
            try:
                answer = await line.get(target, max_bytes)
                done = True
            except (BrokeOff, NotHttp) as error:
                if not kept or line.heard:
                    raise Unreachable(str(error)) from None
            finally:
                # what comes later is looked for when it is to be used again: a call into the kernel less for each
                stays = done and line.at_rest
                if not stays:
                    line.close()
            if done:
                if stays:
                    self._keep(target, line)
                return answer
            # it was closed at the moment in which we asked
            line = await self._open(target)

    def _kept(self, target: Target) -> PlainLine | None:
        to, since = target[:2], trio.current_time() - KEPT_FOR_S
        for at in range(len(self._free) - 1, -1, -1):
            kept_at, host, line = self._free[at]
            if host == to and self._doors.admits(line.address, target.path):
                del self._free[at]
                if kept_at >= since and line.usable:
                    return line
                line.close()
        return None

    def _keep(self, target: Target, line: PlainLine) -> None:
        self._free.append((trio.current_time(), target[:2], line))
        if len(self._free) > KEPT_CONNECTIONS:
            self._free.pop(0)[2].close()

    async def _open(self, target: Target) -> PlainLine:
        found = await self._doors.of(target.host, target.path)
        for address in found[:-1]:
            with trio.move_on_after(NEXT_DOOR_S):
                try:
                    line = await PlainLine.open(address, target.port)
                except CannotConnect:
                    continue
                self._doors.answered(target.host, address)
                return line
        try:
            line = await PlainLine.open(found[-1], target.port)
        except CannotConnect as error:
            raise Unreachable(f"cannot be reached ({words(error)})") from None
        self._doors.answered(target.host, found[-1])
        return line

    def close(self) -> None:
        for _, _, line in self._free:
            line.close()
        self._free.clear()


@functools.lru_cache(maxsize=256)
def rest_of_request(host: str, port: int) -> bytes:
    """What follows the path of what is asked there. It is the same few hosts again and again."""
    lines = [f"{name}: {value}\r\n" for name, value in headers(host, port)]
    return f" HTTP/1.1\r\n{''.join(lines)}\r\n".encode("ascii")


def headers(host: str, port: int) -> list[tuple[str, str]]:
    """Of a request there."""
    name = f"[{host}]" if ":" in host else host
    return [
        ("Host", name if port == 80 else f"{name}:{port}"),
        ("Accept", "*/*"),
        ("Accept-Encoding", "gzip"),
        ("Connection", "keep-alive"),
        ("User-Agent", USER_AGENT),
    ]
