"""Finds out what of a torrent lies on disk, and hashes no more than it must.

Who is checked when is the queue's (`check_queue.py`), how files are is looked up in threads (`survey.py`), what must be
hashed is decided without I/O (`check_plan.py`) and hashed on all cores (`check_hashing.py`). Complete torrents that are
as they were left are settled many at once (`audits.py`). Here one check takes its steps, and tells what was found to
whoever makes of it what it means for the torrent.
"""

from collections import deque
from typing import Final, Protocol

import trio

from bittern.disk.attempt import JobCrashed
from bittern.disk.disk import DiskGate
from bittern.disk.resume import ResumeRecord
from bittern.disk.together import Together
from bittern.engine.apart import Apart
from bittern.engine.audits import Audits
from bittern.engine.check_hashing import CheckHashing
from bittern.engine.check_plan import Survey, pieces_on_disk, plan_check
from bittern.engine.check_queue import SMALL_BYTES, CheckQueue
from bittern.engine.findings import Findings
from bittern.engine.moving import Moving
from bittern.engine.opening import Opener, unsorted
from bittern.engine.supervision import Supervisor
from bittern.engine.survey import Asked, Found, look_at_all, survey_of
from bittern.engine.torrent import RESTING, State, Torrent
from bittern.engine.whereabouts import Whereabouts
from bittern.errors import StorageError
from bittern.proto.bitfield import Bitfield
from bittern.values import replace

CHECKS_AT_ONCE: Final = 4
"""Torrents under check at once: a large one does not hold up the small ones behind it."""

SMALL_AT_ONCE: Final = 128
SMALL_TEAM: Final = 16
"""Small torrents are looked at and hashed in the same thread hop, several of them: of thousands that come at once each
would otherwise cost a few hops, and wait for its turn in each. Most of the time of a check is waiting, for others on
the loop and for the disk: of 500 that are dropped at once, and downloaded as soon as they are checked, 32 together took
a tenth longer.
"""


class CheckHost(Protocol):
    """What checking needs of the session."""

    disk: DiskGate
    supervisor: Supervisor
    opener: Opener
    checks: CheckQueue
    whereabouts: Whereabouts
    apart: Apart
    findings: Findings
    moving: Moving

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    def torrent_failed(self, torrent: Torrent, error: Exception) -> None:
        """It cannot be checked."""

    async def take_stock(self, torrent: Torrent) -> None:
        """Ends what a stop interrupted: a renaming, and a move if it can only be ended."""

    def go_on(self, torrent: Torrent) -> None:
        """It runs, unless something keeps it waiting."""

    def reselected(self, torrent: Torrent) -> None:
        """Its selection is another one than when its check began."""

    def recheck(self, torrent: Torrent) -> bool:
        """It stops, and is submitted anew. False: not now."""


