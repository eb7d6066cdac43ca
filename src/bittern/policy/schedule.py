"""Other limits at some times of the week, by what the clock on the wall shows.

Whoever asks gives the local time of now, and asks again every few seconds: so a clock that jumps, forth or back, by
hand or with daylight saving time, is followed at once, and an hour that comes twice counts twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """On these days (0 is Monday), from one minute of the day until before another. One that ends no later than it
    begins ends on the next day. Rates are bytes per second, 0 unlimited, None as at other times.
    """

    days: frozenset[int]
    start_minute: int
    end_minute: int
    download: int | None = None
    upload: int | None = None

    def holds(self, local: datetime) -> bool:
        """Is it that time?"""
        minute, day = local.hour * 60 + local.minute, local.weekday()
        if self.start_minute < self.end_minute:
            return day in self.days and self.start_minute <= minute < self.end_minute
        return (day in self.days and minute >= self.start_minute) or (
            (day - 1) % 7 in self.days and minute < self.end_minute
        )


def period_at(periods: Sequence[Period], local: datetime) -> Period | None:
    """The first that holds at that local time."""
    return next((period for period in periods if period.holds(local)), None)
