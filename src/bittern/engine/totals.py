"""What this bittern has done since it was installed, over all its runs and also with torrents that it has no more."""

from typing import Protocol

from bittern.disk.disk import DiskGate
from bittern.engine.store import Store, Tally
from bittern.engine.swarms import Swarms


class TotalsHost(Protocol):
    """What this needs of the lifecycle."""

    disk: DiskGate
    swarms: Swarms


class Totals:
    """The session's. `files_added` are those of this run."""

    def __init__(self, host: TotalsHost, store: Store) -> None:
        self._host = host
        self._store = store
        self._before = Tally()
        self.files_added = 0

    async def load(self) -> None:
        """What earlier runs have noted."""
        self._before = await self._host.disk.call(self._store.tally)

    async def save(self) -> None:
        """`StorageError` when it cannot be noted; as much is forgotten then."""
        await self._host.disk.call(self._store.keep_tally, self.altogether())

    def of_this_run(self) -> Tally:
        """Since the start."""
        swarms = self._host.swarms
        return Tally(swarms.up.total, swarms.down.total, self.files_added, 1)

    def altogether(self) -> Tally:
        """Of all runs."""
        pairs = zip(self._before, self.of_this_run(), strict=True)
        return Tally(*(before + now for before, now in pairs))
