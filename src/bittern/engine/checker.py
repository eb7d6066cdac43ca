"""Finds out what of a torrent lies on disk, and hashes no more than it must.

What must be hashed is decided by `plan_check`, a pure function over the record and what the file system says. The
hashing itself goes through background threads in slices, on all cores, and ends at once when the check is cancelled or
the torrent removed.
"""

import itertools
import math
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

import trio

from bittern.disk.attempt import attempt
from bittern.disk.disk import DiskGate
from bittern.disk.hashing import READ_BYTES, hash_pieces
from bittern.disk.reader import ReadStopped, SequentialReader
from bittern.disk.resume import ResumeRecord
from bittern.disk.storage import FileStamp
from bittern.disk.together import Together
from bittern.engine.opening import Opened, Opener, unsorted
from bittern.engine.supervision import Supervisor
from bittern.engine.torrent import State, Torrent
from bittern.errors import StorageError
from bittern.proto.bitfield import Bitfield
from bittern.proto.layout import Layout

CHECKS_AT_ONCE: Final = 4
"""Torrents under check at once: a large one does not hold up the small ones behind it."""

RESTING: Final = frozenset({State.STOPPED, State.OFFLINE})
"""Their files are not to be touched."""

SMALL_BYTES: Final = 4 * 1024 * 1024
SMALL_AT_ONCE: Final = 128
SMALL_TEAM: Final = 16
"""Torrents up to that size are looked at and hashed in the same thread hop, several of them: of thousands that come at
once each would otherwise cost a few hops, and wait for its turn in each. Most of the time of a check is waiting, for
others on the loop and for the disk: of 500 that are dropped at once, and downloaded as soon as they are checked, 32
together took a tenth longer.
"""

SLICE_AT_LEAST_BYTES: Final = 4 * 1024 * 1024
SLICE_AT_MOST_BYTES: Final = 64 * 1024 * 1024
"""What one thread hop hashes: 40 ms of work at most, for with all cores busy a hop takes half a millisecond. Towards
the end slices become smaller, so that all threads end together.
"""


@dataclass(frozen=True, slots=True)
class Survey:
    """What the file system says: a stamp a file (None: missing), the torrent's byte ranges that hold data (no holes).

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


@dataclass(frozen=True, slots=True)
class Plan:
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
        return Plan(Bitfield(pieces), _pieces_on_disk(layout, survey))
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


def _pieces_on_disk(layout: Layout, survey: Survey) -> list[int]:
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
    return [piece for piece in range(layout.piece_count) if piece not in missing]


def _pieces_with_data(layout: Layout, ranges: Sequence[tuple[int, int]]) -> set[int]:
    found: set[int] = set()
    for start, end in ranges:
        if end > start:
            found.update(range(start // layout.piece_length, (end - 1) // layout.piece_length + 1))
    return found


class CheckHost(Protocol):
    """What checking needs of the session."""

    disk: DiskGate
    supervisor: Supervisor
    opener: Opener

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    def torrent_failed(self, torrent: Torrent, error: Exception) -> None:
        """It cannot be checked."""

    def settle_root(self, torrent: Torrent) -> None:
        """The torrent's data takes its next name: this one belongs to somebody else. `StorageError`: none is left."""

    def learn_folder(self, folder: str, real: str) -> None:
        """Links lead from that folder to `real`."""

    def contested(self, torrent: Torrent, folder: str) -> bool:
        """Does the torrent's present root in that folder belong to another torrent, or to bittern itself?"""

    def may_share(self, torrent: Torrent, folder: str) -> bool:
        """If so, may it be read there for good?"""

    def settle_folder(self, torrent: Torrent, folder: str, *, shared: bool) -> None:
        """The torrent's data was found in that folder."""

    async def take_stock(self, torrent: Torrent) -> None:
        """Ends what a stop interrupted: a renaming, and a move if it can only be ended."""

    def go_on(self, torrent: Torrent) -> None:
        """It runs, unless something keeps it waiting."""

    def sorted_out(
        self, torrent: Torrent, apart: frozenset[int], found: frozenset[int], file_count: int
    ) -> None:
        """The bytes of files `apart` lie apart from now on; others did so and were `found` at their places, where
        somebody else had put them.
        """

    def reselected(self, torrent: Torrent) -> None:
        """Its selection is another one than when its check began."""

    def recheck(self, torrent: Torrent) -> bool:
        """It stops, and is submitted anew. False: not now."""

    async def checked(
        self, torrent: Torrent, have: Bitfield, stamps: tuple[FileStamp | None, ...], hashed: int
    ) -> None:
        """What lies on disk is known."""


