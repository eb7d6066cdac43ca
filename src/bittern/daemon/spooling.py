"""Events become deliveries, and are durable before anybody acts on them.

An event that somebody asks for waits in memory until the spool has it; the session, which keeps its own events until
then, is told. One event is one delivery, named by its id, however often it comes. While the state folder cannot be
written events wait, so many at most.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Final, Protocol

import trio

from bittern.daemon.audience import (
    add_folders_programs,
    facts_of_disk,
    facts_of_refusal,
    has_folder,
    runs_for,
)
from bittern.daemon.config import Config
from bittern.daemon.deliveries import Delivery, dump_delivery
from bittern.daemon.logs import get_log
from bittern.daemon.refusals import Refusal
from bittern.daemon.spool import Spool
from bittern.disk.attempt import JobCrashed, attempt
from bittern.engine.events import (
    Added,
    Arrived,
    Completed,
    DiskLow,
    Event,
    Failed,
    Recovered,
    Removed,
    SeedingDone,
    Stalled,
    Started,
    TorrentFacts,
    TrackerTrouble,
    new_event_id,
)
from bittern.engine.supervision import Supervisor
from bittern.terms import InfoHash

RETRY_S: Final = (5.0, 10.0, 20.0, 40.0, 60.0)
"""Between attempts to spool while the state folder cannot be written."""

REMEMBERED: Final = frozenset({"added", "started", "downloaded", "completed", "seeding-done", "removed"})
"""Events that the session keeps, or waits with what follows from them, until they are durable here."""

WAITING_AT_MOST: Final = 100_000
"""Events that wait for the state folder to be written, some 100 MB; beyond them only what the session keeps."""

DURABLE_WITHIN_S: Final = 10.0
"""A file that is to be set aside waits no longer for that to be on record, and is looked at again later."""

ON_RECORD: Final = {Added: "added", Arrived: "downloaded", Completed: "completed"}
"""Events that a torrent's record need not say if nobody asks for them."""

LOOKED_WITHIN_S: Final = 5.0
"""What the hooks folder held so long ago is not asked once more for each event of a crowd. A program that came there
since is run for it, unless bittern is killed in the same moment.
"""

GATHER_S: Final = 0.05
"""Of many events at once: those of so long are made durable together, for each time costs a thread hop."""

log = get_log()


class RemembersCompleted(Protocol):
    """The session, as hooks know it: it keeps each `completed` event until it is taken over."""

    def delivered(self, info_hash: InfoHash, event_id: str) -> None:
        """That event is spooled durably, or no hook asks for it."""
        ...


