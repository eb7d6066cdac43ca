"""GETs over plain HTTP to whoever answers in the plainest way, on connections that are kept: thousands of announces
to one host then cost a tenth of what a whole HTTP client takes for them.

Plain is: HTTP/1.1, a `Content-Length`, no encoding, no redirect, the connection kept. The whole client asks first and
tells of hosts that answer so (`found_plain`); one that then answers otherwise is asked by the whole client again.
"""

import re
from collections.abc import Mapping
from typing import Final

import trio

from bittern import __version__

HEAD_AT_MOST_BYTES: Final = 16 * 1024
CHUNK_BYTES: Final = 16 * 1024
KEPT: Final = 16
"""Idle connections, of all hosts."""

KEPT_FOR_S: Final = 30.0
HOSTS_AT_MOST: Final = 1000
"""That are remembered as plain; then all are forgotten."""

_URL: Final = re.compile(
    r"http://(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<target>[/?][!-\"$-~]*)?"
)
_HEADER: Final = re.compile(rb"([!#-'*+.0-9A-Z^_`a-z|~-]+):[ \t]*([^\r\n\0]*?)[ \t]*")
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9])(?: [^\r\n\0]*)?")

Host = tuple[str, int]


class Unplain(Exception):
    """The answer is not for us to understand."""


class TooMuch(Exception):
    """The answer is longer than so many KiB, which was asked for."""


class PlainHttp:
    """Keeps the connections."""

    def __init__(self, *, local_address: str | None = None) -> None:
        self._local_address = local_address
        self._kept: list[tuple[Host, float, trio.SocketStream]] = []
        """Most recently used last."""
        self._plain: set[Host] = set()

    async def aclose(self) -> None:
        """Closes what is kept."""
        for _, _, stream in self._kept:
            stream.socket.close()
        self._kept.clear()

    async def get(self, url: str, *, max_bytes: int) -> tuple[int, bytes]:
        """The status and the body.

        Errors: `Unplain`: ask somebody else; `TooMuch`; `OSError`: no connection; `trio.BrokenResourceError`.
        """
        parts = _URL.fullmatch(url)
        if parts is None or (host := _host(parts)) not in self._plain:
            raise Unplain
        target = parts["target"] or "/"
        asked = (
            f"GET {'/' if target[0] == '?' else ''}{target} HTTP/1.1\r\n"
            f"Host: {parts['host']}{'' if host[1] == 80 else f':{host[1]}'}\r\n"
            f"User-Agent: bittern/{__version__}\r\nAccept: */*\r\n\r\n"
        ).encode("ascii")
        try:
            return await self._ask(host, asked, max_bytes)
        except Unplain:
            self._plain.discard(host)
            raise

    def found_plain(self, url: str) -> None:
        """The host of that URL has given a plain answer."""
        parts = _URL.fullmatch(url)
        if parts is not None:
            if len(self._plain) >= HOSTS_AT_MOST:
                self._plain.clear()
            self._plain.add(_host(parts))

    async def _ask(self, host: Host, asked: bytes, max_bytes: int) -> tuple[int, bytes]:
        while (stream := self._take(host)) is not None:
            try:
                return await self._exchange(host, stream, asked, max_bytes)
            except trio.BrokenResourceError:
                # Closed by the other side while nobody used it.
                pass
        stream = await trio.open_tcp_stream(*host, local_address=self._local_address)
        return await self._exchange(host, stream, asked, max_bytes)

    def _take(self, host: Host) -> trio.SocketStream | None:
        for at in range(len(self._kept) - 1, -1, -1):
            if self._kept[at][0] == host:
                return self._kept.pop(at)[2]
        return None

    def _keep(self, host: Host, stream: trio.SocketStream) -> None:
        now = trio.current_time()
        self._kept.append((host, now, stream))
        while self._kept and (len(self._kept) > KEPT or self._kept[0][1] < now - KEPT_FOR_S):
            self._kept.pop(0)[2].socket.close()

    async def _exchange(
        self, host: Host, stream: trio.SocketStream, asked: bytes, max_bytes: int
    ) -> tuple[int, bytes]:
        """Keeps the connection when it is good for more, and closes it in any other case."""
        good = False
        try:
            await stream.send_all(asked)
            got = bytearray()
            while (end := got.find(b"\r\n\r\n")) < 0:
                if len(got) > HEAD_AT_MOST_BYTES:
                    raise Unplain
                await _receive(stream, got)
            status, headers = _parse(bytes(got[:end]))
            length = _length(headers)
            if length > max_bytes:
                raise TooMuch(str(max_bytes // 1024))
            del got[: end + 4]
            while len(got) < length:
                await _receive(stream, got)
            good = len(got) == length and b"close" not in headers.get(b"connection", b"").lower()
            return status, bytes(got[:length])
        finally:
            if good:
                self._keep(host, stream)
            else:
                stream.socket.close()


def _host(parts: re.Match[str]) -> Host:
    return parts["host"].strip("[]").lower(), int(parts["port"] or 80)


async def _receive(stream: trio.SocketStream, got: bytearray) -> None:
    more = await stream.receive_some(CHUNK_BYTES)
    if not more:
        if got:
            raise Unplain
        raise trio.BrokenResourceError
    got += more


def _parse(head: bytes) -> tuple[int, Mapping[bytes, bytes]]:
    first, *lines = head.split(b"\r\n")
    status = _STATUS.fullmatch(first)
    if status is None:
        raise Unplain
    headers: dict[bytes, bytes] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None or header[1].lower() in headers:
            raise Unplain
        headers[header[1].lower()] = header[2]
    return int(status[1]), headers


def _length(headers: Mapping[bytes, bytes]) -> int:
    length = headers.get(b"content-length", b"")
    encoded = headers.get(b"content-encoding", b"identity").lower() != b"identity"
    if (
        encoded
        or b"transfer-encoding" in headers
        or b"location" in headers
        or not length.isdigit()
        or len(length) > 12
    ):
        raise Unplain
    return int(length)
