"""What a session and its torrents hold in common: the engine for as long as it runs, and what it tells."""

import logging
from collections.abc import Sequence
from typing import Final
from weakref import WeakSet

import trio

from bittern.api.events import Events
from bittern.engine import events as told
from bittern.engine.assembly import FAREWELL_S, Engine
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent
from bittern.errors import SessionClosed, StorageError, TorrentNotFound
from bittern.terms import InfoHash

STOPPED_AT_ONCE: Final = 64

_log: Final = logging.getLogger("bittern")


class Life:
    """Of one session, from when its block is entered until it is left. Everything that asks the engine raises
    `SessionClosed` before and after.
    """

    def __init__(self) -> None:
        self.downloads = ""
        """Where data goes unless a torrent is told otherwise."""
        self.readers: WeakSet[Events] = WeakSet()
        self._engine: Engine | None = None
        self._first: Events | None = None
        """For the first reader: what an earlier life had on record, and may not have told."""
        self._news = trio.Event()

    def begin(self, engine: Engine, downloads: str, *, hooks_wait: bool) -> None:
        """All torrents are known. `hooks_wait`: what is on record stays there, for a daemon's hooks want it too."""
        self._engine, self.downloads = engine, downloads
        untold = engine.session.undelivered()
        if untold:
            self._first = Events(self.readers.discard)
            for event in untold:
                self._first.put(event)
                if not hooks_wait:
                    self._is_told(event)

    def end(self) -> None:
        """Whoever waits hears of it."""
        self._engine, self._first = None, None
        self._wake()
        for reader in list(self.readers):
            reader.close()

    # -- what it tells --------------------------------------------------------------------------------------

    def tell(self, event: told.Event) -> None:
        """The engine's sink."""
        match event:
            case told.Added() | told.Started() | told.Arrived() | told.Completed() | told.Removed():
                self._is_told(event)
            case told.Crashed():
                _log.error("%s failed, %s", event.where, event.remedy, exc_info=event.exception)
            case told.CrashedAgain(more=more):
                _log.error(
                    "%s failed, %s: %s; %d more in %.0f s (%s)",
                    more.where,
                    more.remedy,
                    more.error,
                    more.count,
                    more.in_s,
                    more.place,
                )
            case told.Warned():
                _log.warning("%s: %s", event.what, event.detail)
            case _:
                pass
        for reader in list(self.readers):
            reader.put(event)
        self._wake()

    def _is_told(
        self, event: "told.Added | told.Started | told.Arrived | told.Completed | told.Removed"
    ) -> None:
        """No hook waits for it. What comes before all torrents are known stays on record until `begin`."""
        if self._engine is not None:
            self._engine.session.delivered(event.facts.info_hash, event.event_id)

    def events(self) -> Events:
        """A new reader."""
        self._require_running()
        reader, self._first = self._first or Events(self.readers.discard), None
        self.readers.add(reader)
        return reader

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def news(self) -> None:
        """Returns when something has happened, whatever it is, or the session ends."""
        await self._news.wait()

    # -- what it knows --------------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """While it runs."""
        return self._require_running()

    def _require_running(self) -> Engine:
        if self._engine is None:
            raise SessionClosed("the session is closed")
        return self._engine

    @property
    def session(self) -> Session:
        """The engine's."""
        return self.engine.session

    def live(self, info_hash: InfoHash) -> Torrent:
        """The engine's torrent; `TorrentNotFound`."""
        torrent = self.session.torrents.get(info_hash)
        if torrent is None:
            raise not_found(info_hash)
        return torrent

    # -- what is done to torrents ---------------------------------------------------------------------------

    async def stop(self, info_hashes: Sequence[InfoHash]) -> None:
        """Stops them; the first `StorageError` is raised when all have been tried."""
        session = self.session
        failures: list[StorageError] = []
        line = iter(info_hashes)

        async def stop() -> None:
            for info_hash in line:
                try:
                    await session.pause(info_hash, reason="stopped")
                except StorageError as error:
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(min(STOPPED_AT_ONCE, len(info_hashes))):
                nursery.start_soon(stop)
        with trio.move_on_after(FAREWELL_S):
            for info_hash in info_hashes:
                await session.announcer.parted(info_hash)
        if failures:
            raise failures[0]

    async def remove(self, info_hash: InfoHash, *, delete_data: bool) -> None:
        """Forgets it; `TorrentNotFound`, `StorageError`."""
        if not await self.session.remove(info_hash, reason="asked for", with_data=delete_data):
            raise not_found(info_hash)


def not_found(info_hash: InfoHash) -> TorrentNotFound:
    """An error to be raised."""
    return TorrentNotFound(f"no torrent has the info hash {info_hash.hex()}")
