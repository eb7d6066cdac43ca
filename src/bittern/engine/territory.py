"""Whose data lies where: no two torrents write the same file, and none writes where bittern's own folders are."""

import itertools
import os.path
import sys
from collections.abc import Iterable

from bittern.disk.places import SENTINEL, TEMPORARY
from bittern.disk.renames import unpack_renaming
from bittern.disk.resume import ResumeRecord
from bittern.terms import InfoHash

Place = tuple[str, str]


def places_of(record: ResumeRecord) -> set[Place]:
    """Where a torrent's data is, or is about to be: folders, each with its root. While that is being renamed it may
    still have its old name.
    """
    under_way = unpack_renaming(record.renaming)
    roots = {record.root} if under_way is None else {record.root, under_way.root_before}
    folders = {record.folder, record.incomplete_folder or record.folder, record.moving_to or record.folder}
    return {(folder, root) for folder in folders for root in roots}


class Territory:
    """Roots (`folder/name`) and the torrents they belong to. Names that differ only in case count as one: some file
    systems cannot tell them apart. So do folders that links lead to, as far as that was learned.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._owners: dict[Place, tuple[tuple[int, InfoHash], ...]] = {}
        """Who claimed a place, each with a number that grows over all places."""
        self._order = itertools.count()
        self._real: dict[str, str] = {}
        self._reserved: set[Place] = set()
        self.set_reserved(reserved)

    def set_reserved(self, folders: Iterable[str]) -> None:
        """Bittern's own folders: no torrent's root is one of them or a folder above one."""
        self._reserved.clear()
        for folder in folders:
            at = os.path.abspath(folder)
            while True:
                parent, name = os.path.split(at)
                self._reserved.add((parent, name.casefold()))
                if parent == at:
                    break
                at = parent

    def inhabited(self, path: str) -> bool:
        """Is that a folder in which, or below which, torrents' data lies, or bittern's own? (Not: a root.)"""
        at = os.path.abspath(path)
        inside, (above, name) = at + os.sep, os.path.split(at)
        folders = {place[0] for place in self._owners}
        folders.update(self._real.get(folder, folder) for folder in tuple(folders))
        real = self._real.get(above, above)
        return (real, name.casefold()) in self._reserved or any(
            folder == at or folder.startswith(inside) for folder in folders
        )

    def learn(self, folder: str, real: str) -> None:
        """Links lead from that folder to `real`. Whoever has claims in it came after those who knew."""
        folder = os.path.abspath(folder)
        if self._real.get(folder, folder) == real:
            return
        self._real[folder] = real
        for place, owners in self._owners.items():
            if place[0] == folder:
                self._owners[place] = tuple([(next(self._order), info_hash) for _, info_hash in owners])

    def reserved(self, folder: str, root: str) -> bool:
        """Is that place bittern's own?"""
        return root.casefold() in {SENTINEL, TEMPORARY} or any(
            place in self._reserved for place in self._places(folder, root)
        )

    def owner(self, folder: str, root: str) -> InfoHash | None:
        """Who was there first."""
        firsts = [self._owners[place][0] for place in self._places(folder, root) if place in self._owners]
        return min(firsts)[1] if firsts else None

    def claim(self, folder: str, root: str, info_hash: InfoHash) -> None:
        """The torrent's data is or may be there."""
        place = self._place(folder, root)
        owners = self._owners.get(place, ())
        if all(info_hash != other for _, other in owners):
            self._owners[place] = (*owners, (next(self._order), info_hash))

    def shared(self, folder: str, root: str, info_hash: InfoHash) -> bool:
        """Does anybody else claim that place too?"""
        return any(
            other != info_hash
            for place in self._places(folder, root)
            for _, other in self._owners.get(place, ())
        )

    def leave(self, folder: str, root: str, info_hash: InfoHash) -> None:
        """It is not there any more; whoever shared the place inherits it."""
        place = self._place(folder, root)
        owners = tuple([one for one in self._owners.pop(place, ()) if one[1] != info_hash])
        if owners:
            self._owners[place] = owners

    def _places(self, folder: str, root: str) -> set[Place]:
        """All names that the place has."""
        at, name = self._place(folder, root)
        real = self._real.get(at, at)
        return {(at, name), (real, name), *((one, name) for one, to in self._real.items() if to == real)}

    @staticmethod
    def _place(folder: str, root: str) -> Place:
        # Thousands of torrents lie in few folders, and most names are their own small letters.
        name = root.casefold()
        return sys.intern(os.path.abspath(folder)), root if name == root else name
