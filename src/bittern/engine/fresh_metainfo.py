"""What .torrent files say, while their torrents take their first steps: what was parsed at intake is checked by.

Nothing is kept of a torrent that has come that far: an idle one costs its record, and whoever needs more reads it from
the state folder. Bounded by memory: where there is no room it is the newcomer of which nothing is kept, for those who
came first are asked for first.
"""

import threading
from typing import Final

from bittern.proto.metainfo import Metainfo
from bittern.terms import InfoHash

KEPT_BYTES: Final = 4 * 1024 * 1024
"""Of three thousand small torrents that wait to be checked, or of two hundred with a thousand pieces each."""

METAINFO_BYTES: Final = 1024
FILE_BYTES: Final = 300
"""What one takes in memory, but for the hashes of its pieces, and what each of its files does."""


class FreshMetainfo:
    """From any thread."""

    def __init__(self, at_most_bytes: int = KEPT_BYTES) -> None:
        self._lock = threading.Lock()
        self._kept: dict[InfoHash, Metainfo] = {}
        self._left_bytes = at_most_bytes

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, metainfo: Metainfo) -> None:
        """Until it is dropped; whoever keeps it sees to that."""
        size = _bytes_of(metainfo)
        with self._lock:
            if size <= self._left_bytes and metainfo.info_hash not in self._kept:
                self._kept[metainfo.info_hash] = metainfo
                self._left_bytes -= size

    def of(self, info_hash: InfoHash) -> Metainfo | None:
        """What that torrent's .torrent says, if it is kept."""
        return self._kept.get(info_hash)

    def drop(self, info_hash: InfoHash) -> None:
        """Nobody is to ask for it any more, or the stored .torrent is another one now."""
        with self._lock:
            metainfo = self._kept.pop(info_hash, None)
            if metainfo is not None:
                self._left_bytes += _bytes_of(metainfo)


def _bytes_of(metainfo: Metainfo) -> int:
    return METAINFO_BYTES + len(metainfo.piece_hashes) + FILE_BYTES * len(metainfo.files)
