"""A torrent's files for whoever asks: there may be 100 000, so in a thread, and few at once."""

from collections.abc import Callable
from typing import Final, TypeAlias, TypeVar

import trio

from bittern.engine.opening import Opened
from bittern.engine.session import Session
from bittern.engine.torrent import Torrent
from bittern.proto.bitfield import Bitfield

AT_ONCE: Final = 2

T = TypeVar("T")
Show: TypeAlias = Callable[[Opened, Bitfield | None, bool], T]
"""Of what is on disk, which pieces, and whether that is all."""


class Files:
    """Opens torrents to look at their files."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._room = trio.Semaphore(AT_ONCE)
        self._threads = trio.CapacityLimiter(AT_ONCE)

    async def look(self, torrent: Torrent, show: Show[T]) -> T:
        """What `show` makes of them, in a thread; `StorageError`."""
        async with self._room:
            opened = await self._session.opened(torrent)
            have, whole = torrent.claimed.copy(), torrent.whole
            return await self.work(lambda: show(opened, have, whole))

    async def work(self, make: Callable[[], T]) -> T:
        """What that makes, in a thread."""
        return await trio.to_thread.run_sync(make, limiter=self._threads)
