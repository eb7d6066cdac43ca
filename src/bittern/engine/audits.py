"""Whether complete torrents lie on disk as they were left: many are glanced at in one thread hop.

After a start that is all of them, and nearly each is untouched: the file system says so by a few stats, and nothing
follows. So each has neither a task nor a hop of its own. Whoever looks otherwise, or needs something to be ended first,
is the checker's.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from bittern.disk.attempt import JobCrashed
from bittern.disk.disk import DiskGate
from bittern.engine.check_queue import CheckQueue
from bittern.engine.findings import Findings
from bittern.engine.opening import Opener
from bittern.engine.supervision import Supervisor
from bittern.engine.torrent import RESTING, State, Torrent

AUDITS_AT_ONCE: Final = 128
"""In one hop: about 2 ms of the thread, and as much of the loop afterwards."""


class AuditsHost(Protocol):
    """What this needs of the lifecycle."""

    disk: DiskGate
    supervisor: Supervisor
    opener: Opener
    checks: CheckQueue
    findings: Findings

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    def torrent_failed(self, torrent: Torrent, error: Exception) -> None:
        """It cannot go on."""


class Audits:
    """Of all complete torrents that are submitted."""

    def __init__(self, host: AuditsHost) -> None:
        self._host = host
        self._checks = host.checks

    async def run(self) -> None:
        """Serves them until cancelled."""
        while True:
            waiting = await self._checks.next_audits(AUDITS_AT_ONCE)
            try:
                await self._host.supervisor.contain(
                    f"audit of {len(waiting)} torrents",
                    partial(self._audit, waiting),
                    lambda _: None,
                    remedy="each is looked at by itself",
                )
            finally:
                if waiting:
                    self._checks.doubt(waiting)
            # who waits for the next keeps none that may be removed meanwhile
            del waiting

    async def _audit(self, waiting: list[Torrent]) -> None:
        """Takes out of these whoever is as it was left."""
        team = [torrent for torrent in waiting if self._may_be_glanced_at(torrent)]
        for torrent, unchanged in zip(team, await self._glance(team), strict=True):
            # much may have happened meanwhile
            if unchanged is True and self._may_be_glanced_at(torrent):
                waiting.remove(torrent)
                self._settle(torrent)

    async def _glance(self, team: Sequence[Torrent]) -> Sequence[bool | JobCrashed]:
        if not team:
            return ()
        for torrent in team:
            if torrent.state is State.QUEUED:
                torrent.state = State.CHECKING
        return await self._host.disk.call(
            self._host.opener.are_unchanged, [torrent.record for torrent in team]
        )

    def _may_be_glanced_at(self, torrent: Torrent) -> bool:
        """Is nothing else to be done with it, and all that it has in its files at their places?"""
        record = torrent.record
        return (
            self._host.known(torrent)
            and torrent.state not in RESTING
            and record.state == "complete"
            and record.checked
            and record.clean
            and not torrent.first_check
            and torrent.have is None
            and not (record.selection or record.parted or record.moving_to or record.renaming)
            and not self._checks.wanted_anew(torrent)
            and not self._checks.outdated(torrent)
        )

    def _settle(self, torrent: Torrent) -> None:
        self._checks.ended(torrent)
        self._host.supervisor.guard(
            f"check of {torrent.record.name!r}",
            partial(self._host.findings.unchanged, torrent),
            partial(self._host.torrent_failed, torrent),
            remedy="the torrent is in error and tried again later",
        )
