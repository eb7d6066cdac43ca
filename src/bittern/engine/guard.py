"""Keeps watch over the disks: downloads wait where there is no room, torrents rest whose disk is not mounted.

Every two seconds each folder that holds torrents is looked at, in a thread that may hang without holding up anybody;
every ten while there is nothing to be written and no disk to come back. A read that fails has its folder looked at.
A torrent whose folder is away is OFFLINE, a download without room (`disk_room.py`) is HELD: both are kept by a gate of
`Holds`, and go on by themselves.
"""

import errno
import random
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.places import ROOTS_AT_MOST, Claimed, Look, Places, Remembered, boot_id, look
from bittern.engine.beats import beat_at
from bittern.engine.disk_room import DiskRoom
from bittern.engine.events import (
    FolderAway,
    FolderBack,
    Sink,
    Warned,
)
from bittern.engine.holds import Holds
from bittern.engine.opening import Opener
from bittern.engine.store import Store
from bittern.engine.territory import places_of
from bittern.engine.torrent import State, Torrent
from bittern.errors import PlaceGone, StorageError
from bittern.proto.bitfield import Bitfield
from bittern.terms import InfoHash

LOOK_EVERY_S: Final = 2.0
CALM_BEATS: Final = 5
"""So many times as long lies between two looks that nobody waits for: each wakes a thread for every folder."""

PATIENCE_S: Final = 1.0
"""A look that takes longer is not waited for: what it finds counts with the next round."""

LOOKS_AT_ONCE: Final = 16
"""Threads that look, beside those that hang: where each torrent has a folder of its own there would be thousands."""

SILENT_S: Final = 20.0
"""A folder that does not answer for so long is a dead mount; a disk that sleeps needs ten seconds to wake."""

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)

DOUBTFUL: Final = (
    errno.EIO,
    errno.ESTALE,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
    errno.ENODATA,
    errno.ENOENT,
)
"""What a disk that was pulled out may answer first: a look tells whether it is there at all."""


class GuardHost(Protocol):
    """What guarding needs of the lifecycle."""

    disk: DiskGate
    opener: Opener
    holds: Holds

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    def halt(self, torrent: Torrent) -> None:
        """Nobody is talked to about it any more."""

    def torrent_failed(self, torrent: Torrent, error: Exception, *, sure: bool = False) -> None:
        """It cannot go on. `sure`: its disk is there."""


