"""Gives files and folders of torrents other names, on disk and in the record.

The record says so first, and by what the old name was (`renaming`), durably; then the disk follows; then the record
forgets the old name. So whatever a crash interrupts is ended at the next start, or taken back when something else has
got the name meanwhile. A complete torrent is served all the time; of one that is not, peers wait.
"""

import time
from typing import Final, Protocol

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.paths import plan_paths
from bittern.disk.renames import (
    Renaming,
    find,
    may_rename,
    pack_renaming,
    rename_in,
    unpack_renaming,
)
from bittern.disk.resume import ResumeRecord
from bittern.engine.check_queue import CheckQueue
from bittern.engine.events import Renamed, Sink, Warned
from bittern.engine.flusher import Flusher
from bittern.engine.moving import Moving
from bittern.engine.opening import Opened, Opener
from bittern.engine.supervision import Supervisor, is_bug
from bittern.engine.swarms import Swarms
from bittern.engine.territory import Territory, places_of
from bittern.engine.torrent import State, Torrent
from bittern.engine.whereabouts import Whereabouts
from bittern.errors import PlaceGone, StorageError

PATIENCE_S: Final = 5.0
"""What is under way for the torrent may end so soon; a look at what lies on disk mostly does."""

_NOT_NOW: Final = frozenset({State.CHECKING, State.MOVING, State.ERROR, State.OFFLINE})


class RenamingHost(Protocol):
    """What renaming needs of the lifecycle."""

    disk: DiskGate
    opener: Opener
    flusher: Flusher
    checks: CheckQueue
    supervisor: Supervisor
    sink: Sink
    swarms: Swarms
    moving: Moving
    whereabouts: Whereabouts

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    def finishing(self, torrent: Torrent) -> bool:
        """Are the last steps of its download under way?"""


