"""Deliveries on disk: `pending/ID.toml` until every hook was told or given up, then `done/ID.toml` or `dead/ID.toml`.

An id that is in any of them is never taken again, so deriving a delivery twice does nothing. The daemon alone moves
deliveries; who wants one replayed leaves an empty `replay/ID`, which it takes up within seconds or at its next start.
Sync code, run in a thread; errors are plain `OSError`.
"""

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Self

from bittern.daemon.deliveries import Delivery, DeliveryError, dump_delivery, load_delivery
from bittern.disk.atomic import fsync_folder, make_folder, write_atomic, write_many_atomic
from bittern.disk.attempt import JobCrashed, attempt

KEEP: Final = 1000
KEEP_S: Final = 30 * 24 * 3600.0
"""Deliveries that are over tell what became of a hook; of each kind, those beyond either are deleted."""

KEEP_ANYWAY: Final = 100

MODE: Final = 0o600
"""A webhook's URL may be as good as a password."""

STATES: Final = ("pending", "done", "dead")


class Spool:
    """`pending`, `done`, `dead` and `replay` below one folder."""

    def __init__(self, folder: Path) -> None:
        self._pending, self._done, self._dead = (folder / state for state in STATES)
        self._replay = folder / "replay"
        self._unsure: set[str] = set()
        """Ids that a write which failed may have left here; nobody was told that they are new."""

    @classmethod
    def below(cls, state: Path) -> Self:
        """The one of that state folder."""
        return cls(state / "deliveries")

    # -- the daemon's ---------------------------------------------------------------------------------------

    def load(self) -> tuple[list[Delivery], list[str]]:
        """All pending ones, oldest first, and what was wrong with those that cannot be read (they are put
        aside).
        """
        found: list[Delivery] = []
        wrong: list[str] = []
        for folder in (self._pending, self._done, self._dead, self._replay):
            make_folder(folder)
            for leftover in folder.glob(".*.tmp*"):
                leftover.unlink(missing_ok=True)
        for path in sorted(self._pending.glob("*.toml")):
            if self._over(path.name) is not None:
                path.unlink()
                continue
            try:
                delivery = attempt(load_delivery, path.read_bytes())
                if isinstance(delivery, JobCrashed):
                    wrong.append(f"{path}: internal error {delivery}, it stays for the next start")
                else:
                    found.append(delivery)
            except DeliveryError as error:
                aside = path.with_suffix(".corrupt")
                path.rename(aside)
                wrong.append(f"{aside}: {error}")
        # of those that have no order the ids say when they were made
        found.sort(key=lambda delivery: delivery.order)
        return found, wrong

    def add(self, entries: Sequence[tuple[str, bytes]]) -> set[str]:
        """Writes those ids (and their TOML) that are new here; which were. Durable when it returns."""
        new = {
            event_id: blob
            for event_id, blob in entries
            if event_id in self._unsure
            or (
                not (self._pending / _file_name(event_id)).exists()
                and self._over(_file_name(event_id)) is None
            )
        }
        self._unsure |= new.keys()
        write_many_atomic(
            [(self._pending / _file_name(event_id), blob) for event_id, blob in new.items()], mode=MODE
        )
        self._unsure -= new.keys()
        return set(new)

    def save(self, event_id: str, blob: bytes) -> None:
        """A pending one as it stands now."""
        write_atomic(self._pending / _file_name(event_id), blob, mode=MODE)

    def finish(self, event_id: str, blob: bytes, *, dead: bool) -> None:
        """It is over: from here on it is never run again by itself."""
        name = _file_name(event_id)
        write_atomic((self._dead if dead else self._done) / name, blob, mode=MODE)
        (self._pending / name).unlink(missing_ok=True)

    def prune(self, now_wall: float) -> None:
        """Deletes those that are over and too many, or of events that are too old. The newest stay whatever the clock
        says: it may be set by years, and back again.
        """
        for folder in (self._done, self._dead):
            by_age = sorted(folder.glob("*.toml"), reverse=True)
            for number, path in enumerate(by_age):
                if number >= KEEP or (number >= KEEP_ANYWAY and _at_wall(path) < now_wall - KEEP_S):
                    path.unlink(missing_ok=True)

    def take_replays(self) -> tuple[list[Delivery], list[str]]:
        """Those that shall be told once more, pending again, and what was wrong with the requests for others."""
        found: list[Delivery] = []
        wrong: list[str] = []
        for request in sorted(path for path in self._replay.iterdir() if path.is_file()):
            over = self._over(f"{request.name}.toml")
            try:
                if over is None:
                    wrong.append(f"{request.name}: no delivery of that id is over")
                else:
                    found.append(self._pending_again(over))
            except DeliveryError as error:
                wrong.append(f"{over}: {error}")
            except OSError as error:
                # asked for still: the next look tries again, and it holds up no other
                wrong.append(f"{error.filename}: {error.strerror}")
                continue
            try:
                # Last: until then a crash repeats the step.
                request.unlink()
            except OSError as error:
                wrong.append(f"{error.filename}: {error.strerror}")
        return found, wrong

    def _pending_again(self, over: Path) -> Delivery:
        delivery = load_delivery(over.read_bytes())
        delivery.again()
        write_atomic(self._pending / over.name, dump_delivery(delivery), mode=MODE)
        over.unlink()
        fsync_folder(over.parent)
        return delivery

    def _over(self, name: str) -> Path | None:
        """Where a delivery that is over lies."""
        for folder in (self._done, self._dead):
            if (folder / name).exists():
                return folder / name
        return None

    # -- anybody's ------------------------------------------------------------------------------------------

    def paths(self) -> Iterator[tuple[str, Path]]:
        """State and file of every delivery, oldest first."""
        found = [
            (name, state, folder / name)
            for state, folder in zip(STATES, (self._pending, self._done, self._dead), strict=True)
            if folder.exists()
            for name in os.listdir(folder)  # noqa: PTH208 — a folder that may not be read is an error, not empty
            if name.endswith(".toml") and not name.startswith(".")
        ]
        return ((state, path) for _, state, path in sorted(found))

    def ask_replay(self, stem: str) -> None:
        """Asks the daemon to tell a delivery that is over once more."""
        (self._replay / stem).touch()

    def purge(self, state: str, before_wall: float) -> int:
        """Deletes those in that state (`done` or `dead`) that ended before; how many."""
        count = 0
        for found, path in list(self.paths()):
            if found != state or state == "pending":
                continue
            # one that the daemon has deleted, or tells once more, meanwhile is none of them
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < before_wall:
                    path.unlink()
                    count += 1
        return count


def _at_wall(path: Path) -> float:
    """When its event was, as its id says (`new_event_id`), or when it was over, whatever is later: the id of what was
    dropped is as old as the file.
    """
    over = path.stat().st_mtime
    digits = path.stem.replace("-", "")
    if re.fullmatch(r"[0-9a-f]{12}7[0-9a-f]{19}", digits) is None:
        return over
    return max(over, int(digits[:12], 16) / 1000)


def _file_name(event_id: str) -> str:
    """Ids are ours, but they come back from files: one that is no plain word is named by its digest."""
    if re.fullmatch(r"[0-9A-Za-z-]{1,64}", event_id) is None:
        event_id = hashlib.sha256(event_id.encode("utf-8", "replace")).hexdigest()
    return f"{event_id}.toml"
