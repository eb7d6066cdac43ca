"""The state folder: what bittern remembers of its torrents. Synchronous; run in a disk thread.

    lock                       held by the running daemon
    torrents/<info hash>.torrent   the metainfo bytes, exactly as they were dropped
    torrents/<info hash>.paths     where the files of a complete torrent lie, so that a glance needs no .torrent
    torrents/<info hash>.parts     bytes of its skipped files, that came with pieces of others
    places.toml                by what each folder that holds torrents is known again
    scrub.toml                 how far the scrub has got
    clock.toml                 for how long bittern has run
    totals.toml                what it has moved in all
    peers.bencode              where good peers of downloads were (`disk.peerfile`)
    resume/<info hash>.toml        one record a torrent; its existence is what makes the torrent known

A torrent is added by writing the metainfo first and the record second, and forgotten by removing the record first:
whatever is interrupted in between leaves at most a .torrent that nobody refers to.
"""

import contextlib
import errno
import fcntl
import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from bittern.disk.atomic import make_folder, remove_durably, write_atomic, write_in_turn, write_many_atomic
from bittern.disk.attempt import JobCrashed, attempt
from bittern.disk.pathlist import pack_paths, unpack_paths
from bittern.disk.places import Remembered
from bittern.disk.refusal import storage_error
from bittern.disk.resume import RecordCorrupt, ResumeRecord, dump_record, load_record
from bittern.disk.toml import dump_toml
from bittern.errors import MetainfoError, StateError, StorageError
from bittern.policy.limits import KEYS as LIMIT_KEYS
from bittern.proto.metainfo import MAX_METAINFO_BYTES, parse_metainfo
from bittern.terms import InfoHash

SALVAGED_KEYS: Final = (
    "name",
    "root",
    "folder",
    "incomplete_folder",
    "label",
    "number",
    "tie",
    "drop_path",
    "magnet",
    "added_wall",
    "completed_event_id",
    "completed_reason",
    "completed_spooled",
    "added_event_id",
    "downloaded_event_id",
    "downloaded_told",
    "stopped",
    "uploaded_bytes",
    "downloaded_bytes",
    "seeded_s",
    "seeding_since",
    "active_at",
    "seeding_done_id",
    "kept",
    "priority",
    "forced",
    "rank",
    "started",
    "started_event_id",
    "watch",
    "receipt",
    "hooks",
    *LIMIT_KEYS,
    "selection",
    "choice",
    "sequential",
    "retiered",
    "growth",
    "rights",
    "renames",
    "renaming",
)


TRACKERS: Final = re.compile(r"^trackers = \[\n.*?^\]$", re.MULTILINE | re.DOTALL)
"""Of a record: the only value of several lines."""

NO_TRACKERS: Final = "trackers = []"
"""Somebody took them all away."""

LONGEST_RUN_S: Final = 1e10
"""Three centuries: whatever says more is no clock."""

READ_BYTES: Final = 16 * 1024
"""Of a record at once: nearly each is smaller."""

PackedRecord: TypeAlias = tuple[str, bytes]


class Tally(NamedTuple):
    """What bittern has done."""

    uploaded_bytes: int = 0
    downloaded_bytes: int = 0
    files_added: int = 0
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Damaged:
    """A record that could not be read: what can still be made out of it, and why it is not trusted."""

    info_hash: InfoHash
    salvage: dict[str, object]
    reason: str
    bug: JobCrashed | None = None
    """What went wrong in reading it, where that is ours."""


