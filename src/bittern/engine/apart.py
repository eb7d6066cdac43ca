"""Whose bytes lie apart (`disk/parts.py`), and when the file that held them may go.

It goes once the record says durably that nothing lies there, and not before: after a crash the record would send us to
a file that is gone.
"""

import contextlib
from typing import Protocol

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.parts import pack_files, unpack_files
from bittern.engine.flusher import Flusher
from bittern.engine.opening import Opener
from bittern.engine.swarms import Swarms
from bittern.engine.torrent import Torrent
from bittern.errors import StorageError


class ApartHost(Protocol):
    """What this needs of the lifecycle."""

    disk: DiskGate
    opener: Opener
    flusher: Flusher
    swarms: Swarms


class Apart:
    """Of all torrents with files that are skipped."""

    def __init__(self, host: ApartHost) -> None:
        self._host = host
        self._emptied: set[Torrent] = set()
        """None of their bytes lie apart any more; their records may not say so yet."""
        self.nursery: trio.Nursery | None = None
        """Where the files are deleted."""

    def forget(self, torrent: Torrent) -> None:
        """It is being removed."""
        self._emptied.discard(torrent)

    def sorted_out(
        self, torrent: Torrent, apart: frozenset[int], found: frozenset[int], file_count: int
    ) -> None:
        """The bytes of files `apart` lie apart from now on; others did so and were `found` at their places, where
        somebody else had put them: these are not deleted as ours.
        """
        parted, record = pack_files(apart, file_count), torrent.record
        if found and record.made:
            record.made = pack_files(unpack_files(record.made, file_count) - found, file_count)
        if parted != record.parted:
            if parted:
                self._emptied.discard(torrent)
            else:
                self._emptied.add(torrent)
            record.parted = parted
            self._host.flusher.mark(torrent)
            # who is there reads where they were
            self._host.swarms.stop(torrent)

    def drop_soon(self, torrent: Torrent) -> None:
        """Deletes the file in which its bytes lay apart, if none does any more."""
        if torrent in self._emptied and self.nursery is not None:
            self.nursery.start_soon(self._drop, torrent)

    async def _drop(self, torrent: Torrent) -> None:
        with contextlib.suppress(StorageError):
            # first the record has to say that nothing lies there
            await self._host.flusher.durable(torrent)
            if torrent in self._emptied:
                self._emptied.discard(torrent)
                await self._host.disk.call(self._host.opener.drop_parts, torrent.record)
