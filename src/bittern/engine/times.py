"""When torrents were about what: since when they run, how long they download, when anything of them moved last."""

import time
from typing import Final

import trio

from bittern.engine.torrent import State, Torrent

RESTING: Final = frozenset({State.STOPPED, State.ERROR, State.OFFLINE})
ACTIVE: Final = frozenset({State.DOWNLOADING, State.SEEDING})


def state_changed(torrent: Torrent, before: State) -> bool:
    """Notes in the record what follows for these times. True: something did."""
    record, now = torrent.record, trio.current_time()
    changed = False
    if before is State.DOWNLOADING:
        record.downloading_s += now - torrent.downloading_at
        changed = True
    if torrent.state is State.DOWNLOADING:
        torrent.downloading_at = now
    if before is State.STOPPED and torrent.state not in RESTING:
        record.started_wall = time.time()
        changed = True
    if before in ACTIVE and note_activity(torrent):
        changed = True
    return changed


def note_activity(torrent: Torrent) -> bool:
    """For the next run. True: there was some."""
    moved = torrent.moved_at > 0.0
    if moved:
        torrent.record.activity_wall = active_wall(torrent)
    return moved


def downloading_s(torrent: Torrent) -> float:
    """Over all runs."""
    running = torrent.state is State.DOWNLOADING
    return torrent.record.downloading_s + (trio.current_time() - torrent.downloading_at if running else 0.0)


def active_wall(torrent: Torrent) -> float:
    """When something of it went over the wire; 0: never."""
    if torrent.moved_at > 0.0:
        return time.time() - (trio.current_time() - torrent.moved_at)
    return torrent.record.activity_wall
