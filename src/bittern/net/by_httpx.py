"""Requests that httpx makes: all that need TLS, POSTs, and whatever a redirect leads to.

With httpx come the packages of its own command (rich, pygments), and whom TLS trusts is read from a file: a quarter of
all that a start imported, before anybody could be served. Nothing of it is needed for trackers of plain HTTP, so this
is imported with the first request that is not (`net/http.py`).

What httpx would do by itself and must not: read a redirect's body without limit, inflate a bomb, keep cookies of
strangers, take a proxy or passwords from the environment, listen to interim answers for ever (`heads.py`).
"""

import functools
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx
import trio

from bittern.errors import TrackerError
from bittern.net.answer import CHUNKS_AT_ONCE, Body
from bittern.net.doors import NEXT_DOOR_S, Doors, Unreachable, words
from bittern.net.heads import MAX_BYTES, Lane
from bittern.net.plain_http import (
    KEPT_CONNECTIONS,
    TIMEOUT_S,
    USER_AGENT,
    HttpResponse,
)


@functools.cache
def trusted_authorities() -> ssl.SSLContext:
    """Whom all clients believe. Made once: it takes 20 ms and a megabyte."""
    return httpx.create_ssl_context(trust_env=False)


class ByHttpx:
    """The rest of an `HttpClient`. `allowed` raises for a host that is not to be asked."""

    def __init__(
        self, *, local_address: str | None, doors: Doors | None, allowed: Callable[[str], None]
    ) -> None:
        self._require_allowed = allowed
        self._client = httpx.AsyncClient(
            transport=_Lanes(
                partial(Lane, verify=trusted_authorities(), local_address=local_address),
                doors,
            ),
            # a proxy from the environment would see passkeys, and nobody asked for it
            trust_env=False,
            timeout=TIMEOUT_S,
            follow_redirects=False,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"},
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def get(
        self, url: str, *, redirect: str | None, requests: int, max_bytes: int, deadline_s: float
    ) -> HttpResponse:
        """Redirects are followed while there are requests left. With `redirect`, `url` was asked, and led there."""
        with _told(deadline_s):
            url = url if redirect is None else _redirected(url, redirect)
            request = self._client.build_request("GET", url, extensions={MAX_BYTES: max_bytes})
            for _ in range(requests):
                found = await self._ask(request, max_bytes)
                if isinstance(found, HttpResponse):
                    return found
                request = found
        raise TrackerError("redirects in a loop")

    async def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str], max_bytes: int, deadline_s: float
    ) -> HttpResponse:
        """The answer as it is, redirects too, an unusable body left out."""
        with _told(deadline_s):
            request = self._client.build_request(
                "POST", url, content=body, headers=dict(headers), extensions={MAX_BYTES: max_bytes}
            )
            self._require_allowed(request.url.host)
            response = await self._client.send(request, stream=True)
            try:
                body = await _body(response, max_bytes)
            except (TrackerError, zlib.error):
                # what was asked of it is told by the status
                body = b""
            finally:
                await response.aclose()
            return HttpResponse(response.status_code, body)

    async def _ask(self, request: httpx.Request, max_bytes: int) -> HttpResponse | httpx.Request:
        """The answer, or what to ask instead; a redirect's body is not read."""
        self._require_allowed(request.url.host)
        response = await self._client.send(request, stream=True)
        try:
            if response.next_request is not None:
                return response.next_request
            return HttpResponse(response.status_code, await _body(response, max_bytes))
        finally:
            await response.aclose()


def _redirected(url: str, to: str) -> str:
    found = httpx.URL(to)
    if found.scheme and not found.host:
        raise httpx.InvalidURL("no host")
    return str(httpx.URL(url).join(found))


async def _ask_at(doors: Doors, lane: Lane, request: httpx.Request) -> httpx.Response:
    """At the host's addresses, one after the other."""
    host = request.url.raw_host.decode("ascii")
    found = await doors.of(host, request.url.raw_path.decode("ascii"))
    for address in found[:-1]:
        try:
            response = await lane.handle_async_request(_at(request, address, NEXT_DOOR_S))
        except (httpx.ConnectError, httpx.ConnectTimeout):
            pass
        else:
            doors.answered(host, address)
            return response
    response = await lane.handle_async_request(_at(request, found[-1], TIMEOUT_S))
    doors.answered(host, found[-1])
    return response


