"""What may come before an answer proper and around it, over httpx: so many interim answers, so many bytes.

httpcore reads `100 Continue` and its like for as long as they come, each with all of h11's work: a server that says
nothing else would have the loop, and as many bytes as it likes, until the deadline. So would one whose chunks of a byte
each have an extension of 100 KB (RFC 9112 §7.1.1), of which nobody hears. httpcore lets us give it the sockets, and
those that it gets here count what it reads between a request and the head of its answer, and up to the answer's end.
"""

import re
import ssl
from collections.abc import Iterable
from typing import Any, Final

import httpcore
import httpx

from bittern.errors import TrackerError
from bittern.net.answer import (
    HEAD_AT_MOST_BYTES,
    HEADS_AT_MOST,
    bytes_at_most,
    no_answer,
    too_many_bytes,
    too_many_heads,
)
from bittern.net.doors import Unreachable
from bittern.net.plain_http import KEPT_FOR_S

RECEIVE_BYTES: Final = 4096
"""While no answer has come: what is read at once is parsed at once, and so much may be two hundred heads (10 ms)."""

MAX_BYTES: Final = "bittern.max_bytes"
"""The extension of a request that says how long its answer's body may be."""

_END_OF_HEAD: Final = re.compile(rb"\n\r?\n")


class HeadLimit:
    """What came since the request, of one connection at a time."""

    def __init__(self) -> None:
        self.expected = False
        """An answer's head is."""
        self._came_bytes = self._heads = self._at_most_bytes = 0
        self._tail = b""

    def expect(self, max_bytes: int) -> None:
        """A request is about to go out, of whose answer's body so much is wanted."""
        self.expected = True
        self._came_bytes = self._heads = 0
        self._at_most_bytes = bytes_at_most(max_bytes)
        self._tail = b""

    def require_room(self) -> None:
        """For more to be read; `TrackerError`."""
        if self._came_bytes > self._at_most_bytes:
            raise TrackerError(too_many_bytes(self._at_most_bytes))
        if self.expected and self._heads > HEADS_AT_MOST:
            raise Unreachable(too_many_heads())
        if self.expected and self._came_bytes >= HEAD_AT_MOST_BYTES:
            raise Unreachable(no_answer())

    def came(self, chunk: bytes) -> None:
        """Counted too is what belongs to the answer already: then nothing is asked of us any more."""
        self._came_bytes += len(chunk)
        if self.expected:
            self._heads += len(_END_OF_HEAD.findall(self._tail + chunk))
            self._tail = b"" if chunk.endswith(b"\n\n") else chunk[-2:]


class Lane(httpx.AsyncHTTPTransport):
    """One request at a time, over one connection, which is kept."""

    def __init__(self, *, verify: ssl.SSLContext, local_address: str | None) -> None:
        super().__init__(verify=verify, trust_env=False)
        self._head = HeadLimit()
        # as httpx makes it, but for whose sockets these are
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=verify,
            max_keepalive_connections=1,
            keepalive_expiry=KEPT_FOR_S,
            local_address=local_address,
            network_backend=_Network(self._head),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self._head.expect(request.extensions[MAX_BYTES])
        try:
            return await super().handle_async_request(request)
        finally:
            self._head.expected = False


class _Network(httpcore.AsyncNetworkBackend):
    """Trio's, with a limit."""

    def __init__(self, head: HeadLimit) -> None:
        self._head = head
        self._inner = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 — httpcore's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(
            await self._inner.connect_tcp(host, port, timeout, local_address, socket_options), self._head
        )


class _Stream(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream, head: HeadLimit) -> None:
        self._inner = inner
        self._head = head

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 — httpcore's
        self._head.require_room()
        if self._head.expected:
            max_bytes = min(max_bytes, RECEIVE_BYTES)
        chunk = await self._inner.read(max_bytes, timeout)
        self._head.came(chunk)
        return chunk

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 — httpcore's
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 — httpcore's
    ) -> httpcore.AsyncNetworkStream:
        return _Stream(await self._inner.start_tls(ssl_context, server_hostname, timeout), self._head)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
