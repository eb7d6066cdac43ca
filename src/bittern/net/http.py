"""The one HTTP client (httpx): every answer has a size limit and a deadline, and errors never show a URL's secrets."""

import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import httpx
import trio

from bittern import __version__
from bittern.errors import TrackerError

TIMEOUT_S: Final = 10.0
CONNECTIONS: Final = 64
KEPT_CONNECTIONS: Final = 16
KEPT_FOR_S: Final = 30.0
REDIRECTS_AT_MOST: Final = 5
GZIP_OR_ZLIB: Final = zlib.MAX_WBITS | 32


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """`body` is decompressed and no longer than asked for."""

    status: int
    body: bytes


class HttpClient:
    """Use as an async context manager. Connections are kept and shared per host."""

    def __init__(self, *, local_address: str | None = None) -> None:
        transport = httpx.AsyncHTTPTransport(
            local_address=local_address,
            limits=httpx.Limits(
                max_connections=CONNECTIONS,
                max_keepalive_connections=KEPT_CONNECTIONS,
                keepalive_expiry=KEPT_FOR_S,
            ),
            trust_env=False,
        )
        self._client = httpx.AsyncClient(
            transport=transport,
            # a proxy from the environment would see passkeys, and nobody asked for it
            trust_env=False,
            timeout=TIMEOUT_S,
            follow_redirects=True,
            max_redirects=REDIRECTS_AT_MOST,
            headers={"User-Agent": f"bittern/{__version__}", "Accept-Encoding": "gzip"},
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def get(self, url: str, *, max_bytes: int, deadline_s: float = TIMEOUT_S) -> HttpResponse:
        """One GET; `TrackerError` with one clear line when there is no answer within the limits."""
        with trio.move_on_after(deadline_s):
            async with _told():
                return await self._get(url, max_bytes)
        raise TrackerError(f"no answer within {deadline_s:g} s")

    async def _get(self, url: str, max_bytes: int) -> HttpResponse:
        async with self._client.stream("GET", url) as response:
            encoding = response.headers.get("content-encoding", "").strip().lower()
            if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
                raise TrackerError(f"answered in an unknown encoding ({encoding[:20]!r})")
            inflate = zlib.decompressobj(GZIP_OR_ZLIB) if encoding not in {"", "identity"} else None
            body = bytearray()
            # httpx would inflate a whole network chunk at once, a thousandfold in a bomb: we stop at the limit.
            async for chunk in response.aiter_raw():
                body += chunk if inflate is None else inflate.decompress(chunk, max_bytes + 1 - len(body))
                if len(body) > max_bytes:
                    raise TrackerError(f"answered more than {max_bytes // 1024} KiB")
            return HttpResponse(response.status_code, bytes(body))


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """Httpx's errors in our words; theirs often quote the URL."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise TrackerError(f"no answer within {TIMEOUT_S:g} s") from error
    except httpx.TooManyRedirects as error:
        raise TrackerError("redirects in a loop") from error
    except httpx.ConnectError as error:
        raise TrackerError("cannot be reached") from error
    except zlib.error as error:
        raise TrackerError("answered with a broken encoding") from error
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise TrackerError("has a URL that cannot be used") from error
    except httpx.HTTPError as error:
        raise TrackerError(f"broke off ({type(error).__name__})") from error


def shown(url: str) -> str:
    """A tracker's name for people: scheme, host and port, without the path and query that may be a passkey."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname or '?'}{port}"
    except ValueError:
        return "an unreadable URL"
