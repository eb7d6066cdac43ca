"""Looks at a torrent's files: how they are, where they hold data, and what is in their way.

Synchronous, for worker threads. Bytes of files that are skipped, or are not any more, come to their places first; what
is told afterwards is how the files are then.
"""

import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bittern.disk.hashing import READ_BYTES, hash_pieces
from bittern.disk.reader import SequentialReader
from bittern.disk.resume import ResumeRecord
from bittern.disk.stamps import FileStamp
from bittern.engine.check_plan import Survey, plan_check
from bittern.engine.opening import Opened, Opener
from bittern.errors import StorageError
from bittern.proto.bitfield import Bitfield
from bittern.proto.layout import Layout


@dataclass(frozen=True, slots=True)
class Found:
    """What lies on disk: the pieces, how many bytes were hashed for that, and how the files are."""

    have: Bitfield
    hashed: int
    survey: Survey


def survey_of(opener: Opener, record: ResumeRecord, folder: str) -> tuple[Opened, Survey]:
    """What the file system says of the torrent, below that folder. `StorageError`."""
    opened, moved = opener.sorted_out(record, folder)
    pads, apart = opened.pads, opened.storage.parts.files
    ranges_apart = tuple(opened.storage.ranges_apart())
    stamps = tuple(opened.storage.stamps())
    # data that is there whole shows by itself whose its place is
    real = os.path.realpath(folder) if record.state != "complete" else ""
    if record.state == "complete":
        opener.keep_paths(record, opened)
    if record.checked and record.clean:
        extents = (*_extents(opened.layout, stamps, apart), *ranges_apart)
        return opened, Survey(
            stamps, extents, pads, real_folder=real, apart=apart, ranges_apart=ranges_apart, moved=moved
        )
    if record.checked:
        ranges = (*opened.storage.data_ranges(), *ranges_apart)
        return opened, Survey(
            stamps, ranges, pads, real_folder=real, apart=apart, ranges_apart=ranges_apart, moved=moved
        )
    # whatever is there is going to be hashed; where in its files it lies would cost an open a file
    occupied = (
        opened.storage.holds_data()
        or any(
            stamp.size > size
            for index, (stamp, size) in enumerate(zip(stamps, opened.layout.lengths, strict=True))
            if stamp and index not in apart
        )
        or _obstructed(folder, opened.paths, stamps)
    )
    return opened, Survey(stamps, ranges_apart, pads, occupied, real, apart, ranges_apart, moved)


def look_at_once(
    opener: Opener, record: ResumeRecord, folder: str, had: Bitfield | None
) -> Found | StorageError:
    """The whole look at a small torrent, its hashing too."""
    try:
        opened, survey = survey_of(opener, record, folder)
        plan = plan_check(record, opened.layout, survey, had)
        if plan.doubtful:
            reader = SequentialReader(opened.storage, threading.Event())
            buffer = bytearray(min(READ_BYTES, opened.layout.bytes_of(plan.doubtful)))
            try:
                plan.trusted.set_all(
                    hash_pieces(reader, opened.layout, opened.piece_hashes, plan.doubtful, buffer)
                )
            finally:
                reader.close()
    except StorageError as error:
        return error
    opened.storage.close()
    return Found(plan.trusted, opened.layout.bytes_of(plan.doubtful), survey)


def _extents(
    layout: Layout, stamps: Sequence[FileStamp | None], apart: frozenset[int]
) -> Iterator[tuple[int, int]]:
    """The torrent's byte ranges that its files reach, by their sizes alone."""
    starts = itertools.accumulate(layout.lengths, initial=0)
    for index, (start, length, stamp) in enumerate(zip(starts, layout.lengths, stamps, strict=False)):
        if stamp is not None and stamp.size and length and index not in apart:
            yield start, start + min(stamp.size, length)


def _obstructed(folder: str, paths: tuple[str | None, ...], stamps: tuple[FileStamp | None, ...]) -> bool:
    """Does anything lie where the torrent needs a file or a folder, without being one? Links count as such."""
    missing = [path for path, stamp in zip(paths, stamps, strict=True) if path is not None and stamp is None]
    if any(os.path.lexists(f"{folder}/{path}") for path in missing):
        return True
    inner = {path.rpartition("/")[0] for path in missing} - {""}
    for path in list(inner):
        while (path := path.rpartition("/")[0]) not in inner | {""}:
            inner.add(path)
    places = [Path(folder, path) for path in inner]
    return any(os.path.lexists(at) and (at.is_symlink() or not at.is_dir()) for at in places)