class Store:
    """Owns the state folder. Opening it takes the lock; `StateError` when that or the folder fails."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self._torrents = self.folder / "torrents"
        self._resume = self.folder / "resume"
        self._resume_path = str(self._resume)
        self._removed = self.folder / "removed"
        try:
            make_folder(self._torrents)
            make_folder(self._removed)
            make_folder(self._resume)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StateError(
                f"{storage_error(error, 'used as state folder', folder, folder)}; or set paths.state to another"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StateError(
                f"{folder}: another bittern is running on this state folder; stop it, or set paths.state"
            ) from None
        try:
            self._names = _tidied(self._resume)
            _tidied(self._torrents)
            _tidied(self._removed)
        except OSError as error:
            raise StateError(
                f"{storage_error(error, 'written as state folder', folder, folder)}; or set paths.state to another"
            ) from error

    def close(self) -> None:
        """Gives the lock back."""
        os.close(self._lock)

    def known(self) -> list[InfoHash]:
        """The info hashes of all records that were there when this was opened, from their names. To be asked once."""
        found = []
        for name in self._names:
            if len(name) == 45 and name.endswith(".toml"):
                try:
                    found.append(InfoHash(bytes.fromhex(name[:40])))
                except ValueError:
                    continue
        self._names = []
        return found

    def read(self, info_hash: InfoHash) -> ResumeRecord | Damaged:
        """One record; `StateError` when a newer bittern wrote it."""
        path = f"{self._resume_path}/{info_hash.hex()}.toml"
        try:
            blob = _content(path)
        except OSError as error:
            return Damaged(info_hash, {}, f"cannot be read ({error.strerror})")
        try:
            record = attempt(load_record, blob)
        except RecordCorrupt as error:
            return Damaged(info_hash, _salvage(blob), str(error))
        except StateError as error:
            raise StateError(f"{path}: {error}") from error
        if isinstance(record, JobCrashed):
            return Damaged(info_hash, _salvage(blob), "could not be read", record)
        if record.info_hash != info_hash:
            return Damaged(info_hash, {}, "is that of another torrent")
        return record

    def metainfo(self, info_hash: InfoHash) -> bytes:
        """The bytes of the .torrent; `StorageError` when they are gone, or are more than any torrent is."""
        path = f"{self._torrents}/{info_hash.hex()}.torrent"
        with _unreadable(path):
            # each check of a torrent may come here: a Path would ask the kernel nine times
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                size = os.fstat(fd).st_size
                if size > MAX_METAINFO_BYTES:
                    raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
                blob = os.read(fd, size)
                while len(blob) < size and (more := os.read(fd, size - len(blob))):
                    blob += more
                return blob
            finally:
                os.close(fd)

    def part_of_metainfo(self, info_hash: InfoHash, at: int, length: int) -> bytes:
        """Some of these bytes; `StorageError` when they are not there."""
        path = f"{self._torrents}/{info_hash.hex()}.torrent"
        with _unreadable(path):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                part = os.pread(fd, length, at)
            finally:
                os.close(fd)
        if len(part) < length:
            raise StorageError(f"{path}: the stored .torrent has been cut; drop it again", path=path)
        return part

    def add_all(self, new: Sequence[tuple[ResumeRecord, bytes]]) -> list[StorageError | JobCrashed | None]:
        """Makes torrents known, durably: None for each, or why it is not. Nobody's trouble is another's."""
        try:
            trouble: StorageError | JobCrashed | None = attempt(self._add_together, new)
        except StorageError as error:
            trouble = error
        if trouble is not None and len(new) > 1:
            return [self.add_all([one])[0] for one in new]
        return [trouble] * len(new)

    def _add_together(self, new: Sequence[tuple[ResumeRecord, bytes]]) -> None:
        with _told(self.folder):
            # a magnet link has none yet
            metainfos = [
                (f"{self._torrents}/{one.info_hash.hex()}.torrent", blob) for one, blob in new if blob
            ]
            write_in_turn([metainfos, [self.packed(one) for one, _ in new]])

    def keep_paths(self, info_hash: InfoHash, paths: tuple[str | None, ...]) -> None:
        """Notes where a torrent's files lie. Not durable: without the note the .torrent tells it."""
        path = self._torrents / f"{info_hash.hex()}.paths"
        with contextlib.suppress(OSError):
            # where a new one cannot be made an old one would mislead
            path.unlink(missing_ok=True)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                # what is written by half is not believed
                os.write(fd, pack_paths(paths))
            finally:
                os.close(fd)

    def paths(self, info_hash: InfoHash) -> tuple[str | None, ...] | None:
        """What was noted last; None when there is no such note, or none that can be read."""
        try:
            return unpack_paths((self._torrents / f"{info_hash.hex()}.paths").read_bytes())
        except OSError:
            return None

    def parts_path(self, info_hash: InfoHash) -> str:
        """Where bytes of its skipped files lie, if any do."""
        return str(self._torrents / f"{info_hash.hex()}.parts")

    def drop_parts(self, info_hash: InfoHash) -> None:
        """No file of the torrent has bytes there any more."""
        with contextlib.suppress(OSError):
            (self._torrents / f"{info_hash.hex()}.parts").unlink(missing_ok=True)

    def mend(self, info_hash: InfoHash, metainfo: bytes, doubted: bool) -> bool:
        """Stores the .torrent of a known torrent anew if it is gone, or `doubted` and rightly so. True: it was."""
        path = self._torrents / f"{info_hash.hex()}.torrent"
        if path.exists() and not (doubted and self._is_damaged(info_hash)):
            return False
        with _told(self.folder):
            write_atomic(path, metainfo)
        return True

    def _is_damaged(self, info_hash: InfoHash) -> bool:
        try:
            return parse_metainfo(self.metainfo(info_hash)).info_hash != info_hash
        except (MetainfoError, StorageError):
            return True

    def packed(self, record: ResumeRecord) -> PackedRecord:
        """A record as it is written."""
        return f"{self._resume}/{record.info_hash.hex()}.toml", dump_record(record)

    def write(self, records: Sequence[PackedRecord]) -> None:
        """Replaces records, all of them durable when it returns; `StorageError` when they may not be."""
        with _told(self.folder):
            write_many_atomic(records)

    def scrub_place(self) -> tuple[bytes, int]:
        """The torrent and the piece that the scrub had got to; the very beginning when that cannot be told."""
        try:
            note = tomllib.loads((self.folder / "scrub.toml").read_text())
            return bytes.fromhex(note["at"]), max(0, int(note["piece"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return b"", 0

    def keep_scrub_place(self, info_hash: bytes, piece: int) -> None:
        """`StorageError` when it cannot be written."""
        with _told(self.folder):
            write_atomic(self.folder / "scrub.toml", dump_toml({"at": info_hash.hex(), "piece": piece}))

    def run_clock(self) -> float:
        """Seconds that bittern has run with this folder, as noted last; 0 when that cannot be told."""
        try:
            seconds = tomllib.loads((self.folder / "clock.toml").read_text())["run_s"]
            return float(seconds) if 0 <= seconds < LONGEST_RUN_S else 0.0
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return 0.0

    def keep_run_clock(self, seconds: float) -> None:
        """`StorageError` when it cannot be written."""
        with _told(self.folder):
            write_atomic(self.folder / "clock.toml", dump_toml({"run_s": seconds}))

    def tally(self) -> Tally:
        """What was noted last; nothing when that cannot be told."""
        try:
            note = tomllib.loads((self.folder / "totals.toml").read_text())
            return Tally(*(max(0, int(note[key])) for key in Tally._fields))
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return Tally()

    def keep_tally(self, tally: Tally) -> None:
        """`StorageError` when it cannot be written."""
        with _told(self.folder):
            write_atomic(self.folder / "totals.toml", dump_toml(tally._asdict()))

    def places(self) -> list[Remembered]:
        """Folders, by what they are known again; none when that cannot be told: they are got to know anew."""
        try:
            rows = tomllib.loads((self.folder / "places.toml").read_text())["place"]
            return [
                Remembered(
                    os.fsdecode(bytes.fromhex(row["folder"])),
                    str(row["word"]),
                    int(row["device"]),
                    int(row["inode"]),
                    str(row["boot"]),
                )
                for row in rows
            ]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return []

    def keep_places(self, places: Sequence[Remembered]) -> None:
        """`StorageError` when it cannot be written."""
        rows = [
            # its name need not be UTF-8, which TOML is
            {"folder": os.fsencode(one.folder).hex(), "path": one.folder.encode("utf-8", "replace").decode()}
            | {"word": one.word, "device": one.device, "inode": one.inode, "boot": one.boot}
            for one in places
        ]
        with _told(self.folder):
            write_atomic(self.folder / "places.toml", dump_toml({"place": rows}))

    def forget(self, info_hash: InfoHash, farewell: tuple[str, bytes] | None = None) -> None:
        """The torrent is not known any more. `farewell`: what is still to be told of it, and the event's id; it is kept
        until `drop_farewells`. `StorageError`: it is still known.
        """
        name = info_hash.hex()
        with _told(self.folder):
            if farewell is not None:
                # who frees a full disk is not refused for want of room
                with contextlib.suppress(OSError):
                    write_atomic(self._removed / f"{farewell[0]}.toml", farewell[1])
            remove_durably(self._resume / f"{name}.toml")
            (self._torrents / f"{name}.torrent").unlink(missing_ok=True)
            (self._torrents / f"{name}.paths").unlink(missing_ok=True)
            (self._torrents / f"{name}.parts").unlink(missing_ok=True)

    def farewells(self) -> list[tuple[str, bytes]]:
        """All, by the ids of their events, in the order of these; without those that cannot be read."""
        found = []
        for path in sorted(self._removed.glob("*.toml")):
            with contextlib.suppress(OSError):
                found.append((path.stem, path.read_bytes()))
        return found

    def drop_farewells(self, event_ids: Iterable[str]) -> None:
        """Nobody asks for them any more; one that comes back after a crash is of no harm."""
        for event_id in event_ids:
            with contextlib.suppress(OSError):
                (self._removed / f"{event_id}.toml").unlink(missing_ok=True)


@contextlib.contextmanager
def _unreadable(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path}: the stored .torrent cannot be read ({error.strerror}); drop it again",
            errno=error.errno or 0,
            path=path,
        ) from error


def _tidied(folder: Path) -> list[str]:
    """The names in it, without what a crash left of files that were being written: that is removed."""
    names = os.listdir(folder)  # noqa: PTH208 — of twenty thousand names Paths would take a tenth of a second
    for stale in [name for name in names if name[0] == "." and ".tmp" in name]:
        (folder / stale).unlink(missing_ok=True)
    return names


def _content(path: str) -> bytes:
    """Of a small file, in four calls into the kernel: a Path, and what it opens, take three times as long."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        blob = os.read(fd, READ_BYTES)
        while more := os.read(fd, READ_BYTES):
            blob += more
    finally:
        os.close(fd)
    return blob


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        path = str(error.filename or folder)
        raise storage_error(error, "written in the state folder", path, str(folder)) from error


def _salvage(blob: bytes) -> dict[str, object]:
    """The lines of a damaged record that still read as `key = value`, of the keys that hold no claim about data."""
    found: dict[str, object] = {}
    text = blob.decode("utf-8", "replace")
    whole = TRACKERS.search(text)
    if whole is not None and "�" not in whole.group():
        # a number may be longer than Python reads; and what else is in it may be claims
        with contextlib.suppress(ValueError, RecursionError):
            found["trackers"] = tomllib.loads(whole.group())["trackers"]
    for line in text.splitlines():
        if line == NO_TRACKERS:
            found.setdefault("trackers", [])
        try:
            table = tomllib.loads(line)
        except (ValueError, RecursionError):
            continue
        for key, value in table.items():
            if key in SALVAGED_KEYS and "�" not in str(value):
                found[key] = value
    return found
