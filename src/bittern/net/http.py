"""The one HTTP client: every answer has a size limit and a deadline, and errors never show a URL's secrets.

`http://` goes by lines of ours (`plain_http.py`), all else by httpx (`by_httpx.py`), which is imported when the first
such request is made, in a thread: a tenth of a second that no start waits for.
"""

import functools
import math
import zlib
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import trio

from bittern.errors import TrackerError
from bittern.net.answer import PlainAnswer
from bittern.net.doors import Doors, words
from bittern.net.doors import LooksUp as LooksUp
from bittern.net.doors import Unreachable as Unreachable
from bittern.net.plain_http import TIMEOUT_S, PlainLines, plain_target
from bittern.net.plain_http import HttpResponse as HttpResponse
from bittern.net.scope import ANYWHERE, DialScope

if TYPE_CHECKING:
    from bittern.net.by_httpx import ByHttpx

REDIRECTS_AT_MOST: Final = 5


class HttpClient:
    """Use as an async context manager. Connections are kept and shared per host.

    `local_address` "0.0.0.0" or "::": it goes out by that family only. With `names` it connects to what these say a
    host's addresses are, one after the other, and not to what the system says at that moment; `wary` as in `Doors`.
    """

    def __init__(
        self,
        *,
        local_address: str | None = None,
        names: LooksUp | None = None,
        scope: DialScope = ANYWHERE,
        wary: bool = False,
    ) -> None:
        self._scope = scope
        self._local_address = local_address
        self._doors = None if names is None else Doors(names, local_address, wary=wary)
        self._plain = None if self._doors is None else PlainLines(self._doors)
        self._httpx: ByHttpx | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._plain is not None:
            self._plain.close()
        if self._httpx is not None:
            await self._httpx.aclose()

    async def get(self, url: str, *, max_bytes: int, deadline_s: float = TIMEOUT_S) -> HttpResponse:
        """One GET, redirects followed; `TrackerError` with one clear line when there is no answer within the limits."""
        with trio.move_on_after(deadline_s):
            answer = await self._ask_plainly(url, max_bytes)
            if answer is not None and answer.redirect is None:
                return HttpResponse(answer.status, answer.body)
            return await (await self._by_httpx()).get(
                url,
                redirect=None if answer is None else answer.redirect,
                requests=REDIRECTS_AT_MOST + (answer is None),
                max_bytes=max_bytes,
                deadline_s=deadline_s,
            )
        raise Unreachable(f"no answer within {deadline_s:g} s")

    async def post(
        self, url: str, body: bytes, *, headers: Mapping[str, str], max_bytes: int, deadline_s: float
    ) -> HttpResponse:
        """One POST; the answer as it is, redirects too, an unusable body left out. `TrackerError` as above."""
        with trio.move_on_after(deadline_s):
            return await (await self._by_httpx()).post(
                url, body, headers=headers, max_bytes=max_bytes, deadline_s=deadline_s
            )
        raise Unreachable(f"no answer within {deadline_s:g} s")

    async def _ask_plainly(self, url: str, max_bytes: int) -> PlainAnswer | None:
        """None: that is for httpx."""
        target = None if self._plain is None else plain_target(url)
        if self._plain is None or target is None:
            return None
        self._require_allowed(target.host)
        try:
            return await self._plain.get(target, max_bytes)
        except zlib.error:
            raise TrackerError("answered with a broken encoding") from None
        except (ValueError, OverflowError):
            # names that cannot be looked up (too long for DNS, say)
            raise TrackerError("has a URL that cannot be used") from None

    def _require_allowed(self, host: str) -> None:
        if not self._scope.allows(host):
            raise TrackerError("is not on this machine (dial_scope)", retry_in_s=math.inf)

    async def _by_httpx(self) -> "ByHttpx":
        if self._httpx is None:
            try:
                made = await trio.to_thread.run_sync(self._make)
            except OSError as error:
                # no descriptor is left to read it with
                raise Unreachable(f"cannot be asked ({words(error)})") from None
            if self._httpx is None:
                self._httpx = made
        return self._httpx

    def _make(self) -> "ByHttpx":
        """In a thread; of several that are made at once one is used, and the others hold nothing."""
        from bittern.net.by_httpx import ByHttpx

        return ByHttpx(local_address=self._local_address, doors=self._doors, allowed=self._require_allowed)


# asked ten times with every announce
@functools.lru_cache(maxsize=1024)
def shown(url: str) -> str:
    """A tracker's name for people: scheme, host and port, without user, path and query, which may be a passkey."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname or "", parts.port
    except ValueError:
        return "an unreadable URL"
    if not host or not host.isprintable():
        return "an unreadable URL"
    name = f"[{host}]" if ":" in host else host
    return f"{scheme}://{name}" if port is None else f"{scheme}://{name}:{port}"
