"""Torrents that cannot go on: they rest, are tried again by themselves, and recover; told once, not at each try."""

import random
import time
from typing import Final, Protocol

import trio

from bittern.engine.check_queue import CheckQueue
from bittern.engine.events import Failed, Recovered, Sink, new_event_id
from bittern.engine.flusher import Flusher
from bittern.engine.guard import Guard
from bittern.engine.moving import Moving
from bittern.engine.peer_sources import PeerSources
from bittern.engine.repeats import brief
from bittern.engine.supervision import Intensity, is_bug
from bittern.engine.swarms import Swarms
from bittern.engine.torrent import State, Torrent
from bittern.errors import MetainfoError

RETRY_FIRST_S: Final = 5.0
RETRY_MOST_S: Final = 300.0
"""A full disk is often emptied by a human: five minutes later at most the torrent goes on by itself."""

RETRY_DOUBLED_AT_MOST: Final = 10
"""A disk may be bad for weeks, and no number holds what is doubled a thousand times."""

PROVEN_S: Final = 10.0
"""A torrent that failed has recovered when it has written pieces for so long, or is complete."""

LET_REST: Final = frozenset({State.STOPPED, State.HELD, State.OFFLINE})
"""What was still under way fails here: what lies on disk is found out anew when they are let go."""

QUARANTINE_S: Final = 3600.0
"""How long a torrent rests whose swarm crashed again and again: a bug, and restarting has not helped."""


class FailuresHost(Protocol):
    """What this needs of the lifecycle."""

    checks: CheckQueue
    flusher: Flusher
    guard: Guard
    moving: Moving
    swarms: Swarms
    sources: PeerSources
    sink: Sink
    rng: random.Random

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""


class Failures:
    """The session's."""

    def __init__(self, host: FailuresHost) -> None:
        self._host = host
        self._resting: set[Torrent] = set()
        """Those that are tried again later, if nobody does anything with them before."""
        self._falls: dict[Torrent, Intensity] = {}

    def failed(self, torrent: Torrent, error: Exception, *, sure: bool = False) -> None:
        """The torrent rests, and is tried again by itself; its failure is told once, not with each try. `sure`: its
        disk is there.
        """
        host = self._host
        resting = torrent.state is State.ERROR and torrent.retry_at is not None
        if resting or not host.known(torrent):
            # of ten pieces that a full disk refused, the first has said it
            return
        if host.moving.relocates(torrent):
            # a file that was looked for where it has just been; whether the move succeeds is told at its end
            return
        if torrent.state in {State.STOPPED, State.HELD}:
            return
        if not sure and host.guard.takes(torrent, error):
            return
        pause_s = min(RETRY_FIRST_S * 2 ** min(torrent.failures, RETRY_DOUBLED_AT_MOST), RETRY_MOST_S)
        torrent.failures += 1
        self._rest(torrent, f"internal error: {brief(error)}" if is_bug(error) else str(error), pause_s)

    def fell(self, torrent: Torrent, error: Exception) -> None:
        """A swarm ended by an error: a torrent's own, or a bug, which it may survive a few times."""
        host = self._host
        if not host.known(torrent):
            return
        if not is_bug(error):
            self.failed(torrent, error)
        elif torrent.state in LET_REST:
            # else it would be tried again by itself, though somebody has stopped it
            return
        elif self._falls.setdefault(torrent, Intensity()).fell(trio.current_time()):
            self._rest(torrent, f"quarantined, its swarm keeps crashing: {brief(error)}", QUARANTINE_S)
        elif torrent.reachable:
            host.swarms.wake(torrent)

    def useless_metadata(self, torrent: Torrent, error: MetainfoError) -> None:
        """It is right, and we can do nothing with it: perhaps a later version can."""
        if self._host.known(torrent) and torrent.state not in LET_REST:
            self._rest(torrent, f"its metadata cannot be used: {error}", QUARANTINE_S)

    def _rest(self, torrent: Torrent, reason: str, pause_s: float) -> None:
        host, now, entering = self._host, time.time(), not torrent.error
        torrent.error = reason
        torrent.state = State.ERROR
        torrent.retry_at = trio.current_time() + pause_s
        self._resting.add(torrent)
        host.swarms.stop(torrent)
        host.sources.remove(torrent)
        if entering:
            torrent.record.ailing = True
            host.flusher.mark(torrent)
            host.sink(
                Failed(
                    facts=torrent.facts(),
                    event_id=new_event_id(now, host.rng),
                    reason=reason,
                    retry_in_s=pause_s,
                    at_wall=now,
                )
            )

    def wrote(self, torrent: Torrent) -> None:
        """A piece of it: a disk that is nearly full takes one and refuses the next, so only a while without failures is
        a recovery.
        """
        if (
            (torrent.error or torrent.record.ailing)
            and torrent.state is State.DOWNLOADING
            and trio.current_time() - torrent.retried_at > PROVEN_S
        ):
            self.recovered(torrent)

    def recovered(self, torrent: Torrent) -> None:
        """It goes on; told if it had failed, or if it had failed or stalled when an earlier run ended."""
        record = torrent.record
        if torrent.error or (record.ailing and not torrent.stalled):
            torrent.error = ""
            torrent.failures = 0
            self.not_again(torrent)
            if not torrent.stalled:
                record.ailing = False
                self._host.flusher.mark(torrent)
            self._host.sink(Recovered(facts=torrent.facts(), at_wall=time.time()))

    def not_again(self, torrent: Torrent) -> None:
        """It is not to be tried again because of its failure: something else happens with it."""
        torrent.retry_at = None
        self._resting.discard(torrent)

    def forget(self, torrent: Torrent) -> None:
        """It is one of ours no more."""
        self._resting.discard(torrent)
        self._falls.pop(torrent, None)

    def retry_due(self, now: float) -> None:
        """Tries again those whose time has come; what lies on disk is surveyed first."""
        for torrent in list(self._resting):
            if torrent.state is State.ERROR and torrent.retry_at is not None and now >= torrent.retry_at:
                self._retry(torrent)

    def retry_now(self, torrent: Torrent) -> None:
        """Somebody wants it to go on: if it rests it is tried at once, and its swarm may fall as often as before."""
        if torrent.state is State.ERROR and torrent.retry_at is not None:
            self._falls.pop(torrent, None)
            self._retry(torrent)

    def _retry(self, torrent: Torrent) -> None:
        torrent.retry_at = None
        self._host.checks.submit(torrent)
