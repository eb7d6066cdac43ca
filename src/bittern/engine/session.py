"""Puts the engine's parts together, and answers for its torrents.

Who finds a torrent (`registry.py`) decides in one go. What has to be durable is awaited before a torrent is made known
(`adding.py`) and before its removal is told (`removing.py`), so that a crash repeats work and never loses it.
"""

import os.path
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import trio

from bittern.discovery.announcer import Announcer
from bittern.discovery.dht import Dht
from bittern.discovery.dht_introductions import LooksUp
from bittern.discovery.lsd import Lsd
from bittern.disk.buffers import PieceBuffers
from bittern.disk.disk import DiskGate
from bittern.disk.files import OpenFiles
from bittern.disk.peerfile import PeerFile
from bittern.disk.places import Places
from bittern.engine import times
from bittern.engine.adding import Adding
from bittern.engine.checker import Checker
from bittern.engine.choking import Choking
from bittern.engine.early import EarlyPeers
from bittern.engine.events import Added, Arrived, Completed, Removed, Sink, Started, TrackerTrouble
from bittern.engine.flusher import Flusher
from bittern.engine.guard import Guard
from bittern.engine.heartbeat import Heartbeat
from bittern.engine.kept_peers import KeptPeers
from bittern.engine.labelling import Labelling
from bittern.engine.lifecycle import Lifecycle
from bittern.engine.limiting import set_limits
from bittern.engine.loading import Loading
from bittern.engine.magnets import Magnets
from bittern.engine.opening import Opened, Opener
from bittern.engine.peer_sources import PeerSources
from bittern.engine.queue import Queue
from bittern.engine.registry import Registry
from bittern.engine.removing import Removing
from bittern.engine.retiering import set_trackers
from bittern.engine.scrub import Scrubber
from bittern.engine.seeding import Seeding
from bittern.engine.selecting import Selecting
from bittern.engine.settings import LIVE_KEYS, Settings
from bittern.engine.store import Store
from bittern.engine.supervision import Supervisor
from bittern.engine.swarm import HUNGRY_BELOW_PEERS
from bittern.engine.swarms import Swarms
from bittern.engine.territory import Territory
from bittern.engine.torrent import State, Torrent
from bittern.engine.totals import Totals
from bittern.engine.untold import is_told, untold
from bittern.net.dialer import Dialer
from bittern.policy.roster import Source
from bittern.policy.selection import Choice
from bittern.policy.tiers import Tiers
from bittern.terms import Address, InfoHash, PeerId
from bittern.values import Struct


class Counts(Struct, frozen=True, kw_only=True):
    """How it is going; rates in bytes per second."""

    torrents: int
    complete: int
    metadata: int
    """Torrents that came by a magnet link, and wait for their info dictionary."""
    downloading: int
    errors: int
    held: int
    offline: int
    peers: int
    download_rate: float
    upload_rate: float


class Usage(Struct, frozen=True, kw_only=True):
    """What the engine holds at this moment."""

    piece_memory_bytes: int
    disk_queue_bytes: int
    open_files: int


