"""Removes torrents, with their data if that is wanted: told only when it is durable."""

import random
import time

from bittern.engine.checker import RESTING
from bittern.engine.events import Removed, Sink, new_event_id
from bittern.engine.lifecycle import Lifecycle
from bittern.engine.registry import Registry
from bittern.engine.torrent import State, Torrent
from bittern.errors import StorageError
from bittern.terms import InfoHash


class Removing:
    """The session's."""

    def __init__(self, registry: Registry, lifecycle: Lifecycle, *, sink: Sink, rng: random.Random) -> None:
        self._registry = registry
        self._lifecycle = lifecycle
        self._sink = sink
        self._rng = rng

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
                facts = torrent.facts()
                lifecycle.forget(torrent)
                lifecycle.queue.forget(torrent)
                await lifecycle.moving.ended(torrent)
                if with_data:
                    await lifecycle.erase(torrent)
                await lifecycle.flusher.remove(torrent)
                lifecycle.leave(torrent)
            except StorageError:
                # It is still on record, so it is still ours: whoever wants it removed tries again.
                registry.torrents[info_hash] = torrent
                self._stays(torrent)
                registry.tie(torrent)
                if torrent.state not in RESTING:
                    torrent.state = State.SEEDING if torrent.record.state == "complete" else State.QUEUED
                    lifecycle.checker.submit(torrent)
                raise
        now = time.time()
        self._sink(Removed(facts=facts, event_id=new_event_id(now, self._rng), reason=reason, at_wall=now))
        return True

    def _stays(self, torrent: Torrent) -> None:
        """Its removal failed, and whoever wanted it knows: the next start does not remove it unasked."""
        if torrent.record.leaving:
            torrent.record.leaving = False
            self._lifecycle.flusher.mark(torrent)
