"""Whose data lies where: no two torrents write the same file, and none writes where bittern's own folders are."""

import os.path
from collections.abc import Iterable

from bittern.terms import InfoHash

Place = tuple[str, str]


class Territory:
    """Roots (`folder/name`) and the torrents they belong to. Names that differ only in case count as one: some file
    systems cannot tell them apart.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._owners: dict[Place, list[InfoHash]] = {}
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

    def reserved(self, folder: str, root: str) -> bool:
        """Is that place bittern's own?"""
        return self._place(folder, root) in self._reserved

    def owner(self, folder: str, root: str) -> InfoHash | None:
        """Who was there first."""
        owners = self._owners.get(self._place(folder, root))
        return owners[0] if owners else None

    def claim(self, folder: str, root: str, info_hash: InfoHash) -> None:
        """The torrent's data is or may be there."""
        owners = self._owners.setdefault(self._place(folder, root), [])
        if info_hash not in owners:
            owners.append(info_hash)

    def leave(self, folder: str, root: str, info_hash: InfoHash) -> None:
        """It is not there any more; whoever shared the place inherits it."""
        place = self._place(folder, root)
        owners = self._owners.get(place, [])
        if info_hash in owners:
            owners.remove(info_hash)
        if not owners:
            self._owners.pop(place, None)

    @staticmethod
    def _place(folder: str, root: str) -> Place:
        return os.path.abspath(folder), root.casefold()
