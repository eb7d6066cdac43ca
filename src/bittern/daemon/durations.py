"""Times as people write them: `90` (seconds), `"90m"`, `"72h"`, `"14d"`, `"1.5 h"`."""

import re
from decimal import Decimal
from typing import Final

UNITS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 604800}

LONGEST_S: Final = 100 * 365 * 86400
"""A century: far above any real setting."""

_WRITTEN = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)", re.ASCII)


class Duration(float):
    """Seconds."""


def parse_duration(written: object) -> Duration:
    """`ValueError` says in one clause what is wrong with it."""
    if isinstance(written, (int, float)) and not isinstance(written, bool):
        seconds = float(written)
    elif isinstance(written, str):
        match = _WRITTEN.fullmatch(written.strip())
        if match is None:
            raise ValueError("not a number with a unit")
        number, unit = match.groups()
        if unit.lower() not in UNITS:
            raise ValueError(f'unknown unit "{unit}" (s, m, h, d and w for weeks)' if unit else "has no unit")
        seconds = float(Decimal(number) * UNITS[unit.lower()])
    else:
        raise ValueError("not a time")  # noqa: TRY004 — msgspec reports a ValueError as this key's fault
    if not 0 <= seconds <= LONGEST_S:
        raise ValueError("negative" if seconds < 0 else "longer than a century")
    return Duration(seconds)
