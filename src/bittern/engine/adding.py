"""Adds torrents: durable before anybody is told, many at once by one sync, a known one merged."""

import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import trio

from bittern.discovery.dht import Dht
from bittern.disk.attempt import JobCrashed, attempt
from bittern.disk.disk import DiskGate
from bittern.disk.resume import ResumeRecord
from bittern.disk.together import Together
from bittern.engine.events import Added, Sink, new_event_id
from bittern.engine.lifecycle import Lifecycle
from bittern.engine.records import magnet_record, take_terms, torrent_record
from bittern.engine.registry import Registry
from bittern.engine.selecting import Selecting, select_in
from bittern.engine.store import Store
from bittern.engine.torrent import State, Torrent
from bittern.errors import MagnetError, StorageError
from bittern.policy.add_terms import AddTerms
from bittern.proto.magnet import parse_magnet, with_peers
from bittern.terms import InfoHash

ADDED_TOGETHER: Final = 64
"""Of many drops at once, so many are made durable by one sync of each folder."""

ADDING_TEAMS: Final = 2
"""So that one writes while the other waits for the disk: a thousand were stored after 5.4 s, by one after 7."""

TRACKER_URLS_AT_MOST: Final = 100
"""Merging drops must not let a torrent's tracker list grow for ever."""


@dataclass(frozen=True, slots=True)
class AddResult:
    """What became of a dropped torrent. `merged`: known before, but it brought new trackers."""

    kind: Literal["added", "known", "merged"]
    info_hash: InfoHash
    name: str


