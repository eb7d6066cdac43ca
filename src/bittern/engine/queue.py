"""Lets torrents run as far as the limits allow, and notices those that stand still."""

import random
import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import trio

from bittern.engine.beats import next_beat
from bittern.engine.events import Recovered, Sink, Stalled, new_event_id
from bittern.engine.flusher import Flusher
from bittern.engine.holds import Holds
from bittern.engine.settings import Settings
from bittern.engine.supervision import Supervisor
from bittern.engine.swarms import Swarms
from bittern.engine.torrent import State, Torrent
from bittern.policy.appointments import Appointments
from bittern.policy.ordering import PRIORITY_MOST, Rank, Step, moved, stepped
from bittern.policy.queueing import Line
from bittern.terms import InfoHash

LOOK_EVERY_S: Final = 1.0

COUNTED: Final = frozenset({State.DOWNLOADING, State.SEEDING})
"""Those that have a place, and can stand still."""


class QueueHost(Protocol):
    """What the queue needs of the lifecycle."""

    flusher: Flusher
    holds: Holds
    supervisor: Supervisor
    sink: Sink
    rng: random.Random


class Queue:
    """A gate of `Holds`, and an ENGINE service. Without limits it knows of nobody who waits."""

    def __init__(
        self, host: QueueHost, torrents: Mapping[InfoHash, Torrent], swarms: Swarms, settings: Settings
    ) -> None:
        self._host = host
        self._torrents = torrents
        self._swarms = swarms
        self._downloads: Line[InfoHash] = Line(settings.max_downloads)
        self._seeds: Line[InfoHash] = Line(settings.max_seeds)
        self._stalled_after_s = settings.stalled_after_s
        self._watched: Appointments[InfoHash] = Appointments()
        """Running ones, each with the earliest time at which it can have stood still for long."""
        self._places: dict[InfoHash, int] | None = None
        """Where each stands among all; None: not looked at since something changed."""
        host.holds.add(self._gate)

    # -- the gate -------------------------------------------------------------------------------------------

    def _gate(self, torrent: Torrent) -> State | None:
        """Asked last, so that nobody has a place who may not run for another reason."""
        if torrent.record.state not in {"downloading", "complete"}:
            # how much there is to download is not even known
            return None
        line = self._line_of(torrent)
        return None if line.at_most is None or self._ask(line, torrent) else State.QUEUED

    def _ask(self, line: Line[InfoHash], torrent: Torrent) -> bool:
        record = torrent.record
        return line.ask(
            torrent.info_hash, number=_rank(torrent).rank, priority=record.priority, forced=record.forced
        )

    def _line_of(self, torrent: Torrent) -> Line[InfoHash]:
        return self._seeds if torrent.record.state == "complete" else self._downloads

    def state_changed(self, torrent: Torrent) -> None:
        """It begins to run, or does so no more."""
        info_hash = torrent.info_hash
        if torrent.stalled:
            torrent.stalled = False
        if torrent.state in COUNTED:
            torrent.progress_at = trio.current_time()
            self._watch(torrent)
        else:
            self._watched.drop(info_hash)
        wanted = None
        if torrent.state in COUNTED or (torrent.state is State.QUEUED and torrent.ready):
            wanted = self._line_of(torrent)
        for line in (self._downloads, self._seeds):
            if line is not wanted:
                line.leave(info_hash)

    def forget(self, torrent: Torrent) -> None:
        """It was removed."""
        self._places = None
        self._watched.drop(torrent.info_hash)
        self._downloads.leave(torrent.info_hash)
        self._seeds.leave(torrent.info_hash)

    async def set_place(self, torrent: Torrent, priority: int | None, forced: bool | None) -> None:
        """Durable when it returns."""
        record = torrent.record
        if priority is not None:
            record.priority = max(-PRIORITY_MOST, min(priority, PRIORITY_MOST))
        if forced is not None:
            record.forced = forced
        self.stands_elsewhere(torrent)
        await self._host.flusher.durable(torrent)

    def stands_elsewhere(self, torrent: Torrent) -> None:
        """Its record gives it another place than before."""
        self._places = None
        line = self._line_of(torrent)
        if line.at_most is not None and torrent.info_hash in line:
            self._ask(line, torrent)
            self._host.holds.reconsider(torrent)

    def place(self, torrent: Torrent) -> int:
        """Where it stands among all torrents, whether they wait or not; 0 is the first."""
        if self._places is None or len(self._places) != len(self._torrents):
            line = sorted(self._torrents.values(), key=_rank)
            self._places = {one.info_hash: place for place, one in enumerate(line)}
        return self._places.get(torrent.info_hash, 0)

    async def step(self, torrents: Sequence[Torrent], step: Step) -> None:
        """Moves them together; durable when it returns. Who runs is not stopped for whoever comes before it now."""
        places = [(self.place(one), one) for one in torrents]
        by_hash = {one.info_hash: one for one in torrents}
        wanted = stepped([(place, one.info_hash) for place, one in places], step, len(self._torrents))
        changed: dict[InfoHash, Torrent] = {}
        for info_hash, to in wanted:
            if info_hash in self._torrents:
                changed |= self._move(by_hash[info_hash], to)
            # among ten thousand each takes some 20 ms
            await trio.lowlevel.checkpoint()
        for one in changed.values():
            await self._host.flusher.durable(one)

    async def move_to(self, torrent: Torrent, place: int) -> None:
        """The same to that place."""
        for one in self._move(torrent, place).values():
            await self._host.flusher.durable(one)

    def _move(self, torrent: Torrent, to: int) -> dict[InfoHash, Torrent]:
        """The torrents whose rank changed; `durable` is for the caller."""
        order = {info_hash: _rank(one) for info_hash, one in self._torrents.items()}
        changed = {}
        for info_hash, rank in moved(order, torrent.info_hash, to).items():
            one = changed[info_hash] = self._torrents[info_hash]
            one.record.priority, one.record.rank = -rank.behind, rank.rank
            self.stands_elsewhere(one)
        return changed

    def apply(self, settings: Settings) -> None:
        """New limits, from now on."""
        self._stalled_after_s = settings.stalled_after_s
        for line, at_most in (
            (self._downloads, settings.max_downloads),
            (self._seeds, settings.max_seeds),
        ):
            if line.at_most == at_most:
                continue
            line.limit(at_most)
            for torrent in self._torrents.values():
                if torrent.state in COUNTED and self._line_of(torrent) is line:
                    self._ask(line, torrent)
                    if torrent.stalled:
                        line.stands_still(torrent.info_hash, True)
            line.settle()
            for torrent in list(self._torrents.values()):
                if self._line_of(torrent) is line:
                    self._host.holds.reconsider(torrent)
        for torrent in self._torrents.values():
            if torrent.state in COUNTED:
                self._watch(torrent)

    # -- the service ----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Looks once a second whose turn it is, until cancelled; without limits there is nothing to look at."""
        task_status.started()
        while True:
            self._notice_stalls(trio.current_time())
            for line in (self._downloads, self._seeds):
                admitted, held = line.settle()
                for info_hash in (*held, *admitted):
                    torrent = self._torrents.get(info_hash)
                    if torrent is None:
                        continue
                    self._host.holds.reconsider(torrent)
                    if info_hash in admitted and torrent.state not in COUNTED:
                        # something else keeps it: others may have its turn, and it asks again
                        line.leave(info_hash)
            await next_beat(LOOK_EVERY_S)

    # -- standing still -------------------------------------------------------------------------------------

    def progress(self, torrent: Torrent, now: float) -> None:
        """Something of it went over the wire."""
        torrent.progress_at = now
        if torrent.stalled:
            torrent.stalled = False
            self._line_of(torrent).stands_still(torrent.info_hash, False)
            self._watch(torrent)
            if torrent.state is State.DOWNLOADING:
                self._note_ailing(torrent, bool(torrent.error))
                self._host.sink(Recovered(facts=torrent.facts(), at_wall=time.time()))

    def _watch(self, torrent: Torrent) -> None:
        # whether a seed stands still matters only where seeds are counted
        counted = torrent.state is State.DOWNLOADING or self._seeds.at_most is not None
        if counted and self._stalled_after_s is not None and not torrent.stalled:
            self._watched.set(torrent.info_hash, torrent.progress_at + self._stalled_after_s)

    def _notice_stalls(self, now: float) -> None:
        for info_hash in self._watched.take_due(now):
            torrent = self._torrents.get(info_hash)
            if torrent is None or torrent.state not in COUNTED or self._stalled_after_s is None:
                continue
            idle_s = now - torrent.progress_at
            if idle_s < self._stalled_after_s:
                self._watch(torrent)
                continue
            torrent.stalled = True
            self._line_of(torrent).stands_still(info_hash, True)
            if torrent.state is State.DOWNLOADING:
                self._tell_stalled(torrent, idle_s)

    def _note_ailing(self, torrent: Torrent, ailing: bool) -> None:
        if torrent.record.ailing != ailing:
            torrent.record.ailing = ailing
            self._host.flusher.mark(torrent)

    def _tell_stalled(self, torrent: Torrent, idle_s: float) -> None:
        now = time.time()
        self._note_ailing(torrent, True)
        swarm = self._swarms.live.get(torrent.info_hash)
        self._host.sink(
            Stalled(
                facts=torrent.facts(),
                event_id=new_event_id(now, self._host.rng),
                idle_s=idle_s,
                peers=len(swarm.peers) if swarm is not None else 0,
                at_wall=now,
            )
        )


def _rank(torrent: Torrent) -> Rank:
    record = torrent.record
    return Rank(-record.priority, record.rank or float(record.number))
