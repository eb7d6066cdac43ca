"""How much room downloads have yet to take, and on which file systems."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from bittern.disk.disk import DiskGate
from bittern.disk.resume import ResumeRecord
from bittern.engine.opening import Opener
from bittern.engine.torrent import Torrent
from bittern.proto.bitfield import Bitfield


class NeedsHost(Protocol):
    """What measuring needs of the lifecycle."""

    disk: DiskGate
    opener: Opener


@dataclass(frozen=True, slots=True)
class Need:
    """What a download had yet to put on the disk when it was measured, and how many pieces it had then."""

    unallocated_bytes: int
    pieces: int
    apart_bytes: int = 0
    """How much of it goes to the state folder, for it belongs to files that are skipped (`disk.parts`)."""
    also: str = ""
    """Another folder in which there has to be room: a write there was refused."""


class Needs:
    """Of all downloads that were measured. `volume` tells on which file system a folder is, None when unknown."""

    def __init__(self, host: NeedsHost, volume: Callable[[str], int | None], state: str) -> None:
        self._host = host
        self._volume = volume
        self._state = state
        self._needs: dict[Torrent, Need] = {}

    def __contains__(self, torrent: Torrent) -> bool:
        return torrent in self._needs

    def __iter__(self) -> Iterator[Torrent]:
        return iter(self._needs)

    def __len__(self) -> int:
        return len(self._needs)

    def keep(self, torrent: Torrent, need: Need) -> None:
        """From now on it is that."""
        self._needs[torrent] = need

    def forget(self, torrent: Torrent) -> None:
        """It downloads no more."""
        self._needs.pop(torrent, None)

    async def measured(self, torrent: Torrent, have: Bitfield, *, anything: bool) -> Need:
        """`anything`: some of its files are there. `StorageError`."""
        record, unallocated, apart = torrent.record, 0, 0
        if anything or record.selection:
            unallocated, apart = await self._host.disk.call(
                self._unallocated, record, torrent.data_folder, torrent.wanted
            )
        before = self._needs.get(torrent)
        missing = unallocated + apart if anything else torrent.wanted_bytes
        return Need(missing, have.count, apart, before.also if before else "")

    def _unallocated(self, record: ResumeRecord, folder: str, wanted: Bitfield | None) -> tuple[int, int]:
        """At its place and apart; in a thread."""
        opened = self._host.opener.open(record, folder, record.root)
        apart = opened.storage.parts.unallocated_bytes(opened.layout, wanted)
        return opened.storage.unallocated_bytes(), apart

    def refused(self, torrent: Torrent, folder: str) -> None:
        """A write in that folder was."""
        need = self._needs.get(torrent) or Need(torrent.left_bytes, pieces_of(torrent))
        self._needs[torrent] = replace(need, also=folder)

    def by_volume(self, torrent: Torrent) -> dict[object, int]:
        """What a move to another volume will need counts from the start."""
        need, record = self._needs[torrent], torrent.record
        got = pieces_of(torrent) - need.pieces if torrent.have is not None else 0
        # a hole may be a piece that is all zeros; a piece that is missing may have its room already
        missing = min(torrent.left_bytes, max(0, need.unallocated_bytes - got * record.piece_length))
        apart = min(need.apart_bytes, missing)
        needs: dict[object, int] = {}
        here, final = self._volume(torrent.data_folder), self._volume(record.folder)
        state, also = self._volume(self._state), self._volume(need.also) if need.also else None
        if here is not None:
            needs[here] = missing - apart
        if final is not None and final != here:
            needs[final] = torrent.wanted_bytes
        if state is not None:
            # its record has to be written in any case
            needs[state] = needs.get(state, 0) + apart
        if also is not None:
            needs.setdefault(also, 0)
        return needs


def pieces_of(torrent: Torrent) -> int:
    """How many it has, as far as that is known."""
    return torrent.have.count if torrent.have is not None else 0
