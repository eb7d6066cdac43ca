"""Programs that are told of events: at least once each, never in the engine's path.

An event that a hook asked for is first made durable as a delivery (`spooling.py`), then run; a delivery that was under
way when the daemon died is run again at the next start, as its next attempt. A hook that fails is tried again, at
growing intervals, until it is given up. Deliveries of one torrent keep their order: the next waits for the one before.
"""

import json
import os
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import trio

from bittern.daemon.audience import row_of
from bittern.daemon.config import Config
from bittern.daemon.deliveries import (
    NO_TORRENT,
    TIMED_OUT,
    Delivery,
    Run,
    dump_delivery,
    environment,
    message,
    placeholders,
)
from bittern.daemon.descendants import bury_orphans, somebody_ended
from bittern.daemon.logs import get_log
from bittern.daemon.notifying import notify_of
from bittern.daemon.placeholders import fill
from bittern.daemon.process import Ended, Patience, run_program
from bittern.daemon.spool import Spool
from bittern.daemon.spooling import Spooling
from bittern.daemon.webhooks import Posts, post_event
from bittern.engine.beats import next_beat
from bittern.engine.supervision import Supervisor, is_bug
from bittern.errors import StateError

STOP_GRACE_S: Final = 5.0
"""Running hooks may take so much longer when the daemon stops."""

REPLAY_LOOK_S: Final = 5.0
"""Between two looks for deliveries that somebody wants replayed."""

PRUNE_EVERY: Final = 100
"""Finished deliveries between two clean-ups."""

_FLUSH_S: Final = 2.0

log = get_log()


