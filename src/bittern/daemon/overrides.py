"""Limits for all that were set while bittern ran, by a client of Transmission's RPC: they outlive a restart.

The configuration file stays the truth for all else, and for these until somebody says otherwise. Beside each value
stands what the file said then: when the file says something new, it has spoken last, and the value is gone. So neither
is ever silently without effect.
"""

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import trio
from msgspec import structs

from bittern.disk.atomic import write_atomic
from bittern.disk.refusal import storage_error
from bittern.disk.toml import dump_toml
from bittern.engine.settings import Settings
from bittern.policy.schedule import DAY_MINUTES, Period
from bittern.policy.seedrules import Amounts, Scope, SeedRule

FILE: Final = "overrides.toml"
HEADER: Final = (
    b"# Limits set while bittern ran, and what the configuration said then. Delete it to drop them.\n"
)
ALT_RATE: Final = 50_000.0
ALT_BEGIN, ALT_END, EVERY_DAY = 540, 1020, 127
"""What Transmission begins with: from 9 to 17 h, each day. Bit 0 of the days is Sunday."""

SEED_RATIO: Final = 2.0
SEED_IDLE_S: Final = 1800.0
QUEUE_SIZE: Final = 5
STALLED_AFTER_S: Final = 1800.0
MOST: Final = 2.0**60
NAME_SHOWN: Final = 40


def _ends_by(settings: Settings, name: str) -> float | None:
    """Of the first rule for all that stops by that amount alone."""
    for rule in settings.seed_rules:
        for amounts in rule.when:
            if _is_plain(rule, amounts, name):
                return float(getattr(amounts, name))
    return None


def _is_plain(rule: SeedRule, amounts: Amounts, name: str) -> bool:
    others = {"ratio", "seed_time_s", "idle_s"} - {name}
    alone = getattr(amounts, name) is not None and all(getattr(amounts, other) is None for other in others)
    return alone and rule.action == "stop" and rule.scope == Scope()


def _or(value: float | None, usual: float) -> float:
    return usual if value is None else value


UNDER: Final[Mapping[str, Callable[[Settings], Any]]] = {
    "download_limited": lambda base: base.download_rate is not None,
    "download_rate": lambda base: float(base.download_rate or 0),
    "upload_limited": lambda base: base.upload_rate is not None,
    "upload_rate": lambda base: float(base.upload_rate or 0),
    "alt_enabled": lambda base: False,
    "alt_download_rate": lambda base: ALT_RATE,
    "alt_upload_rate": lambda base: ALT_RATE,
    "alt_scheduled": lambda base: False,
    "alt_begin_minute": lambda base: ALT_BEGIN,
    "alt_end_minute": lambda base: ALT_END,
    "alt_days": lambda base: EVERY_DAY,
    "max_peers": lambda base: base.max_peers,
    "max_peers_per_torrent": lambda base: base.max_peers_per_torrent,
    "downloads_queued": lambda base: base.max_downloads is not None,
    "max_downloads": lambda base: QUEUE_SIZE if base.max_downloads is None else base.max_downloads,
    "seeds_queued": lambda base: base.max_seeds is not None,
    "max_seeds": lambda base: QUEUE_SIZE if base.max_seeds is None else base.max_seeds,
    "stalled_noticed": lambda base: base.stalled_after_s is not None,
    "stalled_after_s": lambda base: _or(base.stalled_after_s, STALLED_AFTER_S),
    "seed_ratio_limited": lambda base: _ends_by(base, "ratio") is not None,
    "seed_ratio": lambda base: _or(_ends_by(base, "ratio"), SEED_RATIO),
    "seed_idle_limited": lambda base: _ends_by(base, "idle_s") is not None,
    "seed_idle_s": lambda base: _or(_ends_by(base, "idle_s"), SEED_IDLE_S),
}
"""What may be set, and what the configuration says of it."""


