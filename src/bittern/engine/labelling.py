"""Gives torrents other labels."""

from collections.abc import Sequence
from typing import Protocol

from bittern.disk.resume import share_values
from bittern.engine.edits import Edits
from bittern.engine.flusher import Flusher
from bittern.engine.registry import Registry
from bittern.engine.seeding import Seeding
from bittern.policy.labels import as_text, checked
from bittern.terms import InfoHash


class LabellingHost(Protocol):
    """What it needs of the lifecycle."""

    edits: Edits
    flusher: Flusher
    seeding: Seeding


class Labelling:
    """The session's."""

    def __init__(self, registry: Registry, lifecycle: LabellingHost) -> None:
        self._registry = registry
        self._lifecycle = lifecycle

    async def set_labels(self, info_hash: InfoHash, labels: Sequence[str]) -> bool:
        """These are its labels from now on, and no others; durable when it returns. False: not known.

        `ValueError` when they cannot be, and nothing is changed; `StorageError` when they hold, but a restart may bring
        back the old ones.
        """
        text = as_text(checked(labels))
        await self._registry.loaded.wait()
        torrent = self._registry.torrents.get(info_hash)
        if torrent is None:
            return False
        if text != torrent.record.label:
            torrent.record.label = text
            share_values(torrent.record)
            self._lifecycle.edits.note(info_hash)
            # a seed rule may be for one of them
            self._lifecycle.seeding.touch(torrent)
        # also when nothing changed: whoever asked for the same a moment ago may not have it on disk yet
        await self._lifecycle.flusher.durable(torrent)
        return True