class Renames:
    """All of them; one at a time for each torrent."""

    def __init__(self, host: RenamingHost, territory: Territory) -> None:
        self._host = host
        self._territory = territory

    async def rename(self, torrent: Torrent, path: str, name: str) -> None:
        """What is called `path` is called `name` from now on; durable when this returns. `FileSelectionError` when it
        has no such file, or that is no name; `StorageError`: it cannot be.
        """
        record, host = torrent.record, self._host
        with trio.move_on_after(PATIENCE_S):
            # several at once, or one after the other
            await host.moving.ended(torrent)
            await host.checks.done_with(torrent)
        self._refuse(torrent)
        while True:
            before = record.root, record.renames, record.name
            wanted = await host.disk.call(self._work_out, record, path, name)
            if (record.root, record.renames, record.name) == before:
                # nobody else renamed meanwhile
                break
        if not host.known(torrent):
            raise StorageError("the torrent was removed meanwhile")
        self._refuse(torrent)
        if wanted is None:
            return
        if wanted.root != wanted.root_before and self._is_taken(torrent, wanted.root):
            raise StorageError(f"{wanted.root!r} there belongs to another torrent or to bittern itself")
        if any(self._territory.inhabited(f"{folder}/{wanted.old}") for folder, _ in places_of(record)):
            # they would not find it again
            raise StorageError(
                f"below {wanted.old!r} lies what belongs to other torrents or to bittern itself"
            )
        if host.moving.nursery is None:
            raise StorageError("bittern is stopping")
        # whoever asks may go away meanwhile
        done, failures = trio.Event(), list[Exception]()
        host.moving.nursery.start_soon(self._contained, torrent, wanted, failures, done)
        await done.wait()
        if failures:
            if is_bug(failures[0]):
                raise StorageError(f"a bug ended its renaming: {failures[0]!r}")
            raise StorageError(str(failures[0]))

    def _refuse(self, torrent: Torrent) -> None:
        record, host = torrent.record, self._host
        if record.state == "metadata":
            raise StorageError("its files are not known yet; try again when they are")
        if record.moving_to or record.renaming or host.moving.busy(torrent) or host.finishing(torrent):
            raise StorageError(f"the files of {record.root!r} are being moved; try again when that is done")
        if torrent.state in _NOT_NOW or (torrent.state is not State.STOPPED and torrent in host.checks):
            raise StorageError(
                f"{record.root!r} is {'in error' if torrent.state is State.ERROR else 'being checked'}, or its disk is "
                "away; try again later"
            )
        folders = {record.folder, record.incomplete_folder or record.folder}
        if record.shared or any(
            self._territory.shared(folder, record.root, record.info_hash) for folder in folders
        ):
            raise StorageError(f"{record.root!r} belongs to another torrent too, and keeps its names")

    def _work_out(self, record: ResumeRecord, path: str, name: str) -> Renaming | None:
        """In a thread: there may be 100 000 files."""
        metainfo = self._host.opener.metainfo(record)
        planned = plan_paths(metainfo, record.root)
        return find(planned, record.renames, record.name, path, name, lone=record.lone)

    async def _contained(
        self, torrent: Torrent, wanted: Renaming, failures: list[Exception], done: trio.Event
    ) -> None:
        try:
            # another one may have begun in the moment before this task
            self._refuse(torrent)
        except StorageError as error:
            failures.append(error)
            done.set()
            return
        with self._host.moving.job(torrent, relocates=True):
            try:
                await self._host.supervisor.contain(
                    f"renaming in {torrent.record.name!r}",
                    lambda: self._carry_out(torrent, wanted),
                    failures.append,
                    remedy="the next start ends it, or takes it back",
                )
            finally:
                done.set()
        self._host.moving.resume(torrent)

    async def _carry_out(self, torrent: Torrent, wanted: Renaming) -> None:
        record, host = torrent.record, self._host
        torrent.state = State.MOVING
        if record.state != "complete":
            # what has arrived is written first: it would be written to files that are gone
            live = host.swarms.live.get(torrent.info_hash)
            host.swarms.stop(torrent)
            if live is not None:
                await host.disk.settled(live.storage)
        await host.flusher.durable(torrent)
        there = await host.disk.call(self._look, record, torrent.data_folder, wanted)
        if there and not record.checked:
            raise StorageError(
                f"what lies at {wanted.old!r} has not been looked at yet, and may be somebody else's"
            )
        torrent.unsynced_storage = torrent.unsynced_files = None
        record.renaming = pack_renaming(wanted) if there else ""
        record.root, record.renames = wanted.root, wanted.renames
        if wanted.root != wanted.root_before:
            record.name = wanted.root
        host.whereabouts.claim(torrent)
        try:
            await host.flusher.durable(torrent)
            await self._follow(torrent, wanted.old, wanted.new)
        except StorageError:
            self._take_back(torrent, wanted.root_before, wanted.name_before, wanted.renames_before)
            raise
        if wanted.root != wanted.root_before:
            self._leave_root(torrent, wanted.root_before)
        host.sink(Renamed(facts=torrent.facts(), old=wanted.old, new=wanted.new, at_wall=time.time()))

    def _look(self, record: ResumeRecord, folder: str, wanted: Renaming) -> bool:
        """Is there something to rename? In a thread."""
        opened = self._host.opener.open(record, folder, record.root)
        opened.storage.close()
        if wanted.index is not None and wanted.index in opened.storage.parts.files:
            # its bytes lie elsewhere; what is at its place is not ours
            return False
        return may_rename(self._host.opener.places.of(folder), wanted.old, wanted.new)

    async def _follow(self, torrent: Torrent, old: str, new: str) -> None:
        """The record says so durably; the disk does now."""
        record, host = torrent.record, self._host
        opened = await host.disk.call(self._on_disk, record, torrent.data_folder, old, new)
        if torrent.info_hash in host.swarms.live:
            host.swarms.data_moved(torrent, opened)
        else:
            # one that is being woken may have read the old names
            host.swarms.stop(torrent)
            opened.storage.close()
        record.renaming = ""
        try:
            await host.flusher.durable(torrent)
        except StorageError as error:
            # it will be tried again, and the next start finds that it is done
            host.sink(Warned(what="state.unwritable", detail=str(error)))

    def _on_disk(self, record: ResumeRecord, folder: str, old: str, new: str) -> Opened:
        """In a thread."""
        # first what may fail: afterwards there is no way back
        opened = self._host.opener.open(record, folder, record.root)
        if record.renaming:
            rename_in(self._host.opener.places.of(folder), old, new)
        if record.state == "complete":
            self._host.opener.keep_paths(record, opened)
        return opened

    def _take_back(self, torrent: Torrent, root: str, name: str, renames: str) -> None:
        """Nothing was renamed on disk."""
        record, taken = torrent.record, torrent.record.root
        record.root, record.renames, record.name, record.renaming = root, renames, name, ""
        if taken != root:
            self._leave_root(torrent, taken)
        self._host.flusher.mark(torrent)

    async def settle(self, torrent: Torrent) -> None:
        """Ends what a stop interrupted; `PlaceGone` while its disk is away: later."""
        record = torrent.record
        known = unpack_renaming(record.renaming)
        if known is None:
            record.renaming = ""
            return
        try:
            await self._follow(torrent, known.old, known.new)
        except PlaceGone:
            raise
        except StorageError as error:
            self._take_back(torrent, known.root_before, known.name_before, known.renames_before)
            detail = f"{record.name!r}: {known.old!r} to {known.new!r}: {error}"
            self._host.sink(Warned(what="torrent.rename_failed", detail=detail))
        else:
            if record.root != known.root_before:
                self._leave_root(torrent, known.root_before)

    def _leave_root(self, torrent: Torrent, root: str) -> None:
        """Its data is called so no more, and its record says so."""
        for folder, _ in places_of(torrent.record):
            self._territory.leave(folder, root, torrent.info_hash)

    def _is_taken(self, torrent: Torrent, root: str) -> bool:
        """Does that name, in a folder where its data is or will be, belong to another torrent or to bittern itself?"""
        return any(
            self._territory.reserved(folder, root)
            or self._territory.owner(folder, root) not in {None, torrent.info_hash}
            for folder, _ in places_of(torrent.record)
        )