class HookRunner:
    """Spools and runs; a FOUNDATION service.

    The session is told by `delivered` once a `completed` event needs its memory no longer.
    """

    def __init__(
        self,
        config: Config,
        state: Path,
        *,
        http: Posts,
        supervisor: Supervisor,
        rng: random.Random,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._config = config
        self._slots = trio.CapacityLimiter(config.hooks.parallel)
        self._http = http
        self._supervisor = supervisor
        self._spool = Spool.below(state)
        spooling = self._spooling = Spooling(
            config, self._spool, self._enqueue, supervisor=supervisor, rng=rng
        )
        self.bind, self.submit, self.refused = spooling.bind, spooling.submit, spooling.refused
        self.asks_for = spooling.asks_for
        self._environ = environ
        self._lanes: dict[str, deque[Delivery]] = {}
        self._patience = Patience()
        self._running = 0
        self._quiet = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._finished = 0

    def apply(self, config: Config) -> None:
        """Goes for events from now on."""
        self._config = config
        self._spooling.apply(config)
        self._slots.total_tokens = config.hooks.parallel

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Started when what an earlier run left is read. `StateError`: it cannot be."""
        try:
            pending, wrong = await trio.to_thread.run_sync(self._spool.load)
        except OSError as error:
            what = f"{error.filename}: {error.strerror}"
            raise StateError(f"{what}: let bittern write to its state folder") from error
        for line in wrong:
            log.warning("hook.unreadable_delivery", path=line)
        self._spooling.goes_on_from(pending)
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                for delivery in pending:
                    self._enqueue(delivery)
                task_status.started()
                nursery.start_soon(self._serve_replays)
                await self._prune()
                await self._spooling.run()
            finally:
                self._nursery = None
                with trio.move_on_after(_FLUSH_S, shield=True):
                    await self._spooling.flush()

    async def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Starts no more hooks, gives running ones their grace, then ends them; returns when none runs.

        Events are still made durable until `run` is cancelled.
        """
        self._patience.end_by(trio.current_time() + grace_s)
        while self._running:
            self._quiet = trio.Event()
            await self._quiet.wait()

    # ---------------------------------------------------------------------------------------- replaying

    async def _serve_replays(self) -> None:
        """Whoever wants a delivery replayed leaves a file; the folder is all but always empty. What hooks have left
        running in the background, and has ended, is taken leave of as well.
        """
        told: list[str] = []
        while True:
            if somebody_ended():
                await trio.to_thread.run_sync(bury_orphans)
            try:
                found, wrong = await trio.to_thread.run_sync(self._spool.take_replays)
            except OSError as error:
                found, wrong = [], [f"{error.filename}: {error.strerror}"]
            for line in wrong:
                # what stays so is told once, and not at each look
                if line not in told:
                    log.warning("hook.not_replayed", reason=line)
            told = wrong
            for delivery in found:
                log.info("hook.replayed", event_id=delivery.event_id, on=delivery.event)
                self._enqueue(delivery)
            await next_beat(REPLAY_LOOK_S)

    # ---------------------------------------------------------------------------------------- running

    def _enqueue(self, delivery: Delivery) -> None:
        if self._nursery is None:
            # On the way down: it is on disk, and the next start runs it.
            return
        key = _lane_of(delivery)
        lane = self._lanes.get(key)
        if lane is not None:
            lane.append(delivery)
            return
        self._lanes[key] = deque([delivery])
        self._nursery.start_soon(self._serve, key)

    async def _serve(self, key: str) -> None:
        """One torrent's deliveries, one after the other. Of one delivery no hook waits for another that fails."""
        lane = self._lanes[key]
        while lane:
            delivery = lane.popleft()
            await self._supervisor.contain(
                f"delivery {delivery.event_id}",
                partial(self._deliver, delivery),
                partial(self._undelivered, delivery),
                remedy="it stays pending, and is taken up again at the next start",
            )
            if self._patience.stopping:
                return
        del self._lanes[key]

    async def _deliver(self, delivery: Delivery) -> None:
        due_at: dict[tuple[int, int], float] = {}
        """By run and its failures so far; once known, whatever becomes of the clock on the wall."""
        while waiting := [run for run in delivery.runs if not run.settled]:
            now = trio.current_time()
            times = [
                due_at.setdefault((id(run), run.failures), now + run.wait_s(time.time())) for run in waiting
            ]
            due = [run for run, at in zip(waiting, times, strict=True) if at <= now]
            if not due:
                await trio.sleep_until(min(times))
            for run in due:
                async with self._slots:
                    await self._run(delivery, run)
            if self._patience.stopping:
                return

    def _undelivered(self, delivery: Delivery, error: Exception) -> None:
        if not is_bug(error):
            log.error("hook.not_delivered", event_id=delivery.event_id, on=delivery.event, reason=str(error))

    async def _run(self, delivery: Delivery, run: Run) -> None:
        if self._patience.stopping:
            return
        self._running += 1
        try:
            run.attempts += 1
            # Before it starts, or a crash would give the next one the same number.
            await self._keep(delivery)
            ended = None
            try:
                ended = await self._start(delivery, run)
            finally:
                # A stop, or the whole tree is being cancelled.
                if ended is None or ended.stopped:
                    await self._interrupted(delivery, run)
            if not ended.stopped:
                await self._record(delivery, run, ended)
        finally:
            self._running -= 1
            if not self._running:
                self._quiet.set()

    async def _start(self, delivery: Delivery, run: Run) -> Ended:
        values = placeholders(delivery)
        if run.webhook:
            webhook = row_of(delivery, run, [one for one in self._config.webhook if one.url == run.webhook])
            if webhook is None:
                return Ended(exit_status=1, error="is not in the configuration any more")
            return await post_event(
                self._http,
                webhook,
                delivery,
                run.attempts,
                timeout_s=run.timeout_s,
                patience=self._patience,
            )
        if run.notify:
            service = row_of(delivery, run, [one for one in self._config.notify if run.notify in one.urls])
            if service is None:
                return Ended(exit_status=1, error="is not in the configuration any more")
            return await notify_of(
                run.notify,
                fill(service.title, values),
                fill(service.body, values),
                timeout_s=run.timeout_s,
                patience=self._patience,
            )
        return await run_program(
            [fill(argument, values) for argument in run.command],
            env=environment(delivery, run.attempts, self._environ),
            stdin=json.dumps(message(delivery, run.attempts)).encode() + b"\n",
            timeout_s=run.timeout_s,
            patience=self._patience,
        )

    async def _interrupted(self, delivery: Delivery, run: Run) -> None:
        """Our stop is not its failure: it stays pending, and this does not count as an attempt."""
        run.attempts -= 1
        with trio.move_on_after(_FLUSH_S, shield=True):
            await self._keep(delivery)
        log.info("hook.interrupted", **_facts(delivery, run))

    async def _record(self, delivery: Delivery, run: Run, ended: Ended) -> None:
        # whoever says that all is well when it is ended has not come to its end
        exit_status = ended.exit_status or (TIMED_OUT if ended.timed_out else 0)
        run.ended(exit_status, ended.output or ended.error, time.time())
        await self._keep(delivery)
        (log.info if run.done else log.warning)(
            "hook.done",
            **_facts(delivery, run),
            attempt=run.attempts,
            exit_status=exit_status,
            seconds=ended.seconds,
            timed_out=ended.timed_out or None,
            error=ended.error or None,
            output=ended.output,
            retry_in_s=None if run.settled else run.pause_s,
        )
        if run.dead and run.retries:
            log.error("hook.given_up", **_facts(delivery, run), attempts=run.attempts)
        self._finished += delivery.settled
        if self._finished >= PRUNE_EVERY:
            self._finished = 0
            await self._prune()

    async def _keep(self, delivery: Delivery) -> None:
        """What cannot be written is told: a hook may then be run once more than needed, never once less."""
        write = partial(self._spool.finish, dead=delivery.dead) if delivery.settled else self._spool.save
        try:
            await trio.to_thread.run_sync(write, delivery.event_id, dump_delivery(delivery))
        except OSError as error:
            log.warning(
                "hook.not_recorded", event_id=delivery.event_id, path=error.filename, reason=error.strerror
            )

    async def _prune(self) -> None:
        try:
            await trio.to_thread.run_sync(self._spool.prune, time.time())
        except OSError as error:
            log.debug("hook.not_pruned", reason=error.strerror)


def _lane_of(delivery: Delivery) -> str:
    """Deliveries that keep their order. Of what is no torrent's each path has its own."""
    facts = delivery.facts
    return facts.path if facts.info_hash == NO_TORRENT else facts.info_hash.hex()


def _facts(delivery: Delivery, run: Run) -> dict[str, str | Sequence[str]]:
    return {
        "info_hash": delivery.facts.info_hash.hex(),
        "name": delivery.facts.name,
        "on": delivery.event,
        "event_id": delivery.event_id,
        **({"command": run.command} if run.command else {"url": run.target}),
    }