class Session:
    """The engine. Its services are public attributes, to be run in the right nurseries."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        disk: DiskGate,
        buffers: PieceBuffers,
        files: OpenFiles,
        announcer: Announcer,
        dialer: Dialer,
        supervisor: Supervisor,
        sink: Sink,
        peer_id: PeerId,
        client_name: str,
        rng: random.Random,
        listening_port: Callable[[], int],
        dht: Dht | None = None,
        lsd: Lsd | None = None,
        names: LooksUp | None = None,
    ) -> None:
        self.settings = settings
        self.torrents: dict[InfoHash, Torrent] = {}
        self.heard: Callable[[Torrent], None] = lambda _: None
        """Whoever follows torrents: told of each change of a state; it must neither fail nor wait."""
        self.announcer = announcer
        self._disk = disk
        self._buffers = buffers
        self._files = files
        self._sink = sink
        places = Places()
        opener = self._opener = Opener(store, files, places)
        opener.rights = settings.rights
        self._territory = Territory(settings.reserved)
        self.lifecycle = Lifecycle(
            disk=disk,
            opener=opener,
            supervisor=supervisor,
            territory=self._territory,
            sink=sink,
            rng=rng,
            torrents=self.torrents,
        )
        self.edits = self.lifecycle.edits
        self.lifecycle.findings.preallocate = settings.preallocate
        self.lifecycle.moving.reserve_bytes = settings.reserve_bytes
        self.flusher = self.lifecycle.flusher = Flusher(store, disk, self.lifecycle, supervisor, sink)
        self.checker = Checker(self.lifecycle)
        self.guard = self.lifecycle.guard = Guard(
            self.lifecycle,
            self.torrents,
            store=store,
            places=places,
            sink=sink,
            rng=rng,
            reserve_bytes=settings.reserve_bytes,
            downloads=settings.downloads,
            state=settings.state,
        )
        # before those that count who runs: whoever has no room takes nobody's turn
        self.lifecycle.holds.add(self.guard.gate)
        self.lifecycle.announcer = announcer
        self.lifecycle.sources = PeerSources(announcer, dht, lsd)
        self.swarms = self.lifecycle.swarms = Swarms(
            self.lifecycle,
            settings,
            self.torrents,
            peer_id=peer_id,
            client_name=client_name,
            rng=rng,
            disk=disk,
            buffers=buffers,
            dialer=dialer,
            opener=opener,
            supervisor=supervisor,
            listening_port=listening_port,
            dht=dht,
            names=names,
        )
        kept = KeptPeers(self.torrents, self.swarms.live, file=PeerFile(settings.state), disk=disk, sink=sink)
        self.swarms.parted, self.flusher.beside = kept.note, kept.save
        announcer.located = partial(self.swarms.seen_as, None)
        self.lifecycle.magnets = Magnets(self.lifecycle, store)
        self.early = EarlyPeers(
            self.swarms.introduce, partial(supervisor.guard, remedy="the connection is closed")
        )
        self.choking = Choking(self.swarms, settings)
        self.swarms.slot_asked = self.choking.asked
        loaded = trio.Event()
        self._registry = Registry(self.torrents, self.lifecycle, owner=self, loaded=loaded, rng=rng)
        self._removing = Removing(self._registry, self.lifecycle, self._territory, sink=sink, rng=rng)
        self.remove = self._removing.remove
        self.set_labels = Labelling(self._registry, self.lifecycle).set_labels
        self.totals = self.lifecycle.totals = Totals(self.lifecycle, store)
        self.seeding = self.lifecycle.seeding = Seeding(
            self.lifecycle,
            self.torrents,
            store=store,
            totals=self.totals,
            remove=self.remove,
            rules=settings.seed_rules,
            guards=settings.seed_guards,
            loaded=loaded,
        )
        self.heartbeat = Heartbeat(self.swarms, self.lifecycle, buffers)
        self.queue = self.lifecycle.queue = Queue(self.lifecycle, self.torrents, self.swarms, settings)
        self.checker.limit(settings.max_checks)
        self.scrubber = Scrubber(
            self.lifecycle,
            self.torrents,
            loaded=loaded,
            store=store,
            rate=settings.scrub_rate,
        )
        self._selecting = Selecting(self.lifecycle)
        adding = Adding(
            self._registry,
            self.lifecycle,
            selecting=self._selecting,
            store=store,
            disk=disk,
            dht=dht,
            sink=sink,
            rng=rng,
        )
        self.add, self.add_magnet = adding.add, adding.add_magnet
        self.load = Loading(
            self._registry,
            self.lifecycle,
            store=store,
            disk=disk,
            early=self.early,
            removing=self._removing,
            kept=kept,
            supervisor=supervisor,
            settings=lambda: self.settings,
            sink=sink,
        ).load

    async def pause(self, info_hash: InfoHash, *, reason: str = "paused") -> bool:
        """Stops a torrent until `resume`, also over restarts; durable when it returns. False: not known.

        `StorageError` when it stands still, but a restart may let it run again.
        """
        await self._registry.loaded.wait()
        torrent = self.torrents.get(info_hash)
        if torrent is not None:
            await self.lifecycle.holds.stop(torrent, reason)
        return torrent is not None

    async def resume(self, info_hash: InfoHash) -> bool:
        """Lets it go on, or tries it at once when it is in error; durable when it returns. False and `StorageError` as
        above.
        """
        await self._registry.loaded.wait()
        torrent = self.torrents.get(info_hash)
        if torrent is not None:
            self.seeding.let_go(torrent)
            self.lifecycle.failures.retry_now(torrent)
            await self.lifecycle.holds.let_go(torrent)
        return torrent is not None

    async def move(self, info_hash: InfoHash, folder: str, *, only_look: bool = False) -> bool:
        """Its files are to lie in that folder (an absolute path, normalized); from when this returns that holds over
        restarts too, and they are moved as soon as may be. `only_look`: they lie there already, and are hashed.

        False: not known. `StorageError`.
        """
        await self._registry.loaded.wait()
        torrent = self.torrents.get(info_hash)
        if torrent is not None:
            moving = self.lifecycle.moving
            await (moving.look_in(torrent, folder) if only_look else moving.ask(torrent, folder))
            if self.lifecycle.known(torrent):
                # else it would be told of whoever has its hash next
                self.edits.note(info_hash)
        return torrent is not None

    async def rename(self, info_hash: InfoHash, path: str, name: str) -> bool:
        """What is called `path` (a file, a folder, or the root of its data) is called `name` from now on, on disk too;
        durable when it returns. False: not known. `FileSelectionError` when it has no such file or that is no name;
        `StorageError` when it cannot be, now or at all.
        """
        await self._registry.loaded.wait()
        torrent = self.torrents.get(info_hash)
        if torrent is not None:
            await self.lifecycle.renames.rename(torrent, path, name)
            if self.lifecycle.known(torrent):
                self.edits.note(info_hash)
        return torrent is not None

    async def select(
        self, info_hash: InfoHash, choice: Choice | None = None, *, sequential: bool | None = None
    ) -> bool:
        """Other files of it are wanted from now on, or in another order; durable when it returns. False: not known.

        `FileSelectionError` when it has no such files; `StorageError` when it may not last.
        """
        await self._registry.loaded.wait()
        torrent = self.torrents.get(info_hash)
        if torrent is not None:
            await self._selecting.select(torrent, choice, sequential=sequential)
        return torrent is not None

    async def set_place(
        self, info_hash: InfoHash, *, priority: int | None = None, forced: bool | None = None
    ) -> bool:
        """Changes its priority in the queue, or whether it heeds the queue at all; durable when it returns."""
        await self._registry.loaded.wait()
        torrent = self.torrents.get(info_hash)
        if torrent is not None:
            await self.queue.set_place(torrent, priority, forced)
        return torrent is not None

    async def limit(self, info_hash: InfoHash, /, **changes: Any) -> bool:
        """Changes limits of its own: fields of `policy.limits.Limits`. They hold at once, and are durable when it
        returns. False: not known. `ValueError` names the field, and nothing is changed; `StorageError` when they hold,
        but a restart may bring back the old ones.
        """
        await self._registry.loaded.wait()
        torrent = self.torrents.get(info_hash)
        if torrent is not None:
            await set_limits(self.lifecycle, torrent, changes)
        return torrent is not None

    async def set_trackers(self, info_hash: InfoHash, change: Callable[[Tiers], Tiers]) -> bool:
        """Other trackers, which `change` makes of those that it has (`policy.tiers`); they are asked at once, and it is
        durable when it returns. False: not known. What `change` raises changes nothing; `StorageError` as above.
        """
        await self._registry.loaded.wait()
        torrent = self.torrents.get(info_hash)
        if torrent is not None:
            await set_trackers(self.lifecycle, torrent, change)
        return torrent is not None

    # -- what the floors above ask --------------------------------------------------------------------------

    def tied(self) -> Mapping[str, tuple[InfoHash, ...]]:
        """Dropped files whose removal stops torrents."""
        return self._registry.tied

    async def is_ours(self, path: str) -> bool:
        """Is that path the root of some torrent's data? Waits until all records are read."""
        if not self._registry.loaded.is_set():
            await self._registry.loaded.wait()
        folder, name = os.path.split(path)
        return self._territory.owner(folder, name) is not None

    def undelivered(self) -> list[Added | Started | Arrived | Completed | Removed]:
        """What is on record, and hooks may not have been told."""
        known = [event for torrent in self.torrents.values() for event in untold(torrent)]
        return [*self._removing.untold.values(), *known]

    def delivered(self, info_hash: InfoHash, event_id: str) -> None:
        """The delivery of that event is on disk, or nobody wants it."""
        self.seeding.delivered(event_id)
        self._removing.delivered(event_id)
        torrent = self.torrents.get(info_hash)
        if torrent is not None and is_told(torrent, event_id):
            self.flusher.mark(torrent)

    def recheck(self, torrent: Torrent) -> bool:
        """Hashes all of its data again; False while it is being moved."""
        return self.lifecycle.recheck(torrent)

    def reannounce(self, torrent: Torrent) -> None:
        """Asks for more peers, as soon as the trackers allow."""
        self.lifecycle.hungry(torrent)

    async def opened(self, torrent: Torrent) -> Opened:
        """Its files, as they lie on disk now; `StorageError` when the stored .torrent is gone or damaged."""
        return await self._disk.call(self.look, torrent)

    def look(self, torrent: Torrent) -> Opened:
        """The same in the caller's thread."""
        return self._opener.open(torrent.record, torrent.data_folder, torrent.record.root)

    def counts(self) -> Counts:
        """For the status line."""
        now = trio.current_time()
        states = [torrent.state for torrent in self.torrents.values()]
        return Counts(
            torrents=len(states),
            complete=states.count(State.SEEDING),
            metadata=states.count(State.METADATA),
            downloading=states.count(State.DOWNLOADING),
            errors=states.count(State.ERROR),
            held=states.count(State.HELD),
            offline=states.count(State.OFFLINE),
            peers=self.swarms.peer_count,
            download_rate=self.swarms.down.rate(now),
            upload_rate=self.swarms.up.rate(now),
        )

    def usage(self) -> Usage:
        """For whoever watches it."""
        return Usage(
            piece_memory_bytes=self._buffers.in_use_bytes,
            disk_queue_bytes=self._disk.pending_bytes,
            open_files=len(self._files),
        )

    def apply(self, settings: Settings) -> None:
        """Takes over what can change while running; the rest waits for a restart."""
        live: dict[str, Any] = {key: getattr(settings, key) for key in LIVE_KEYS}
        self.settings = replace(self.settings, **live)
        self._territory.set_reserved(settings.reserved)
        self._opener.rights = settings.rights
        self._files.set_limit(settings.open_files)
        self._buffers.set_budget(settings.piece_memory)
        self.announcer.numwant = settings.numwant
        self.swarms.apply(self.settings)
        self.choking.apply(self.settings)
        self.lifecycle.findings.preallocate = settings.preallocate
        self.scrubber.set_rate(settings.scrub_rate)
        self.queue.apply(settings)
        self.checker.limit(settings.max_checks)
        self.seeding.set_rules(settings.seed_rules, settings.seed_guards)
        self.guard.set_reserve(settings.reserve_bytes)
        self.lifecycle.moving.reserve_bytes = settings.reserve_bytes

    def close(self) -> None:
        """After the last piece is written: what is recorded now is all there is (the final flush claims it)."""
        for torrent in self.torrents.values():
            if times.note_activity(torrent):
                self.flusher.mark(torrent)
            # What was not checked since a kill stays as the kill left it.
            if not torrent.record.clean and torrent.have is not None:
                torrent.record.clean = True
                self.flusher.mark(torrent)

    # -- what torrents tell ---------------------------------------------------------------------------------

    def state_changed(self, torrent: Torrent, before: State) -> None:
        self.seeding.state_changed(torrent, before)
        if times.state_changed(torrent, before):
            self.flusher.mark(torrent)
        self.queue.state_changed(torrent)
        self.heard(torrent)

    def addresses_found(self, torrent: Torrent, addresses: tuple[Address, ...]) -> None:
        self.swarms.addresses_found(torrent, addresses, Source.TRACKER)

    def dht_found(self, torrent: Torrent, addresses: tuple[Address, ...]) -> None:
        self.swarms.addresses_found(torrent, addresses, Source.DHT)

    def neighbour_found(self, torrent: Torrent, address: Address) -> None:
        # also to a seed: who is near and lacks it would have to wait for our next announce
        swarm = self.swarms.live.get(torrent.info_hash)
        if not torrent.complete or swarm is None or swarm.wants_peers:
            self.swarms.addresses_found(torrent, (address,), Source.LSD)

    def tracker_switched(self, torrent: Torrent) -> None:
        self.swarms.forget_peers(torrent)

    def tracker_answered(self, torrent: Torrent, url: str, trouble: str | None) -> None:
        self._sink(TrackerTrouble(facts=torrent.facts(), tracker=url, reason=trouble))

    def wants_peers(self, torrent: Torrent) -> bool:
        swarm = self.swarms.running(torrent.info_hash)
        return not torrent.complete and (swarm is None or swarm.wants_peers)

    def lacks_peers(self, torrent: Torrent) -> bool:
        swarm = self.swarms.running(torrent.info_hash)
        return not torrent.complete and (swarm is None or len(swarm.peers) < HUNGRY_BELOW_PEERS)
