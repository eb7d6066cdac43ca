"""Background scrub: data that is seeded is hashed again, at a gentle pace, round and round.

Disks rot silently. A piece that does not match any more is served no further, is fetched again from others, and is
told of. Where the scrub has got to survives a restart, so that a pass over much data ends some day.
"""

import threading
import time
from collections.abc import Mapping
from typing import Final, Protocol

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.hashing import READ_BYTES, hash_pieces
from bittern.disk.reader import SequentialReader
from bittern.engine.check_queue import CheckQueue
from bittern.engine.events import Rotten, Sink, Warned
from bittern.engine.findings import Findings
from bittern.engine.opening import Opened, Opener
from bittern.engine.store import Store
from bittern.engine.supervision import Supervisor
from bittern.engine.torrent import State, Torrent
from bittern.errors import StorageError
from bittern.terms import InfoHash

SLICE_S: Final = 1.0
SLICE_AT_MOST_BYTES: Final = 16 * 1024 * 1024
"""What is read at a time: so much as the pace allows in a second, but at least a piece."""

IDLE_S: Final = 60.0
"""With nothing to scrub it looks again so often."""

NOTE_EVERY_S: Final = 60.0
"""How often its place is written down."""


class ScrubHost(Protocol):
    """What scrubbing needs of the session."""

    disk: DiskGate
    opener: Opener
    checks: CheckQueue
    supervisor: Supervisor
    sink: Sink
    findings: Findings

    def torrent_failed(self, torrent: Torrent, error: Exception) -> None:
        """It cannot be read."""


class Scrubber:
    """A service of the engine. `rate` in bytes a second; None: it rests."""

    def __init__(
        self,
        host: ScrubHost,
        torrents: Mapping[InfoHash, Torrent],
        *,
        loaded: trio.Event,
        store: Store,
        rate: float | None,
    ) -> None:
        self._host = host
        self._loaded = loaded
        self._torrents = torrents
        self._store = store
        self._rate = rate
        self._news = trio.Event()
        self._at, self._piece = b"", 0
        """The torrent it is at, and the next piece of it."""
        self._round: list[InfoHash] | None = None
        """Those that this pass has yet to come to, the next one last; None: it begins at the place that is known."""
        self._noted_at = 0.0

    def set_rate(self, rate: float | None) -> None:
        """From now on."""
        self._rate = rate
        if rate is None:
            # it is left in the middle of a torrent, and goes on there
            self._round = None
        self._news.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Scrubs until cancelled."""
        self._at, self._piece = await self._host.disk.call(self._store.scrub_place)
        self._noted_at = trio.current_time()
        task_status.started()
        # its place means nothing among half of the torrents
        await self._loaded.wait()
        while True:
            torrent = self._next() if self._rate is not None else None
            if torrent is None:
                # also between two passes: a little data is not read without end
                await self._pause(IDLE_S)
                continue
            await self._scrub_contained(torrent)
            await trio.lowlevel.checkpoint()

    async def _pause(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._news.wait()
        self._news = trio.Event()

    def _next(self) -> Torrent | None:
        """The torrent it was in the middle of, or the next in the order of their info hashes; None at a pass's end."""
        if self._round is None:
            self._round = sorted(self._torrents, reverse=True)
            while self._round and self._round[-1] < self._at:
                self._round.pop()
        while self._round:
            info_hash = self._round.pop()
            torrent = self._torrents.get(info_hash)
            if torrent is not None and _is_seeded(torrent):
                if info_hash != self._at:
                    self._at, self._piece = info_hash, 0
                return torrent
        self._round = None
        self._at, self._piece = b"", 0
        return None

    async def _scrub_contained(self, torrent: Torrent) -> None:
        await self._host.supervisor.contain(
            f"scrub of {torrent.record.name!r}",
            lambda: self._scrub(torrent),
            lambda error: self._host.torrent_failed(torrent, error),
            remedy="the torrent is in error and tried again later",
        )

    async def _scrub(self, torrent: Torrent) -> None:
        record, disk = torrent.record, self._host.disk
        opened = await disk.call(self._host.opener.open, record, record.folder, record.root)
        reader = SequentialReader(opened.storage, threading.Event())
        buffer = bytearray(READ_BYTES)
        try:
            while self._rate is not None and self._piece < opened.layout.piece_count and _is_seeded(torrent):
                began = trio.current_time()
                part, size = self._slice(torrent, opened, self._rate)
                if not part:
                    break
                good = await disk.call_in_background(
                    hash_pieces, reader, opened.layout, opened.piece_hashes, part, buffer
                )
                bad = sorted(set(part) - set(good))
                if bad:
                    await self._found_bad(torrent, opened, bad, size)
                    return
                self._piece = part[-1] + 1
                await self._write_note()
                if self._rate is not None:
                    await trio.sleep(max(0.0, began + size / self._rate - trio.current_time()))
        finally:
            reader.close()
            opened.storage.close()

    def _slice(self, torrent: Torrent, opened: Opened, rate: float) -> tuple[list[int], int]:
        part: list[int] = []
        size, have = 0, torrent.pieces
        for piece in range(self._piece, opened.layout.piece_count):
            if not have[piece]:
                continue
            part.append(piece)
            size += opened.layout.piece_size(piece)
            if size >= min(rate * SLICE_S, SLICE_AT_MOST_BYTES):
                break
        return part, size

    async def _found_bad(self, torrent: Torrent, opened: Opened, bad: list[int], hashed: int) -> None:
        """Files that were changed by somebody are the checker's business, who knows which of that is an error; files
        that nobody touched have rotted.
        """
        stamps = tuple(await self._host.disk.call(opened.storage.stamps))
        if not _is_seeded(torrent):
            return
        if stamps != torrent.record.stamps:
            self._host.checks.submit(torrent)
            return
        self._host.sink(Rotten(facts=torrent.facts(), pieces=tuple(bad), at_wall=time.time()))
        have = torrent.pieces.copy()
        for piece in bad:
            have.clear(piece)
        await self._host.findings.checked(torrent, have, stamps, hashed)

    async def _write_note(self) -> None:
        now = trio.current_time()
        if now - self._noted_at < NOTE_EVERY_S:
            return
        self._noted_at = now
        try:
            await self._host.disk.call(self._store.keep_scrub_place, self._at, self._piece)
        except StorageError as error:
            self._host.sink(Warned(what="state.unwritable", detail=str(error)))


def _is_seeded(torrent: Torrent) -> bool:
    return torrent.state is State.SEEDING and torrent.record.state == "complete"
