"""Applies the schedule: other rate limits at some times of the week."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, Protocol

import trio

from bittern.daemon.config import Config
from bittern.daemon.logs import get_log
from bittern.engine.settings import Settings
from bittern.policy.schedule import Period, period_at

LOOK_EVERY_S: Final = 5.0

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
        self, config: Config, session: TakesSettings, *, local_now: Callable[[], datetime] = _local_now
    ) -> None:
        self._config = config
        self._session = session
        self._local_now = local_now
        self._period: Period | None = None

    def settings(self) -> Settings:
        """What holds now."""
        settings, period = self._config.engine(), self._period
        if period is not None and period.download is not None:
            settings = replace(settings, download_rate=float(period.download) or None)
        if period is not None and period.upload is not None:
            settings = replace(settings, upload_rate=float(period.upload) or None)
        return settings

    def apply(self, config: Config) -> None:
        """A new configuration: all of it, and what its schedule makes of it."""
        self._config = config
        self._period = period_at(config.periods(), self._local_now())
        self._session.apply(self.settings())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Looks at the clock until cancelled."""
        self._look()
        task_status.started()
        while True:
            await trio.sleep(LOOK_EVERY_S)
            self._look()

    def _look(self) -> None:
        period = period_at(self._config.periods(), self._local_now())
        if period != self._period:
            self._period = period
            settings = self.settings()
            self._session.apply(settings)
            log.info(
                "schedule.changed",
                download_rate=settings.download_rate,
                upload_rate=settings.upload_rate,
            )