def _at(request: httpx.Request, address: str, connect_s: float) -> httpx.Request:
    """The same request, to that address."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={
            **request.extensions,
            "sni_hostname": request.url.raw_host.decode("ascii"),
            "timeout": {**request.extensions.get("timeout", {}), "connect": connect_s},
        },
    )


class _Lanes(httpx.AsyncBaseTransport):
    """A connection pool for each request under way, with one kept connection in it.

    One pool for all asks the kernel about each of its connections at every request: with sixteen of them a request
    takes three times as long (1.2 ms instead of 0.4).
    """

    def __init__(self, make: Callable[[], Lane], doors: Doors | None) -> None:
        self._make = make
        self._doors = doors
        self._free: list[tuple[bytes, Lane]] = []
        """With the host that each was at last."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.netloc
        lane = await self._take(host)
        try:
            if self._doors is None:
                response = await lane.handle_async_request(request)
            else:
                response = await _ask_at(self._doors, lane, request)
        except BaseException:
            self._free.append((host, lane))
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _LaneStream(response.stream, partial(self._done, host, lane))
        return response

    async def _take(self, host: bytes) -> Lane:
        for at in range(len(self._free) - 1, -1, -1):
            if self._free[at][0] == host:
                return self._free.pop(at)[1]
        if len(self._free) >= KEPT_CONNECTIONS:
            # not lent to another host: at the same address it might be taken for that one's, and TLS not asked again
            await self._free.pop(0)[1].aclose()
        return self._make()

    async def _done(self, host: bytes, lane: Lane) -> None:
        self._free.append((host, lane))
        if len(self._free) > KEPT_CONNECTIONS:
            await self._free.pop(0)[1].aclose()

    async def aclose(self) -> None:
        for _, lane in self._free:
            await lane.aclose()


class _LaneStream(httpx.AsyncByteStream):
    """An answer's body, at whose end its lane is free."""

    def __init__(self, body: httpx.AsyncByteStream, done: Callable[[], Awaitable[None]]) -> None:
        self._body = body
        self._done: Callable[[], Awaitable[None]] | None = done

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._body.__aiter__()

    async def aclose(self) -> None:
        done, self._done = self._done, None
        try:
            await self._body.aclose()
        finally:
            if done is not None:
                await done()


async def _body(response: httpx.Response, max_bytes: int) -> bytes:
    body = Body(response.headers.get("content-encoding", "identity"), max_bytes)
    chunks = response.aiter_raw()
    try:
        # httpx would inflate a whole network chunk at once, a thousandfold in a bomb: we stop at the limit.
        async for chunk in chunks:
            body.feed(chunk)
            if not body.chunks % CHUNKS_AT_ONCE:
                await trio.lowlevel.checkpoint()
    except (TrackerError, zlib.error):
        await _abandon(response, chunks)
        raise
    return body.whole()


async def _abandon(response: httpx.Response, chunks: AsyncIterator[bytes]) -> None:
    """Ends an answer before its end: closed, then read until that is noticed.

    httpx reads through generators in generators; those that are left in the middle would be ended by the garbage
    collector, some time, with a warning each.
    """
    await response.aclose()
    try:
        async for _ in chunks:
            pass
    except httpx.HTTPError:
        pass


@contextmanager
def _told(deadline_s: float) -> Iterator[None]:
    """Httpx's errors in our words; theirs often quote the URL, so they are not chained either."""
    try:
        yield
    except httpx.TimeoutException:
        raise Unreachable(f"no answer within {min(TIMEOUT_S, deadline_s):g} s") from None
    except httpx.ConnectError as error:
        raise Unreachable(f"cannot be reached ({words(error)})") from None
    except zlib.error:
        raise TrackerError("answered with a broken encoding") from None
    except (httpx.UnsupportedProtocol, httpx.InvalidURL, ValueError, OverflowError):
        # names that cannot be looked up (too long for DNS, say) come as plain ValueErrors from below httpx
        raise TrackerError("has a URL, or redirects to one, that cannot be used") from None
    except httpx.RemoteProtocolError:
        raise Unreachable("answered something that is not HTTP, or nothing at all") from None
    except httpx.HTTPError as error:
        raise Unreachable(f"broke off ({type(error).__name__})") from None
