"""Deliveries on disk: `pending/ID.toml` until every hook was run to an end, then `done/ID.toml`.

An id that is in either folder is never taken again, so deriving a delivery twice does nothing. Sync code,
run in a thread; errors are plain `OSError`.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bittern.daemon.deliveries import Delivery, DeliveryError, load_delivery
from bittern.disk.atomic import write_atomic, write_many_atomic

KEEP_DONE: Final = 1000
KEEP_DONE_S: Final = 30 * 24 * 3600.0
"""Finished deliveries tell what became of a hook; beyond both they are deleted."""


class Spool:
    """`pending` and `done` below one folder."""

    def __init__(self, folder: Path) -> None:
        self._pending = folder / "pending"
        self._done = folder / "done"

    def load(self) -> tuple[list[Delivery], list[str]]:
        """All pending ones, oldest first, and what was wrong with those that cannot be read (they are put
        aside).
        """
        found: list[Delivery] = []
        wrong: list[str] = []
        for folder in (self._pending, self._done):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(".*.tmp*"):
                leftover.unlink(missing_ok=True)
        # Ids begin with the time, so names sort by it.
        for path in sorted(self._pending.glob("*.toml")):
            if (self._done / path.name).exists():
                path.unlink()
                continue
            try:
                found.append(load_delivery(path.read_bytes()))
            except DeliveryError as error:
                aside = path.with_suffix(".corrupt")
                path.rename(aside)
                wrong.append(f"{aside}: {error}")
        return found, wrong

    def add(self, entries: Sequence[tuple[str, bytes]]) -> set[str]:
        """Writes those ids (and their TOML) that are new here; which were. Durable when it returns."""
        new = {
            event_id: blob
            for event_id, blob in entries
            if not (self._pending / _file_name(event_id)).exists()
            and not (self._done / _file_name(event_id)).exists()
        }
        write_many_atomic([(self._pending / _file_name(event_id), blob) for event_id, blob in new.items()])
        return set(new)

    def save(self, event_id: str, blob: bytes) -> None:
        """A pending one as it stands now."""
        write_atomic(self._pending / _file_name(event_id), blob)

    def finish(self, event_id: str, blob: bytes) -> None:
        """It is done: from here on it is never run again."""
        write_atomic(self._done / _file_name(event_id), blob)
        (self._pending / _file_name(event_id)).unlink(missing_ok=True)

    def prune(self, now_wall: float) -> None:
        """Deletes finished ones that are too many or too old."""
        by_age = sorted(self._done.glob("*.toml"), reverse=True)
        for number, path in enumerate(by_age):
            if number >= KEEP_DONE or path.stat().st_mtime < now_wall - KEEP_DONE_S:
                path.unlink(missing_ok=True)


def _file_name(event_id: str) -> str:
    """Ids are ours, but they come back from files: one that is no plain word is named by its digest."""
    if re.fullmatch(r"[0-9A-Za-z-]{1,64}", event_id) is None:
        event_id = hashlib.sha256(event_id.encode("utf-8", "replace")).hexdigest()
    return f"{event_id}.toml"
