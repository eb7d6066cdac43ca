"""A parked torrent on its way to a swarm: what waits for it, and its files, as they are when it comes.

Who wakes a torrent that seeds will ask for a block next. Where there is no doubt in which file that is, it is opened by
the same hop into a thread that reads the .torrent: the block then comes from the page cache, without another.
"""

from contextlib import suppress

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.resume import ResumeRecord
from bittern.engine.opening import Opened, Opener
from bittern.engine.torrent import Torrent
from bittern.errors import StorageError
from bittern.net.transport import PeerTransport
from bittern.policy.roster import Source
from bittern.proto.handshake import Handshake
from bittern.terms import Address


class Waking:
    """What waits for a swarm while its .torrent is read."""

    __slots__ = ("addresses", "arrived", "scope")

    def __init__(self) -> None:
        self.arrived: list[tuple[PeerTransport, Handshake]] = []
        self.addresses: list[tuple[tuple[Address, ...], Source]] = []
        self.scope = trio.CancelScope()


async def open_files(
    disk: DiskGate, opener: Opener, torrent: Torrent, *, for_reading: bool
) -> tuple[Opened, bytes | None]:
    """The torrent's data, and how soon each piece is wanted: of what is selected, and where it lies, when this returns.

    `StorageError`. `for_reading`: somebody is about to ask for a block; the caller closes the storage.
    """
    while True:
        was = _how(torrent)
        opened, bands = await disk.call(
            _open, opener, torrent.record, torrent.data_folder, torrent.record.root, for_reading
        )
        if was == _how(torrent):
            return opened, bands
        opened.storage.close()


def _how(torrent: Torrent) -> tuple[str, str, str]:
    """What may change while a thread looks at it."""
    record = torrent.record
    return record.selection, torrent.data_folder, record.root


def _open(
    opener: Opener, record: ResumeRecord, folder: str, root: str, for_reading: bool
) -> tuple[Opened, bytes | None]:
    """In a thread."""
    opened = opener.open(record, folder, root)
    if for_reading and len(opened.layout.lengths) == 1:
        # whatever is wrong with it, who asks for a block of it is told
        with suppress(StorageError):
            opened.storage.open_for_reading(0, opened.layout.total_bytes)
    return opened, opened.bands