class Guard:
    """A service of the engine. `takes` and the gates are asked by the lifecycle, on the loop."""

    def __init__(
        self,
        host: GuardHost,
        torrents: Mapping[InfoHash, Torrent],
        *,
        store: Store,
        places: Places,
        sink: Sink,
        rng: random.Random,
        reserve_bytes: int,
        downloads: str,
        state: str,
    ) -> None:
        """Both folders are watched whatever lies in them."""
        self._host = host
        self._torrents = torrents
        self._store = store
        self._places = places
        self._sink = sink
        self._rng = rng
        self._boot = boot_id()
        self._own = (downloads, state)
        self._folders: dict[str, None] = dict.fromkeys(self._own)
        self._remembered: dict[str, Remembered] = {}
        self._forgetful = False
        """What is remembered was not written down yet."""
        self._looks: dict[str, Look] = {}
        self._fresh: set[str] = set()
        """Folders whose last answer nobody has heeded yet."""
        self._asked: dict[str, float] = {}
        """Folders that have yet to answer, and since when."""
        self._answered: dict[str, float] = {}
        """When the look began that was answered last."""
        self._answer = trio.Event()
        """Replaced when it is set: any number wait for it."""
        self._begun = trio.Event()
        """It is known what is to lie where."""
        self._slow: set[str] = set()
        """Folders that have not answered since the start, and are not given up yet."""
        self._wanted = trio.Event()
        self._told_away: dict[str, bool] = {}
        """Folders that are away, and whether that was told."""
        self._room = DiskRoom(
            host,
            places=places,
            folders=self._folders.keys(),
            looks=self._looks,
            state=state,
            sink=sink,
            rng=rng,
            reserve_bytes=reserve_bytes,
        )
        self._away: dict[Torrent, str] = {}
        """Torrents that met a folder which was not there, until somebody has looked."""
        self._doubts: dict[Torrent, tuple[StorageError, float]] = {}
        self._nursery: trio.Nursery | None = None

    @property
    def looks(self) -> Mapping[str, Look]:
        """What was seen last of each folder."""
        return self._looks

    # -- the service ----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Looks at all folders until cancelled, once somebody has called `look`: before the records are read a bare
        mountpoint would be taken for a new folder, and be given a hidden file.
        """
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await self._begun.wait()
                while True:
                    with trio.move_on_at(beat_at(LOOK_EVERY_S * (CALM_BEATS if self._calm() else 1))):
                        await self._wanted.wait()
                    self._wanted = trio.Event()
                    await self.look()
            finally:
                self._nursery = None

    def _calm(self) -> bool:
        """Are all disks there, and is nothing to be written?"""
        return not (
            self._room.wanted
            or self._asked
            or self._slow
            or self._away
            or any(self._places.of(folder).away for folder in self._folders)
        )

    def poke(self) -> None:
        """Looks at once."""
        self._wanted.set()

    def set_reserve(self, reserve_bytes: int) -> None:
        """From now on."""
        self._room.set_reserve(reserve_bytes)
        self.poke()

    def watch(self, torrent: Torrent) -> None:
        """Its folders are looked at from now on."""
        for folder in (torrent.record.folder, torrent.record.incomplete_folder):
            if folder and folder not in self._folders:
                self._folders[folder] = None

    async def recall(self) -> None:
        """Before records are read: the folders that an earlier run knew, and whether their disks are there."""
        for one in await self._host.disk.call(self._store.places):
            self._remembered[one.folder] = one
            self._folders[one.folder] = None
        await self._ask_all([folder for folder in self._folders if folder in self._remembered])
        # which torrents are to lie there is not known yet, so who is away may only lack its hidden file
        self._note_fresh()

    async def look(self) -> None:
        """One look at all folders, and what follows. Folders that hang are not waited for."""
        first = not self._begun.is_set()
        await self._ask_all(list(self._folders))
        back = self._note_fresh()
        now = trio.current_time()
        for folder, since in self._asked.items():
            if now - since > SILENT_S:
                self._slow.discard(folder)
                self._places.of(folder).lost("does not answer")
            elif first and folder not in self._looks:
                # a disk that wakes up; until it has, nobody can tell it from a bare mountpoint
                self._slow.add(folder)
                self._places.of(folder).lost("has not answered yet")
        self._begun.set()
        self._tell_away()
        self._settle_doubts()
        for folder in back:
            self._is_back(folder)
        await self._room.judge(now)
        if self._forgetful:
            await self._keep()

    # -- looking --------------------------------------------------------------------------------------------

    async def _ask_all(self, folders: Sequence[str]) -> None:
        began = trio.current_time()
        for folder in folders:
            if folder not in self._asked:
                await self._turn()
            if folder in self._asked:
                continue
            self._asked[folder] = trio.current_time()
            if self._nursery is None:
                with trio.move_on_after(PATIENCE_S):
                    await self._ask(folder)
            else:
                self._nursery.start_soon(self._ask, folder)
        with trio.move_on_after(PATIENCE_S):
            while any(self._asked.get(folder, -PATIENCE_S) > began - PATIENCE_S for folder in folders):
                await self._answer.wait()

    async def _turn(self) -> None:
        """Returns when few are being looked at, or those hang."""
        while True:
            since = trio.current_time() - PATIENCE_S
            if sum(at > since for at in self._asked.values()) < LOOKS_AT_ONCE:
                return
            with trio.move_on_after(PATIENCE_S):
                await self._answer.wait()

    async def _ask(self, folder: str) -> None:
        began = self._asked[folder]
        remembered = self._remembered.get(folder)
        try:
            found = await self._look_once(folder, remembered, () if remembered else self._claims_in(folder))
            if found.away and remembered:
                found = await self._look_once(folder, remembered, self._claims_in(folder))
            self._looks[folder] = found
            self._fresh.add(folder)
            self._answered[folder] = began
        finally:
            del self._asked[folder]
            self._answer.set()
            self._answer = trio.Event()

    async def _look_once(self, folder: str, remembered: Remembered | None, claims: Sequence[Claimed]) -> Look:
        word = f"{self._rng.getrandbits(128):032x}"
        return await self._host.disk.call_or_abandon(look, folder, remembered, claims, word, self._boot)

    def _claims_in(self, folder: str) -> list[Claimed]:
        """Of torrents with data: some of it is in the folder, if it is the right one."""
        found = []
        for torrent in self._torrents.values():
            record = torrent.record
            whole = record.state == "complete" and not record.have
            claims = record.checked and (whole or any(record.have))
            if claims and torrent.data_folder == folder:
                moves_to = {record.folder, record.moving_to} - {folder, ""}
                found += [Claimed(root, tuple(moves_to)) for at, root in places_of(record) if at == folder]
                if len(found) >= ROOTS_AT_MOST:
                    break
        return found

    def _note_fresh(self) -> list[str]:
        """Folders that were away, and are there."""
        fresh, self._fresh = self._fresh, set()
        return [folder for folder in fresh if self._note(folder, self._looks[folder])]

    def _note(self, folder: str, found: Look) -> bool:
        """What was seen goes for all who open files there. True: it was away, and is there."""
        place = self._places.of(folder)
        was_away = bool(place.away)
        self._slow.discard(folder)
        if found.away:
            place.lost(found.away)
            return False
        if found.identity is None and folder in self._remembered:
            # nobody may look into it: what was known of it goes on
            return False
        place.found(found.identity)
        if found.remembered is not None and found.remembered != self._remembered.get(folder):
            self._remembered[folder] = found.remembered
            self._forgetful = True
        return was_away or folder in self._away.values()

    async def _keep(self) -> None:
        self._forgetful = False
        try:
            await self._host.disk.call(self._store.keep_places, list(self._remembered.values()))
        except StorageError as error:
            self._sink(Warned(what="state.unwritable", detail=str(error)))

    # -- disks that are away --------------------------------------------------------------------------------

    def _lies_in(self, folder: str) -> list[Torrent]:
        return [torrent for torrent in self._torrents.values() if torrent.data_folder == folder]

    def _tell_away(self) -> None:
        for folder in self._folders:
            place = self._places.of(folder)
            if not place.away or self._told_away.get(folder) or folder in self._slow:
                continue
            if folder in self._told_away and folder not in self._away.values():
                # nobody misses it
                continue
            resting = self._lies_in(folder)
            for torrent in resting:
                self._distrust(torrent)
                self._host.holds.reconsider(torrent)
            waiting = sum(1 for other in self._away.values() if other == folder)
            self._told_away[folder] = bool(resting or waiting or folder in self._own)
            if self._told_away[folder]:
                self._sink(FolderAway(path=folder, reason=place.away, torrents=len(resting)))

    def _is_back(self, folder: str) -> None:
        waiting = dict.fromkeys(torrent for torrent, other in self._away.items() if other == folder)
        for torrent in waiting:
            del self._away[torrent]
        waiting |= dict.fromkeys(self._lies_in(folder))
        if self._told_away.pop(folder, False):
            self._sink(FolderBack(path=folder, torrents=len(waiting)))
        for torrent in waiting:
            self._host.holds.reconsider(torrent)

    def _distrust(self, torrent: Torrent) -> None:
        """What was written and not synced may never have reached the disk: only what its record claims is believed."""
        if torrent.record.state != "complete":
            torrent.have = None
        torrent.unsynced_storage = torrent.unsynced_files = None

    # -- what the lifecycle asks ----------------------------------------------------------------------------

    def gate(self, torrent: Torrent) -> State | None:
        """The state in which it has to wait. Asked before whoever counts those that run: room is found out first."""
        folder = torrent.data_folder
        place = self._places.of(folder)
        if torrent in self._away or place.away or (place.new and self._places.away_above(folder)):
            return State.OFFLINE
        return None if self._room.admits(torrent) else State.HELD

    def takes(self, torrent: Torrent, error: Exception) -> bool:
        """Is that failure a disk's, and none of the torrent's? Then it rests, and goes on with its disk."""
        if torrent.state is State.OFFLINE:
            return True
        match error:
            case PlaceGone():
                self._away[torrent] = error.path
                self._distrust(torrent)
                self._rest(torrent, State.OFFLINE)
            case StorageError() if error.errno in NO_ROOM and torrent.record.state != "complete":
                self._refused(torrent, error.path)
            case StorageError() if error.errno in DOUBTFUL:
                self._doubts[torrent] = (error, trio.current_time())
                self._rest(torrent, State.QUEUED)
            case _:
                return False
        self.poke()
        return True

    def _rest(self, torrent: Torrent, state: State) -> None:
        torrent.state, torrent.ready = state, False
        self._host.halt(torrent)

    def _refused(self, torrent: Torrent, path: str) -> None:
        """A file system had no room for it."""
        if torrent.state is State.HELD:
            return
        holding = [folder for folder in self._folders if path.startswith(folder + "/")]
        folder = max(holding, key=len, default=torrent.data_folder)
        self._room.refused(torrent, folder)
        self._rest(torrent, State.HELD)

    def _settle_doubts(self) -> None:
        """Those whose folders were looked at since: if their disks are there, it was their own failure."""
        for torrent, (error, at) in list(self._doubts.items()):
            if not self._host.known(torrent) or self._answered.get(torrent.data_folder, 0.0) >= at:
                del self._doubts[torrent]
                if self._places.of(torrent.data_folder).away:
                    self._host.holds.reconsider(torrent)
                elif self._host.known(torrent):
                    self._host.torrent_failed(torrent, error, sure=True)

    def forget_need(self, torrent: Torrent) -> None:
        """It downloads no more, or something else of it."""
        self._room.forget(torrent)

    def forget(self, torrent: Torrent) -> None:
        """It is being removed."""
        self._room.forget(torrent)
        self._away.pop(torrent, None)
        self._doubts.pop(torrent, None)

    # -- room -----------------------------------------------------------------------------------------------

    async def measure(self, torrent: Torrent, have: Bitfield, *, anything: bool) -> None:
        """Finds out how much a download has yet to put on its disk. `anything`: some of its files are there."""
        need = await self._room.measured(torrent, have, anything=anything)
        self.watch(torrent)
        if any(folder not in self._looks for folder in _folders_of(torrent)):
            await self.look()
        if not self._room.wanted:
            # from now on room is used up: the next look comes soon
            self.poke()
        self._room.keep(torrent, need)


def _folders_of(torrent: Torrent) -> set[str]:
    return {torrent.data_folder, torrent.record.folder}
