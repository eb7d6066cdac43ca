"""A session and its torrents, as a program holds them."""

import builtins
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, overload
from weakref import WeakSet, WeakValueDictionary

import trio

from bittern.api.events import Events
from bittern.api.options import absolute
from bittern.api.values import STATS, File, values_of
from bittern.control.views import file_views
from bittern.engine import events as told
from bittern.engine import torrent as engine_torrent
from bittern.engine.assembly import FAREWELL_S, Engine
from bittern.errors import (
    CallError,
    MetainfoError,
    OptionError,
    SessionClosed,
    StorageError,
    TorrentNotFound,
)
from bittern.policy.add_terms import AddTerms
from bittern.policy.labels import checked as checked_labels
from bittern.policy.tiers import checked_tiers
from bittern.proto.metainfo import MAX_METAINFO_BYTES
from bittern.terms import InfoHash

STOPPED_AT_ONCE: Final = 64

_UNSURE: Final = frozenset(
    {engine_torrent.State.CHECKING, engine_torrent.State.ERROR, engine_torrent.State.OFFLINE}
)
"""A complete torrent of which it has to be found out whether it still is."""

_log: Final = logging.getLogger("bittern")


class Session:
    """Made by `open_session`. After its block every call raises `SessionClosed`."""

    def __init__(self) -> None:
        self._engine: Engine | None = None
        self._downloads = ""
        self._closed = False
        self._known: WeakValueDictionary[InfoHash, Torrent] = WeakValueDictionary()
        self._readers: WeakSet[Events] = WeakSet()
        self._news = trio.Event()

    def _open(self, engine: Engine, downloads: str) -> None:
        self._engine, self._downloads = engine, downloads

    def _close(self) -> None:
        self._closed, self._engine = True, None
        self._wake()
        for reader in list(self._readers):
            reader.close()

    def _wake(self) -> None:
        self._news.set()
        self._news = trio.Event()

    def _tell(self, event: told.Event) -> None:
        """The engine's sink."""
        match event:
            case told.Added() | told.Started() | told.Completed() | told.Removed() if (
                self._engine is not None
            ):
                # nobody's hook waits for it
                session, info_hash = self._engine.session, event.facts.info_hash
                session.delivered(info_hash, event.event_id)
                if info_hash in session.torrents and session.torrents[info_hash].record.downloaded_event_id:
                    session.delivered(info_hash, session.torrents[info_hash].record.downloaded_event_id)
            case told.Crashed():
                _log.error("%s failed, %s", event.where, event.remedy, exc_info=event.exception)
            case told.Warned():
                _log.warning("%s: %s", event.what, event.detail)
            case _:
                pass
        for reader in list(self._readers):
            reader.put(event)
        self._wake()

    def _running(self) -> Engine:
        if self._engine is None:
            raise SessionClosed("the session is closed")
        return self._engine

    @property
    def port(self) -> int:
        """Where peers reach us."""
        return self._running().port

    async def download(
        self,
        path_or_magnet: str | os.PathLike[str] | bytes,
        *,
        downloads: str | os.PathLike[str] | None = None,
        label: str = "",
    ) -> "Torrent":
        """Adds a torrent, durably: the path of a .torrent, its bytes, or a magnet link. What lies on disk already is
        checked and kept. One that is known is the same object as before, its new trackers are taken over, and it goes
        on if it was stopped.

        `MetainfoError`, `MagnetError`: it is refused. `OptionError`: no folder or label can be called so; like the
        others it leaves no trace. `StorageError`: the state folder cannot be written. `OSError`: the .torrent cannot be
        read.
        """
        session = self._running().session
        folder = self._downloads if downloads is None else absolute("downloads", downloads)
        terms = AddTerms(folder, folder_said=downloads is not None, label=label)
        if isinstance(path_or_magnet, str) and path_or_magnet.lstrip()[:7].lower() == "magnet:":
            added = await session.add_magnet(path_or_magnet, terms)
        else:
            blob = path_or_magnet if isinstance(path_or_magnet, bytes) else await _read(path_or_magnet)
            added = await session.add(blob, terms)
        torrent = self.torrent(added.info_hash)
        if torrent._live().record.stopped:  # noqa: SLF001 — our own
            await session.resume(added.info_hash)
        return torrent

    def list(self) -> "builtins.list[Torrent]":
        """All torrents, in the order in which they were added."""
        torrents = sorted(self._running().session.torrents.values(), key=lambda one: one.record.number)
        return [self._view(torrent.info_hash) for torrent in torrents]

    def torrent(self, info_hash: str | bytes) -> "Torrent":
        """That one; `TorrentNotFound`."""
        torrent = self._view(_info_hash(info_hash))
        torrent._live()  # noqa: SLF001 — our own
        return torrent

    def _view(self, info_hash: InfoHash) -> "Torrent":
        view = self._known.get(info_hash)
        if view is None:
            view = self._known[info_hash] = Torrent(self, info_hash)
        return view

    async def stop(self, info_hash: "str | bytes | Torrent") -> None:
        """As `Torrent.stop`; one that is not known is stopped already."""
        await self._stop([_info_hash(info_hash)])

    async def stop_all(self) -> None:
        """Stops every torrent; the first `StorageError` is raised when all have been tried."""
        await self._stop(builtins.list(self._running().session.torrents))

    async def _stop(self, info_hashes: "builtins.list[InfoHash]") -> None:
        session = self._running().session
        failures: builtins.list[StorageError] = []
        line = iter(info_hashes)

        async def stop() -> None:
            for info_hash in line:
                try:
                    await session.pause(info_hash, reason="stopped")
                except StorageError as error:
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(min(STOPPED_AT_ONCE, len(info_hashes))):
                nursery.start_soon(stop)
        with trio.move_on_after(FAREWELL_S):
            for info_hash in info_hashes:
                await session.announcer.parted(info_hash)
        if failures:
            raise failures[0]

    async def remove(self, info_hash: "str | bytes | Torrent", delete_data: bool = False) -> None:
        """Forgets a torrent, durably. With `delete_data` those of its files go that we made and nobody has changed
        since, and then folders that are empty. `TorrentNotFound`, `StorageError`.
        """
        found = _info_hash(info_hash)
        if not await self._running().session.remove(found, reason="asked for", with_data=delete_data):
            raise _not_found(found)

    def events(self) -> "Events":
        """What happens from now on, for one reader; any number may read.

        `EVENTS_KEPT` of them wait for him. If he is slower than that the oldest are dropped, and `EventsLost` comes in
        their place. The end of the session ends the iteration, after what was still waiting.
        """
        self._running()
        reader = Events(self._readers.discard)
        self._readers.add(reader)
        return reader


