"""A torrent has all that is wanted: its completion is begun, once at a time, and a failure of it is the torrent's own.

Two at once would move the same files. What is changed while it is under way, another selection say, is taken up at its
end.
"""

from typing import Protocol

import trio

from bittern.engine.check_queue import CheckQueue
from bittern.engine.completion import Completion
from bittern.engine.events import CompletedReason
from bittern.engine.failures import Failures
from bittern.engine.supervision import Supervisor
from bittern.engine.torrent import Torrent


class LastStepsHost(Protocol):
    """What this needs of the lifecycle."""

    checks: CheckQueue
    failures: Failures
    supervisor: Supervisor

    def torrent_failed(self, torrent: Torrent, error: Exception) -> None:
        """It cannot go on."""

    def reselected(self, torrent: Torrent) -> None:
        """Other files are wanted than when its completion began."""


class LastSteps:
    """Of all torrents."""

    def __init__(self, host: LastStepsHost, completion: Completion) -> None:
        self._host = host
        self._completion = completion
        self._under_way: set[Torrent] = set()
        self.nursery: trio.Nursery | None = None
        """Where they are taken."""

    def under_way(self, torrent: Torrent) -> bool:
        """Is it being completed?"""
        return torrent in self._under_way

    def downloaded(self, torrent: Torrent) -> None:
        """The last piece is written."""
        if self.nursery is not None:
            # runs later; asked for first, for there is no other last piece to ask for it
            self.nursery.start_soon(self._finish_downloaded, torrent)

    async def found(self, torrent: Torrent, reason: CompletedReason, *, synced: bool = False) -> None:
        """A check has found all that is wanted; and perhaps `synced` it."""
        if torrent.record.completed_reason != "downloaded":
            # in one step with what else its record says of the check: else a stop before the first of the last steps
            # would leave one that was checked, of which nothing says that it was not downloaded
            torrent.record.completed_reason = reason
        if torrent.record.incomplete_folder and self.nursery is not None:
            # its files may have to be copied, and others wait to be checked
            self.nursery.start_soon(self._contained, torrent, reason)
        else:
            await self._finish(torrent, reason, synced=synced)

    async def _finish_downloaded(self, torrent: Torrent) -> None:
        if torrent not in self._host.checks:
            # else other files were chosen a moment ago, or it is hashed again: its check tells whether it is complete
            await self._contained(torrent, "downloaded")

    async def _contained(self, torrent: Torrent, reason: CompletedReason) -> None:
        await self._host.supervisor.contain(
            f"completion of {torrent.record.name!r}",
            lambda: self._finish(torrent, reason),
            lambda error: self._host.torrent_failed(torrent, error),
            remedy="the torrent is in error and tried again later",
        )

    async def _finish(self, torrent: Torrent, reason: CompletedReason, *, synced: bool = False) -> None:
        if torrent in self._under_way or not torrent.complete:
            # more is wanted than a moment ago; or it was stopped and let go: two would move its files at once
            return
        self._under_way.add(torrent)
        selection = torrent.record.selection
        try:
            if torrent.record.completed_reason == "downloaded":
                # its files may have to be cut
                reason, synced = "downloaded", False
            await self._completion.finish(torrent, reason, synced=synced)
            self._host.failures.recovered(torrent)
        finally:
            self._under_way.discard(torrent)
            if torrent.record.selection != selection:
                self._host.reselected(torrent)
