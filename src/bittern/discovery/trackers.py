"""One announce over the right carrier."""

import math
from typing import Final, Protocol

from bittern.errors import TrackerError
from bittern.net.http import HttpResponse
from bittern.proto.announce import AnnounceRequest, AnnounceResponse, announce_url, parse_announce_response

ANSWER_AT_MOST_BYTES: Final = 256 * 1024
"""A thousand peers as dictionaries are 100 KB."""

TIMEOUT_S: Final = 10.0


class GetsUrls(Protocol):
    """The HTTP client, or a test's."""

    async def get(self, url: str, *, max_bytes: int, deadline_s: float) -> HttpResponse:
        """One GET, or `TrackerError`."""


async def announce(
    http: GetsUrls, url: str, request: AnnounceRequest, *, deadline_s: float = TIMEOUT_S
) -> AnnounceResponse:
    """Asks the tracker; `TrackerError` when it refuses, fails, or speaks a protocol that we do not."""
    scheme = url.partition(":")[0].lower()
    if scheme not in {"http", "https"}:
        raise TrackerError(f"{scheme} trackers are not supported", retry_in_s=math.inf)
    response = await http.get(
        announce_url(url, request), max_bytes=ANSWER_AT_MOST_BYTES, deadline_s=deadline_s
    )
    if response.status != 200 and not response.body.startswith(b"d"):
        raise TrackerError(f"answered with HTTP status {response.status}")
    return parse_announce_response(response.body)
