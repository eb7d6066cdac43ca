"""What keeps torrents from running: somebody has stopped them, or whoever else has a say lets them wait.

Each gate is a question, asked whenever a torrent could go on: may it, and if not, in which state does it wait? Whose
answer for a torrent has changed calls `reconsider`. Synchronous, but for making a stop durable.
"""

from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from bittern.engine.check_queue import CheckQueue
from bittern.engine.flusher import Flusher
from bittern.engine.torrent import State, Torrent

Gate: TypeAlias = Callable[[Torrent], State | None]
"""None: it may run."""

RUNNING: Final = frozenset({State.METADATA, State.DOWNLOADING, State.SEEDING})
UNDER_WAY: Final = frozenset({State.CHECKING, State.MOVING})
"""What they are about is ended first; then the gates are asked."""


class HoldsHost(Protocol):
    """What holding needs of the lifecycle."""

    checks: CheckQueue
    flusher: Flusher

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    def go_on(self, torrent: Torrent) -> None:
        """It runs, unless a gate is closed to it."""

    def halt(self, torrent: Torrent) -> None:
        """Nobody is talked to about it any more."""


class Holds:
    """All gates; the first is `stop`, which lasts until `let_go`."""

    def __init__(self, host: HoldsHost) -> None:
        self._host = host
        self._gates: list[Gate] = [_stopped]

    def add(self, gate: Gate) -> None:
        """One more has a say; those before it come first."""
        self._gates.append(gate)

    def state_of(self, torrent: Torrent) -> State | None:
        """The state in which it has to wait."""
        for gate in self._gates:
            state = gate(torrent)
            if state is not None:
                return state
        return None

    def reconsider(self, torrent: Torrent) -> None:
        """Somebody's answer for that torrent may be another one now."""
        if not self._host.known(torrent):
            return
        waits = self.state_of(torrent)
        if waits in {None, State.QUEUED}:
            if torrent.state not in {*RUNNING, *UNDER_WAY, State.QUEUED, State.ERROR}:
                # much may have happened to its files meanwhile
                torrent.ready = False
                torrent.state = State.QUEUED
                self._host.checks.submit(torrent)
            elif torrent.ready or torrent.state in RUNNING:
                self._settle(torrent, waits)
        elif torrent.state is State.MOVING:
            if waits is State.STOPPED:
                # it is moved all the same
                self._host.halt(torrent)
        else:
            self._settle(torrent, waits)

    def _settle(self, torrent: Torrent, waits: State | None) -> None:
        if waits is None:
            if torrent.state not in RUNNING:
                self._host.go_on(torrent)
        elif torrent.state is not waits:
            torrent.ready = waits is State.QUEUED
            torrent.state = waits
            self._host.halt(torrent)

    async def stop(self, torrent: Torrent, reason: str) -> None:
        """It stands still now, and after a restart too; `StorageError` when the latter is not sure."""
        torrent.record.stopped = reason or "stopped"
        self.reconsider(torrent)
        await self._host.flusher.durable(torrent)

    async def let_go(self, torrent: Torrent) -> None:
        """The reverse."""
        if torrent.record.stopped:
            torrent.record.stopped = ""
            self.reconsider(torrent)
            await self._host.flusher.durable(torrent)


def _stopped(torrent: Torrent) -> State | None:
    # one that is to be removed with its data, and could not be yet, is not downloaded again meanwhile
    return State.STOPPED if torrent.record.stopped or torrent.record.leaving else None
