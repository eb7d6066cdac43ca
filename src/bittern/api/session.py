"""A session, as a program holds it."""

import builtins
import os
import stat
from weakref import WeakValueDictionary

import trio

from bittern.api.events import Events
from bittern.api.life import Life
from bittern.api.options import absolute
from bittern.api.torrent import Torrent
from bittern.errors import MetainfoError, TorrentNotFound
from bittern.policy.add_terms import AddTerms
from bittern.proto.metainfo import MAX_METAINFO_BYTES
from bittern.terms import InfoHash


class Session:
    """Made by `open_session`. After its block every call raises `SessionClosed`."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._known: WeakValueDictionary[InfoHash, Torrent] = WeakValueDictionary()

    @property
    def port(self) -> int:
        """Where peers reach us."""
        return self._life.engine.port

    async def download(
        self,
        path_or_magnet: str | os.PathLike[str] | bytes,
        *,
        downloads: str | os.PathLike[str] | None = None,
        label: str | None = None,
    ) -> "Torrent":
        """Adds a torrent, durably: the path of a .torrent, its bytes, or a magnet link. What lies on disk already is
        checked and kept. One that is known is the same object as before, its new trackers are taken over, and it goes
        on if it was stopped.

        `MetainfoError`, `MagnetError`: it is refused. `OptionError`: no folder or label can be called so; like the
        others it leaves no trace. `StorageError`: the state folder cannot be written. `OSError`: the .torrent cannot be
        read.
        """
        session = self._life.session
        folder = self._life.downloads if downloads is None else absolute("downloads", downloads)
        terms = AddTerms(folder, folder_said=downloads is not None, label=label)
        if isinstance(path_or_magnet, str) and path_or_magnet.lstrip()[:7].lower() == "magnet:":
            added = await session.add_magnet(path_or_magnet, terms)
        else:
            blob = path_or_magnet if isinstance(path_or_magnet, bytes) else await _read(path_or_magnet)
            added = await session.add(blob, terms)
        if self._life.live(added.info_hash).record.stopped:
            await session.resume(added.info_hash)
        return self._view(added.info_hash)

    def list(self) -> "builtins.list[Torrent]":
        """All torrents, in the order in which they were added."""
        torrents = sorted(self._life.session.torrents.values(), key=lambda one: one.record.number)
        return [self._view(torrent.info_hash) for torrent in torrents]

    def torrent(self, info_hash: str | bytes) -> "Torrent":
        """That one; `TorrentNotFound`."""
        return self._view(self._life.live(_info_hash(info_hash)).info_hash)

    def _view(self, info_hash: InfoHash) -> "Torrent":
        view = self._known.get(info_hash)
        if view is None:
            view = self._known[info_hash] = Torrent(self._life, info_hash)
        return view

    async def stop(self, info_hash: "str | bytes | Torrent") -> None:
        """As `Torrent.stop`; one that is not known is stopped already."""
        await self._life.stop([_info_hash(info_hash)])

    async def stop_all(self) -> None:
        """Stops every torrent; the first `StorageError` is raised when all have been tried."""
        await self._life.stop(builtins.list(self._life.session.torrents))

    async def remove(self, info_hash: "str | bytes | Torrent", delete_data: bool = False) -> None:
        """Forgets a torrent, durably. With `delete_data` those of its files go that we made and nobody has changed
        since, and then folders that are empty. `TorrentNotFound`, `StorageError`.
        """
        await self._life.remove(_info_hash(info_hash), delete_data=delete_data)

    def events(self) -> "Events":
        """What happens from now on, for one reader; any number may read.

        `EVENTS_KEPT` of them wait for him. If he is slower than that the oldest are dropped, and `EventsLost` comes in
        their place. The end of the session ends the iteration, after what was still waiting.

        The first reader is told before that what an earlier session on this state, or a daemon, had on record (added,
        started, arrived, completed, removed), and may not have told when it was killed; what it did tell comes again
        then, with the same `event_id`. What is on record in a daemon's state stays there, and comes again each time,
        until its hooks have it.
        """
        return self._life.events()


def _info_hash(told_as: "str | bytes | Torrent") -> InfoHash:
    if isinstance(told_as, Torrent):
        told_as = told_as.info_hash
    try:
        found = bytes.fromhex(told_as) if isinstance(told_as, str) else bytes(told_as)
    except ValueError:
        found = b""
    if len(found) != 20:
        raise TorrentNotFound(f"{told_as!r} is no info hash: 40 hexadecimal digits, or 20 bytes")
    return InfoHash(found)


async def _read(path: str | os.PathLike[str]) -> bytes:
    return await trio.to_thread.run_sync(_read_now, os.fspath(path), abandon_on_cancel=True)


def _read_now(path: str) -> bytes:
    """In a thread. A FIFO or a device must not hold it up."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise MetainfoError(f"{path}: not a file")
        blob = file.read(MAX_METAINFO_BYTES + 1)
    if len(blob) > MAX_METAINFO_BYTES:
        raise MetainfoError(f"{path}: more than a .torrent may have ({MAX_METAINFO_BYTES >> 20} MiB)")
    return blob
