"""Reads the resume records at the start, a slice at a time, and mends what can be mended."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.resume import ResumeRecord
from bittern.engine.early import EarlyPeers
from bittern.engine.events import Loaded, Sink, Warned
from bittern.engine.kept_peers import KeptPeers
from bittern.engine.lifecycle import Lifecycle
from bittern.engine.records import rebuilt_magnet, rebuilt_record
from bittern.engine.registry import Registry
from bittern.engine.removing import Removing
from bittern.engine.settings import Settings
from bittern.engine.store import Damaged, Store
from bittern.engine.supervision import Supervisor
from bittern.engine.torrent import RESTING, Torrent
from bittern.errors import BitternError, StorageError
from bittern.proto.metainfo import parse_metainfo
from bittern.terms import InfoHash

LOAD_SLICE: Final = 128
"""Records read in one thread hop: about 5 ms of parsing, after which others get their turn."""


class Loading:
    """The session's start. `settings` gives those in force."""

    def __init__(
        self,
        registry: Registry,
        lifecycle: Lifecycle,
        *,
        store: Store,
        disk: DiskGate,
        early: EarlyPeers,
        removing: Removing,
        kept: KeptPeers,
        supervisor: Supervisor,
        settings: Callable[[], Settings],
        sink: Sink,
    ) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._store = store
        self._disk = disk
        self._early = early
        self._removing = removing
        self._kept = kept
        self._supervisor = supervisor
        self._settings = settings
        self._sink = sink

    async def load(
        self,
        progress: Callable[[int, int], None],
        others: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    ) -> None:
        """Reads all resume records, a slice at a time; `StateError` when a newer bittern wrote one.

        `progress` is told after each slice how many of how many are known, and once more when all are: who asked for
        one of them early is let in before it is told again. Then `others` is waited for before anybody acts on them.
        """
        await self._lifecycle.seeding.load()
        await self._lifecycle.guard.recall()
        names = await self._disk.call(self._store.known)
        damaged: list[Damaged] = []
        for part in self._early.slices(names, LOAD_SLICE):
            for found in await self._disk.call(self._read, part):
                if isinstance(found, Damaged):
                    damaged.append(found)
                else:
                    self._take_up(found)
            progress(len(self._registry.torrents), len(names))
        progress(len(self._registry.torrents), len(names))
        for one in damaged:
            await self._supervisor.contain(
                f"record of {one.info_hash.hex()}",
                partial(self._rebuild, one),
                lambda _: None,
                remedy="the torrent is left out until the next start",
            )
        # all folders, now that it is known what is to lie in them: nothing is looked for on a disk that is not there
        await self._lifecycle.guard.look()
        await self._end_renamings()
        await self._kept.load()
        await others()
        self._registry.loaded.set()
        await self._removing.recall(self._store)
        await self._end_removals()
        complete = sum(torrent.record.state == "complete" for torrent in self._registry.torrents.values())
        self._sink(Loaded(torrents=len(self._registry.torrents), complete=complete))
        for torrent in self._registry.torrents.values():
            if torrent.state in RESTING:
                continue
            if torrent.record.state == "complete":
                waits = self._lifecycle.holds.state_of(torrent)
                if waits is None:
                    self._lifecycle.sources.add(torrent)
                else:
                    torrent.state = waits
            self._lifecycle.checks.submit(torrent)

    async def _end_renamings(self) -> None:
        """That a stop interrupted; where the disk is away, when it is back."""
        for torrent in [one for one in self._registry.torrents.values() if one.record.renaming]:
            await self._supervisor.contain(
                f"renaming in {torrent.record.name!r}",
                partial(self._lifecycle.renames.settle, torrent),
                lambda _: None,
                remedy="it is tried again later",
            )

    async def _end_removals(self) -> None:
        """Of torrents whose data a stop kept us from deleting."""
        for torrent in [one for one in self._registry.torrents.values() if one.record.leaving]:
            await self._supervisor.contain(
                f"removal of {torrent.record.name!r}",
                partial(self._remove_quietly, torrent),
                lambda _: None,
                remedy="it is tried again at the next start",
            )
            if self._lifecycle.known(torrent):
                # it stands still, and the next start tries again
                torrent.record.leaving = True
                self._lifecycle.holds.reconsider(torrent)
                self._lifecycle.flusher.mark(torrent)

    async def _remove_quietly(self, torrent: Torrent) -> None:
        try:
            await self._removing.remove(
                torrent.info_hash, reason="a removal that was interrupted", with_data=True
            )
        except StorageError as error:
            self._sink(Warned(what="torrent.not_removed", detail=str(error)))

    def _take_up(self, record: ResumeRecord) -> None:
        """A record as it was read; one that trips a bug is left as it is, and its torrent out of this run."""

        def register() -> None:
            self._registry.register(record)

        def leave_out(_: Exception) -> None:
            torrent = self._registry.torrents.pop(record.info_hash, None)
            if torrent is not None:
                self._registry.untie(torrent)

        self._supervisor.guard(
            f"record of {record.name!r}",
            register,
            leave_out,
            remedy="the torrent is left out until the next start",
        )

    def _read(self, names: list[InfoHash]) -> list[ResumeRecord | Damaged]:
        return [self._store.read(name) for name in names]

    async def _rebuild(self, damaged: Damaged) -> None:
        """A record that cannot be read costs a recheck: what it said of the data is not believed."""
        path = f"resume/{damaged.info_hash.hex()}.toml"
        if damaged.bug is not None:
            self._supervisor.report(path, damaged.bug, "the torrent is checked again")
        try:
            metainfo = parse_metainfo(await self._disk.call(self._store.metainfo, damaged.info_hash))
        except BitternError as error:
            record = rebuilt_magnet(damaged.info_hash, damaged.salvage, downloads=self._settings().downloads)
            if record is not None:
                self._lifecycle.flusher.mark(self._registry.register(record))
                return
            detail = (
                f"{path} {damaged.reason}, and its .torrent does not help ({error}); drop the torrent again"
            )
            self._sink(Warned(what="resume.lost", detail=detail))
            return
        record = rebuilt_record(
            metainfo,
            damaged.salvage,
            number=self._registry.next_number(),
            downloads=self._settings().downloads,
        )
        detail = f"{path} {damaged.reason}; the torrent is checked again"
        if damaged.salvage.get("retiered") is True and not record.retiered:
            detail += ", and the trackers that somebody gave it cannot be read: it has those of its .torrent"
        self._sink(Warned(what="resume.damaged", detail=detail))
        torrent = self._registry.register(record)
        # What lies on disk was told once, and is told again if anything has to be hashed. And a folder that is away
        # now is not to be made anew.
        torrent.first_check = False
        self._lifecycle.flusher.mark(torrent)
