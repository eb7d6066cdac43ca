"""Shares out the room on the disks among downloads: who has none is HELD, and goes on when there is some.

How much each has yet to put where is measured once (`needs.py`) and judged at every look at the disks, without I/O
(`policy/space.py`). Who was admitted keeps its room until it is held or needs none any more; one that begins in between
is counted at the next look.
"""

import random
import time
from collections.abc import Collection, Mapping
from typing import Final, Protocol

import trio

from bittern.disk.disk import DiskGate
from bittern.disk.places import Look, Places
from bittern.engine.events import DiskLow, DiskRecovered, Held, Released, Sink, new_event_id
from bittern.engine.holds import Holds
from bittern.engine.needs import Need, Needs, pieces_of
from bittern.engine.opening import Opener
from bittern.engine.torrent import State, Torrent
from bittern.policy.space import Dip, Space, Verdict, Wish
from bittern.proto.bitfield import Bitfield

AT_ONCE: Final = 250
"""So many downloads are looked at before others get their turn: a millisecond."""

CALM_LOOKS: Final = 15
"""While there is plenty of room all downloads are gone through only so often: at 10 000 that takes 50 ms."""

STATE_RESERVE_BYTES: Final = 64 * 1024 * 1024
"""At most so much has to stay free where only the state folder lies: often a small file system of its own."""

_WANTING: Final = frozenset({State.QUEUED, State.CHECKING, State.DOWNLOADING, State.MOVING, State.HELD})


class RoomHost(Protocol):
    """What sharing out needs of the lifecycle."""

    disk: DiskGate
    opener: Opener
    holds: Holds

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""


class DiskRoom:
    """All downloads whose need is known. `folders` and `looks`: those that are watched, and what was seen of them."""

    def __init__(
        self,
        host: RoomHost,
        *,
        places: Places,
        folders: Collection[str],
        looks: Mapping[str, Look],
        state: str,
        sink: Sink,
        rng: random.Random,
        reserve_bytes: int,
    ) -> None:
        self._host = host
        self._places = places
        self._folders = folders
        self._looks = looks
        self._state = state
        self._sink = sink
        self._rng = rng
        self._space: Space[Torrent] = Space(reserve_bytes)
        self._needs = Needs(host, self.volume, state)
        self._admitted: set[Torrent] = set()
        self._told_held: set[Torrent] = set()
        self._calm = CALM_LOOKS
        """Looks since all were gone through."""

    def set_reserve(self, reserve_bytes: int) -> None:
        """From now on."""
        self._space.reserve_bytes = reserve_bytes

    @property
    def wanted(self) -> bool:
        """Does anybody download, or wait for room?"""
        return len(self._needs) > 0

    def admits(self, torrent: Torrent) -> bool:
        """Is there room for it, as far as is known? If so, it is its own."""
        if torrent not in self._needs or torrent in self._admitted:
            return True
        if self._space.starts(torrent, self._needs.by_volume(torrent)):
            self._admitted.add(torrent)
            return True
        return False

    def refused(self, torrent: Torrent, folder: str) -> None:
        """A file system had no room for it."""
        volume = self.volume(folder)
        if volume is not None:
            self._space.refused(volume, torrent, trio.current_time())
        self._needs.refused(torrent, folder)
        self._admitted.discard(torrent)

    async def measured(self, torrent: Torrent, have: Bitfield, *, anything: bool) -> Need:
        """How much a download has yet to put on its disk. `anything`: some of its files are there."""
        return await self._needs.measured(torrent, have, anything=anything)

    def keep(self, torrent: Torrent, need: Need) -> None:
        """That counts from now on."""
        self._needs.keep(torrent, need)

    def volume(self, folder: str) -> int | None:
        """The device it lies on, if that is known."""
        found = self._looks.get(folder)
        return None if found is None else found.device

    async def judge(self, now: float) -> None:
        """Who has to wait, and who may go on, as the disks were seen last."""
        free: dict[object, int] = {}
        for folder, found in self._looks.items():
            if found.device is not None and not self._places.of(folder).away:
                free[found.device] = found.free_bytes
        self._space.other_reserves = self._other_reserves()
        self._space.seen(free, now)
        self._calm += 1
        if self._calm < CALM_LOOKS and len(self._admitted) == len(self._needs) and self._space.calm():
            return
        self._calm = 0
        for number, torrent in enumerate(list(self._needs)):
            if (
                not self._host.known(torrent)
                or torrent.record.state == "complete"
                or torrent.state not in _WANTING
            ):
                self.forget(torrent)
            if number % AT_ONCE == AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        wishes = []
        for number, torrent in enumerate(list(self._needs)):
            if torrent in self._needs:
                running = torrent in self._admitted
                needs = self._needs.by_volume(torrent)
                wishes.append(Wish(torrent, torrent.record.number, needs, running, pieces_of(torrent)))
            if number % AT_ONCE == AT_ONCE - 1:
                await trio.lowlevel.checkpoint()
        if not self._admitted <= {wish.who for wish in wishes}:
            # who began in between took its room, and is forgotten by this: it is counted at the next look
            self._calm = CALM_LOOKS
        self._apply(self._space.judge(wishes))

    def _other_reserves(self) -> dict[object, int]:
        state = self.volume(self._state)
        if any(self.volume(folder) == state for folder in self._folders if folder != self._state):
            return {}
        return {state: min(self._space.reserve_bytes, STATE_RESERVE_BYTES)}

    def forget(self, torrent: Torrent) -> None:
        """It downloads no more, for whatever reason."""
        self._needs.forget(torrent)
        self._admitted.discard(torrent)
        self._told_held.discard(torrent)

    def _apply(self, verdict: Verdict[Torrent]) -> None:
        for dip in verdict.began:
            self._tell_dip(dip)
        for torrent in verdict.hold:
            if torrent.state in {State.DOWNLOADING, State.QUEUED}:
                self._admitted.discard(torrent)
                self._host.holds.reconsider(torrent)
        for torrent, missing in verdict.missing.items():
            if torrent.state is State.HELD and torrent not in self._told_held:
                self._told_held.add(torrent)
                self._sink(Held(facts=torrent.facts(), missing_bytes=missing))
        for torrent in verdict.start:
            if torrent not in self._needs:
                # it was removed while the others were gone through
                continue
            self._admitted.add(torrent)
            if torrent in self._told_held:
                self._told_held.discard(torrent)
                self._sink(Released(facts=torrent.facts()))
            self._host.holds.reconsider(torrent)
        for dip in verdict.ended:
            self._sink(DiskRecovered(path=self._path_on(dip.volume), free_bytes=dip.free_bytes))

    def _tell_dip(self, dip: Dip) -> None:
        now = time.time()
        self._sink(
            DiskLow(
                path=self._path_on(dip.volume),
                free_bytes=dip.free_bytes,
                needed_bytes=dip.needed_bytes,
                event_id=new_event_id(now, self._rng),
                at_wall=now,
            )
        )

    def _path_on(self, volume: object) -> str:
        """A folder on it: the first that was known."""
        return next((folder for folder in self._folders if self.volume(folder) == volume), "")
