"""Owns every torrent, adds and removes them durably, and puts the engine's parts together.

The registry is synchronous: who adds, removes or finds a torrent decides in one go. What has to be durable is
awaited before a torrent is made known (`add`) and before its removal is told (`remove`), so that a crash repeats
work and never loses it.
"""

import os.path
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

import trio

from bittern.discovery.announcer import Announcer
from bittern.discovery.dht import Dht, LooksUp
from bittern.discovery.lsd import Lsd
from bittern.disk.attempt import JobCrashed, attempt
from bittern.disk.buffers import PieceBuffers
from bittern.disk.disk import DiskGate
from bittern.disk.files import OpenFiles
from bittern.disk.paths import default_root
from bittern.disk.places import Places
from bittern.disk.resume import ResumeRecord, share_values
from bittern.disk.together import Together
from bittern.engine.checker import RESTING, Checker
from bittern.engine.choking import Choking
from bittern.engine.early import EarlyPeers
from bittern.engine.events import (
    Added,
    Completed,
    Loaded,
    Removed,
    Sink,
    TrackerTrouble,
    Warned,
    new_event_id,
)
from bittern.engine.flusher import Flusher
from bittern.engine.guard import Guard
from bittern.engine.heartbeat import Heartbeat
from bittern.engine.lifecycle import Lifecycle
from bittern.engine.magnets import Magnets, magnet_record, take_terms
from bittern.engine.opening import Opened, Opener
from bittern.engine.queue import Queue
from bittern.engine.scrub import Scrubber
from bittern.engine.seeding import Seeding
from bittern.engine.settings import LIVE_KEYS, Settings
from bittern.engine.store import Damaged, Store
from bittern.engine.supervision import Supervisor
from bittern.engine.swarm import HUNGRY_BELOW_PEERS
from bittern.engine.swarms import Swarms
from bittern.engine.territory import Territory
from bittern.engine.torrent import State, Torrent
from bittern.errors import BitternError, MagnetError, StorageError
from bittern.net.dialer import Dialer
from bittern.policy.announcing import AnnounceState
from bittern.policy.roster import Source
from bittern.proto.magnet import parse_magnet
from bittern.proto.metainfo import Metainfo, parse_metainfo
from bittern.terms import Address, InfoHash, PeerId

LOAD_SLICE: Final = 64
"""Records read in one thread hop: about 5 ms of parsing, after which others get their turn."""

ADDED_TOGETHER: Final = 64
"""Of many drops at once, so many are made durable by one sync of each folder."""

TRACKER_URLS_AT_MOST: Final = 100
"""Merging drops must not let a torrent's tracker list grow for ever."""


