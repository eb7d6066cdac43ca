"""Limits for all torrents in the words of Transmission's `session-get` and `session-set`."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from bittern.control.transmission_words import INVALID_PARAMS, KB, Arguments, RpcError, flag

MINUTE_S: Final = 60
MOST: Final = 10**9
DAY_MINUTES: Final = 24 * 60
COUNT_MOST: Final = 65_535
RATIO_MOST: Final = 10**6


def _number(least: float, most: float, what: str, factor: float) -> Callable[[str, object], float]:
    def read(name: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise RpcError(f"{name} is {what}", INVALID_PARAMS)
        return float(value) * factor

    return read


def _whole(least: int, most: int) -> Callable[[str, object], int]:
    read = _number(least, most, f"a whole number from {least} to {most}", 1)

    def whole(name: str, value: object) -> int:
        number = read(name, value)
        if not number.is_integer():
            raise RpcError(f"{name} is a whole number", INVALID_PARAMS)
        return int(number)

    return whole


_rate = _number(0, MOST, "a number of KB/s", KB)
_minutes = _number(0, MOST, "a number of minutes", MINUTE_S)

_KNOWN: Final[Mapping[str, tuple[str, Callable[[str, object], Any]]]] = {
    "alt-speed-down": ("alt_download_rate", _rate),
    "alt-speed-enabled": ("alt_enabled", flag),
    "alt-speed-time-begin": ("alt_begin_minute", _whole(0, DAY_MINUTES - 1)),
    "alt-speed-time-day": ("alt_days", _whole(0, 127)),
    "alt-speed-time-enabled": ("alt_scheduled", flag),
    "alt-speed-time-end": ("alt_end_minute", _whole(0, DAY_MINUTES - 1)),
    "alt-speed-up": ("alt_upload_rate", _rate),
    "download-queue-enabled": ("downloads_queued", flag),
    "download-queue-size": ("max_downloads", _whole(0, COUNT_MOST)),
    "idle-seeding-limit": ("seed_idle_s", _minutes),
    "idle-seeding-limit-enabled": ("seed_idle_limited", flag),
    "peer-limit-global": ("max_peers", _whole(1, COUNT_MOST)),
    "peer-limit-per-torrent": ("max_peers_per_torrent", _whole(1, COUNT_MOST)),
    "queue-stalled-enabled": ("stalled_noticed", flag),
    "queue-stalled-minutes": ("stalled_after_s", _minutes),
    "seed-queue-enabled": ("seeds_queued", flag),
    "seed-queue-size": ("max_seeds", _whole(0, COUNT_MOST)),
    "seedRatioLimit": ("seed_ratio", _number(0, RATIO_MOST, "a ratio", 1)),
    "seedRatioLimited": ("seed_ratio_limited", flag),
    "speed-limit-down": ("download_rate", _rate),
    "speed-limit-down-enabled": ("download_limited", flag),
    "speed-limit-up": ("upload_rate", _rate),
    "speed-limit-up-enabled": ("upload_limited", flag),
}
"""What clients name, what the daemon calls it, and how it is read."""


def limits_told(limits: Mapping[str, Any]) -> Arguments:
    """For `session-get`."""
    return {name: _told(limits[key], read) for name, (key, read) in _KNOWN.items()}


def _told(value: Any, read: object) -> Any:
    if read is _rate:
        return round(value / KB)
    return round(value / MINUTE_S) if read is _minutes else value


def limits_asked(arguments: Arguments, snake: Callable[[str], str]) -> tuple[dict[str, Any], Arguments]:
    """Of what `session-set` says the limits, by the daemon's names, and the rest; `RpcError`."""
    known = {snake(name): found for name, found in _KNOWN.items()}
    changes, rest = {}, {}
    for name, value in arguments.items():
        if name in known and value is None:
            # tremc's way to say that a number is of no account any more
            continue
        if name in known:
            key, read = known[name]
            changes[key] = read(name, value)
        else:
            rest[name] = value
    return changes, rest
