"""Where each torrent's data lies, may lie, or has lain until its record says otherwise.

What a torrent claims in the `Territory` follows from its record, and is claimed before the record says so: no other
torrent comes by that name meanwhile. What it leaves is given back only when the record says durably that it has left.
All of it is synchronous.
"""

from collections.abc import Mapping
from typing import Protocol

from bittern.disk.paths import roots_of
from bittern.engine.guard import Guard
from bittern.engine.territory import Territory, places_of
from bittern.engine.torrent import Torrent
from bittern.errors import StorageError
from bittern.terms import InfoHash


class WhereaboutsHost(Protocol):
    """What this needs of the lifecycle."""

    guard: Guard

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""


class Whereabouts:
    """Of all torrents."""

    def __init__(
        self, host: WhereaboutsHost, territory: Territory, torrents: Mapping[InfoHash, Torrent]
    ) -> None:
        self._host = host
        self._territory = territory
        self._torrents = torrents
        self._left: dict[Torrent, str] = {}
        """The folder that a torrent was moved out of, while its record does not durably say so."""

    def claim(self, torrent: Torrent) -> None:
        """The torrent's places are its own from now on (or shared, when its data is)."""
        self._host.guard.watch(torrent)
        record = torrent.record
        if record.state == "metadata":
            # not even their name is known
            return
        for folder, root in places_of(record):
            self._territory.claim(folder, root, record.info_hash)

    def leave(self, torrent: Torrent) -> None:
        """Gives the torrent's places back, that which its data has left too."""
        record = torrent.record
        if record.state == "metadata":
            return
        left = self._left.pop(torrent, record.folder)
        for folder, root in {*places_of(record), (left, record.root)}:
            self._territory.leave(folder, root, record.info_hash)

    def has_left(self, torrent: Torrent, folder: str) -> None:
        """The torrent's files lie in that folder no more. Its name there is not free before the record says so: after
        a crash the move would be taken up again, and a newcomer's files with it.
        """
        self._left[torrent] = folder
        if not self._host.known(torrent):
            self.leave(torrent)

    def leave_left(self, torrent: Torrent) -> None:
        """The record says durably where its files lie."""
        left = self._left.pop(torrent, torrent.record.folder)
        if left != torrent.record.folder:
            self._territory.leave(left, torrent.record.root, torrent.info_hash)

    def learn_folder(self, folder: str, real: str) -> None:
        """Links lead from that folder to `real`."""
        self._territory.learn(folder, real)

    def contested(self, torrent: Torrent, folder: str) -> bool:
        """Does the torrent's present root in that folder belong to another torrent, or to bittern itself?"""
        root = torrent.record.root
        return self._territory.reserved(folder, root) or self._territory.owner(folder, root) not in {
            None,
            torrent.info_hash,
        }

    def may_share(self, torrent: Torrent, folder: str) -> bool:
        """May data that belongs to another torrent be read in that folder for good? Not if either will move it."""
        owner = self._territory.owner(folder, torrent.record.root)
        other = self._torrents.get(owner) if owner is not None else None
        return folder == torrent.record.folder and (other is None or other.record.folder == folder)

    def settle_folder(self, torrent: Torrent, folder: str, *, shared: bool) -> None:
        """The torrent's data was found in that folder: if it is the final one, nothing will ever lie in the other."""
        record = torrent.record
        record.shared = shared
        if folder != torrent.data_folder:
            # an earlier try may have made the files of the other
            record.made = b""
        if folder == record.folder:
            other, record.incomplete_folder = record.incomplete_folder or folder, ""
            if other != folder:
                self._territory.leave(other, record.root, record.info_hash)

    def settle_root(self, torrent: Torrent) -> None:
        """The torrent's data takes its next name: this one belongs to somebody else."""
        record = torrent.record
        roots = roots_of(record.name, record.info_hash)
        number = roots.index(record.root) + 1 if record.root in roots else 1
        self.leave(torrent)
        record.root, record.made = roots[number % len(roots)], b""
        self.claim(torrent)
        if number == len(roots):
            raise StorageError(
                f"every name that the torrent's data could have is taken, {roots[0]!r} to {roots[-1]!r}; "
                f"move what is called so out of {record.folder}"
            )
