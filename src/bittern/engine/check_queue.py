"""Who is checked when: downloads first come first served, complete torrents that raise doubts when nothing else waits.

A torrent is in the queue once, from when it is submitted until its check has ended, however often it is asked for. What
is wished of it meanwhile, that it be hashed anew or looked at with another selection, waits for the end of that check.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

import trio

from bittern.engine.torrent import Torrent

SMALL_BYTES: Final = 4 * 1024 * 1024
"""Torrents up to that size wait for nobody larger."""


class _Idle(NamedTuple):
    lanes: tuple[deque[Torrent], ...]
    lot: trio.lowlevel.ParkingLot


class CheckQueue:
    """All but `next`, `next_audits` and `done_with` is one synchronous step."""

    def __init__(self) -> None:
        self.large: deque[Torrent] = deque()
        self.small: deque[Torrent] = deque()
        self.doubtful: deque[Torrent] = deque()
        """Complete ones of which a glance does not tell enough."""
        self._audits: deque[Torrent] = deque()
        """Complete ones that nobody has glanced at."""
        self._under_way: set[Torrent] = set()
        self._anew: set[Torrent] = set()
        """Somebody wants every piece of theirs hashed, whatever is known of them."""
        self._again: set[Torrent] = set()
        """Their selection was changed while they were being checked."""
        self._idle: dict[tuple[int, ...], _Idle] = {}
        """Who waits for something to check, by the lanes that they serve."""
        self._done = trio.lowlevel.ParkingLot()

    def __len__(self) -> int:
        return len(self._under_way)

    def __contains__(self, torrent: Torrent) -> bool:
        """Is it waiting to be checked, or under check?"""
        return torrent in self._under_way

    # -- who wants something checked --------------------------------------------------------------------------

    def submit(self, torrent: Torrent) -> None:
        """Queues a torrent; once is enough."""
        if torrent not in self._under_way:
            self._under_way.add(torrent)
            if torrent.record.state == "complete":
                lane = self._audits
            elif torrent.record.total_bytes <= SMALL_BYTES:
                lane = self.small
            else:
                lane = self.large
            lane.append(torrent)
            self._wake_one(lane)

    def submit_anew(self, torrent: Torrent) -> None:
        """The same, and nothing that was known of its data is believed."""
        self._anew.add(torrent)
        self.submit(torrent)

    def submit_again(self, torrent: Torrent) -> None:
        """The same, also when a check is under way, which may not know what it should."""
        if torrent in self._under_way:
            self._again.add(torrent)
        self.submit(torrent)

    def want_anew(self, torrent: Torrent) -> None:
        """When it is submitted next, nothing that was known of its data is believed."""
        self._anew.add(torrent)

    async def done_with(self, torrent: Torrent) -> None:
        """Returns when no check of it waits or is under way."""
        while torrent in self._under_way:
            await self._done.park()

    def forget(self, torrent: Torrent) -> None:
        """It is one of ours no more."""
        self._anew.discard(torrent)
        self._again.discard(torrent)

    # -- who checks -------------------------------------------------------------------------------------------

    async def next(self, *lanes: deque[Torrent]) -> Torrent:
        """The next of the first of these lanes in which somebody waits; whoever takes it tells when it has `ended`."""
        while True:
            for number, lane in enumerate(lanes):
                if lane:
                    torrent = lane.popleft()
                    for later in lanes[number + 1 :]:
                        if later:
                            # this one may have been woken for that, and whoever was woken for the first may not do it
                            self._wake_one(later)
                    return torrent
            key = tuple(map(id, lanes))
            if key not in self._idle:
                self._idle[key] = _Idle(lanes, trio.lowlevel.ParkingLot())
            await self._idle[key].lot.park()

    def _wake_one(self, lane: deque[Torrent]) -> None:
        """For what has come: one who can do least else. When all are at work, the first who is done looks here."""
        able = [one for one in self._idle.values() if one.lot and any(it is lane for it in one.lanes)]
        if able:
            min(able, key=lambda one: len(one.lanes)).lot.unpark()

    async def next_audits(self, at_most: int) -> list[Torrent]:
        """Complete ones, as many as there are: each is then told to have `ended`, or handed on in `doubt`."""
        first = await self.next(self._audits)
        return [first, *(self._audits.popleft() for _ in range(min(at_most - 1, len(self._audits))))]

    def doubt(self, torrents: Iterable[Torrent]) -> None:
        """They have to be looked at more closely."""
        for torrent in torrents:
            self.doubtful.append(torrent)
            self._wake_one(self.doubtful)

    def ended(self, torrent: Torrent) -> None:
        """Its check."""
        self._under_way.discard(torrent)
        self._done.unpark_all()

    def wanted_anew(self, torrent: Torrent) -> bool:
        """Is every piece of it to be hashed, whatever is known?"""
        return torrent in self._anew

    def heard_anew(self, torrent: Torrent) -> None:
        """That wish is being fulfilled, or comes to nothing."""
        self._anew.discard(torrent)

    def outdated(self, torrent: Torrent) -> bool:
        """Was it looked at with another selection in mind?"""
        return torrent in self._again

    def heard_again(self, torrent: Torrent) -> None:
        """Somebody sees to that."""
        self._again.discard(torrent)
