"""What .torrent files say, while their torrents take their first steps: what was parsed at intake is checked by.

Nothing is kept of a torrent that has come that far: an idle one costs its record, and whoever needs more reads it from
the state folder. Bounded by memory: where there is no room it is the newcomer of which nothing is kept, for those who
came first are asked for first.
"""

import threading
from collections.abc import Iterator
from sys import getsizeof
from typing import Final

from bittern.proto.metainfo import Metainfo
from bittern.terms import InfoHash

KEPT_BYTES: Final = 4 * 1024 * 1024
"""Of two thousand small torrents that wait to be checked, or of two hundred with a thousand pieces each."""

METAINFO_BYTES: Final = 1024
FILE_BYTES: Final = 300
"""What one takes in memory, but for the hashes of its pieces and its texts, and what each of its files does."""


class FreshMetainfo:
    """From any thread."""

    def __init__(self, at_most_bytes: int = KEPT_BYTES) -> None:
        self._lock = threading.Lock()
        self._kept: dict[InfoHash, tuple[Metainfo, int]] = {}
        self._left_bytes = at_most_bytes

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, metainfo: Metainfo) -> None:
        """Until it is dropped; whoever keeps it sees to that."""
        size = METAINFO_BYTES + len(metainfo.piece_hashes) + FILE_BYTES * len(metainfo.files)
        if size > self._left_bytes or metainfo.info_hash in self._kept:
            # of a hundred thousand files nobody has to look at the names, nor twice at those of one
            return
        size += sum(map(getsizeof, _texts(metainfo)))
        with self._lock:
            if size <= self._left_bytes and metainfo.info_hash not in self._kept:
                self._kept[metainfo.info_hash] = metainfo, size
                self._left_bytes -= size

    def of(self, info_hash: InfoHash) -> Metainfo | None:
        """What that torrent's .torrent says, if it is kept."""
        kept = self._kept.get(info_hash)
        return kept[0] if kept is not None else None

    def drop(self, info_hash: InfoHash) -> None:
        """Nobody is to ask for it any more, or the stored .torrent is another one now."""
        with self._lock:
            _, size = self._kept.pop(info_hash, (None, 0))
            self._left_bytes += size


def _texts(metainfo: Metainfo) -> Iterator[str]:
    """A stranger wrote them, and some are as long as he likes: hundreds of addresses of 2 KB, say."""
    yield from metainfo.web_seeds
    for tier in metainfo.trackers:
        yield from tier
    for file in metainfo.files:
        yield from file.components
    for host, _ in metainfo.nodes:
        yield host
    yield from (metainfo.name, metainfo.comment or "", metainfo.created_by or "")
