"""What torrents have seeded, and what becomes of them when a rule says that it is enough.

Nothing is looked at again before it can have changed: a torrent has an appointment for when its rules may be met if
nothing is uploaded until then, and gets another one when something was. Ten thousand idle ones cost nothing.

A rule that is met: the event's id is in the record → the event is told → (hooks have it durably) → the action. After a
crash in between the same comes again, with the same id.
"""

import functools
import random
import time
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import urlsplit

import trio

from bittern.disk.disk import DiskGate
from bittern.engine.beats import next_beat
from bittern.engine.events import SeedingDone, Sink, Warned, new_event_id
from bittern.engine.flusher import Flusher
from bittern.engine.holds import Holds
from bittern.engine.runclock import RunClock
from bittern.engine.store import Store
from bittern.engine.supervision import Supervisor, is_bug
from bittern.engine.torrent import State, Torrent
from bittern.engine.totals import Totals
from bittern.errors import StorageError
from bittern.policy.appointments import Appointments
from bittern.policy.labels import labels_in
from bittern.policy.seedrules import Outlook, SeedFacts, SeedGuard, SeedRule, foresee, rules_for
from bittern.terms import InfoHash

LOOK_EVERY_S: Final = 5.0
LOOKS_AT_ONCE: Final = 200
"""About 2 ms; then others get their turn."""

NOTE_EVERY_S: Final = 60.0
"""Between two notes of the clock: as much seed time is lost by a crash."""

AGAIN_S: Final = 300.0
"""After an action that failed."""

SPOOLED_WITHIN_S: Final = 60.0
"""The action does not wait longer for hooks to have the event: they may be unable to write, and will be told so."""


class SeedingHost(Protocol):
    """What seed rules need of the lifecycle."""

    disk: DiskGate
    flusher: Flusher
    holds: Holds
    supervisor: Supervisor
    sink: Sink
    rng: random.Random

    def known(self, torrent: Torrent) -> bool:
        """Is it still one of ours?"""

    async def relocate(self, torrent: Torrent, folder: str) -> None:
        """Moves its files; `StorageError`."""


class Removes(Protocol):
    """The session's `remove`."""

    def __call__(self, info_hash: InfoHash, *, reason: str, with_data: bool) -> Awaitable[bool]:
        """`StorageError`."""


