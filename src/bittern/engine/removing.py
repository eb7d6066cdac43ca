"""Removes torrents, with their data if that is wanted: told only when it is durable, and told for sure."""

import random
import time
from dataclasses import replace

from bittern.disk.erase import erase
from bittern.disk.renames import rename_in, unpack_renaming
from bittern.disk.resume import ResumeRecord
from bittern.engine.events import Removed, Sink, TorrentFacts, new_event_id
from bittern.engine.farewells import dump_farewell, load_farewell
from bittern.engine.lifecycle import Lifecycle
from bittern.engine.registry import Registry
from bittern.engine.store import Store
from bittern.engine.territory import Territory
from bittern.engine.torrent import RESTING, State, Torrent
from bittern.errors import StorageError
from bittern.terms import InfoHash


class Removing:
    """The session's."""

    def __init__(
        self,
        registry: Registry,
        lifecycle: Lifecycle,
        territory: Territory,
        *,
        sink: Sink,
        rng: random.Random,
    ) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._territory = territory
        self._sink = sink
        self._rng = rng
        self.untold: dict[str, Removed] = {}
        """What hooks do not have durably, by the events' ids."""

    async def recall(self, store: Store) -> None:
        """What an earlier run removed, and hooks may not have been told; once all records are read."""
        disk = self._lifecycle.disk
        for event_id, blob in await disk.call(store.farewells):
            removed = load_farewell(blob)
            if removed is None or self._is_there(removed.facts):
                self._lifecycle.flusher.drop_farewell(event_id)
            else:
                self.untold[event_id] = removed

    def _is_there(self, facts: TorrentFacts) -> bool:
        """Did its removal not come to its end? One that was added again has another number."""
        torrent = self._registry.torrents.get(facts.info_hash)
        return torrent is not None and torrent.record.number == facts.number

    def delivered(self, event_id: str) -> None:
        """Hooks have it durably, or nobody asks for it."""
        if self.untold.pop(event_id, None) is not None:
            self._lifecycle.flusher.drop_farewell(event_id)

    async def remove(self, info_hash: InfoHash, *, reason: str, with_data: bool = False) -> bool:
        """Stops and forgets a torrent. Its data stays, or `with_data` goes as far as we made it. False: not known."""
        registry, lifecycle = self._registry, self._lifecycle
        await registry.loaded.wait()
        leaving = registry.torrents.get(info_hash) if with_data else None
        if leaving is not None:
            # a crash in the middle must not leave a torrent whose data is gone
            leaving.record.leaving = True
            try:
                await lifecycle.flusher.durable(leaving)
            except StorageError:
                self._stays(leaving)
                raise
        torrent = registry.torrents.pop(info_hash, None)
        if torrent is None:
            return False
        registry.untie(torrent)
        with registry.changing(info_hash):
            try:
                removed = self._farewell(torrent, reason)
                lifecycle.forget(torrent)
                lifecycle.queue.forget(torrent)
                await lifecycle.moving.ended(torrent)
                if with_data:
                    await self._erase_files(torrent)
                await lifecycle.flusher.remove(torrent, (removed.event_id, dump_farewell(removed)))
                lifecycle.whereabouts.leave(torrent)
            except StorageError:
                # It is still on record, so it is still ours: whoever wants it removed tries again.
                registry.torrents[info_hash] = torrent
                registry.tie(torrent)
                self._stays(torrent)
                if torrent.state not in RESTING:
                    torrent.state = State.SEEDING if torrent.record.state == "complete" else State.QUEUED
                    lifecycle.checks.submit(torrent)
                raise
        self.untold[removed.event_id] = removed
        self._sink(removed)
        return True

    async def _erase_files(self, torrent: Torrent) -> None:
        """Deletes those of its files that we made and nobody has changed since; also once more after a crash. Before
        anything moves to its final folder, what lies there by its name is somebody else's.
        """
        record = torrent.record
        if record.state == "metadata":
            # nothing was made for what is not known yet
            return
        for folder in dict.fromkeys((torrent.data_folder, record.moving_to or torrent.data_folder)):
            if not record.shared and not self._territory.shared(folder, record.root, record.info_hash):
                await self._lifecycle.disk.call(self._erase_in, record, folder)

    def _erase_in(self, record: ResumeRecord, folder: str) -> None:
        """In a thread."""
        place, under_way = self._lifecycle.opener.places.of(folder), unpack_renaming(record.renaming)
        if under_way is not None:
            # a start did not come to it
            try:
                rename_in(place, under_way.old, under_way.new)
            except StorageError:
                # what is in the way is not ours, and ours are called as before
                record = replace(record, root=under_way.root_before, renames=under_way.renames_before)
        opened = self._lifecycle.opener.open(record, folder, record.root)
        opened.storage.close()
        # in the folder that it moves to something that is not ours may be in the way
        done = record.state == "complete" or folder == record.moving_to
        erase(opened.paths, place, record.made, record.stamps if done else None)

    def _farewell(self, torrent: Torrent, reason: str) -> Removed:
        now = time.time()
        return Removed(
            facts=torrent.facts(), event_id=new_event_id(now, self._rng), reason=reason, at_wall=now
        )

    def _stays(self, torrent: Torrent) -> None:
        """Its removal failed, and whoever wanted it knows: the next start does not remove it unasked."""
        if torrent.record.leaving:
            torrent.record.leaving = False
            self._lifecycle.flusher.mark(torrent)
            if torrent.state is State.STOPPED:
                # whoever has reconsidered it meanwhile took it for one that leaves
                self._lifecycle.holds.reconsider(torrent)
