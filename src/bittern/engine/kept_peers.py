"""Good peers of downloads, kept over a restart or a kill: they go on though nobody is there who would name them.

Kept are those who gave or took something, and who is connected; of a private torrent nobody, for its tracker decides
anew at each announce who is to be dialled (BEP 27). After the start they are candidates like others, believed less than
what a peer names today.
"""

from collections.abc import Mapping
from typing import Final

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.peerfile import PEERS_AT_MOST, Compact, PeerFile, pack_peers, unpack_peers
from bittern.engine.events import Sink, Warned
from bittern.engine.swarm import Swarm
from bittern.engine.torrent import Torrent
from bittern.errors import StorageError
from bittern.policy.roster import pack_kept
from bittern.terms import Address, InfoHash

SLICE: Final = 32
"""Swarms looked at in one go: about a millisecond where each knows hundreds."""


class KeptPeers:
    """The session's. `live` are its swarms."""

    def __init__(
        self,
        torrents: Mapping[InfoHash, Torrent],
        live: Mapping[InfoHash, Swarm],
        *,
        file: PeerFile,
        disk: DiskGate,
        sink: Sink,
    ) -> None:
        self._torrents = torrents
        self._live = live
        self._file = file
        self._disk = disk
        self._sink = sink
        self._kept: dict[InfoHash, Compact] = {}
        """Packed, for they may be thousands; of torrents that are complete there are none."""
        self._saved: dict[InfoHash, Compact] | None = None
        """What the file holds; None: nothing that can be used."""
        self._loaded = False
        self._complained = False
        self._lock = trio.Lock()

    async def load(self) -> None:
        """When all records are read, and before anything is dialled: downloads know whom they had."""
        try:
            self._saved = await self._disk.call(self._file.load)
        except StorageError as error:
            self._sink(Warned(what="peers.damaged", detail=str(error)))
        for number, (info_hash, compact) in enumerate((self._saved or {}).items(), 1):
            torrent = self._torrents.get(info_hash)
            if torrent is not None and self._keeps(torrent):
                self._kept[info_hash] = compact
                torrent.resting = torrent.resting or pack_kept(unpack_peers(compact))
            if number % SLICE == 0:
                # of ten thousand it would be 0.2 s
                await trio.lowlevel.checkpoint()
        # not before: half of it must not replace the file
        self._loaded = True

    def note(self, swarm: Swarm) -> None:
        """Whom that swarm has found good so far; it is written with the next batch of records."""
        torrent = swarm.torrent
        if not self._keeps(torrent):
            return
        before = self._kept.get(torrent.info_hash, Compact())
        found = list(_good(swarm, unpack_peers(before)))[:PEERS_AT_MOST]
        if found:
            self._kept[torrent.info_hash] = pack_peers(found)
        else:
            self._kept.pop(torrent.info_hash, None)

    async def save(self) -> None:
        """Writes the file if it is out of date."""
        if not self._loaded:
            return
        async with self._lock:
            for number, swarm in enumerate(list(self._live.values()), 1):
                self.note(swarm)
                if number % SLICE == 0:
                    await trio.lowlevel.checkpoint()
            for info_hash in list(self._kept):
                torrent = self._torrents.get(info_hash)
                if torrent is None or not self._keeps(torrent):
                    del self._kept[info_hash]
            if self._kept == self._saved:
                return
            kept = self._kept.copy()
            try:
                await self._disk.call(self._file.save, kept)
            except StorageError as error:
                if not self._complained:
                    self._sink(Warned(what="state.unwritable", detail=str(error)))
                self._complained = True
            else:
                self._saved, self._complained = kept, False

    def _keeps(self, torrent: Torrent) -> bool:
        """Is it a download whose peers may be kept, and still one of ours?"""
        return (
            torrent.record.state == "downloading"
            and not torrent.private
            and not torrent.complete
            and self._torrents.get(torrent.info_hash) is torrent
        )


def _good(swarm: Swarm, before: list[Address]) -> dict[Address, None]:
    """The best first. Whom the roster has given up is none, though he was good once; and those who only came to us may
    be anybody.
    """
    here = [
        (not peer.useful, not peer.outbound, peer.listens_on)
        for peer in swarm.peers
        if peer.listens_on is not None
    ]
    here.sort()
    given = [address for useless, _, address in here if not useless]
    dialled = [address for _, inbound, address in here if not inbound]
    still = [address for address in before if address in swarm.roster]
    rest = [address for *_, address in here]
    return dict.fromkeys([*given, *swarm.roster.useful(), *dialled, *still, *rest])