class Seeding:
    """Counts, foresees and acts; an ENGINE service."""

    def __init__(
        self,
        host: SeedingHost,
        torrents: Mapping[InfoHash, Torrent],
        *,
        store: Store,
        totals: Totals,
        remove: Removes,
        rules: Sequence[SeedRule],
        guards: Sequence[SeedGuard],
        loaded: trio.Event,
    ) -> None:
        self._host = host
        self._torrents = torrents
        self._store = store
        self._totals = totals
        self._remove = remove
        self._rules = tuple(rules)
        self._guards = tuple(guards)
        self._loaded = loaded
        self._clock = RunClock()
        self._touched: dict[InfoHash, None] = {}
        self._due: Appointments[InfoHash] = Appointments()
        self._acting: set[InfoHash] = set()
        self._not_before: dict[InfoHash, float] = {}
        """When an action that failed is tried again, whatever happens meanwhile but a change of the rules."""
        self._warned: set[InfoHash] = set()
        self._spooled: dict[str, trio.Event] = {}
        self.awaits_delivery = False
        """Does somebody call `delivered` for each event?"""

    # -- counting -------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Before the first record is read."""
        self._clock.start(await self._host.disk.call(self._store.run_clock))
        await self._totals.load()

    def run_s(self) -> float:
        """For how long bittern has run, over all runs."""
        return self._clock.now()

    async def save(self) -> None:
        """Notes how late it is; without that note as much seed time is lost."""
        try:
            await self._host.disk.call(self._store.keep_run_clock, self._clock.now())
            await self._totals.save()
        except StorageError as error:
            self._host.sink(Warned(what="state.unwritable", detail=str(error)))

    def known(self, torrent: Torrent) -> None:
        """A torrent that was just read, or is new."""
        record = torrent.record
        self._clock.at_least(max(record.seeding_since, record.active_at))
        self._not_before.pop(torrent.info_hash, None)
        if torrent.state is State.SEEDING:
            self._begins(torrent)

    def state_changed(self, torrent: Torrent, before: State) -> None:
        """It begins to seed, or does so no more."""
        if torrent.state is State.SEEDING:
            self._begins(torrent)
        elif before is State.SEEDING:
            record = torrent.record
            record.seeded_s += self._clock.now() - record.seeding_since
            record.seeding_since = 0.0
            self._host.flusher.mark(torrent)

    def _begins(self, torrent: Torrent) -> None:
        record = torrent.record
        if not record.seeding_since:
            record.seeding_since = self._clock.now()
            self._host.flusher.mark(torrent)
        self.touch(torrent)

    def foretell(self, torrent: Torrent) -> None:
        """Its record is about to be written as complete: since when it seeds is said by the same write, for there would
        be another for that alone.
        """
        torrent.record.seeding_since = torrent.record.seeding_since or self._clock.now()

    def take_back(self, torrent: Torrent) -> None:
        """It was not written; or something keeps the torrent from seeding."""
        if torrent.state is not State.SEEDING and torrent.record.seeding_since:
            torrent.record.seeding_since = 0.0
            self._host.flusher.mark(torrent)

    def uploaded(self, torrent: Torrent, now: float) -> None:
        """Somebody was given something of it."""
        torrent.record.active_at = self._clock.at(now)
        self.touch(torrent)

    def seed_time_s(self, torrent: Torrent) -> float:
        """Over all runs."""
        record = torrent.record
        running_s = self._clock.now() - record.seeding_since if record.seeding_since else 0.0
        return record.seeded_s + running_s

    # -- foreseeing -----------------------------------------------------------------------------------------

    def set_rules(self, rules: Sequence[SeedRule], guards: Sequence[SeedGuard]) -> None:
        """From now on."""
        if (tuple(rules), tuple(guards)) != (self._rules, self._guards):
            self._rules, self._guards = tuple(rules), tuple(guards)
            self._not_before.clear()
            for torrent in self._torrents.values():
                self.touch(torrent)

    def outlook(self, torrent: Torrent) -> Outlook | None:
        """What the rules will do with it, when and why; None: nothing."""
        record = torrent.record
        if torrent.state is not State.SEEDING or record.kept:
            return None
        return foresee(self._facts(torrent), rules_for(record.limits, self._rules), self._guards)

    def limits_changed(self, torrent: Torrent) -> None:
        """It has other limits of its own; who gives it some wants them to hold, though it was let go on before."""
        if not torrent.record.limits.seeds_by_rules:
            torrent.record.kept = False
        self._not_before.pop(torrent.info_hash, None)
        self._touched[torrent.info_hash] = None

    def _facts(self, torrent: Torrent) -> SeedFacts:
        record = torrent.record
        return SeedFacts(
            # who has downloaded more than there is owes more
            ratio=record.uploaded_bytes / max(record.downloaded_bytes, torrent.wanted_bytes, 1),
            seed_time_s=self.seed_time_s(torrent),
            idle_s=self._clock.now() - max(record.seeding_since, record.active_at),
            labels=labels_in(record.label),
            trackers=_hosts_of(record.trackers),
            folder=record.folder,
        )

    def touch(self, torrent: Torrent) -> None:
        """Something that rules ask for is otherwise now."""
        if self._rules or not torrent.record.limits.seeds_by_rules:
            self._touched[torrent.info_hash] = None

    # -- acting ---------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Looks every few seconds at those whose turn it is, until cancelled."""
        task_status.started()
        await self._loaded.wait()
        noted_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            while True:
                await next_beat(LOOK_EVERY_S)
                await self._look(nursery)
                if trio.current_time() - noted_at >= NOTE_EVERY_S:
                    noted_at = trio.current_time()
                    await self.save()

    async def _look(self, nursery: trio.Nursery) -> None:
        now = trio.current_time()
        turn = [*self._touched, *(one for one in self._due.take_due(now) if one not in self._touched)]
        self._touched.clear()
        for number, info_hash in enumerate(turn):
            torrent = self._torrents.get(info_hash)
            outlook = self.outlook(torrent) if torrent is not None else None
            self._due.drop(info_hash)
            not_before = self._not_before.get(info_hash, now)
            if not_before > now:
                self._due.set(info_hash, not_before)
                continue
            self._not_before.pop(info_hash, None)
            if torrent is None or outlook is None or info_hash in self._acting:
                continue
            if outlook.due:
                self._acting.add(info_hash)
                nursery.start_soon(self._act_contained, torrent)
            elif outlook.in_s < float("inf"):
                self._due.set(info_hash, now + outlook.in_s)
            if number % LOOKS_AT_ONCE == LOOKS_AT_ONCE - 1:
                await trio.lowlevel.checkpoint()

    async def _act_contained(self, torrent: Torrent) -> None:
        try:
            await self._host.supervisor.contain(
                f"seed rule for {torrent.record.name!r}",
                lambda: self._act(torrent),
                lambda error: self._failed(torrent, error),
                remedy="it is tried again later",
            )
        finally:
            self._acting.discard(torrent.info_hash)

    def _failed(self, torrent: Torrent, error: Exception) -> None:
        if not self._host.known(torrent):
            return
        # that it goes and comes back touches it, and so does whoever is served: it would be tried again at each look
        again_at = self._not_before[torrent.info_hash] = trio.current_time() + AGAIN_S
        self._due.set(torrent.info_hash, again_at)
        if torrent.info_hash not in self._warned and not is_bug(error):
            self._warned.add(torrent.info_hash)
            self._host.sink(Warned(what="seeding.rule_failed", detail=f"{torrent.record.name!r}: {error}"))

    async def _act(self, torrent: Torrent) -> None:
        record = torrent.record
        now_wall = time.time()
        record.seeding_done_id = event_id = record.seeding_done_id or new_event_id(now_wall, self._host.rng)
        await self._host.flusher.durable(torrent)
        outlook = self.outlook(torrent)
        if outlook is None or not outlook.due:
            self.touch(torrent)
            return
        rule = outlook.rule
        reason = f"{rule.name}: {outlook.why()}"
        spooled = self._spooled[event_id] = trio.Event()
        try:
            self._host.sink(
                SeedingDone(
                    facts=torrent.facts(),
                    event_id=event_id,
                    rule=rule.name,
                    action=rule.action,
                    reason=reason,
                    at_wall=now_wall,
                )
            )
            if self.awaits_delivery:
                with trio.move_on_after(SPOOLED_WITHIN_S):
                    await spooled.wait()
        finally:
            del self._spooled[event_id]
        if torrent.state is not State.SEEDING or not self._host.known(torrent):
            return
        if rule.action == "stop":
            await self._host.holds.stop(torrent, f"seed rule {reason}")
        elif rule.action == "move":
            await self._host.relocate(torrent, rule.folder)
            # the next rule that is met is another event
            record.seeding_done_id = ""
            # else a stop would give it this one's id, and hooks take it for told
            await self._host.flusher.durable(torrent)
        else:
            await self._remove(
                torrent.info_hash,
                reason=f"seed rule {reason}",
                with_data=rule.action == "remove-with-data",
            )
        self._warned.discard(torrent.info_hash)

    def delivered(self, event_id: str) -> None:
        """That event is durable with the hooks, or nobody wants it."""
        if event_id in self._spooled:
            self._spooled[event_id].set()

    def let_go(self, torrent: Torrent) -> None:
        """Somebody lets it go on: a rule that has stopped it does not do so at once again, nor ever."""
        record = torrent.record
        if record.stopped and record.seeding_done_id:
            record.kept, record.seeding_done_id = True, ""


@functools.lru_cache(maxsize=1024)
def _hosts_of(tiers: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Of all its trackers; "" where a stranger wrote what has none."""
    return tuple(dict.fromkeys(_host_of(url) for tier in tiers for url in tier))


def _host_of(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
