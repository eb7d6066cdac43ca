"""A torrent of a session, as a program holds it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, overload

import trio

from bittern.api.life import Life, not_found
from bittern.api.values import STATS, File, values_of
from bittern.control.views import file_views
from bittern.engine import torrent as engine_torrent
from bittern.errors import CallError, OptionError
from bittern.policy.labels import checked as checked_labels
from bittern.policy.tiers import checked_tiers
from bittern.terms import InfoHash

_UNSURE: Final = frozenset(
    {engine_torrent.State.CHECKING, engine_torrent.State.ERROR, engine_torrent.State.OFFLINE}
)
"""A complete torrent of which it has to be found out whether it still is."""


class Torrent:
    """One torrent of a session; there is one object of each. Every method may raise `TorrentNotFound` (it was
    removed) and `SessionClosed`.
    """

    __slots__ = ("__weakref__", "_info_hash", "_life")

    def __init__(self, life: Life, info_hash: InfoHash) -> None:
        self._life = life
        self._info_hash = info_hash

    def __repr__(self) -> str:
        try:
            name, state, progress = self.get("name", "state", "progress")
        except CallError:
            return f"<Torrent {self.info_hash} gone>"
        return f"<Torrent {self.info_hash[:8]} {name!r} {state} {progress:.0%}>"

    def _live(self) -> engine_torrent.Torrent:
        return self._life.live(self._info_hash)

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
        names = [fields] if isinstance(fields, str) else list(fields)
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

    def _values(self, names: Sequence[str]) -> list[Any]:
        return values_of(self._life.session, self._live(), names)

    def files(self) -> list[File]:
        """Its files; none while a magnet link is all that is known of it. `StorageError`: the stored .torrent is gone.

        Reads that .torrent here and now: some milliseconds, more for one with very many files.
        """
        live = self._live()
        if live.record.state == "metadata":
            return []
        opened = self._life.session.look(live)
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
            await self._life.session.lifecycle.checks.done_with(live)
            if self._live() is live and live.record.state == "complete" and live.state not in _UNSURE:
                return
            await self._life.news()

    async def stop(self) -> None:
        """Stops it and keeps its state: peers are left, what was asked of them is cancelled, trackers that know it hear
        `stopped` (for three seconds at most), and the resume record is written. It stays stopped, also when the state
        is opened again, until `resume` or `Session.download`. Fine for one that is stopped or was removed;
        `StorageError` when it stands still, but a restart may let it run again.
        """
        await self._life.stop([self._info_hash])

    async def resume(self) -> None:
        """Lets a stopped one go on; durable when it returns. `StorageError` as above."""
        self._live()
        if not await self._life.session.resume(self._info_hash):
            raise not_found(self._info_hash)

    async def rename(self, path: str, name: str) -> None:
        """Gives one of its files or folders, or all its data, another name, on disk too; durable when it returns.
        `path` begins with the torrent's name, as those of `files` do below its folder. `FileSelectionError`: it has no
        such file, or that is no name; `StorageError`: it cannot be, now or at all.
        """
        self._live()
        if not await self._life.session.rename(self._info_hash, path, name):
            raise not_found(self._info_hash)

    async def set_trackers(self, tiers: Sequence[Sequence[str]]) -> None:
        """These are its trackers from now on, tier by tier (BEP 12), and no others: new ones are asked at once, old
        ones hear `stopped`. Durable when it returns. `TrackerListError`, and nothing is changed; `StorageError` when
        they hold, but a restart may bring back the old ones.
        """
        wanted = checked_tiers(tiers)
        self._live()
        if not await self._life.session.set_trackers(self._info_hash, lambda _: wanted):
            raise not_found(self._info_hash)

    async def set_labels(self, labels: Sequence[str]) -> None:
        """These are its labels from now on, and no others; durable when it returns. `OptionError`: they cannot be, and
        nothing is changed; `StorageError` as above.
        """
        try:
            wanted = checked_labels(labels)
        except ValueError as error:
            raise OptionError(str(error)) from None
        self._live()
        if not await self._life.session.set_labels(self._info_hash, wanted):
            raise not_found(self._info_hash)

    async def remove(self, delete_data: bool = False) -> None:
        """As `Session.remove`."""
        await self._life.remove(self._info_hash, delete_data=delete_data)
