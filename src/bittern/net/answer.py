"""An answer over HTTP: what may come of it, and its body as it comes, inflated."""

import zlib
from typing import Final, NamedTuple

from bittern.errors import TrackerError

HEAD_AT_MOST_BYTES: Final = 100 * 1024
ENCODING_AT_MOST_BYTES: Final = 4096
"""So much longer than what was encoded may what came be."""

CHUNKS_AT_MOST: Final = 10_000
"""Chunks of a byte each would cost ten thousand times what they bring."""

CHUNKS_AT_ONCE: Final = 64
"""So many are taken before others get their turn: a millisecond."""

FRAMING_AT_MOST_BYTES: Final = 128 * 1024
"""Of a body in chunks: as many as may come take half of that. Without it each could have an extension of 100 KB (RFC
9112 §7.1.1), of which nobody hears.
"""

HEADS_AT_MOST: Final = 16
"""Before the answer proper; nobody needs a `100 Continue` for a GET."""

GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS


class NotHttp(TrackerError):
    """What came back is no answer."""


class Body:
    """An answer's body as it comes in, inflated and bounded; `TrackerError`, `zlib.error`."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        encoding = encoding.strip().lower()
        if encoding not in {"identity", "gzip", "x-gzip", "deflate"}:
            raise TrackerError(f"answered in an unknown encoding ({encoding[:20]!a})")
        self._inflate = None if encoding == "identity" else zlib.decompressobj(GZIP_OR_ZLIB)
        self._max_bytes = max_bytes
        self._body = bytearray()
        self._came_bytes = self.chunks = 0

    def feed(self, chunk: bytes | bytearray) -> None:
        """Not inflated further than the limit: a bomb would be a thousandfold. What follows the end counts too, for
        zlib keeps it.
        """
        body = self._body
        self._came_bytes += len(chunk)
        self.chunks += 1
        if self.chunks > CHUNKS_AT_MOST:
            raise TrackerError("answered in too many small pieces")
        body += (
            chunk
            if self._inflate is None
            else self._inflate.decompress(chunk, self._max_bytes + 1 - len(body))
        )
        if len(body) > self._max_bytes or self._came_bytes > self._max_bytes + ENCODING_AT_MOST_BYTES:
            raise TrackerError(f"answered more than {self._max_bytes // 1024} KiB")

    def whole(self) -> bytes:
        """When nothing more comes."""
        if self._inflate is not None and not self._inflate.eof and self._body:
            raise TrackerError("answered with a broken encoding")
        return bytes(self._body)


class PlainAnswer(NamedTuple):
    """`redirect`: where to ask instead; the body was not read then."""

    status: int
    body: bytes
    redirect: str | None = None


def bytes_at_most(max_bytes: int) -> int:
    """So many may come for one question, of whose answer's body so much is wanted."""
    return HEAD_AT_MOST_BYTES + FRAMING_AT_MOST_BYTES + max_bytes + ENCODING_AT_MOST_BYTES


def too_many_bytes(at_most_bytes: int) -> str:
    """What is said of a server that sends more."""
    return f"answered in more than {at_most_bytes // 1024} KiB with all that is around it"


def too_many_heads() -> str:
    """What is said of a server that sends no answer and never ends to announce one."""
    return f"sent more than {HEADS_AT_MOST} interim answers (HTTP 1xx) and no other"


def no_answer() -> str:
    """... and of one whose announcements are long."""
    return f"sent {HEAD_AT_MOST_BYTES // 1024} KiB and no answer"
