"""A .torrent from the web, fetched by who asks for it: the daemon is never sent to an address that somebody names."""

import time
from typing import Final

from bittern.cli.daemon import EX_IOERR, EX_USAGE

PATIENCE_S: Final = 30.0
ALTOGETHER_S: Final = 300.0
"""However steadily it drips."""

REDIRECTS_AT_MOST: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class FetchFailed(Exception):
    """`status` is the exit status that fits."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def is_url(text: str) -> bool:
    """Is it one that is fetched here?"""
    return text.lower().startswith(("http://", "https://"))


def fetch(url: str) -> bytes:
    """What lies there, or the magnet link that it leads to; `FetchFailed`."""
    import httpx

    from bittern.proto.metainfo import MAX_METAINFO_BYTES

    deadline = time.monotonic() + ALTOGETHER_S
    try:
        with httpx.Client(timeout=PATIENCE_S, headers={"User-Agent": _agent()}) as client:
            for _ in range(REDIRECTS_AT_MOST + 1):
                with client.stream("GET", url) as response:
                    if response.status_code in REDIRECTS and "Location" in response.headers:
                        to = response.headers["Location"]
                        if to.lower().startswith("magnet:"):
                            return to.encode()
                        url = str(response.url.join(to))
                        if not is_url(url):
                            raise FetchFailed(EX_USAGE, "leads to something that is not on the web")
                        continue
                    if not response.is_success:
                        raise FetchFailed(EX_IOERR, f"the server answers {response.status_code}")
                    blob = bytearray()
                    for chunk in response.iter_bytes():
                        blob += chunk
                        if time.monotonic() > deadline:
                            raise FetchFailed(EX_IOERR, f"is not here after {ALTOGETHER_S:g} s")
                        if len(blob) > MAX_METAINFO_BYTES:
                            raise FetchFailed(EX_USAGE, "is longer than any .torrent")
                    return bytes(blob)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError):
        # their words quote parts of the URL, which may be a password
        raise FetchFailed(EX_USAGE, "is no URL that can be fetched, or leads to none") from None
    except httpx.HTTPError as error:
        raise FetchFailed(EX_IOERR, f"cannot be fetched ({error})") from error
    raise FetchFailed(EX_IOERR, f"is redirected more than {REDIRECTS_AT_MOST} times")


def _agent() -> str:
    from bittern import __version__

    return f"bittern/{__version__}"
