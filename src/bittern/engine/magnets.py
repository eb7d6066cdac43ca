"""From a magnet link to a record, and from the info dictionary that peers gave to a torrent like all others.

The record is durable before the link counts as taken in, so a torrent without metadata survives whatever a torrent
survives. When the dictionary is here, a .torrent is put together and stored first, and then the record says what it is:
a crash in between fetches it once more.
"""

import os.path
import random
import time
from collections.abc import Sequence
from typing import Final, Protocol

from bittern.discovery.announcer import Announcer
from bittern.disk.disk import DiskGate
from bittern.disk.paths import default_root
from bittern.disk.resume import ResumeRecord
from bittern.engine.events import Described, Sink
from bittern.engine.flusher import Flusher
from bittern.engine.store import Store
from bittern.engine.torrent import Torrent
from bittern.errors import MagnetError, MetainfoError, StorageError
from bittern.policy.announcing import AnnounceState
from bittern.proto.magnet import Magnet, parse_magnet
from bittern.proto.metainfo import Metainfo, assemble_metainfo, parse_metainfo

PARSED_AT_ONCE_BYTES: Final = 32 * 1024
"""A .torrent of that size is parsed in less time than it takes to give it to a thread."""


class MagnetsHost(Protocol):
    """What this needs of the lifecycle."""

    disk: DiskGate
    flusher: Flusher
    announcer: Announcer
    sink: Sink
    rng: random.Random

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    def useless_metadata(self, torrent: Torrent, error: MetainfoError) -> None:
        """Its info dictionary is right, and we can do nothing with it."""

    def described(self, torrent: Torrent) -> None:
        """Its record says what it is now."""


def magnet_record(
    magnet: Magnet, link: str, *, number: int, downloads: str, incomplete: str, label: str
) -> ResumeRecord:
    """All that is known of a torrent before its metadata is here."""
    return ResumeRecord(
        info_hash=magnet.info_hash,
        name=magnet.name or magnet.info_hash.hex(),
        root="",
        folder=os.path.abspath(downloads),
        incomplete_folder=os.path.abspath(incomplete) if incomplete else "",
        label=label,
        state="metadata",
        number=number,
        total_bytes=0,
        piece_length=0,
        piece_count=0,
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
        trackers=magnet.trackers,
        private=False,
        checked=False,
        # what came as JSON may hold half a character, which no file does
        magnet=link.strip().encode("utf-8", "replace").decode(),
    )


def take_terms(record: ResumeRecord, *, downloads: str, incomplete: str, label: str) -> None:
    """A .torrent of it was dropped, which counts for more than a link: its data goes where that folder's goes."""
    record.folder = os.path.abspath(downloads)
    record.incomplete_folder = os.path.abspath(incomplete) if incomplete else ""
    record.label = label or record.label
    record.tie = False


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
        if not host.known(torrent):
            raise StorageError("the torrent was removed meanwhile")
        if record.state == "metadata":
            record.name, record.root = metainfo.name, default_root(metainfo)
            record.total_bytes = metainfo.total_bytes
            record.pad_bytes = metainfo.total_bytes - metainfo.listed_bytes
            record.piece_length, record.piece_count = metainfo.piece_length, metainfo.piece_count
            record.lone = not metainfo.multi_file
            record.state = "downloading"
            if not _selects(record.magnet):
                # the stored .torrent says it all; thousands of long links would double what idle torrents cost
                record.magnet = ""
            if metainfo.private:
                self._make_private(torrent, metainfo.trackers)
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


def _selects(link: str) -> bool:
    """Does it name single files (BEP 53)?"""
    try:
        return bool(parse_magnet(link).select)
    except MagnetError:
        return False