class Checker:
    """Serves the queue of checks: looks, hashes what is doubtful, and tells the host what lies on disk."""

    def __init__(self, host: CheckHost) -> None:
        self._host = host
        self._checks = host.checks
        self._audits = Audits(host)
        self._glance = Together(self._glance_at_all, at_most=SMALL_TEAM)
        self._look_at_small = Together(self._look_at_all, at_most=SMALL_TEAM)
        self._hashing = CheckHashing(host.disk, host.known)

    def limit(self, at_most: int | None) -> None:
        """So many torrents at once are hashed; those that take no longer than a moment are not counted."""
        self._hashing.limit(at_most)

    def progress(self, torrent: Torrent) -> float:
        """How far its check is, 0 to 1; 0 when none is under way."""
        return self._hashing.progress(torrent)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serves the queue until cancelled."""
        checks = self._checks
        async with trio.open_nursery() as nursery:
            # One worker is kept for what waits to be downloaded: audits of large torrents take long.
            nursery.start_soon(self._work, checks.large, checks.small)
            for _ in range(CHECKS_AT_ONCE - 1):
                nursery.start_soon(self._work, checks.large, checks.small, checks.doubtful)
            nursery.start_soon(self._audits.run)
            for _ in range(SMALL_AT_ONCE):
                nursery.start_soon(self._work, checks.small)
            task_status.started()

    async def _work(self, *lanes: deque[Torrent]) -> None:
        checks = self._checks
        while True:
            torrent = await checks.next(*lanes)
            try:
                await self._check_contained(torrent)
            finally:
                checks.ended(torrent)
                if checks.wanted_anew(torrent) and not self._host.recheck(torrent):
                    # it was asked for while it was being checked, and went on meanwhile: into a move
                    checks.heard_anew(torrent)
                if checks.outdated(torrent):
                    checks.heard_again(torrent)
                    self._host.reselected(torrent)
                self._host.opener.fresh.drop(torrent.info_hash)
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
        if self._checks.wanted_anew(torrent) and record.checked:
            self._checks.heard_anew(torrent)
            found = await self._look_anew(torrent)
            await self._tell(torrent, found)
            return
        self._checks.heard_anew(torrent)
        if (
            record.state == "complete"
            and record.checked
            and record.clean
            and not unsorted(record)
            and await self._glance(record)
        ):
            await self._tell(torrent, Found(torrent.pieces.copy(), 0, Survey(record.stamps, ())))
            return
        if record.checked:
            found = await self._look(torrent, torrent.data_folder)
        else:
            found = await self._find_place(torrent)
            if host.known(torrent):
                host.moving.found(torrent, anything=any(found.survey.stamps))
        await self._tell(torrent, found)

    async def _tell(self, torrent: Torrent, found: Found) -> None:
        if not self._checks.outdated(torrent):
            # else it was looked for with another selection in mind
            await self._host.findings.checked(
                torrent, found.have, found.survey.stamps, found.hashed, synced=found.synced
            )

    async def _find_place(self, torrent: Torrent) -> Found:
        """Before the first check: where may this torrent's data lie, and what is there of it?

        Data of ours in the final folder is adopted there. What belongs to another torrent is shared when it is whole
        and right; that, and foreign data in either folder, is never written to: the torrent takes its next name.
        """
        record, host = torrent.record, self._host
        whereabouts, hashed = host.whereabouts, 0
        while True:
            for folder in dict.fromkeys((record.folder, record.incomplete_folder or record.folder)):
                found = await self._look(torrent, folder)
                hashed += found.hashed
                if hashed != found.hashed:
                    found = replace(found, hashed=hashed)
                if not host.known(torrent):
                    return found
                taken = whereabouts.contested(torrent, folder)
                usable = (
                    found.have.all and whereabouts.may_share(torrent, folder)
                    if taken
                    else not found.have.none
                )
                if usable:
                    whereabouts.settle_folder(torrent, folder, shared=taken)
                    return found
                if taken or found.survey.occupied:
                    whereabouts.settle_root(torrent)
                    break
            else:
                return found

    async def _look(self, torrent: Torrent, folder: str) -> Found:
        had = torrent.have if folder == torrent.data_folder else None
        if torrent.believed or torrent.record.state == "complete":
            # whether its files are as they were left is what is asked
            had = None
        if torrent.record.total_bytes <= SMALL_BYTES:
            found = await self._look_at_small((torrent.record, folder, had))
            self._learn(torrent, folder, found.survey)
            return found
        opened, survey = await self._host.disk.call(survey_of, self._host.opener, torrent.record, folder)
        self._learn(torrent, folder, survey)
        plan = plan_check(torrent.record, opened.layout, survey, had)
        have, hashed = plan.trusted, 0
        if plan.doubtful:
            if torrent.state not in {State.ERROR, *RESTING}:
                torrent.state = State.CHECKING
            for piece in await self._hashing.matching(torrent, opened, plan.doubtful):
                have.set(piece)
            hashed = opened.layout.bytes_of(plan.doubtful)
        opened.storage.close()
        return Found(have, hashed, survey)

    async def _look_anew(self, torrent: Torrent) -> Found:
        """Hashes every piece that lies on disk, where the torrent's data is. What is gone altogether is more likely a
        disk that is away than a wish to download it again.
        """
        record, folder = torrent.record, torrent.data_folder
        opened, survey = await self._host.disk.call(survey_of, self._host.opener, record, folder)
        self._learn(torrent, folder, survey)
        if not torrent.nothing_claimed and not any(survey.stamps):
            raise StorageError(
                f"nothing of {record.root!r} is left in {folder}; put it back, or remove the torrent and drop it again"
            )
        layout = opened.layout
        have, there = Bitfield(layout.piece_count), pieces_on_disk(layout, survey)
        for piece in await self._hashing.matching(torrent, opened, there):
            have.set(piece)
        opened.storage.close()
        return Found(have, sum(map(layout.piece_size, there)), survey)

    def _learn(self, torrent: Torrent, folder: str, survey: Survey) -> None:
        self._host.apart.sorted_out(torrent, survey.apart, survey.moved - survey.apart, len(survey.stamps))
        if survey.real_folder:
            self._host.whereabouts.learn_folder(folder, survey.real_folder)

    async def _glance_at_all(self, records: list[ResumeRecord]) -> list[bool | JobCrashed]:
        return await self._host.disk.call(self._host.opener.are_unchanged, records)

    async def _look_at_all(self, asked: list[Asked]) -> list[Found | Exception]:
        return await self._host.disk.call(look_at_all, self._host.opener, asked)