class Checker:
    """The check queue: downloads first come first served, audits of complete torrents when nothing else waits."""

    def __init__(self, host: CheckHost) -> None:
        self._host = host
        self._waiting: deque[Torrent] = deque()
        self._small: deque[Torrent] = deque()
        self._audits: deque[Torrent] = deque()
        self._glance = Together(self._glance_at_all, at_most=SMALL_TEAM)
        self._look_at_small = Together(self._look_at_all, at_most=SMALL_TEAM)
        self._under_way: set[Torrent] = set()
        self._anew: set[Torrent] = set()
        """Somebody wants every piece of theirs hashed, whatever is known of them."""
        self._again: set[Torrent] = set()
        """Their selection was changed while they were being checked."""
        self._news = trio.lowlevel.ParkingLot()
        self._done = trio.lowlevel.ParkingLot()
        self._hashed: dict[Torrent, list[int]] = {}
        """Of those that are being hashed: how many pieces are done, and how many there are to do."""
        self._hashing = trio.CapacityLimiter(math.inf)

    def submit(self, torrent: Torrent) -> None:
        """Queues a torrent; once is enough."""
        if torrent not in self._under_way:
            self._under_way.add(torrent)
            if torrent.record.state == "complete":
                self._audits.append(torrent)
            elif torrent.record.total_bytes <= SMALL_BYTES:
                self._small.append(torrent)
            else:
                self._waiting.append(torrent)
            self._news.unpark_all()

    def submit_anew(self, torrent: Torrent) -> None:
        """The same, and nothing that was known of its data is believed."""
        self._anew.add(torrent)
        self.submit(torrent)

    def has(self, torrent: Torrent) -> bool:
        """Is it waiting to be checked, or under check?"""
        return torrent in self._under_way

    def want_anew(self, torrent: Torrent) -> None:
        """When it is submitted next, nothing that was known of its data is believed."""
        self._anew.add(torrent)

    def progress(self, torrent: Torrent) -> float:
        """How far its check is, 0 to 1; 0 when none is under way."""
        done, of = self._hashed.get(torrent, (0, 1))
        return done / of

    async def done_with(self, torrent: Torrent) -> None:
        """Returns when no check of it waits or is under way."""
        while torrent in self._under_way:
            await self._done.park()

    def submit_again(self, torrent: Torrent) -> None:
        """The same, also when a check is under way, which may not know what it should."""
        if torrent in self._under_way:
            self._again.add(torrent)
        self.submit(torrent)

    def forget(self, torrent: Torrent) -> None:
        """It is one of ours no more."""
        self._anew.discard(torrent)
        self._again.discard(torrent)

    def limit(self, at_most: int | None) -> None:
        """So many torrents at once are hashed; those that take no longer than a moment are not counted."""
        self._hashing.total_tokens = at_most or math.inf

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves the queue until cancelled."""
        async with trio.open_nursery() as nursery:
            # One worker is kept for what waits to be downloaded: audits of large torrents take long.
            nursery.start_soon(self._work, self._waiting, self._small)
            for _ in range(CHECKS_AT_ONCE - 1):
                nursery.start_soon(self._work, self._waiting, self._small, self._audits)
            for _ in range(SMALL_AT_ONCE):
                nursery.start_soon(self._work, self._small)
            task_status.started()

    async def _work(self, *queues: deque[Torrent]) -> None:
        """Serves the first of these queues in which something waits."""
        while True:
            queue = next((one for one in queues if one), None)
            if queue is None:
                await self._news.park()
                continue
            torrent = queue.popleft()
            try:
                await self._check_contained(torrent)
            finally:
                self._under_way.discard(torrent)
                self._done.unpark_all()
                if torrent in self._anew and not self._host.recheck(torrent):
                    # it was asked for while it was being checked, and went on meanwhile: into a move
                    self._anew.discard(torrent)
                if torrent in self._again:
                    self._again.discard(torrent)
                    self._host.reselected(torrent)
            # who waits for the next keeps none that may be removed meanwhile
            del torrent

    async def _check_contained(self, torrent: Torrent) -> None:
        await self._host.supervisor.contain(
            f"check of {torrent.record.name!r}",
            lambda: self._check(torrent),
            lambda error: self._host.torrent_failed(torrent, error),
            remedy="the torrent is in error and tried again later",
        )

    async def _check(self, torrent: Torrent) -> None:
        record, host = torrent.record, self._host
        if not host.known(torrent) or torrent.state in RESTING:
            return
        if record.state == "metadata":
            # there is nothing yet that could be looked at
            host.go_on(torrent)
            return
        if torrent.state is State.QUEUED:
            torrent.state = State.CHECKING
        if record.selection or record.parted or torrent.have is not None:
            # bytes of files may have to change their places, also by a choice that is made in a moment
            await host.disk.drain(record.info_hash)
        if record.moving_to or record.renaming:
            await host.take_stock(torrent)
        if torrent in self._anew and record.checked:
            self._anew.discard(torrent)
            found = await self._look_anew(torrent)
            await self._tell(torrent, found.have, found.survey.stamps, found.hashed)
            return
        self._anew.discard(torrent)
        if (
            record.state == "complete"
            and record.checked
            and record.clean
            and not unsorted(record)
            and await self._glance(record)
        ):
            await self._tell(torrent, torrent.pieces.copy(), record.stamps, 0)
            return
        look = self._look(torrent, torrent.data_folder) if record.checked else self._find_place(torrent)
        found = await look
        await self._tell(torrent, found.have, found.survey.stamps, found.hashed)

    async def _tell(
        self, torrent: Torrent, have: Bitfield, stamps: tuple[FileStamp | None, ...], hashed: int
    ) -> None:
        if torrent not in self._again:
            # else it was looked for with another selection in mind
            await self._host.checked(torrent, have, stamps, hashed)

    async def _find_place(self, torrent: Torrent) -> "_Found":
        """Before the first check: where may this torrent's data lie, and what is there of it?

        Data of ours in the final folder is adopted there. What belongs to another torrent is shared when it is whole
        and right; that, and foreign data in either folder, is never written to: the torrent takes its next name.
        """
        record, host = torrent.record, self._host
        hashed = 0
        while True:
            for folder in dict.fromkeys((record.folder, record.incomplete_folder or record.folder)):
                found = await self._look(torrent, folder)
                hashed += found.hashed
                found = replace(found, hashed=hashed)
                if not host.known(torrent):
                    return found
                taken = host.contested(torrent, folder)
                usable = found.have.all and host.may_share(torrent, folder) if taken else not found.have.none
                if usable:
                    host.settle_folder(torrent, folder, shared=taken)
                    return found
                if taken or found.survey.occupied:
                    host.settle_root(torrent)
                    break
            else:
                return found

    async def _look(self, torrent: Torrent, folder: str) -> "_Found":
        had = torrent.have if folder == torrent.data_folder else None
        if torrent.believed or torrent.record.state == "complete":
            # whether its files are as they were left is what is asked
            had = None
        if torrent.record.total_bytes <= SMALL_BYTES:
            found = await self._look_at_small((torrent.record, folder, had))
            self._learn(torrent, folder, found.survey)
            return found
        opened, survey = await self._host.disk.call(self._survey, torrent.record, folder)
        self._learn(torrent, folder, survey)
        plan = plan_check(torrent.record, opened.layout, survey, had)
        have, hashed = plan.trusted, 0
        if plan.doubtful:
            if torrent.state not in {State.ERROR, *RESTING}:
                torrent.state = State.CHECKING
            for piece in await self._hash_in_turn(torrent, opened, plan.doubtful):
                have.set(piece)
            hashed = opened.layout.bytes_of(plan.doubtful)
        opened.storage.close()
        return _Found(have, hashed, survey)

    async def _look_anew(self, torrent: Torrent) -> "_Found":
        """Hashes every piece that lies on disk, where the torrent's data is. What is gone altogether is more likely a
        disk that is away than a wish to download it again.
        """
        record, folder = torrent.record, torrent.data_folder
        opened, survey = await self._host.disk.call(self._survey, record, folder)
        self._learn(torrent, folder, survey)
        if not torrent.nothing_claimed and not any(survey.stamps):
            raise StorageError(
                f"nothing of {record.root!r} is left in {folder}; put it back, or remove the torrent and drop it again"
            )
        layout = opened.layout
        have, there = Bitfield(layout.piece_count), _pieces_on_disk(layout, survey)
        for piece in await self._hash_in_turn(torrent, opened, there):
            have.set(piece)
        opened.storage.close()
        return _Found(have, sum(map(layout.piece_size, there)), survey)

    def _learn(self, torrent: Torrent, folder: str, survey: Survey) -> None:
        self._host.sorted_out(torrent, survey.apart, survey.moved - survey.apart, len(survey.stamps))
        if survey.real_folder:
            self._host.learn_folder(folder, survey.real_folder)

    def _survey(self, record: ResumeRecord, folder: str) -> tuple[Opened, Survey]:
        opened, moved = self._host.opener.sorted_out(record, folder)
        pads, apart = opened.pads, opened.storage.parts.files
        ranges_apart = tuple(opened.storage.ranges_apart())
        stamps = tuple(opened.storage.stamps())
        # data that is there whole shows by itself whose its place is
        real = os.path.realpath(folder) if record.state != "complete" else ""
        if record.state == "complete":
            self._host.opener.keep_paths(record, opened)
        if record.checked and record.clean:
            extents = (*_extents(opened.layout, stamps, apart), *ranges_apart)
            return opened, Survey(
                stamps, extents, pads, real_folder=real, apart=apart, ranges_apart=ranges_apart, moved=moved
            )
        ranges = tuple(opened.storage.data_ranges())
        occupied = not record.checked and (
            bool(ranges)
            or any(
                stamp.size > size
                for index, (stamp, size) in enumerate(zip(stamps, opened.layout.lengths, strict=True))
                if stamp and index not in apart
            )
            or _obstructed(folder, opened.paths, stamps)
        )
        ranges += ranges_apart
        return opened, Survey(stamps, ranges, pads, occupied, real, apart, ranges_apart, moved)

    async def _glance_at_all(self, records: list[ResumeRecord]) -> list[bool | Exception]:
        return await self._host.disk.call(
            lambda: [attempt(self._host.opener.is_unchanged, record) for record in records]
        )

    async def _look_at_all(self, asked: list["_Asked"]) -> "list[_Found | Exception]":
        return await self._host.disk.call(lambda: [attempt(self._look_at_once, *one) for one in asked])

    def _look_at_once(
        self, record: ResumeRecord, folder: str, had: Bitfield | None
    ) -> "_Found | StorageError":
        """The whole look at a small torrent, in a thread."""
        try:
            opened, survey = self._survey(record, folder)
            plan = plan_check(record, opened.layout, survey, had)
            if plan.doubtful:
                reader = SequentialReader(opened.storage, threading.Event())
                buffer = bytearray(min(READ_BYTES, opened.layout.bytes_of(plan.doubtful)))
                try:
                    for piece in hash_pieces(
                        reader, opened.layout, opened.piece_hashes, plan.doubtful, buffer
                    ):
                        plan.trusted.set(piece)
                finally:
                    reader.close()
        except StorageError as error:
            return error
        opened.storage.close()
        return _Found(plan.trusted, opened.layout.bytes_of(plan.doubtful), survey)

    async def _hash_in_turn(self, torrent: Torrent, opened: Opened, pieces: list[int]) -> list[int]:
        async with self._hashing:
            self._hashed[torrent] = [0, max(1, len(pieces))]
            try:
                return await self._hash(torrent, opened, pieces)
            finally:
                del self._hashed[torrent]

    async def _hash(self, torrent: Torrent, opened: Opened, pieces: list[int]) -> list[int]:
        """Those of the pieces that match, found on all cores at once; not all of them when the torrent is removed."""
        good: list[int] = []
        threads = min(os.cpu_count() or 1, len(pieces))
        slices = _slices(opened.layout, pieces, threads)
        stop = threading.Event()

        async def work() -> None:
            reader = SequentialReader(opened.storage, stop)
            buffer = bytearray(READ_BYTES)
            try:
                for part in slices:
                    if not self._host.known(torrent):
                        return
                    good.extend(
                        await self._host.disk.call_in_background(
                            hash_pieces, reader, opened.layout, opened.piece_hashes, part, buffer
                        )
                    )
                    self._hashed[torrent][0] += len(part)
            except ReadStopped:
                # Our cancellation is on its way.
                await trio.sleep_forever()
            finally:
                reader.close()

        async def stop_when_cancelled() -> None:
            try:
                await trio.sleep_forever()
            finally:
                stop.set()

        async with trio.open_nursery() as watched:
            watched.start_soon(stop_when_cancelled)
            async with trio.open_nursery() as workers:
                for _ in range(threads):
                    workers.start_soon(work)
            watched.cancel_scope.cancel()
        return good


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


_Asked = tuple[ResumeRecord, str, Bitfield | None]
"""What to look at, below which folder, and what this process itself has verified there."""


@dataclass(frozen=True, slots=True)
class _Found:
    have: Bitfield
    hashed: int
    survey: Survey


def _slices(layout: Layout, pieces: list[int], threads: int) -> Iterator[list[int]]:
    """Runs of pieces, smaller towards the end; an iterator that several workers draw from."""
    part: list[int] = []
    size = 0
    left = sum(map(layout.piece_size, pieces))
    for piece in pieces:
        part.append(piece)
        size += layout.piece_size(piece)
        if size >= min(max(left // (2 * threads), SLICE_AT_LEAST_BYTES), SLICE_AT_MOST_BYTES):
            yield part
            left -= size
            part, size = [], 0
    if part:
        yield part