class Adding:
    """The session's; who adds the same torrent twice waits for the first to end."""

    def __init__(
        self,
        registry: Registry,
        lifecycle: Lifecycle,
        *,
        selecting: Selecting,
        store: Store,
        disk: DiskGate,
        dht: Dht | None,
        sink: Sink,
        rng: random.Random,
    ) -> None:
        self._registry = registry
        self._selecting = selecting
        self._lifecycle = lifecycle
        self._store = store
        self._disk = disk
        self._dht = dht
        self._sink = sink
        self._rng = rng
        self._add_durably = Together(self._add_all, at_most=ADDED_TOGETHER, teams=ADDING_TEAMS)

    async def add(self, blob: bytes, terms: AddTerms) -> AddResult:
        """Makes a torrent known; durable when it returns. Raises `MetainfoError`, `FileSelectionError` (no such
        files), or `StorageError` (try again).
        """
        metainfo = await self._lifecycle.magnets.parsed(blob)
        info_hash = metainfo.info_hash
        known = await self._registry.settled(info_hash)
        if known is not None:
            undescribed = known.record.state == "metadata"
            if undescribed:
                self._take_terms(known, terms)
            merged = self._merge(known, metainfo.trackers, terms, private=metainfo.private)
            if undescribed:
                merged = True
                await self._lifecycle.magnets.describe(known, metainfo, blob, from_peers=False)
            elif merged:
                await self._lifecycle.flusher.durable(known)
            await self._mend(known, blob)
            return AddResult("merged" if merged else "known", info_hash, known.record.name)
        record = torrent_record(metainfo, terms, number=self._registry.next_number())
        fresh = self._lifecycle.opener.fresh
        # from here on, for files are chosen in a thread: who adds it meanwhile waits
        with self._registry.changing(info_hash):
            if not terms.selection.empty:
                await self._disk.call(select_in, record, metainfo, terms.selection)
            # its check is next
            fresh.keep(metainfo)
            try:
                added = await self._add_new(record, blob)
            except BaseException:
                fresh.drop(info_hash)
                raise
        if added.kind == "known":
            # somebody was faster, and it may have been checked by now
            fresh.drop(info_hash)
        self._lifecycle.totals.files_added += len(metainfo.files)
        if self._dht is not None and metainfo.nodes and not metainfo.private:
            self._dht.introduced(metainfo.nodes)
        return added

    async def add_magnet(self, link: str, terms: AddTerms) -> AddResult:
        """Makes a torrent known of which peers are to tell the rest; durable when it returns. Raises `MagnetError`, or
        `StorageError` (try again). The selection is followed when the files are known.
        """
        magnet = parse_magnet(link)
        known = await self._registry.settled(magnet.info_hash)
        if known is not None:
            seen = terms.tie and known.record.drop_path == terms.drop_path
            merged = self._merge(known, magnet.trackers, terms, private=False)
            # a drop that stays is read at each start, and shall not undo what was chosen since
            if magnet.select and not seen and await self._selecting.take_too(known, magnet.select):
                merged = True
            merged = self._take_peers(known, magnet.peers) or merged
            if merged:
                await self._lifecycle.flusher.durable(known)
            return AddResult("merged" if merged else "known", magnet.info_hash, known.record.name)
        record = magnet_record(magnet, link, terms, number=self._registry.next_number())
        with self._registry.changing(magnet.info_hash):
            return await self._add_new(record, b"")

    async def _add_new(self, record: ResumeRecord, blob: bytes) -> AddResult:
        # on record with the torrent: who dies before hooks have it tells the same again
        record.added_event_id = new_event_id(time.time(), self._rng)
        return await self._add_durably((record, blob))

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
        if record.info_hash in self._registry.torrents:
            return AddResult("known", record.info_hash, record.name)
        torrent = self._registry.register(record)
        added = Added(facts=torrent.facts(), event_id=record.added_event_id, at_wall=record.added_wall)
        if not self._lifecycle.asked_for(added):
            # not by the next write but one: that is to be the last for now
            record.added_event_id = ""
            self._lifecycle.flusher.mark(torrent)
        self._sink(added)
        self._lifecycle.checks.submit(torrent)
        return AddResult("added", record.info_hash, record.name)

    def _take_terms(self, torrent: Torrent, terms: AddTerms) -> None:
        """Of a .torrent where a link was all that was known."""
        self._registry.untie(torrent)
        take_terms(torrent.record, terms)
        self._lifecycle.queue.stands_elsewhere(torrent)
        self._lifecycle.swarms.limits_changed(torrent)

    async def _mend(self, torrent: Torrent, blob: bytes) -> None:
        """A torrent whose stored .torrent was lost or damaged asks to be dropped again: this is that drop."""
        mended = await self._disk.call(self._store.mend, torrent.info_hash, blob, bool(torrent.error))
        if not self._lifecycle.known(torrent):
            raise StorageError("the torrent was removed meanwhile")
        if mended:
            self._lifecycle.opener.fresh.drop(torrent.info_hash)
        if mended and torrent.state is State.ERROR and torrent.retry_at is not None:
            torrent.retry_at = trio.current_time()

    def _take_peers(self, torrent: Torrent, peers: Sequence[tuple[str, int]]) -> bool:
        """Those whom a further link names; as long as nothing else is known of it they are on record. True: it was
        changed.
        """
        record = torrent.record
        self._lifecycle.swarms.meet(torrent, peers)
        before = record.magnet
        if record.state == "metadata":
            with contextlib.suppress(MagnetError):
                record.magnet = with_peers(before, peers)
        return record.magnet != before

    def _merge(
        self,
        torrent: Torrent,
        trackers: tuple[tuple[str, ...], ...],
        terms: AddTerms,
        *,
        private: bool,
    ) -> bool:
        """Takes over what a second drop of a known torrent brings; private torrents keep to their own trackers."""
        record = torrent.record
        changed = False
        if terms.tie and not record.tie:
            record.tie, record.drop_path, changed = True, terms.drop_path, True
            self._registry.tie(torrent)
        if terms.receipt and terms.receipt != record.receipt:
            record.receipt, changed = terms.receipt, True
        known = {url for tier in record.trackers for url in tier}
        fresh = tuple(tuple(url for url in tier if url not in known) for tier in trackers)
        fresh = tuple(tier for tier in fresh if tier)
        count = len(known) + sum(map(len, fresh))
        if (
            fresh
            and not record.retiered
            and not record.private
            and not private
            and count <= TRACKER_URLS_AT_MOST
        ):
            record.trackers += fresh
            torrent.announce.merge(fresh)
            self._lifecycle.announcer.rescheduled(torrent)
            changed = True
        return changed
