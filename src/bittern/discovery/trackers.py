"""One announce or scrape over the right carrier."""

import math
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from bittern.discovery.families import GetsUrls, HttpFamilies, announces_together, counts_together
from bittern.errors import TrackerError
from bittern.net.http import Unreachable
from bittern.proto.announce import (
    AnnounceRequest,
    AnnounceResponse,
    Counts,
    TrackerRefusal,
    announce_url,
    parse_announce_response,
    parse_scrape_response,
    scrape_url,
)
from bittern.terms import InfoHash
from bittern.values import replace

ANSWER_AT_MOST_BYTES: Final = 256 * 1024
"""A thousand peers as dictionaries are 100 KB."""

TIMEOUT_S: Final = 10.0
SECRET_AT_LEAST: Final = 6
"""Shorter parts of a URL hide nothing, and hiding them would make a tracker's words unreadable."""

T = TypeVar("T")
_NO_SECRETS: Final = re.compile(r"announce(\.\w+)?|tracker|passkey|info_hash", re.IGNORECASE)


class UnsupportedScheme(TrackerError):
    """A tracker that is spoken to in a way that we do not know."""


class AsksInDatagrams(Protocol):
    """The client of UDP trackers, or a test's. Its deadlines are its own."""

    async def announce(self, url: str, request: AnnounceRequest) -> AnnounceResponse:
        """One announce, or `TrackerError`."""

    async def scrape(self, url: str, info_hashes: Sequence[InfoHash]) -> list[Counts]:
        """One scrape, or `TrackerError`."""


async def announce(
    http: GetsUrls | HttpFamilies,
    url: str,
    request: AnnounceRequest,
    *,
    udp: AsksInDatagrams | None = None,
    deadline_s: float = TIMEOUT_S,
) -> AnnounceResponse:
    """Asks the tracker.

    Errors: `TrackerRefusal`; `Unreachable`, when the fault is the whole host's; `UnsupportedScheme`; `TrackerError`.
    Nobody's words contain the URL's secrets.
    """
    try:
        if udp is not None and is_udp(url):
            return await udp.announce(url, request)
        asked = announce_url(url, request)

        async def ask(client: GetsUrls) -> AnnounceResponse:
            return parse_announce_response(await _get(client, asked, deadline_s))

        response = announces_together(await _ask_all(http, url, ask))
    except TrackerRefusal as refusal:
        raise _discreet(refusal, url) from None
    if response.warning is not None:
        response = replace(response, warning=without_secrets(response.warning, url))
    return response


async def scrape(
    http: GetsUrls | HttpFamilies,
    url: str,
    info_hash: InfoHash,
    *,
    udp: AsksInDatagrams | None = None,
    deadline_s: float = TIMEOUT_S,
) -> Counts:
    """Asks the tracker for counts only; errors as of `announce`."""
    try:
        if udp is not None and is_udp(url):
            [counts] = await udp.scrape(url, [info_hash])
            return counts
        scraped = scrape_url(url, info_hash)
        if scraped is None:
            raise TrackerError("has no address for scrapes")

        async def ask(client: GetsUrls) -> Counts:
            return parse_scrape_response(await _get(client, scraped, deadline_s), info_hash)

        return counts_together(await _ask_all(http, url, ask))
    except TrackerRefusal as refusal:
        raise _discreet(refusal, url) from None


def is_udp(url: str) -> bool:
    """Is that tracker spoken to in datagrams?"""
    return url[:6].lower() == "udp://"


async def _ask_all(
    http: GetsUrls | HttpFamilies, url: str, ask: Callable[[GetsUrls], Awaitable[T]]
) -> list[T]:
    scheme = url.partition(":")[0].lower()
    if scheme not in {"http", "https"}:
        raise UnsupportedScheme(f"{scheme[:10]!a} trackers are not supported", retry_in_s=math.inf)
    return await http.ask_all(url, ask) if isinstance(http, HttpFamilies) else [await ask(http)]


async def _get(http: GetsUrls, asked: str, deadline_s: float) -> bytes:
    answer = await http.get(asked, max_bytes=ANSWER_AT_MOST_BYTES, deadline_s=deadline_s)
    if answer.status != 200 and not answer.body.startswith(b"d"):
        kind = Unreachable if answer.status >= 500 else TrackerError
        raise kind(f"answered with HTTP status {answer.status}")
    return answer.body


def _discreet(refusal: TrackerRefusal, url: str) -> TrackerRefusal:
    return TrackerRefusal(without_secrets(str(refusal), url), retry_in_s=refusal.retry_in_s)


def without_secrets(words: str, url: str) -> str:
    """A tracker's words, in which it may quote what it was asked: passkeys stay between it and us."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return words
    asked = f"{parts.path}/{parts.query}/{parts.username or ''}/{parts.password or ''}"
    secrets = {part for one in (asked, unquote(asked)) for part in re.split(r"[/?&=;]", one)}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SECRET_AT_LEAST and not _NO_SECRETS.fullmatch(secret):
            words = re.sub(re.escape(secret), "…", words, flags=re.IGNORECASE)
    return words
