"""What became of deliveries, for programs: as `bittern hooks --json` and the native API tell of it."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from bittern.control.ports import Deliveries
from bittern.daemon.deliveries import Delivery, DeliveryError, load_delivery
from bittern.daemon.spool import STATES, Spool
from bittern.disk.refusal import storage_error

T = TypeVar("T")

REPLAYABLE: Final = frozenset(STATES) - {"pending"}


class Outcomes:
    """Reads the spool beside the hooks' runner, one question at a time: a list takes a thread some milliseconds."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._threads = trio.CapacityLimiter(1)

    async def newest(self, state: str | None, at_most: int) -> Deliveries:
        """As `control.ports.Daemon.deliveries`."""
        return await self._ask(lambda: self._newest(state, at_most))

    async def replay(self, delivery_id: str) -> bool | None:
        """As `control.ports.Daemon.replay`."""
        return await self._ask(lambda: self._replay(delivery_id))

    async def _ask(self, question: Callable[[], T]) -> T:
        try:
            return await trio.to_thread.run_sync(question, limiter=self._threads)
        except OSError as error:
            path = str(error.filename or "")
            raise storage_error(error, "reached in the state folder", path, str(Path(path).parent)) from error

    def _newest(self, state: str | None, at_most: int) -> Deliveries:
        found = list(self._spool.paths())
        told: list[dict[str, Any]] = []
        for where, path in reversed(found):
            if len(told) >= at_most:
                break
            if state in {None, where}:
                try:
                    told.append(delivery_told(where, path.stem, load_delivery(path.read_bytes())))
                except (FileNotFoundError, DeliveryError):
                    continue  # the runner was quicker, or says itself what is wrong with it
        counts = Counter(where for where, _ in found)
        return Deliveries({one: counts[one] for one in STATES}, told)

    def _replay(self, delivery_id: str) -> bool | None:
        # only what is there is asked for: an id from outside names no file of its own
        states = {where for where, path in self._spool.paths() if path.stem == delivery_id}
        if not states:
            return None
        if not states <= REPLAYABLE:
            return False
        self._spool.ask_replay(delivery_id)
        return True


def delivery_told(state: str, stem: str, delivery: Delivery) -> dict[str, Any]:
    """One, as programs are told of it; `stem` names its file."""
    return {
        "id": stem,
        "state": state,
        "event": delivery.event,
        "event_id": delivery.event_id,
        "time": delivery.at_wall,
        "reason": delivery.reason,
        "info_hash": delivery.facts.info_hash.hex(),
        "name": delivery.facts.name,
        "path": delivery.facts.path,
        "hooks": [
            {
                "target": run.target,
                "command": run.command,
                "state": "done" if run.done else "dead" if run.dead else "pending",
                "attempts": run.attempts,
                "retries_left": 0 if run.settled else run.retries - run.failures,
                "due": run.due_wall or None,
                "ended": run.ended_wall or None,
                "exit_status": run.exit_status if run.ended_wall else None,
                "output": run.output,
            }
            for run in delivery.runs
        ],
    }
