"""One announce over the right carrier."""

import math
import re
from dataclasses import replace
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from bittern.errors import TrackerError
from bittern.net.http import HttpResponse, Unreachable
from bittern.proto.announce import (
    AnnounceRequest,
    AnnounceResponse,
    TrackerRefusal,
    announce_url,
    parse_announce_response,
)

ANSWER_AT_MOST_BYTES: Final = 256 * 1024
"""A thousand peers as dictionaries are 100 KB."""

TIMEOUT_S: Final = 10.0
SECRET_AT_LEAST: Final = 6
"""Shorter parts of a URL hide nothing, and hiding them would make a tracker's words unreadable."""

_NO_SECRETS: Final = re.compile(r"announce(\.\w+)?|tracker|passkey|info_hash", re.IGNORECASE)


class UnsupportedScheme(TrackerError):
    """A tracker that is spoken to in a way that we do not know."""


class GetsUrls(Protocol):
    """The HTTP client, or a test's."""

    async def get(self, url: str, *, max_bytes: int, deadline_s: float) -> HttpResponse:
        """One GET, or `TrackerError`."""


async def announce(
    http: GetsUrls, url: str, request: AnnounceRequest, *, deadline_s: float = TIMEOUT_S
) -> AnnounceResponse:
    """Asks the tracker.

    Errors: `TrackerRefusal`; `Unreachable`, when the fault is the whole host's; `UnsupportedScheme`; `TrackerError`.
    Nobody's words contain the URL's secrets.
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in {"http", "https"}:
        raise UnsupportedScheme(f"{scheme[:10]!a} trackers are not supported", retry_in_s=math.inf)
    answer = await http.get(announce_url(url, request), max_bytes=ANSWER_AT_MOST_BYTES, deadline_s=deadline_s)
    if answer.status != 200 and not answer.body.startswith(b"d"):
        kind = Unreachable if answer.status >= 500 else TrackerError
        raise kind(f"answered with HTTP status {answer.status}")
    try:
        response = parse_announce_response(answer.body)
    except TrackerRefusal as refusal:
        raise TrackerRefusal(without_secrets(str(refusal), url), retry_in_s=refusal.retry_in_s) from None
    if response.warning is not None:
        response = replace(response, warning=without_secrets(response.warning, url))
    return response


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
