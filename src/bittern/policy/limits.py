"""What holds for one torrent alone: rates and peers, and when it has been seeded enough.

A limit that is switched off keeps its figure, for whoever switches it on again. A rate of 0 that is switched on lets
nothing through.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, Literal, TypeAlias

Mode: TypeAlias = Literal["rules", "own", "never"]
"""Whose limit ends the seeding: that of the rules for all, its own, or none."""

MODES: Final = ("rules", "own", "never")

RATE_MOST: Final = 2.0**60
PEERS_MOST: Final = 65_535
RATIO_MOST: Final = 1e6
IDLE_MOST_S: Final = 100 * 365 * 86400.0
WEIGHTS: Final = {-1: 0.25, 0: 1.0, 1: 4.0}
"""What a bandwidth priority is worth where peers wait for their turn: a peer of the next one comes four times as often.
Nobody waits for ever because of others."""

PREFIX: Final = "limit_"


def _within(what: str, value: float, most: float) -> None:
    # NaN is not either; a whole number may be more than a float can be
    if not 0 <= value <= most:
        raise ValueError(f"{what} lies between 0 and {most:g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Rates are bytes per second. `ValueError` says in one clause what is wrong."""

    download_rate: float = 0.0
    download_limited: bool = False
    upload_rate: float = 0.0
    upload_limited: bool = False
    heeds_session: bool = True
    """Do the limits for all hold for it too?"""
    max_peers: int = 0
    """0: as many as any."""
    seed_ratio: float = 2.0
    seed_ratio_mode: Mode = "rules"
    seed_idle_s: float = 1800.0
    seed_idle_mode: Mode = "rules"
    bandwidth_priority: int = 0
    """-1, 0 or 1: how often its peers have their turn where a rate is limited."""

    def __post_init__(self) -> None:
        _within("a rate", self.download_rate, RATE_MOST)
        _within("a rate", self.upload_rate, RATE_MOST)
        _within("a number of peers", self.max_peers, PEERS_MOST)
        _within("a ratio", self.seed_ratio, RATIO_MOST)
        _within("an idle time", self.seed_idle_s, IDLE_MOST_S)
        if self.seed_ratio_mode not in MODES or self.seed_idle_mode not in MODES:
            raise ValueError(f"a limit of seeding is one of {', '.join(MODES)}")
        if self.bandwidth_priority not in WEIGHTS:
            raise ValueError("a bandwidth priority is -1, 0 or 1")

    @property
    def download(self) -> float | None:
        """The rate that holds; None: none of its own."""
        return self.download_rate if self.download_limited else None

    @property
    def upload(self) -> float | None:
        """The same of the other way."""
        return self.upload_rate if self.upload_limited else None

    @property
    def moves_as_others(self) -> bool:
        """Is there nothing of its own to how fast it may move?"""
        return self.heeds_session and not (
            self.download_limited or self.upload_limited or self.bandwidth_priority
        )

    @property
    def seeds_by_rules(self) -> bool:
        """Is there nothing of its own to how long it is seeded?"""
        return self.seed_ratio_mode == "rules" and self.seed_idle_mode == "rules"


NO_LIMITS: Final = Limits()
"""One for all torrents that have none."""

KINDS: Final[Mapping[str, type]] = {
    field.name: type(getattr(NO_LIMITS, field.name)) for field in fields(Limits)
}
KEYS: Final = tuple(PREFIX + name for name in KINDS)
"""In a record."""


def changed(limits: Limits, changes: Mapping[str, Any]) -> Limits:
    """With other values; `ValueError` names the field."""
    if not changes:
        return limits
    for name, value in changes.items():
        kind = KINDS.get(name)
        if kind is None:
            raise ValueError(f"there is no limit {name!r}: there are {', '.join(KINDS)}")
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise ValueError(f"{name} is {_CALLED[kind]}")
    try:
        values: dict[str, Any] = {
            name: float(value) if KINDS[name] is float else value for name, value in changes.items()
        }
    except OverflowError:
        raise ValueError("nobody needs a limit so large") from None
    made = replace(limits, **values)
    return NO_LIMITS if made == NO_LIMITS else made


def packed(limits: Limits) -> dict[str, Any]:
    """As a record's keys: what is as usual is left out."""
    if limits is NO_LIMITS:
        return {}
    return {
        PREFIX + name: getattr(limits, name)
        for name in KINDS
        if getattr(limits, name) != getattr(NO_LIMITS, name)
    }


def unpacked(table: Mapping[str, Any]) -> Limits:
    """The reverse, of a table that may hold other keys; `ValueError`."""
    found = {key.removeprefix(PREFIX): table[key] for key in KEYS if key in table}
    return changed(NO_LIMITS, found) if found else NO_LIMITS


_CALLED: Final[Mapping[type, str]] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
}