class Torrent:
    """One torrent of a session; there is one object of each. Every method may raise `TorrentNotFound` (it was
    removed) and `SessionClosed`.
    """

    __slots__ = ("__weakref__", "_info_hash", "_session")

    def __init__(self, session: Session, info_hash: InfoHash) -> None:
        self._session = session
        self._info_hash = info_hash

    def __repr__(self) -> str:
        try:
            name, state, progress = self.get("name", "state", "progress")
        except CallError:
            return f"<Torrent {self.info_hash} gone>"
        return f"<Torrent {self.info_hash[:8]} {name!r} {state} {progress:.0%}>"

    def _live(self) -> engine_torrent.Torrent:
        torrent = self._session._running().session.torrents.get(self._info_hash)  # noqa: SLF001 — its other half
        if torrent is None:
            raise _not_found(self._info_hash)
        return torrent

    @property
    def info_hash(self) -> str:
        """As 40 hexadecimal digits."""
        return self._info_hash.hex()

    @property
    def name(self) -> str:
        """Of a magnet link without one it is the info hash until peers have told more."""
        return self._live().record.name

    @property
    def state(self) -> str:
        """`metadata`, `queued`, `checking`, `downloading`, `moving`, `seeding`, `error`, `stopped`, `held` (there is no
        room) or `offline` (its disk is not mounted).
        """
        return self._live().state.value

    def stats(self, fields: Sequence[str] = STATS) -> dict[str, Any]:
        """How it goes, by name: `name`, `speed` (a `Speed`), `downloaded` (bytes that are here and verified),
        `bytes_size`, and whatever `get` knows. `UnknownField`.
        """
        names = [fields] if isinstance(fields, str) else builtins.list(fields)
        return dict(zip(names, self._values(names), strict=True))

    @overload
    def get(self, field: str, /) -> Any: ...
    @overload
    def get(self, *fields: str) -> tuple[Any, ...]: ...
    def get(self, *fields: str) -> Any:
        """Low-level fields: one as its value, several as a tuple. `UnknownField`.

        Those of the native API (`state`, `error`, `progress`, `left_bytes`, `eta_s`, `ratio`, `peers`, `folder`,
        `path`, `trackers`, `piece_count`, ...), those of `stats`, those of the resume record, and `bitfield`: packed
        bits, one a piece, of what is verified.
        """
        values = self._values(fields)
        return values[0] if len(values) == 1 else tuple(values)

    def _values(self, names: Sequence[str]) -> builtins.list[Any]:
        return values_of(self._session._running().session, self._live(), names)  # noqa: SLF001 — its other half

    def files(self) -> builtins.list[File]:
        """Its files; none while a magnet link is all that is known of it. `StorageError`: the stored .torrent is gone.

        Reads that .torrent here and now: some milliseconds, more for one with very many files.
        """
        live = self._live()
        if live.record.state == "metadata":
            return []
        opened = self._session._running().session.look(live)  # noqa: SLF001 — its other half
        folder = Path(live.data_folder)
        return [
            File(
                index=one["index"],
                path=folder / one["path"],
                name=one["name"],
                length=one["length"],
                downloaded=one["downloaded"],
                progress=one["progress"],
                complete=one["complete"],
            )
            for one in file_views(opened, live.claimed, complete=live.whole)
        ]

    async def wait_complete(self) -> None:
        """Returns when all of it is verified, on the disk and in its place; at once for one that was complete before.

        A torrent in error tries again by itself, and a stopped one may be resumed: both are waited for.
        """
        await trio.lowlevel.checkpoint()
        while True:
            live = self._live()
            await self._session._running().session.checker.done_with(live)  # noqa: SLF001 — its other half
            if self._live() is live and live.record.state == "complete" and live.state not in _UNSURE:
                return
            await self._session._news.wait()  # noqa: SLF001 — its other half

    async def stop(self) -> None:
        """Stops it and keeps its state: peers are left, what was asked of them is cancelled, trackers that know it hear
        `stopped` (for three seconds at most), and the resume record is written. It stays stopped, also when the state
        is opened again, until `resume` or `Session.download`. Fine for one that is stopped or was removed;
        `StorageError` when it stands still, but a restart may let it run again.
        """
        await self._session.stop(self._info_hash)

    async def resume(self) -> None:
        """Lets a stopped one go on; durable when it returns. `StorageError` as above."""
        self._live()
        if not await self._session._running().session.resume(self._info_hash):  # noqa: SLF001 — its other half
            raise _not_found(self._info_hash)

    async def rename(self, path: str, name: str) -> None:
        """Gives one of its files or folders, or all its data, another name, on disk too; durable when it returns.
        `path` begins with the torrent's name, as those of `files` do below its folder. `FileSelectionError`: it has no
        such file, or that is no name; `StorageError`: it cannot be, now or at all.
        """
        self._live()
        if not await self._session._running().session.rename(self._info_hash, path, name):  # noqa: SLF001 — its other half
            raise _not_found(self._info_hash)

    async def set_trackers(self, tiers: Sequence[Sequence[str]]) -> None:
        """These are its trackers from now on, tier by tier (BEP 12), and no others: new ones are asked at once, old
        ones hear `stopped`. Durable when it returns. `TrackerListError`, and nothing is changed; `StorageError` when
        they hold, but a restart may bring back the old ones.
        """
        wanted = checked_tiers(tiers)
        self._live()
        if not await self._session._running().session.set_trackers(self._info_hash, lambda _: wanted):  # noqa: SLF001 — its other half
            raise _not_found(self._info_hash)

    async def set_labels(self, labels: Sequence[str]) -> None:
        """These are its labels from now on, and no others; durable when it returns. `OptionError`: they cannot be, and
        nothing is changed; `StorageError` as above.
        """
        try:
            wanted = checked_labels(labels)
        except ValueError as error:
            raise OptionError(str(error)) from None
        self._live()
        if not await self._session._running().session.set_labels(self._info_hash, wanted):  # noqa: SLF001 — its other half
            raise _not_found(self._info_hash)

    async def remove(self, delete_data: bool = False) -> None:
        """As `Session.remove`."""
        await self._session.remove(self._info_hash, delete_data)


def _info_hash(told_as: "str | bytes | Torrent") -> InfoHash:
    if isinstance(told_as, Torrent):
        return told_as._info_hash  # noqa: SLF001 — our own
    try:
        found = bytes.fromhex(told_as) if isinstance(told_as, str) else bytes(told_as)
    except ValueError:
        found = b""
    if len(found) != 20:
        raise TorrentNotFound(f"{told_as!r} is no info hash: 40 hexadecimal digits, or 20 bytes")
    return InfoHash(found)


def _not_found(info_hash: InfoHash) -> TorrentNotFound:
    return TorrentNotFound(f"no torrent has the info hash {info_hash.hex()}")


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
