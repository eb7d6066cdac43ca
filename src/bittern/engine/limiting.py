"""Gives single torrents limits of their own."""

from collections.abc import Mapping
from typing import Any, Protocol

from bittern.engine.flusher import Flusher
from bittern.engine.seeding import Seeding
from bittern.engine.swarms import Swarms
from bittern.engine.torrent import Torrent
from bittern.policy.limits import changed


class LimitingHost(Protocol):
    """What it needs of the lifecycle."""

    flusher: Flusher
    swarms: Swarms
    seeding: Seeding


async def set_limits(host: LimitingHost, torrent: Torrent, changes: Mapping[str, Any]) -> None:
    """`changes` are fields of `Limits`. They hold at once, and are durable when it returns; `ValueError` when one
    cannot be, `StorageError` when they hold, but a restart may bring back the old ones.
    """
    record = torrent.record
    limits = changed(record.limits, changes)
    if limits != record.limits:
        seeding = "seed_ratio", "seed_ratio_mode", "seed_idle_s", "seed_idle_mode"
        seeds_otherwise = any(getattr(limits, name) != getattr(record.limits, name) for name in seeding)
        record.limits = limits
        host.swarms.limits_changed(torrent)
        if seeds_otherwise:
            host.seeding.limits_changed(torrent)
    # also when nothing changed: whoever asked for the same a moment ago may not have it on disk yet
    await host.flusher.durable(torrent)
