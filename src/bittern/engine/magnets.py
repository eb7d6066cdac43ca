"""From a magnet link to a record, and from the info dictionary that peers gave to a torrent like all others.

The record is durable before the link counts as taken in, so a torrent without metadata survives whatever a torrent
survives. When the dictionary is here, a .torrent is put together and stored first, and then the record says what it is:
a crash in between fetches it once more.
"""

import random
import time
from collections.abc import Sequence
from typing import Final, Protocol

from bittern.discovery.announcer import Announcer
from bittern.disk.disk import DiskGate
from bittern.engine.events import Described, Sink, Warned
from bittern.engine.flusher import Flusher
from bittern.engine.records import describe
from bittern.engine.selecting import ALL_FILES, wished
from bittern.engine.store import Store
from bittern.engine.torrent import Torrent
from bittern.engine.totals import Totals
from bittern.errors import MagnetError, MetainfoError, StorageError
from bittern.policy.announcing import AnnounceState
from bittern.proto.magnet import parse_magnet
from bittern.proto.metainfo import Metainfo, assemble_metainfo, parse_metainfo

PARSED_AT_ONCE_BYTES: Final = 32 * 1024
"""A .torrent of that size is parsed in less time than it takes to give it to a thread."""


class MagnetsHost(Protocol):
    """What this needs of the lifecycle."""

    disk: DiskGate
    flusher: Flusher
    announcer: Announcer
    totals: Totals
    sink: Sink
    rng: random.Random

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    def useless_metadata(self, torrent: Torrent, error: MetainfoError) -> None:
        """Its info dictionary is right, and we can do nothing with it."""

    def described(self, torrent: Torrent) -> None:
        """Its record says what it is now."""


class Magnets:
    """The session's; stateless but for where things are."""

    def __init__(self, host: MagnetsHost, store: Store) -> None:
        self._host = host
        self._store = store

    async def found(self, torrent: Torrent, info: bytes) -> None:
        """Peers gave the info dictionary, and its hash is right. `StorageError` when it cannot be kept."""
        record = torrent.record
        blob = assemble_metainfo(info, record.trackers, _web_seeds(record.magnet))
        try:
            metainfo = await self.parsed(blob)
        except MetainfoError as error:
            self._host.useless_metadata(torrent, error)
            return
        await self.describe(torrent, metainfo, blob, from_peers=True)

    async def parsed(self, blob: bytes) -> Metainfo:
        """Off the loop when it is large; `MetainfoError`."""
        if len(blob) <= PARSED_AT_ONCE_BYTES:
            return parse_metainfo(blob)
        return await self._host.disk.call(parse_metainfo, blob)

    async def describe(self, torrent: Torrent, metainfo: Metainfo, blob: bytes, *, from_peers: bool) -> None:
        """The torrent, of which only the hash was known, is this one. Durable when it returns; `StorageError`."""
        host, record = self._host, torrent.record
        await host.disk.call(self._store.mend, torrent.info_hash, blob, True)
        choice, wish = "", ALL_FILES
        while record.choice != choice:
            choice = record.choice
            wish = await host.disk.call(wished, choice, metainfo)
        if not host.known(torrent):
            raise StorageError("the torrent was removed meanwhile")
        if record.state == "metadata":
            describe(record, metainfo)
            record.choice = ""
            if wish.selected is not None:
                record.selection, record.wanted = wish.selected.selection, wish.selected.wanted
                torrent.selection_changed()
            if wish.complaint:
                host.sink(Warned(what="torrent.selection", detail=f"{record.name!r} {wish.complaint}"))
            # the stored .torrent says it all; thousands of long links would double what idle torrents cost
            record.magnet = ""
            if metainfo.private:
                trackers = record.trackers if record.retiered else metainfo.trackers
                self._make_private(torrent, trackers)
            host.totals.files_added += len(metainfo.files)
            host.described(torrent)
            host.sink(Described(facts=torrent.facts(), from_peers=from_peers, at_wall=time.time()))
        await host.flusher.durable(torrent)

    def _make_private(self, torrent: Torrent, trackers: tuple[tuple[str, ...], ...]) -> None:
        """From here on it is its trackers' own (BEP 27): whom others have named is forgotten."""
        torrent.record.private = True
        torrent.resting = b""
        if torrent.record.trackers != trackers:
            self._host.announcer.remove(torrent)
            torrent.record.trackers = trackers
            torrent.announce = AnnounceState(trackers, self._host.rng)


def _web_seeds(link: str) -> Sequence[str]:
    try:
        return parse_magnet(link).web_seeds
    except MagnetError:
        return ()
