"""The engine in a program of one's own: a session, its torrents, and what happens to them.

    async with bittern.open_session("downloads") as session:
        torrent = await session.download("debian.torrent")
        await torrent.wait_complete()

Made for trio; from asyncio it is reached through anyio's blocking portal. All of it belongs to the one task's loop that
opened the session: other threads come through `trio.from_thread`. Methods that are not `async` decide at once.

Info hashes are told as 40 hexadecimal digits and taken as such or as 20 bytes; sizes are bytes, rates bytes per second,
times seconds since 1970.
"""

import builtins
import logging
import os
import stat
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, NamedTuple, Self, TypeAlias, TypedDict, Unpack, overload
from weakref import WeakSet, WeakValueDictionary

import trio

from bittern import __version__
from bittern.control.views import FIELDS, file_views, torrent_view
from bittern.disk.resume import ResumeRecord
from bittern.engine import events as told
from bittern.engine import torrent as engine_torrent
from bittern.engine.assembly import FAREWELL_S, Engine, assembled
from bittern.engine.settings import Settings
from bittern.engine.supervision import is_bug, widest
from bittern.errors import (
    BitternError,
    CallError,
    MagnetError,
    MetainfoError,
    PortTaken,
    SessionClosed,
    SessionFailed,
    StateError,
    StorageError,
    TorrentNotFound,
    UnknownField,
)
from bittern.proto.handshake import peer_id_prefix
from bittern.proto.metainfo import MAX_METAINFO_BYTES
from bittern.terms import InfoHash

__all__ = [
    "EVENTS_KEPT",
    "PEER_ID_PREFIX",
    "STATS",
    "BitternError",
    "CallError",
    "Event",
    "Events",
    "EventsLost",
    "File",
    "MagnetError",
    "MetainfoError",
    "Options",
    "PortTaken",
    "Session",
    "SessionClosed",
    "SessionFailed",
    "Speed",
    "StateError",
    "StorageError",
    "Torrent",
    "TorrentNotFound",
    "UnknownField",
    "open_session",
]

PEER_ID_PREFIX: Final[bytes] = peer_id_prefix(__version__)
"""How the peer ids of this version begin (BEP 20)."""

STATS: Final = ("name", "speed", "downloaded", "bytes_size")
"""What `Torrent.stats` tells unless it is asked for something else."""

EVENTS_KEPT: Final = 1000
"""So many wait for a reader of events; of more the oldest are lost, and he is told how many."""

STATE_FOLDER: Final = ".bittern"
"""Below the download folder, unless another one is named."""

CLOSING_S: Final = 30.0
"""For how long the end of a session may wait for a disk."""

STOPPED_AT_ONCE: Final = 64

_RECORD: Final = frozenset(field.name for field in fields(ResumeRecord)) - {"info_hash", "have"}

_log: Final = logging.getLogger("bittern")


@dataclass(frozen=True, slots=True)
class EventsLost:
    """A reader of events was too slow: so many, the oldest, were dropped before the next one that it gets."""

    count: int


Event: TypeAlias = told.Event | EventsLost
"""One of the classes in `bittern.engine.events`; `facts` says of which torrent."""


class Speed(NamedTuple):
    """Bytes per second."""

    download: int
    upload: int


@dataclass(frozen=True, slots=True)
class File:
    """One file of a torrent; `downloaded` bytes of it are verified, `progress` is their share."""

    index: int
    path: Path
    """Where it lies, or will."""
    name: str
    length: int
    downloaded: int
    progress: float
    complete: bool


class Options(TypedDict, total=False):
    """What a session can be told besides its folders; rates in bytes per second, None for no limit.

    `listen` are numeric addresses. `port` 0 is a free one, and the default; `PortTaken` when another one is not free.
    `dial_scope` "this-host" keeps everything on this machine. `dht_bootstrap` are `host:port` of nodes that introduce
    us. `reserve_bytes` stay free on each file system: downloads without room wait.
    """

    listen: tuple[str, ...]
    port: int
    dial_scope: Literal["any", "this-host"]
    dht: bool
    dht_bootstrap: tuple[str, ...]
    lsd: bool
    pex: bool
    max_peers: int
    max_peers_per_torrent: int
    download_rate: float | None
    upload_rate: float | None
    upload_slots: int | None
    max_downloads: int | None
    max_seeds: int | None
    open_files: int
    piece_memory: int
    preallocate: bool
    reserve_bytes: int


