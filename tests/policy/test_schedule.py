"""Which limits go at which hour, also when clocks are put forward and back."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bittern.policy.schedule import Period, period_at

EVERY_DAY = frozenset(range(7))
NIGHT = Period(days=frozenset({4}), start_minute=22 * 60, end_minute=6 * 60, download=0)
OFFICE = Period(days=frozenset(range(5)), start_minute=8 * 60, end_minute=17 * 60, upload=1000)


@pytest.mark.parametrize(
    ("at", "period"),
    [
        ("2026-11-20 07:59", None),
        ("2026-11-20 08:00", OFFICE),
        ("2026-11-20 16:59", OFFICE),
        ("2026-11-20 17:00", None),
        ("2026-11-20 22:00", NIGHT),
        ("2026-11-21 05:59", NIGHT),
        ("2026-11-21 06:00", None),
        ("2026-11-21 22:00", None),
        ("2026-11-20 05:00", None),
        ("2026-11-22 12:00", None),
    ],
)
def test_days_and_hours(at, period):
    assert period_at([OFFICE, NIGHT], datetime.fromisoformat(at)) is period


def test_the_first_of_several_and_a_whole_day():
    whole = Period(days=frozenset({0}), start_minute=0, end_minute=0)
    assert period_at([whole, OFFICE], datetime.fromisoformat("2026-11-23 12:00")) is whole
    assert period_at([OFFICE, whole], datetime.fromisoformat("2026-11-23 12:00")) is OFFICE
    assert whole.holds(datetime.fromisoformat("2026-11-23 23:59"))
    assert not whole.holds(datetime.fromisoformat("2026-11-24 00:00"))
    to_the_end = Period(days=EVERY_DAY, start_minute=23 * 60, end_minute=24 * 60)
    assert to_the_end.holds(datetime.fromisoformat("2026-11-23 23:59"))
    assert not to_the_end.holds(datetime.fromisoformat("2026-11-24 00:00"))


@pytest.mark.parametrize(
    ("start", "hours"),
    # Berlin: the night of 29 March has no hour from 2 to 3, that of 25 October has it twice
    [(datetime(2026, 3, 28, 12, tzinfo=UTC), 3), (datetime(2026, 10, 24, 12, tzinfo=UTC), 5),
     (datetime(2026, 6, 1, 12, tzinfo=UTC), 4)],
)  # fmt: skip
def test_daylight_saving_time(start, hours):
    period = Period(days=EVERY_DAY, start_minute=60, end_minute=5 * 60)
    berlin = ZoneInfo("Europe/Berlin")
    minutes = sum(
        period_at([period], (start + timedelta(minutes=n)).astimezone(berlin)) is period
        for n in range(24 * 60)
    )
    assert minutes == hours * 60