@dataclass(frozen=True, slots=True)
class AddResult:
    """What became of a dropped torrent. `merged`: known before, but it brought new trackers."""

    kind: Literal["added", "known", "merged"]
    info_hash: InfoHash
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the engine holds at this moment."""

    piece_memory_bytes: int
    disk_queue_bytes: int
    open_files: int


class Session:
    """The engine. Its services are public attributes, for the daemon to run in the right nurseries."""

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
        self.announcer = announcer
        self._store = store
        self._supervisor = supervisor
        self._disk = disk
        self._buffers = buffers
        self._files = files
        self._sink = sink
        self._rng = rng
        places = Places()
        opener = self._opener = Opener(store, files, places)
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
        self.lifecycle.preallocate = settings.preallocate
        self.flusher = self.lifecycle.flusher = Flusher(store, disk, self.lifecycle, supervisor, sink)
        self.checker = self.lifecycle.checker = Checker(self.lifecycle)
        self.guard = self.lifecycle.guard = Guard(
            self.lifecycle,
            self.torrents,
            store=store,
            places=places,
            sink=sink,
            rng=rng,
            reserve_bytes=settings.reserve_bytes,
            folders=(settings.downloads, settings.state),
        )
        # before those that count who runs: whoever has no room takes nobody's turn
        self.lifecycle.holds.add(self.guard.gate)
        self.lifecycle.announcer = announcer
        self.lifecycle.dht = self._dht = dht
        self.lifecycle.lsd = lsd
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
        announcer.located = partial(self.swarms.seen_as, None)
        self.lifecycle.magnets = Magnets(self.lifecycle, store)
        self.early = EarlyPeers(self.swarms.introduce)
        self.choking = Choking(self.swarms, settings)
        self._loaded = trio.Event()
        self.seeding = self.lifecycle.seeding = Seeding(
            self.lifecycle,
            self.torrents,
            store=store,
            remove=self.remove,
            rules=settings.seed_rules,
            guards=settings.seed_guards,
            loaded=self._loaded,
        )
        self.heartbeat = Heartbeat(self.swarms, self.lifecycle, buffers)
        self.queue = self.lifecycle.queue = Queue(self.lifecycle, self.torrents, self.swarms, settings)
        self.checker.limit(settings.max_checks)
        self._add_durably = Together(self._add_all, at_most=ADDED_TOGETHER)
        self.scrubber = Scrubber(
            self.lifecycle,
            self.torrents,
            loaded=self._loaded,
            store=store,
            rate=settings.scrub_rate,
        )
        self._tied: dict[str, tuple[InfoHash, ...]] = {}
        """Kept, not gathered: of ten thousand drops each asks. A file of magnet links may have several."""
        self._changing: dict[InfoHash, trio.Event] = {}
        self._last_number = 0

    # -- loading --------------------------------------------------------------------------------------------

    async def load(self, progress: Callable[[int, int], None]) -> None:
        """Reads all resume records, a slice at a time; `StateError` when a newer bittern wrote one."""
        await self.seeding.load()
        await self.guard.recall()
        names = await self._disk.call(self._store.known)
        damaged: list[Damaged] = []
        for part in self.early.slices(names, LOAD_SLICE):
            for found in await self._disk.call(self._read, part):
                if isinstance(found, Damaged):
                    damaged.append(found)
                else:
                    self._take_up(found)
            progress(len(self.torrents), len(names))
        for one in damaged:
            await self._supervisor.contain(
                f"record of {one.info_hash.hex()}",
                partial(self._rebuild, one),
                lambda _: None,
                remedy="the torrent is left out until the next start",
            )
        # all folders, now that it is known what is to lie in them: nothing is looked for on a disk that is not there
        await self.guard.look()
        self._loaded.set()
        await self._end_removals()
        complete = sum(torrent.record.state == "complete" for torrent in self.torrents.values())
        self._sink(Loaded(torrents=len(self.torrents), complete=complete))
        for torrent in self.torrents.values():
            if torrent.state in RESTING:
                continue
            if torrent.record.state == "complete":
                waits = self.lifecycle.holds.state_of(torrent)
                if waits is None:
                    self.lifecycle.seek(torrent)
                else:
                    torrent.state = waits
            self.checker.submit(torrent)

    async def _end_removals(self) -> None:
        """Of torrents whose data a stop kept us from deleting."""
        for torrent in [one for one in self.torrents.values() if one.record.leaving]:
            await self._supervisor.contain(
                f"removal of {torrent.record.name!r}",
                partial(self._remove_quietly, torrent),
                lambda _: None,
                remedy="it is tried again at the next start",
            )
            if self.lifecycle.known(torrent):
                # it stands still, and the next start tries again
                torrent.record.leaving = True
                self.lifecycle.holds.reconsider(torrent)
                self.flusher.mark(torrent)

    async def _remove_quietly(self, torrent: Torrent) -> None:
        try:
            await self.remove(torrent.info_hash, reason="a removal that was interrupted", with_data=True)
        except StorageError as error:
            self._sink(Warned(what="torrent.not_removed", detail=str(error)))

    def _take_up(self, record: ResumeRecord) -> None:
        """A record as it was read; one that trips a bug is left as it is, and its torrent out of this run."""

        def register() -> None:
            self._register(record)

        def leave_out(_: Exception) -> None:
            torrent = self.torrents.pop(record.info_hash, None)
            if torrent is not None:
                self._untie(torrent)

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
            if self._rebuild_magnet(damaged):
                return
            detail = (
                f"{path} {damaged.reason}, and its .torrent does not help ({error}); drop the torrent again"
            )
            self._sink(Warned(what="resume.lost", detail=detail))
            return
        self._sink(
            Warned(what="resume.damaged", detail=f"{path} {damaged.reason}; the torrent is checked again")
        )
        record = self._new_record(metainfo, downloads=self.settings.downloads, incomplete="", label="")
        for key, value in damaged.salvage.items():
            if isinstance(value, type(getattr(record, key))) and (
                isinstance(value, str) or value >= 0 or key == "priority"
            ):
                setattr(record, key, value)
        torrent = self._register(record)
        # What lies on disk was told once, and is told again if anything has to be hashed. And a folder that is away
        # now is not to be made anew.
        torrent.first_check = False
        self.flusher.mark(torrent)

    def _rebuild_magnet(self, damaged: Damaged) -> bool:
        """Of one that has no metadata yet the link is all."""
        link = damaged.salvage.get("magnet")
        try:
            magnet = parse_magnet(link if isinstance(link, str) else "")
        except MagnetError:
            return False
        if magnet.info_hash != damaged.info_hash:
            return False
        record = magnet_record(
            magnet, str(link), number=0, downloads=self.settings.downloads, incomplete="", label=""
        )
        for key in (
            "number",
            "folder",
            "incomplete_folder",
            "label",
            "tie",
            "drop_path",
            "added_wall",
            "stopped",
            "priority",
            "forced",
        ):
            value = damaged.salvage.get(key)
            if isinstance(value, type(getattr(record, key))):
                setattr(record, key, value)
        self.flusher.mark(self._register(record))
        return True

    def _register(self, record: ResumeRecord) -> Torrent:
        share_values(record)
        torrent = Torrent(record, AnnounceState(record.trackers, self._rng), self)
        self.torrents[record.info_hash] = torrent
        self._tie(torrent)
        self.seeding.known(torrent)
        self._last_number = max(self._last_number, record.number)
        self.lifecycle.claim(torrent)
        if torrent.state is not State.STOPPED and self.lifecycle.holds.state_of(torrent) is State.OFFLINE:
            torrent.state = State.OFFLINE
        return torrent

    # -- adding and removing --------------------------------------------------------------------------------

    async def add(
        self,
        blob: bytes,
        *,
        downloads: str,
        incomplete: str = "",
        label: str = "",
        priority: int = 0,
        tie: bool = False,
        drop_path: str = "",
    ) -> AddResult:
        """Makes a torrent known; durable when it returns. Raises `MetainfoError`, or `StorageError` (try again)."""
        metainfo = await self.lifecycle.magnets.parsed(blob)
        info_hash = metainfo.info_hash
        known = await self._settled(info_hash)
        if known is not None:
            undescribed = known.record.state == "metadata"
            if undescribed:
                self._untie(known)
                take_terms(known.record, downloads=downloads, incomplete=incomplete, label=label)
            merged = self._merge(
                known, metainfo.trackers, private=metainfo.private, tie=tie, drop_path=drop_path
            )
            if undescribed:
                merged = True
                await self.lifecycle.magnets.describe(known, metainfo, blob, from_peers=False)
            elif merged:
                await self.flusher.durable(known)
            await self._mend(known, blob)
            return AddResult("merged" if merged else "known", info_hash, known.record.name)
        record = self._new_record(metainfo, downloads=downloads, incomplete=incomplete, label=label)
        record.priority = priority
        added = await self._add_new(record, blob, tie=tie, drop_path=drop_path)
        if self._dht is not None and metainfo.nodes and not metainfo.private:
            self._dht.introduced(metainfo.nodes)
        return added

    async def add_magnet(
        self,
        link: str,
        *,
        downloads: str,
        incomplete: str = "",
        label: str = "",
        priority: int = 0,
        tie: bool = False,
        drop_path: str = "",
    ) -> AddResult:
        """Makes a torrent known of which peers are to tell the rest; durable when it returns. Raises `MagnetError`, or
        `StorageError` (try again).
        """
        magnet = parse_magnet(link)
        known = await self._settled(magnet.info_hash)
        if known is not None:
            merged = self._merge(known, magnet.trackers, private=False, tie=tie, drop_path=drop_path)
            if merged:
                await self.flusher.durable(known)
            return AddResult("merged" if merged else "known", magnet.info_hash, known.record.name)
        self._last_number += 1
        record = magnet_record(
            magnet,
            link,
            number=self._last_number,
            downloads=downloads,
            incomplete=incomplete,
            label=label,
        )
        record.priority = priority
        if magnet.select:
            detail = f"the magnet link of {record.name!r} names single files; all of its files are downloaded"
            self._sink(Warned(what="magnet.select", detail=detail))
        return await self._add_new(record, b"", tie=tie, drop_path=drop_path)

    async def _settled(self, info_hash: InfoHash) -> Torrent | None:
        """The torrent, if it is known once nothing is under way with it."""
        await self._loaded.wait()
        while info_hash in self._changing:
            await self._changing[info_hash].wait()
        return self.torrents.get(info_hash)

    async def _add_new(self, record: ResumeRecord, blob: bytes, *, tie: bool, drop_path: str) -> AddResult:
        record.tie, record.drop_path = tie, drop_path if tie else ""
        done = self._changing[record.info_hash] = trio.Event()
        try:
            return await self._add_durably((record, blob))
        finally:
            del self._changing[record.info_hash]
            done.set()

    async def _add_all(
        self, new: list[tuple[ResumeRecord, bytes]]
    ) -> list[AddResult | StorageError | JobCrashed]:
        """What is on disk is made known here, and not by whoever waited for it: that one may be gone."""
        errors = await self._disk.call(self._store.add_all, new)
        return [
            attempt(self._added, record) if error is None else error
            for (record, _), error in zip(new, errors, strict=True)
        ]

    def _added(self, record: ResumeRecord) -> AddResult:
        if record.info_hash in self.torrents:
            return AddResult("known", record.info_hash, record.name)
        torrent = self._register(record)
        now = time.time()
        self._sink(Added(facts=torrent.facts(), event_id=new_event_id(now, self._rng), at_wall=now))
        self.checker.submit(torrent)
        return AddResult("added", record.info_hash, record.name)

    def _new_record(self, metainfo: Metainfo, *, downloads: str, incomplete: str, label: str) -> ResumeRecord:
        self._last_number += 1
        return ResumeRecord(
            info_hash=metainfo.info_hash,
            name=metainfo.name,
            root=default_root(metainfo),
            folder=os.path.abspath(downloads),
            incomplete_folder=os.path.abspath(incomplete) if incomplete else "",
            label=label,
            state="downloading",
            number=self._last_number,
            total_bytes=metainfo.total_bytes,
            pad_bytes=metainfo.total_bytes - metainfo.listed_bytes,
            piece_length=metainfo.piece_length,
            piece_count=metainfo.piece_count,
            have=b"",
            stamps=(),
            clean=True,
            shared=False,
            uploaded_bytes=0,
            downloaded_bytes=0,
            added_wall=time.time(),
            completed_wall=None,
            completed_event_id="",
            completed_reason="",
            completed_spooled=False,
            moving_to="",
            drop_path="",
            tie=False,
            trackers=metainfo.trackers,
            private=metainfo.private,
            checked=False,
            lone=not metainfo.multi_file,
        )

    async def _mend(self, torrent: Torrent, blob: bytes) -> None:
        """A torrent whose stored .torrent was lost or damaged asks to be dropped again: this is that drop."""
        mended = await self._disk.call(self._store.mend, torrent.info_hash, blob, bool(torrent.error))
        if not self.lifecycle.known(torrent):
            raise StorageError("the torrent was removed meanwhile")
        if mended and torrent.state is State.ERROR and torrent.retry_at is not None:
            torrent.retry_at = trio.current_time()

    def _merge(
        self,
        torrent: Torrent,
        trackers: tuple[tuple[str, ...], ...],
        *,
        private: bool,
        tie: bool,
        drop_path: str,
    ) -> bool:
        """Takes over what a second drop of a known torrent brings; private torrents keep to their own trackers."""
        record = torrent.record
        changed = False
        if tie and not record.tie:
            record.tie, record.drop_path, changed = True, drop_path, True
            self._tie(torrent)
        known = {url for tier in record.trackers for url in tier}
        fresh = tuple(tuple(url for url in tier if url not in known) for tier in trackers)
        fresh = tuple(tier for tier in fresh if tier)
        count = len(known) + sum(map(len, fresh))
        if fresh and not record.private and not private and count <= TRACKER_URLS_AT_MOST:
            record.trackers += fresh
            torrent.announce.merge(fresh)
            self.announcer.rescheduled(torrent)
            changed = True
        return changed

    def _tie(self, torrent: Torrent) -> None:
        record = torrent.record
        if record.tie:
            others = self._tied.get(record.drop_path, ())
            if record.info_hash not in others:
                self._tied[record.drop_path] = (*others, record.info_hash)

    def _untie(self, torrent: Torrent) -> None:
        path = torrent.record.drop_path
        others = tuple([one for one in self._tied.get(path, ()) if one != torrent.info_hash])
        if others:
            self._tied[path] = others
        else:
            self._tied.pop(path, None)

    async def remove(self, info_hash: InfoHash, *, reason: str, with_data: bool = False) -> bool:
        """Stops and forgets a torrent. Its data stays, or `with_data` goes as far as we made it. False: not known."""
        await self._loaded.wait()
        leaving = self.torrents.get(info_hash) if with_data else None
        if leaving is not None:
            # a crash in the middle must not leave a torrent whose data is gone
            leaving.record.leaving = True
            try:
                await self.flusher.durable(leaving)
            except StorageError:
                self._stays(leaving)
                raise
        torrent = self.torrents.pop(info_hash, None)
        if torrent is None:
            return False
        self._untie(torrent)
        done = self._changing[info_hash] = trio.Event()
        try:
            facts = torrent.facts()
            self.lifecycle.forget(torrent)
            self.queue.forget(torrent)
            if with_data:
                await self.lifecycle.erase(torrent)
            await self.flusher.remove(torrent)
            self.lifecycle.leave(torrent)
        except StorageError:
            # It is still on record, so it is still ours: whoever wants it removed tries again.
            self.torrents[info_hash] = torrent
            self._stays(torrent)
            self._tie(torrent)
            if torrent.state not in RESTING:
                torrent.state = State.SEEDING if torrent.record.state == "complete" else State.QUEUED
                self.checker.submit(torrent)
            raise
        finally:
            del self._changing[info_hash]
            done.set()
        now = time.time()
        self._sink(Removed(facts=facts, event_id=new_event_id(now, self._rng), reason=reason, at_wall=now))
        return True

    def _stays(self, torrent: Torrent) -> None:
        """Its removal failed, and whoever wanted it knows: the next start does not remove it unasked."""
        if torrent.record.leaving:
            torrent.record.leaving = False
            self.flusher.mark(torrent)

    async def pause(self, info_hash: InfoHash, *, reason: str = "paused") -> bool:
        """Stops a torrent until `resume`, also over restarts; durable when it returns. False: not known.

        `StorageError` when it stands still, but a restart may let it run again.
        """
        await self._loaded.wait()
        torrent = self.torrents.get(info_hash)
        if torrent is not None:
            await self.lifecycle.holds.stop(torrent, reason)
        return torrent is not None

    async def resume(self, info_hash: InfoHash) -> bool:
        """Lets it go on; durable when it returns. False: not known. `StorageError` as above."""
        await self._loaded.wait()
        torrent = self.torrents.get(info_hash)
        if torrent is not None:
            self.seeding.let_go(torrent)
            await self.lifecycle.holds.let_go(torrent)
        return torrent is not None

    async def set_place(
        self, info_hash: InfoHash, *, priority: int | None = None, forced: bool | None = None
    ) -> bool:
        """Changes its priority in the queue, or whether it heeds the queue at all; durable when it returns."""
        await self._loaded.wait()
        torrent = self.torrents.get(info_hash)
        if torrent is not None:
            await self.queue.set_place(torrent, priority, forced)
        return torrent is not None

    # -- what the floors above ask --------------------------------------------------------------------------

    def tied(self) -> Mapping[str, tuple[InfoHash, ...]]:
        """Dropped files whose removal stops torrents."""
        return self._tied

    async def is_ours(self, path: str) -> bool:
        """Is that path the root of some torrent's data? Waits until all records are read."""
        await self._loaded.wait()
        folder, name = os.path.split(path)
        return self._territory.owner(folder, name) is not None

    def undelivered(self) -> list[Completed]:
        """Completions that are committed and whose hooks may not have been told."""
        return [
            Completed(
                facts=torrent.facts(),
                event_id=torrent.record.completed_event_id,
                reason="downloaded"
                if torrent.record.completed_reason == "downloaded"
                else "already-complete",
                at_wall=torrent.record.completed_wall or 0.0,
            )
            for torrent in self.torrents.values()
            if torrent.record.completed_event_id and not torrent.record.completed_spooled
        ]

    def delivered(self, info_hash: InfoHash, event_id: str) -> None:
        """The delivery of that event is on disk, or nobody wants it."""
        self.seeding.delivered(event_id)
        torrent = self.torrents.get(info_hash)
        if torrent is not None and torrent.record.completed_event_id == event_id:
            torrent.record.completed_spooled = True
            self.flusher.mark(torrent)

    def recheck(self, torrent: Torrent) -> bool:
        """Hashes all of its data again; False while it is being moved."""
        return self.lifecycle.recheck(torrent)

    def reannounce(self, torrent: Torrent) -> None:
        """Asks for more peers, as soon as the trackers allow."""
        self.lifecycle.hungry(torrent)

    async def opened(self, torrent: Torrent) -> Opened:
        """Its files, as they lie on disk now; `StorageError` when the stored .torrent is gone or damaged."""
        return await self._disk.call(
            self._opener.open, torrent.record, torrent.data_folder, torrent.record.root
        )

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
        self._files.set_limit(settings.open_files)
        self._buffers.set_budget(settings.piece_memory)
        self.announcer.numwant = settings.numwant
        self.swarms.apply(self.settings)
        self.choking.apply(self.settings)
        self.lifecycle.preallocate = settings.preallocate
        self.scrubber.set_rate(settings.scrub_rate)
        self.queue.apply(settings)
        self.checker.limit(settings.max_checks)
        self.seeding.set_rules(settings.seed_rules, settings.seed_guards)
        self.guard.set_reserve(settings.reserve_bytes)

    def close(self) -> None:
        """After the last piece is written: what is recorded now is all there is (the final flush claims it)."""
        for torrent in self.torrents.values():
            # What was not checked since a kill stays as the kill left it.
            if not torrent.record.clean and torrent.have is not None:
                torrent.record.clean = True
                self.flusher.mark(torrent)

    # -- what torrents tell ---------------------------------------------------------------------------------

    def state_changed(self, torrent: Torrent, before: State) -> None:
        self.seeding.state_changed(torrent, before)
        self.queue.state_changed(torrent)

    def addresses_found(self, torrent: Torrent, addresses: tuple[Address, ...]) -> None:
        self.swarms.addresses_found(torrent, addresses, Source.TRACKER)

    def dht_found(self, torrent: Torrent, addresses: tuple[Address, ...]) -> None:
        self.swarms.addresses_found(torrent, addresses, Source.DHT)

    def neighbour_found(self, torrent: Torrent, address: Address) -> None:
        # also to a seed: who is near and lacks it would have to wait for our next announce
        swarm = self.swarms.live.get(torrent.info_hash)
        if not torrent.complete or swarm is None or swarm.wants_peers:
            self.swarms.addresses_found(torrent, (address,), Source.LSD)

    def tracker_answered(self, torrent: Torrent, url: str, trouble: str | None) -> None:
        self._sink(TrackerTrouble(facts=torrent.facts(), tracker=url, reason=trouble))

    def wants_peers(self, torrent: Torrent) -> bool:
        swarm = self.swarms.running(torrent.info_hash)
        return not torrent.complete and (swarm is None or swarm.wants_peers)

    def lacks_peers(self, torrent: Torrent) -> bool:
        swarm = self.swarms.running(torrent.info_hash)
        return not torrent.complete and (swarm is None or len(swarm.peers) < HUNGRY_BELOW_PEERS)
