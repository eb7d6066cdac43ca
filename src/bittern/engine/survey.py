"""Looks at a torrent's files: how they are, where they hold data, and what is in their way.

Synchronous, for worker threads. Bytes of files that are skipped, or are not any more, come to their places first; what
is told afterwards is how the files are then.
"""

import itertools
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from bittern.disk.attempt import attempt
from bittern.disk.hashing import READ_BYTES, hash_pieces
from bittern.disk.reader import SequentialReader
from bittern.disk.resume import ResumeRecord
from bittern.disk.stamps import FileStamp
from bittern.disk.visit import Visit
from bittern.engine.check_plan import Survey, plan_check
from bittern.engine.opening import Opened, Opener
from bittern.errors import StorageError
from bittern.proto.bitfield import Bitfield
from bittern.proto.layout import Layout
from bittern.values import Struct, replace


class Found(Struct, frozen=True):
    """What lies on disk: the pieces, how many bytes were hashed for that, and how the files are. `synced`: all of it is
    known to be on the disk too.
    """

    have: Bitfield
    hashed: int
    survey: Survey
    synced: bool = False


Asked = tuple[ResumeRecord, str, Bitfield | None]
"""What to look at, below which folder, and what this process itself has verified there."""


def survey_of(opener: Opener, record: ResumeRecord, folder: str) -> tuple[Opened, Survey]:
    """What the file system says of the torrent, below that folder. `StorageError`."""
    with Visit() as visit:
        opened, survey = _survey(opener, record, folder, visit)
    if record.checked:
        return opened, survey
    return opened, replace(survey, occupied=_occupied(opened, folder, survey))


def look_at_all(opener: Opener, asked: Sequence[Asked]) -> list[Found | Exception]:
    """The whole looks at several small torrents, their hashing too."""
    with Visit() as visit:
        return [attempt(_look_at, opener, visit, *one) for one in asked]


def _look_at(
    opener: Opener, visit: Visit, record: ResumeRecord, folder: str, had: Bitfield | None
) -> Found | StorageError:
    try:
        opened, survey = _survey(opener, record, folder, visit)
        plan = plan_check(record, opened.layout, survey, had)
        synced = False
        if plan.doubtful:
            storage = opened.storage
            reader = SequentialReader(storage, threading.Event(), visit.folder(storage.place))
            buffer = bytearray(min(READ_BYTES, opened.layout.bytes_of(plan.doubtful)))
            try:
                plan.trusted.set_all(
                    hash_pieces(reader, opened.layout, opened.piece_hashes, plan.doubtful, buffer)
                )
                if record.lone and not record.checked and plan.trusted.all and not storage.parts.files:
                    # while it is open: to come back for it would take an open more, and another thread hop
                    reader.sync()
                    synced = True
            finally:
                reader.close()
        if not record.checked and plan.trusted.none:
            survey = replace(survey, occupied=_occupied(opened, folder, survey))
    except StorageError as error:
        return error
    opened.storage.close()
    return Found(plan.trusted, opened.layout.bytes_of(plan.doubtful), survey, synced)


def _survey(opener: Opener, record: ResumeRecord, folder: str, visit: Visit) -> tuple[Opened, Survey]:
    """But for whether anything is `occupied`."""
    opened, moved = opener.sorted_out(record, folder)
    storage = opened.storage
    apart, ranges = storage.parts.files, tuple(storage.ranges_apart())
    stamps = tuple(storage.stamps(visit.folder(storage.place)))
    # data that is there whole shows by itself whose its place is
    real = visit.real(folder) if record.state != "complete" else ""
    if record.state == "complete":
        opener.keep_paths(record, opened)
    found = Survey(
        stamps, ranges, opened.pads, real_folder=real, apart=apart, ranges_apart=ranges, moved=moved
    )
    if not record.checked:
        # whatever is there is going to be hashed; where in its files it lies would cost an open a file
        return opened, found
    placed = _extents(opened.layout, stamps, apart) if record.clean else storage.data_ranges()
    return opened, replace(found, ranges=(*placed, *ranges))


def _occupied(opened: Opened, folder: str, survey: Survey) -> bool:
    stamps = survey.stamps
    return (
        opened.storage.holds_data(stamps)
        or any(
            stamp.size > size
            for index, (stamp, size) in enumerate(zip(stamps, opened.layout.lengths, strict=True))
            if stamp and index not in survey.apart
        )
        or _obstructed(folder, opened.paths, stamps)
    )


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
    if not any(os.path.lexists(f"{folder}/{top}") for top in {path.partition("/")[0] for path in missing}):
        return False
    if any(os.path.lexists(f"{folder}/{path}") for path in missing):
        return True
    inner = {path.rpartition("/")[0] for path in missing} - {""}
    for path in list(inner):
        while (path := path.rpartition("/")[0]) not in inner | {""}:
            inner.add(path)
    places = [Path(folder, path) for path in inner]
    return any(os.path.lexists(at) and (at.is_symlink() or not at.is_dir()) for at in places)
