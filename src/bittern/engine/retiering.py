"""Gives single torrents other trackers than their .torrent names."""

from collections.abc import Callable
from typing import Protocol

from bittern.discovery.announcer import Announcer
from bittern.engine.edits import Edits
from bittern.engine.flusher import Flusher
from bittern.engine.torrent import Torrent
from bittern.policy.tiers import Tiers


class RetieringHost(Protocol):
    """What it needs of the lifecycle."""

    announcer: Announcer
    edits: Edits
    flusher: Flusher


async def set_trackers(host: RetieringHost, torrent: Torrent, change: Callable[[Tiers], Tiers]) -> None:
    """`change` makes the new list of the old one, and may refuse (`TrackerListError`). It holds at once, and is durable
    when this returns; `StorageError` when it holds, but a restart may bring back the old one.
    """
    record = torrent.record
    tiers = change(record.trackers)
    if tiers != record.trackers:
        record.trackers, record.retiered = tiers, True
        host.announcer.retier(torrent, tiers)
        host.edits.note(torrent.info_hash)
    # also when nothing changed: whoever asked for the same a moment ago may not have it on disk yet
    await host.flusher.durable(torrent)
