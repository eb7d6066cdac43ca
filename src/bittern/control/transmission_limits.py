"""A torrent's own limits in Transmission's words: KB/s, minutes, and modes that are numbers."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from bittern.control.transmission_words import INVALID_PARAMS, KB, Arguments, RpcError, flag
from bittern.policy.limits import IDLE_MOST_S, MODES, PEERS_MOST, RATIO_MOST, Limits

MINUTE_S: Final = 60
MOST_KB_PER_S: Final = 10**9


def _number(most: float, what: str) -> Callable[[str, object], float]:
    def read(key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise RpcError(f"{key} is {what}", INVALID_PARAMS)
        if not 0 <= value <= most:
            raise RpcError(f"{key} is {what}", INVALID_PARAMS)
        return float(value)

    return read


def _whole(least: int, most: int, what: str) -> Callable[[str, object], int]:
    def read(key: str, value: object) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise RpcError(f"{key} is {what}", INVALID_PARAMS)
        return value

    return read


_rate = _number(MOST_KB_PER_S, "a number of KB/s")
_minutes = _number(IDLE_MOST_S / MINUTE_S, "a number of minutes")
_mode = _whole(0, 2, "0 (as for all), 1 (its own) or 2 (unlimited)")
_peers = _whole(0, PEERS_MOST, f"a number of peers up to {PEERS_MOST}")

_READ: Final[Mapping[str, tuple[str, Callable[[str, object], Any]]]] = {
    "download_limit": ("download_rate", lambda key, value: _rate(key, value) * KB),
    "download_limited": ("download_limited", flag),
    "upload_limit": ("upload_rate", lambda key, value: _rate(key, value) * KB),
    "upload_limited": ("upload_limited", flag),
    "honors_session_limits": ("heeds_session", flag),
    "peer_limit": ("max_peers", _peers),
    "seed_ratio_limit": ("seed_ratio", _number(RATIO_MOST, "a ratio")),
    "seed_ratio_mode": ("seed_ratio_mode", lambda key, value: MODES[_mode(key, value)]),
    "seed_idle_limit": ("seed_idle_s", lambda key, value: _minutes(key, value) * MINUTE_S),
    "seed_idle_mode": ("seed_idle_mode", lambda key, value: MODES[_mode(key, value)]),
    "bandwidth_priority": ("bandwidth_priority", _whole(-1, 1, "-1, 0 or 1")),
}
"""What clients name, which field of `Limits` it is, and how it is read."""

NAMES: Final = frozenset(_READ)


def limit_changes(arguments: Arguments) -> dict[str, Any]:
    """Of a call's arguments those that are limits, as changes of `Limits`; `RpcError`."""
    return {
        field: read(key, arguments[key])
        for key, (field, read) in _READ.items()
        if arguments.get(key) is not None
    }


TOLD: Final[Mapping[str, Callable[[Limits], Any]]] = {
    "bandwidthPriority": lambda limits: limits.bandwidth_priority,
    "downloadLimit": lambda limits: round(limits.download_rate / KB),
    "downloadLimited": lambda limits: limits.download_limited,
    "honorsSessionLimits": lambda limits: limits.heeds_session,
    "seedIdleLimit": lambda limits: round(limits.seed_idle_s / MINUTE_S),
    "seedIdleMode": lambda limits: MODES.index(limits.seed_idle_mode),
    "seedRatioLimit": lambda limits: limits.seed_ratio,
    "seedRatioMode": lambda limits: MODES.index(limits.seed_ratio_mode),
    "uploadLimit": lambda limits: round(limits.upload_rate / KB),
    "uploadLimited": lambda limits: limits.upload_limited,
}
"""What `torrent-get` tells of them."""
