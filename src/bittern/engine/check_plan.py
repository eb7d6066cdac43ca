"""What must be hashed to know what of a torrent lies on disk: decided from its record and what the file system says.

No I/O. What the record claims is believed as long as the files are as it left them; where somebody changed a file, or
nobody can know, the pieces are hashed; data that was ours and is gone is an error, never a silent new download.
"""

import itertools
import os
from collections.abc import Iterator, Sequence

from bittern.disk.resume import ResumeRecord
from bittern.disk.stamps import FileStamp
from bittern.errors import StorageError
from bittern.proto.bitfield import Bitfield
from bittern.proto.layout import Layout
from bittern.values import Struct


class Survey(Struct, frozen=True):
    """What the file system says: a stamp a file (None: missing), the torrent's byte ranges that hold data (no holes;
    before the first check nobody asks where, and they are only those apart).

    `pads` are the files that never exist on disk (BEP 47). `occupied` (asked at the first check only): a file holds
    data or is too long, or where a file or folder should be, something of another kind is. What an earlier try only
    allocated is none of these.
    """

    stamps: tuple[FileStamp | None, ...]
    ranges: tuple[tuple[int, int], ...]
    pads: frozenset[int] = frozenset()
    occupied: bool = False
    real_folder: str = ""
    """Where links lead from the folder that was looked at; "" when it was not asked."""
    apart: frozenset[int] = frozenset()
    """Skipped files whose bytes lie elsewhere (`disk.parts`), in `ranges_apart`, which are among `ranges`."""
    ranges_apart: tuple[tuple[int, int], ...] = ()
    moved: frozenset[int] = frozenset()
    """Files whose bytes may not be where they were: what was claimed of them is not believed."""


class Plan(Struct, frozen=True):
    """`trusted` pieces are believed, those in `doubtful` are hashed, all others are missing."""

    trusted: Bitfield
    doubtful: list[int]


def plan_check(record: ResumeRecord, layout: Layout, survey: Survey, had: Bitfield | None) -> Plan:
    """What to believe and what to hash. `had`: what this process itself verified, when it did; before a first check
    has led to anything that counts only for files that are as they were then.

    Raises `StorageError` when data that was ours is gone: that is for the retry, never for a silent new download.
    """
    pieces = layout.piece_count
    if not record.checked and (had is None or survey.stamps != record.stamps):
        return Plan(Bitfield(pieces), pieces_on_disk(layout, survey))
    claimed = had
    if claimed is None:
        whole = record.state == "complete" and not record.have
        claimed = Bitfield.full(pieces) if whole else _claimed(record, pieces)
    _refuse_loss(record, layout, survey, claimed)
    doubtful = {piece for index in survey.moved for piece in layout.pieces_of_file(index) if claimed[piece]}
    if had is not None:
        # as it is, where it can be: it goes on to grow meanwhile
        trusted = had.copy() if doubtful else had
        for piece in doubtful:
            trusted.clear(piece)
        return Plan(trusted, sorted(doubtful))
    trusted = claimed.copy()
    for index in _touched(record, layout, survey):
        if record.clean or index in survey.apart:
            # Nobody of ours wrote after this record: somebody else changed the file.
            doubtful.update(layout.pieces_of_file(index))
        else:
            doubtful.update(piece for piece in layout.pieces_of_file(index) if not claimed[piece])
    if doubtful:
        for piece in doubtful:
            if trusted[piece]:
                trusted.clear(piece)
        with_data = _pieces_with_data(layout, survey.ranges)
        doubtful = {piece for piece in doubtful if piece in with_data or claimed[piece]}
    return Plan(trusted, sorted(doubtful))


def _claimed(record: ResumeRecord, pieces: int) -> Bitfield:
    return Bitfield.from_bytes(pieces, record.have) if record.have else Bitfield(pieces)


def _touched(record: ResumeRecord, layout: Layout, survey: Survey) -> Iterator[int]:
    """Files that are not as the record left them."""
    before: Sequence[FileStamp | None] = record.stamps or (None,) * len(layout.lengths)
    for index, (then, now) in enumerate(itertools.zip_longest(before, survey.stamps)):
        # what is ours alone may be lost, and is no reason to rest
        if (
            (now is not None or index in survey.apart)
            and then != now
            and index < len(layout.lengths)
            and layout.lengths[index]
        ):
            yield index


def _refuse_loss(record: ResumeRecord, layout: Layout, survey: Survey, had: Bitfield) -> None:
    """Every piece that was ours must still fit into the files that are there."""
    if had.none:
        return
    starts = itertools.accumulate(layout.lengths, initial=0)
    for index, (start, length, stamp) in enumerate(zip(starts, layout.lengths, survey.stamps, strict=False)):
        size = stamp.size if stamp is not None else 0
        if size >= length or index in survey.pads or index in survey.apart or index in survey.moved:
            continue
        last = next((piece for piece in reversed(layout.pieces_of_file(index)) if had[piece]), None)
        if last is None:
            continue
        end = min(start + length, layout.piece_offset(last) + layout.piece_size(last)) - start
        if end > size:
            what = "is missing" if stamp is None else f"has shrunk to {size} bytes"
            folder = (
                record.folder if record.state == "complete" else record.incomplete_folder or record.folder
            )
            raise StorageError(
                f"file {index + 1} of {len(layout.lengths)} of {record.root!r} in {folder} {what}; "
                "put it back, or remove the torrent and drop it again",
                path=os.path.join(folder, record.root),  # noqa: PTH118 — not-UTF-8 names travel as str
            )


def pieces_on_disk(layout: Layout, survey: Survey) -> list[int]:
    """Pieces all of whose bytes lie within the files that exist, holes included: they may be meant."""
    missing: set[int] = set()
    with_data = _pieces_with_data(layout, survey.ranges_apart)
    starts = itertools.accumulate(layout.lengths, initial=0)
    for index, (start, length, stamp) in enumerate(zip(starts, layout.lengths, survey.stamps, strict=False)):
        size = stamp.size if stamp is not None else 0
        if index in survey.apart:
            missing |= set(layout.pieces_of_file(index)) - with_data
        elif index not in survey.pads and size < length:
            first = (start + size) // layout.piece_length
            missing.update(range(first, layout.pieces_of_file(index).stop))
    everything = range(layout.piece_count)
    return [piece for piece in everything if piece not in missing] if missing else list(everything)


def _pieces_with_data(layout: Layout, ranges: Sequence[tuple[int, int]]) -> set[int]:
    found: set[int] = set()
    for start, end in ranges:
        if end > start:
            found.update(range(start // layout.piece_length, (end - 1) // layout.piece_length + 1))
    return found