class Overrides:
    """The state folder's; `StorageError` when they cannot be kept."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self.values: dict[str, Any] = {}
        """By the keys of `UNDER`; only to be read."""
        self._under: dict[str, Any] = {}
        self.slow_by_hand_wall = 0.0
        """When somebody ended or began the slow hours by hand; 0: nobody has since their timetable was set."""
        self.stale = False
        """Does the file hold values that are gone? They would be back once the configuration says what it said then."""
        self._writing = trio.Lock()

    def load(self, base: Settings) -> str:
        """Reads what was kept; whatever is unfit is left out, and told in a clause."""
        unfit: list[str] = []
        try:
            found = tomllib.loads(self._path.read_text())
            values, under = found["values"], found["under"]
            for key, value in values.items():
                if key in UNDER and _fits(value, UNDER[key](base)):
                    self.values[key], self._under[key] = value, under[key]
                else:
                    unfit.append(key[:NAME_SHOWN])
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{self._path}: cannot be read ({error.strerror}); the limits that were set do not hold"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self.values, self._under = {}, {}
            return f"{self._path}: is damaged, and left out: set again the limits that were set while bittern ran"
        by_hand = found.get("slow_by_hand_wall", 0.0)
        self.slow_by_hand_wall = (
            float(by_hand) if isinstance(by_hand, float) and math.isfinite(by_hand) else 0.0
        )
        self.rebase(base)
        return f"{self._path}: left out, for they cannot be: {', '.join(unfit)}" if unfit else ""

    def rebase(self, base: Settings) -> list[str]:
        """The configuration is another: drops what it has spoken of since; gives which."""
        gone = [key for key in self.values if self._under.get(key) != UNDER[key](base)]
        for key in gone:
            del self.values[key]
            self._under.pop(key, None)
        self.stale = self.stale or bool(gone)
        return gone

    def effective(self, base: Settings) -> dict[str, Any]:
        """What holds, of each key."""
        return {key: self.values.get(key, under(base)) for key, under in UNDER.items()}

    def set(self, changes: Mapping[str, Any], base: Settings) -> None:
        """From now on, None: what the configuration says; `keep` makes it durable."""
        for key, value in changes.items():
            if value is None:
                self.values.pop(key, None)
                self._under.pop(key, None)
            else:
                self.values[key], self._under[key] = value, UNDER[key](base)

    async def keep(self) -> None:
        """Durable when it returns."""
        async with self._writing:
            self.stale = False
            told: dict[str, Any] = {"values": dict(self.values), "under": dict(self._under)}
            if self.slow_by_hand_wall:
                told = {"slow_by_hand_wall": self.slow_by_hand_wall, **told}
            blob = HEADER + dump_toml(told)
            try:
                await trio.to_thread.run_sync(write_atomic, self._path, blob)
            except OSError as error:
                self.stale = True
                folder = str(self._path.parent)
                raise storage_error(error, "written in the state folder", str(self._path), folder) from error

    def normal(self, base: Settings) -> Settings:
        """All but the rates of the slow hours."""
        if not self.values:
            return base
        now = self.effective(base)
        return replace(
            base,
            download_rate=now["download_rate"] if now["download_limited"] else None,
            upload_rate=now["upload_rate"] if now["upload_limited"] else None,
            max_peers=now["max_peers"],
            max_peers_per_torrent=min(now["max_peers_per_torrent"], now["max_peers"]),
            max_downloads=now["max_downloads"] if now["downloads_queued"] else None,
            max_seeds=now["max_seeds"] if now["seeds_queued"] else None,
            stalled_after_s=now["stalled_after_s"] if now["stalled_noticed"] else None,
            seed_rules=self._rules(base, now),
        )

    def slow(self, settings: Settings) -> Settings:
        """The rates of the slow hours instead, if it is one."""
        if not self.values.get("alt_enabled", False):
            return settings
        rates = [self.values.get(key, ALT_RATE) for key in ("alt_download_rate", "alt_upload_rate")]
        return replace(settings, download_rate=rates[0], upload_rate=rates[1])

    def slow_hours(self) -> Period | None:
        """When the slow hours begin and end by themselves; None: they do not."""
        if not self.values.get("alt_scheduled", False):
            return None
        bits = self.values.get("alt_days", EVERY_DAY)
        return Period(
            # the clock's week begins on Monday, Transmission's on Sunday
            days=frozenset((day + 6) % 7 for day in range(7) if bits >> day & 1),
            start_minute=self.values.get("alt_begin_minute", ALT_BEGIN) % DAY_MINUTES,
            end_minute=self.values.get("alt_end_minute", ALT_END) % DAY_MINUTES,
        )

    def _rules(self, base: Settings, now: Mapping[str, Any]) -> tuple[SeedRule, ...]:
        rules: list[SeedRule] = list(base.seed_rules)
        for key, name, said in (
            ("seed_ratio", "ratio", "ratio limit for all"),
            ("seed_idle_s", "idle_s", "idle limit for all"),
        ):
            switch = "seed_ratio_limited" if name == "ratio" else "seed_idle_limited"
            if key not in self.values and switch not in self.values:
                continue
            left = []
            for rule in rules:
                when = tuple(one for one in rule.when if not _is_plain(rule, one, name))
                if when:
                    left.append(structs.replace(rule, when=when))
            if now[switch]:
                own = Amounts(ratio=now[key]) if name == "ratio" else Amounts(idle_s=now[key])
                left.insert(0, SeedRule(name=said, when=(own,), action="stop"))
            rules = left
        return tuple(rules)


def _fits(value: object, usual: object) -> bool:
    if type(value) is not type(usual):
        return False
    return isinstance(value, bool) or (isinstance(value, int | float) and 0 <= value <= MOST)
