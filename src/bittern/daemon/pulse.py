"""What has to go on for the daemon to count as alive: systemd's watchdog is fed only while all of it does.

A beat goes through the watcher, the disk's threads and our own listening socket, and has to come back from each. How
long each may take is chosen so that a restart is worth it: a disk that sleeps needs 10 s, an NFS server that fails over
a minute, and a soft mount gives up after 180 s; with all threads waiting for one dead mount for longer, every other
torrent stands still, and a new process is better off, which finds that folder away. A watched folder that hangs holds
up nobody and is no reason to end the others' downloads.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from bittern.engine.beats import next_beat

BEAT_EVERY_S: Final = 10.0
DISK_S: Final = 240.0
NETWORK_S: Final = 60.0
WATCHER_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Station:
    """Where a beat has to pass: `through` returns when it has. `patience_s` may lie between two that did."""

    name: str
    through: Callable[[], Awaitable[None]]
    patience_s: float


class Pulse:
    """Sends beats through all stations."""

    def __init__(self, stations: Sequence[Station]) -> None:
        self._stations = tuple(stations)
        self._passed_at: dict[str, float] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled. A station that hangs holds up no other."""
        now = trio.current_time()
        self._passed_at = {station.name: now for station in self._stations}
        task_status.started()
        async with trio.open_nursery() as nursery:
            for station in self._stations:
                nursery.start_soon(self._beat, station)

    async def _beat(self, station: Station) -> None:
        while True:
            await station.through()
            self._passed_at[station.name] = trio.current_time()
            await next_beat(BEAT_EVERY_S)

    def stuck(self) -> list[str]:
        """The stations that no beat has passed for longer than may be."""
        now = trio.current_time()
        return [
            station.name
            for station in self._stations
            if now - self._passed_at.get(station.name, now) > station.patience_s + BEAT_EVERY_S
        ]