@asynccontextmanager
async def open_session(
    downloads: str | os.PathLike[str] = ".",
    *,
    state: str | os.PathLike[str] | None = None,
    **options: Unpack[Options],
) -> AsyncIterator["Session"]:
    """A session that runs until the block is left: listening, and with all torrents of its last life.

    Data goes to `downloads` unless a torrent is told otherwise; what is remembered is kept in `state`, which is
    `downloads/.bittern` unless it is named, and which one session at a time may use. A torrent that was not stopped
    goes on by itself when the same state is opened again. Leaving ends connections, tells trackers `stopped` (for three
    seconds at most) and writes everything down; so does an error in the block, which comes out as it was raised.

    `StateError`: the state folder is in use, cannot be written, or is a newer bittern's. `PortTaken`. `SessionFailed`:
    a bug of ours that could not be contained.
    """
    folder = _absolute(downloads)
    kept = f"{folder}/{STATE_FOLDER}" if state is None else _absolute(state)
    defaults: Options = {"port": 0}
    settings = Settings(state=kept, downloads=folder, reserved=(kept,), **(defaults | options))
    session, block = Session(), _Block()
    try:
        async with (
            assembled(settings, session._tell, taken=_port_taken) as engine,  # noqa: SLF001 — its own maker
            trio.open_nursery() as foundation,
        ):
            await engine.lay(foundation)
            try:
                async with trio.open_nursery() as above:
                    await engine.start(above)
                    await engine.listen(above, foundation)
                    await engine.session.load(lambda _done, _of: None)
                    session._open(engine, folder)  # noqa: SLF001 — as above
                    with block:
                        yield session
                    above.cancel_scope.cancel()
            finally:
                session._close()  # noqa: SLF001 — as above
                engine.session.lifecycle.stop()
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSING_S):
                    await engine.take_leave()
            foundation.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        ours, others = group.split(Exception)
        if ours is None or others is not None:
            raise
        fault = widest(ours)
        if is_bug(fault):
            raise SessionFailed(f"bittern had to end the session: {fault!r}") from group
        raise fault from group
    if block.error is not None:
        raise block.error


class _Block:
    """Keeps the error of a block: on its way through the nurseries it would be wrapped in groups."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> bool:
        if isinstance(error, Exception):
            self.error = error
            return True
        return False


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(path)


def _port_taken(reason: str) -> None:
    raise PortTaken(reason.partition("; trying")[0])


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
            case told.Completed() if self._engine is not None:
                # nobody's hook waits for it
                self._engine.session.delivered(event.facts.info_hash, event.event_id)
            case told.Crashed():
                _log.error("%s failed, %s", event.where, event.remedy, exc_info=event.exception)
            case told.Warned():
                _log.warning("%s: %s", event.what, event.detail)
            case _:
                pass
        for reader in list(self._readers):
            reader._put(event)  # noqa: SLF001 — the other half of it
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

        `MetainfoError`, `MagnetError`: it is refused. `StorageError`: the state folder cannot be written.
        `OSError`: the .torrent cannot be read.
        """
        session = self._running().session
        folder = self._downloads if downloads is None else _absolute(downloads)
        if isinstance(path_or_magnet, str) and path_or_magnet.lstrip()[:7].lower() == "magnet:":
            added = await session.add_magnet(path_or_magnet, downloads=folder, label=label)
        else:
            blob = path_or_magnet if isinstance(path_or_magnet, bytes) else await _read(path_or_magnet)
            added = await session.add(blob, downloads=folder, label=label)
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
        reader = Events(self)
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
        live = self._live()
        session = self._session._running().session  # noqa: SLF001 — its other half
        for name in names:
            if name not in FIELDS and name not in _OWN and name not in _RECORD:
                raise UnknownField(f"a torrent has no field {name!r}")
        wanted = {one for name in names for one in _OWN.get(name, (name,)) if one in FIELDS}
        view = torrent_view(session, live, tuple(wanted))
        return [_value(name, live, view) for name in names]

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
            for one in file_views(opened, live.have, complete=live.complete)
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

    async def remove(self, delete_data: bool = False) -> None:
        """As `Session.remove`."""
        await self._session.remove(self._info_hash, delete_data)


class Events:
    """An async iterator; reading may stop at any time. One that nobody refers to any more is forgotten."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._waiting: deque[told.Event] = deque()
        self._lost = 0
        self._closed = False
        self._news = trio.Event()

    def _put(self, event: told.Event) -> None:
        if len(self._waiting) >= EVENTS_KEPT:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(event)
        self._news.set()

    def close(self) -> None:
        """Nothing more is told; what waits can still be read."""
        self._closed = True
        self._session._readers.discard(self)  # noqa: SLF001 — its other half
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        await trio.lowlevel.checkpoint()
        while not self._waiting and not self._closed:
            self._news = trio.Event()
            await self._news.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return EventsLost(lost)
        if not self._waiting:
            raise StopAsyncIteration
        return self._waiting.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()


_UNSURE: Final = frozenset(
    {engine_torrent.State.CHECKING, engine_torrent.State.ERROR, engine_torrent.State.OFFLINE}
)
"""A complete torrent of which it has to be found out whether it still is."""

_OWN: Final = {
    "speed": ("download_rate", "upload_rate"),
    "downloaded": ("size_bytes", "left_bytes"),
    "bytes_size": ("size_bytes",),
    "bitfield": (),
}
"""Fields that are put together from others."""


def _value(name: str, live: engine_torrent.Torrent, view: dict[str, Any]) -> Any:
    match name:
        case "speed":
            return Speed(view["download_rate"], view["upload_rate"])
        case "bytes_size":
            return view["size_bytes"]
        case "downloaded":
            # of a magnet link nothing is known, not even how much there is
            return max(0, view["size_bytes"] - view["left_bytes"])
        case "bitfield":
            pieces = live.record.piece_count
            if live.complete:
                return _full(pieces)
            return (
                live.have.to_bytes() if live.have is not None else live.record.have or bytes(-(-pieces // 8))
            )
    return view[name] if name in view else getattr(live.record, name)


def _full(pieces: int) -> bytes:
    spare = -pieces % 8
    whole = b"\xff" * -(-pieces // 8)
    return whole[:-1] + bytes([0xFF << spare & 0xFF]) if spare else whole


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
