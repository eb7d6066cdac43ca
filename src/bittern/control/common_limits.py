"""Limits for all torrents, by the daemon's own names: what a request may set of them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

RATE_MOST: Final = 10**12
TIME_MOST_S: Final = 10**9
COUNT_MOST: Final = 65_535
RATIO_MOST: Final = 10**6
LAST_MINUTE: Final = 24 * 60 - 1


def _flag(name: str, value: object) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{name} is true or false")
    return value


def _number(most: float) -> Callable[[str, object], float]:
    def read(name: str, value: object) -> float:
        # NaN lies nowhere
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise ValueError(f"{name} is a number from 0 to {most:g}")
        return float(value)

    return read


def _whole(least: int, most: int) -> Callable[[str, object], int]:
    def read(name: str, value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"{name} is a whole number from {least} to {most}")
        return value

    return read


_rate, _time = _number(RATE_MOST), _number(TIME_MOST_S)

_READ: Final[Mapping[str, Callable[[str, object], Any]]] = {
    "download_limited": _flag,
    "download_rate": _rate,
    "upload_limited": _flag,
    "upload_rate": _rate,
    "alt_enabled": _flag,
    "alt_download_rate": _rate,
    "alt_upload_rate": _rate,
    "alt_scheduled": _flag,
    "alt_begin_minute": _whole(0, LAST_MINUTE),
    "alt_end_minute": _whole(0, LAST_MINUTE),
    "alt_days": _whole(0, 127),
    "max_peers": _whole(1, COUNT_MOST),
    "max_peers_per_torrent": _whole(1, COUNT_MOST),
    "downloads_queued": _flag,
    "max_downloads": _whole(0, COUNT_MOST),
    "seeds_queued": _flag,
    "max_seeds": _whole(0, COUNT_MOST),
    "stalled_noticed": _flag,
    "stalled_after_s": _time,
    "seed_ratio_limited": _flag,
    "seed_ratio": _number(RATIO_MOST),
    "seed_idle_limited": _flag,
    "seed_idle_s": _time,
}
KEYS: Final = tuple(_READ)


def common_changes(told: Mapping[str, object]) -> dict[str, Any]:
    """Those that a request names, None for what is to be as the configuration says again; `ValueError` says which of
    them cannot be, and why.
    """
    changes = {}
    for name, value in told.items():
        read = _READ.get(name)
        if read is None:
            raise ValueError(f"there is no limit {name!r}: there are {', '.join(_READ)}")
        changes[name] = None if value is None else read(name, value)
    return changes
