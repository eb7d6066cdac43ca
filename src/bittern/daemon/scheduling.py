"""Settles which limits hold now: those of the configuration or set since, other ones at some times of the week.

What was set takes the place of the configuration's own; a period of `[[schedule]]` goes before both, and the slow hours
that a client of Transmission's RPC knows ("turtle") before all.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import trio

from bittern.daemon.config import Config
from bittern.daemon.logs import get_log
from bittern.daemon.overrides import Overrides
from bittern.engine.beats import next_beat
from bittern.engine.settings import Settings
from bittern.errors import StorageError
from bittern.policy.schedule import Period, period_at

LOOK_EVERY_S: Final = 5.0
WEEK_MINUTES: Final = 7 * 24 * 60

log = get_log()


class TakesSettings(Protocol):
    """The session, as the schedule knows it."""

    def apply(self, settings: Settings) -> None:
        """From now on."""


def _local_now() -> datetime:
    return datetime.now().astimezone()


class Scheduler:
    """An ENGINE service; `local_now` is what the clock on the wall shows."""

    def __init__(
        self,
        config: Config,
        session: TakesSettings,
        overrides: Overrides,
        *,
        local_now: Callable[[], datetime] = _local_now,
    ) -> None:
        self._config = config
        self._overrides = overrides
        self._session = session
        self._local_now = local_now
        self._period: Period | None = None
        self._slow: bool | None = None
        """Was it a slow hour at the last look?"""

    def settings(self) -> Settings:
        """What holds now."""
        settings, period = self._overrides.normal(self._config.engine()), self._period
        if period is not None and period.download is not None:
            settings = replace(settings, download_rate=float(period.download) or None)
        if period is not None and period.upload is not None:
            settings = replace(settings, upload_rate=float(period.upload) or None)
        return self._overrides.slow(settings)

    def limits(self) -> Mapping[str, Any]:
        """What may be set while bittern runs, and what holds of it; keys of `overrides.UNDER`."""
        return self._overrides.effective(self._config.engine())

    @property
    def overrides(self) -> Mapping[str, Any]:
        """Of these, those that were set."""
        return self._overrides.values

    async def set_limits(self, changes: Mapping[str, Any]) -> None:
        """As `control.ports.Daemon.set_limits`; `StorageError` when a restart may forget them."""
        self._overrides.set(changes, self._config.engine())
        if changes.get("alt_enabled") is not None:
            self._overrides.slow_by_hand_wall = self._local_now().timestamp()
        elif any(key.startswith("alt_") for key in changes):
            # another timetable: what it says of this very hour holds
            self._slow, self._overrides.slow_by_hand_wall = None, 0.0
        self._follow_hours()
        self._session.apply(self.settings())
        await self._overrides.keep()

    def apply(self, config: Config) -> None:
        """A new configuration: all of it, and what its schedule makes of it."""
        self._config = config
        gone = self._overrides.rebase(config.engine())
        if gone:
            log.info("overrides.dropped", keys=gone, reason="the configuration says something new of them")
        self._period = period_at(config.periods(), self._local_now())
        self._session.apply(self.settings())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Looks at the clock until cancelled."""
        self._look()
        task_status.started()
        while True:
            if self._overrides.stale:
                await self._forget()
            await next_beat(LOOK_EVERY_S)
            self._look()

    async def _forget(self) -> None:
        """What the configuration has spoken of since shall not be there at the next start either."""
        try:
            await self._overrides.keep()
        except StorageError as error:
            log.warning("overrides.not_kept", error=str(error))
            # tried again with the next change, not every few seconds
            self._overrides.stale = False

    def _look(self) -> None:
        period = period_at(self._config.periods(), self._local_now())
        if self._follow_hours() or period != self._period:
            self._period = period
            settings = self.settings()
            self._session.apply(settings)
            log.info(
                "schedule.changed",
                download_rate=settings.download_rate,
                upload_rate=settings.upload_rate,
            )

    def _follow_hours(self) -> bool:
        """The slow hours begin and end at their times; in between, somebody may have ended or begun them by hand."""
        hours = self._overrides.slow_hours()
        slow = None if hours is None else hours.holds(self._local_now())
        before, self._slow = self._slow, slow
        if hours is not None and before is None and self._still_by_hand(hours):
            return False
        if slow is None or slow == before or slow == self._overrides.values.get("alt_enabled", False):
            return False
        self._overrides.set({"alt_enabled": slow}, self._config.engine())
        return True

    def _still_by_hand(self, hours: Period) -> bool:
        """Has the timetable said nothing new since somebody ended or began them by hand, perhaps before a restart?"""
        now, by_hand = self._local_now(), self._overrides.slow_by_hand_wall
        minutes = (now.timestamp() - by_hand) // 60
        return (
            by_hand > 0
            and minutes >= 0
            and all(
                hours.holds(now - timedelta(minutes=ago)) == hours.holds(now)
                for ago in range(int(min(minutes, WEEK_MINUTES)) + 1)
            )
        )
