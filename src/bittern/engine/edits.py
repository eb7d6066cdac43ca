"""When somebody changed what seldom changes of a torrent: names, folder, labels, trackers. In this run."""

import time

from bittern.terms import InfoHash


class Edits:
    """The session's. Not in the torrents: ten thousand of them are never edited."""

    def __init__(self) -> None:
        self._wall: dict[InfoHash, float] = {}

    def note(self, info_hash: InfoHash) -> None:
        """It was, now."""
        self._wall[info_hash] = time.time()

    def wall(self, info_hash: InfoHash) -> float:
        """Unix seconds; 0: it was not."""
        return self._wall.get(info_hash, 0.0)

    def forget(self, info_hash: InfoHash) -> None:
        """It is one of ours no more."""
        self._wall.pop(info_hash, None)
