"""The digest of a large piece, made while its spans land: what has gone by in memory need not be read back.

SHA-1 takes a piece from its beginning to its end, so a span that lands before its turn is held until its turn has come,
with its buffer. Behind one that is still missing only so many are held; then the last ones go to the disk without
having been hashed, and from the first of those on the piece is read back at the end.
"""

import hashlib
from typing import Final

HELD_AT_MOST: Final = 8
"""Of one piece, behind one that is missing: from several peers spans land about in order."""

HELD_SHARE: Final = 8
"""... and so large a part of all piece memory at most: what is held is kept from others."""


class SpanDigest:
    """One piece's. It says which spans are to be handed over now, and which of them with `sha1`: one at a time."""

    __slots__ = ("_held", "_held_at_most", "_left_out", "_lent", "sha1", "spans")

    def __init__(self, memory_bytes: int, span_bytes: int) -> None:
        self.sha1 = hashlib.sha1()
        """A thread's from the moment it is handed over until `written`."""
        self.spans = 0
        """How many it has seen, from the first on."""
        self._lent = False
        self._held: set[int] = set()
        self._held_at_most = min(HELD_AT_MOST, memory_bytes // span_bytes // HELD_SHARE)
        self._left_out: float = float("inf")
        """The first span that was handed over without being hashed."""

    def landed(self, span: int) -> list[tuple[int, bool]]:
        """A span is whole: what is to be handed over now, and whether it is to be hashed."""
        self._held.add(span)
        return self._due()

    def written(self, *, hashed: bool) -> list[tuple[int, bool]]:
        """One that was handed over is on the disk: likewise."""
        if hashed:
            self._lent = False
            self.spans += 1
        return self._due()

    def _due(self) -> list[tuple[int, bool]]:
        due: list[tuple[int, bool]] = []
        if not self._lent and self.spans in self._held:
            self._held.discard(self.spans)
            self._lent = True
            due.append((self.spans, True))
        ready = self.spans + self._lent
        while ready in self._held:  # these wait for the disk, as whole pieces do
            ready += 1
        behind = sorted(span for span in self._held if span > ready)
        while behind and (len(behind) > self._held_at_most or behind[-1] > self._left_out):
            last = behind.pop()
            self._held.discard(last)
            self._left_out = min(self._left_out, last)
            due.append((last, False))
        return due
