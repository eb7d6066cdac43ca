"""Sizes and rates as people write them: `512`, `"10 MiB"`, `"1.5 GB"`, `"10 MiB/s"`."""

import re
from decimal import Decimal
from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

UNITS: Final = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
    "kib": KIB,
    "mib": MIB,
    "gib": GIB,
    "tib": 1024 * GIB,
}

MAX_SIZE: Final = 2**60
"""An exbibyte: far above any real setting, far below where arithmetic on it could hurt."""

_WRITTEN = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,12})?)\s*([A-Za-z]*)", re.ASCII)


class Size(int):
    """A number of bytes."""


class Rate(int):
    """Bytes per second; 0 stands for no limit."""


def parse_size(written: object) -> Size:
    """`ValueError` says in one clause what is wrong with it."""
    if isinstance(written, int) and not isinstance(written, bool):
        value = written
    elif isinstance(written, str):
        value = _parse(written)
    else:
        raise ValueError("not a size")  # noqa: TRY004 — msgspec reports a ValueError as this key's fault
    if value < 0:
        raise ValueError("a size is never negative")
    if value > MAX_SIZE:
        raise ValueError("too large")
    return Size(value)


def parse_rate(written: object) -> Rate:
    """As `parse_size`, where a string may also end in `/s`."""
    if isinstance(written, str):
        written = re.sub(r"\s*/\s*s\s*$", "", written)
    return Rate(parse_size(written))


def _parse(written: str) -> int:
    match = _WRITTEN.fullmatch(written.strip())
    if match is None:
        raise ValueError("not a number with a unit")
    number, unit = match.groups()
    # "Mb" is a megabit to those who write it on purpose: guessing would be wrong eight times over.
    factor = None if re.fullmatch("[KMGT]b", unit) else UNITS.get(unit.lower())
    if factor is None:
        raise ValueError(f'unknown unit "{unit}" (kB, MB, GB, TB count in 1000, KiB, MiB, GiB, TiB in 1024)')
    return int(Decimal(number) * factor)