class Spooling:
    """`enqueue` is given each delivery once it is durable."""

    def __init__(
        self,
        config: Config,
        spool: Spool,
        enqueue: Callable[[Delivery], None],
        *,
        supervisor: Supervisor,
        rng: random.Random,
    ) -> None:
        self._config = config
        self._spool = spool
        self._enqueue = enqueue
        self._supervisor = supervisor
        self._rng = rng
        self._session: RemembersCompleted | None = None
        self._events: list[Delivery] = []
        self._arrived = trio.Event()
        self._durable: dict[str, trio.Event] = {}
        """Events that somebody waits for to be on disk, by their ids."""
        self._folder_events: frozenset[str] = frozenset()
        """For which the hooks folder had subfolders when it was looked into last."""
        self._looked_at = -inf
        self._dropped = 0
        self._order = 0
        """Of the delivery that was spooled last."""

    def bind(self, session: RemembersCompleted) -> None:
        """Before `run`; the session itself needs `submit` to be made."""
        self._session = session

    def submit(self, event: Event) -> None:
        """Takes those events that hooks can ask for; of the same id, one."""
        now = time.time()
        match event:
            case Added():
                self._take("added", event.facts, event.at_wall, "", event.event_id)
            case Arrived():
                self._take("downloaded", event.facts, event.at_wall, "", event.event_id)
            case Completed():
                self._take("completed", event.facts, event.at_wall, event.reason, event.event_id)
            case Failed():
                self._take("failed", event.facts, event.at_wall, event.reason, event.event_id)
            case Recovered():
                self._take("recovered", event.facts, event.at_wall, "")
            case Removed():
                self._take("removed", event.facts, event.at_wall, event.reason, event.event_id)
            case Started():
                self._take("started", event.facts, event.at_wall, "", event.event_id)
            case Stalled():
                reason = f"no data for {event.idle_s / 60:.0f} minutes, {event.peers} peers"
                self._take("stalled", event.facts, event.at_wall, reason, event.event_id)
            case SeedingDone():
                self._take("seeding-done", event.facts, event.at_wall, event.reason, event.event_id)
            case DiskLow():
                reason = f"{event.needed_bytes} bytes have to be freed for all downloads to go on"
                figures = {"free_bytes": event.free_bytes, "needed_bytes": event.needed_bytes}
                self._take(
                    "disk-low", facts_of_disk(event.path), event.at_wall, reason, event.event_id, figures
                )
            case TrackerTrouble(reason=str(reason)):
                self._take("tracker-error", event.facts, now, f"{event.tracker}: {reason}")
            case _:
                pass

    def asks_for(self, event: Added | Arrived | Completed) -> bool:
        """May somebody ask for it? Of the hooks folder that is what was seen there a moment ago."""
        name = ON_RECORD[type(event)]
        if runs_for(self._config, name, event.facts):
            return True
        if not self._config.hooks.folder:
            return False
        return trio.current_time() - self._looked_at > LOOKED_WITHIN_S or name in self._folder_events

    async def refused(self, refusal: Refusal) -> bool:
        """A dropped file is about to be set aside. True once whoever asked for that is sure to be told."""
        event_id = refusal.event_id
        reason = refusal.reason
        asked = self._take("rejected", facts_of_refusal(refusal), refusal.at_wall, reason, event_id)
        if not asked:
            return len(self._events) < WAITING_AT_MOST
        durable = self._durable.setdefault(event_id, trio.Event())
        with trio.move_on_after(DURABLE_WITHIN_S):
            await durable.wait()
        return durable.is_set()

    def _take(
        self,
        name: str,
        facts: TorrentFacts,
        at_wall: float,
        reason: str,
        event_id: str = "",
        figures: Mapping[str, int] | None = None,
    ) -> bool:
        """True: it waits to be made durable; False: nobody asks for it, or there is no more room."""
        delivery = Delivery(
            event=name,
            event_id=event_id or new_event_id(at_wall, self._rng),
            reason=reason,
            at_wall=at_wall,
            facts=facts,
            figures=dict(figures or {}),
            runs=runs_for(self._config, name, facts),
        )
        # What the session keeps, it keeps until it hears that it is spooled, or that nobody asks for it.
        if delivery.runs or name in REMEMBERED or self._config.hooks.folder:
            if len(self._events) >= WAITING_AT_MOST and name not in REMEMBERED:
                # the state folder has been full for long: what trackers say in the meantime must not fill memory too
                self._dropped += 1
                return False
            self._events.append(delivery)
            self._arrived.set()
            return True
        return False

    def apply(self, config: Config) -> None:
        """Goes for events from now on."""
        self._config = config
        self._looked_at = -inf

    def goes_on_from(self, pending: Sequence[Delivery]) -> None:
        """An earlier run left these."""
        self._order = max((delivery.order for delivery in pending), default=0)

    async def run(self) -> None:
        """Makes durable what comes, until cancelled."""
        failures = 0
        while True:
            await self._arrived.wait()
            self._arrived = trio.Event()
            while not await self.flush():
                if failures == 0:
                    log.warning(
                        "hook.waiting",
                        reason="the state folder cannot be written, hooks wait until it can",
                    )
                await trio.sleep(RETRY_S[min(failures, len(RETRY_S) - 1)])
                failures += 1
            failures = 0
            if self._dropped:
                reason = "the state folder could not be written for so long that there was no more room to remember"
                log.error("hook.events_lost", events=self._dropped, reason=reason)
                self._dropped = 0
            await trio.sleep(GATHER_S)

    async def flush(self) -> bool:
        """Makes all waiting events durable in one go. False: it could not, and they wait on."""
        taken = len(self._events)
        if not taken:
            return True
        batch = self._events[:taken]
        if self._config.hooks.folder:
            try:
                await self._add_folders_programs(batch)
            except OSError as error:
                log.debug("hook.spool_failed", path=error.filename, reason=error.strerror)
                return False
        wanted = {delivery.event_id: delivery for delivery in batch if delivery.runs}
        new: set[str] = set()
        lost: set[str] = set()
        if wanted:
            blobs = []
            for event_id, delivery in wanted.items():
                self._order = delivery.order = self._order + 1
                blob = attempt(dump_delivery, delivery)
                if isinstance(blob, JobCrashed):
                    lost.add(event_id)
                    self._supervisor.report(f"delivery {event_id}", blob, "no hook is told of that event")
                else:
                    blobs.append((event_id, blob))
            try:
                new = await trio.to_thread.run_sync(self._spool.add, blobs)
            except OSError as error:
                log.debug("hook.spool_failed", path=error.filename, reason=error.strerror)
                return False
        del self._events[:taken]
        for delivery in batch:
            if delivery.event_id in self._durable and delivery.event_id not in lost:
                self._durable.pop(delivery.event_id).set()
            # what could not be packed stays with the session, and is tried again at the next start
            if delivery.event in REMEMBERED and self._session is not None and delivery.event_id not in lost:
                self._session.delivered(delivery.facts.info_hash, delivery.event_id)
            if delivery.event_id in new:
                new.discard(delivery.event_id)
                self._enqueue(delivery)
        return True

    async def _add_folders_programs(self, batch: Sequence[Delivery]) -> None:
        """`OSError`"""
        config, looked_at = self._config, trio.current_time()
        folder = Path(config.hooks.folder)

        def look() -> frozenset[str]:
            add_folders_programs(folder, batch)
            return frozenset(name for name in ON_RECORD.values() if has_folder(folder, name))

        found = await trio.to_thread.run_sync(look)
        if self._config is config:
            self._folder_events, self._looked_at = found, looked_at
