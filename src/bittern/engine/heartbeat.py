"""Once a second: timeouts, dials, parking, retries. All of it synchronous, none of it per block."""

from functools import partial
from typing import Final

import trio

from bittern.disk.buffers import PieceBuffers
from bittern.engine.beats import next_beat
from bittern.engine.lifecycle import Lifecycle
from bittern.engine.swarms import Swarms

BEAT_S: Final = 1.0


class Heartbeat:
    """The engine's only timer for things that come round."""

    def __init__(self, swarms: Swarms, lifecycle: Lifecycle, buffers: PieceBuffers) -> None:
        self._swarms = swarms
        self._lifecycle = lifecycle
        self._buffers = buffers
        self.last_beat_at = 0.0
        """When the loop was last seen alive."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Beats until cancelled."""
        task_status.started()
        while True:
            now = trio.current_time()
            self.last_beat_at = now
            for swarm in self._swarms.by_need():
                swarm.contained(partial(swarm.tick, now))
            self._swarms.shed()
            self._swarms.park_idle(now)
            self._swarms.wake_due(now)
            self._lifecycle.failures.retry_due(now)
            self._buffers.trim()
            self._swarms.send_buffers.trim()
            self._lifecycle.supervisor.tell_due(now)
            await next_beat(BEAT_S)
