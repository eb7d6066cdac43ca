"""Limits set while bittern runs: they outlive a restart, and the configuration's next word."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bittern.daemon.config import Config, load_config
from bittern.daemon.overrides import UNDER, Overrides
from bittern.daemon.scheduling import Scheduler
from bittern.engine.settings import Settings
from bittern.errors import StorageError
from bittern.policy.seedrules import Amounts, Scope, SeedRule


def configured(folder: Path, text: str = "") -> Config:
    path = folder / "b.toml"
    path.write_text(f'[paths]\nstate = "state"\ndownloads = "d"\n{text}')
    (folder / "state").mkdir(exist_ok=True)
    return load_config(path, environ={})


class Session:
    def __init__(self) -> None:
        self.settings: Settings | None = None

    def apply(self, settings: Settings) -> None:
        self.settings = settings


class Daemon:
    """What of it settles limits, after a start with that text; `at` is what the clock on the wall shows."""

    def __init__(self, folder: Path, text: str = "", at: str = "2026-11-23 12:00") -> None:
        self.config = configured(folder, text)
        self.at = at
        self.session = Session()
        overrides = Overrides(folder / "state")
        overrides.load(self.config.engine())
        self.scheduler = Scheduler(
            self.config, self.session, overrides, local_now=lambda: datetime.fromisoformat(self.at)
        )

    async def set(self, **changes: Any) -> None:
        await self.scheduler.set_limits(changes)

    @property
    def rates(self) -> tuple[float | None, float | None]:
        settings = self.scheduler.settings()
        return settings.download_rate, settings.upload_rate


async def test_what_was_set_outlives_a_restart(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    await daemon.set(download_limited=True, download_rate=5000.0, max_peers=10, downloads_queued=True)
    assert daemon.session.settings == daemon.scheduler.settings()
    again = Daemon(tmp_path)
    settings = again.scheduler.settings()
    assert (settings.download_rate, settings.upload_rate) == (5000.0, None)
    assert (settings.max_peers, settings.max_peers_per_torrent, settings.max_downloads) == (10, 10, 5)


async def test_a_limit_of_0_is_none_of_the_configurations(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    await daemon.set(download_limited=True, download_rate=0.0)
    assert daemon.rates == (0.0, None)
    assert Daemon(tmp_path).rates == (0.0, None)


async def test_the_configuration_has_its_say_again_when_it_says_something_new(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, '[limits]\ndownload_rate = "1 MB/s"\n')
    await daemon.set(download_rate=5000.0, upload_limited=True, upload_rate=7.0)
    assert daemon.rates == (5000.0, 7.0)
    daemon.scheduler.apply(daemon.config)
    assert daemon.rates == (5000.0, 7.0)
    daemon.scheduler.apply(configured(tmp_path, '[limits]\ndownload_rate = "2 MB/s"\n'))
    assert daemon.rates == (2e6, 7.0)
    assert Daemon(tmp_path, '[limits]\ndownload_rate = "3 MB/s"\n').rates == (3e6, 7.0)


async def test_the_slow_hours(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Monday is bit 1. By hand they begin and end at any time, until their next hour."""
    daemon = Daemon(tmp_path, at="2026-11-23 08:59")
    look = daemon.scheduler._look
    await daemon.set(alt_download_rate=1000.0, alt_upload_rate=0.0, alt_enabled=True)
    assert daemon.rates == (1000.0, 0.0)
    await daemon.set(alt_scheduled=True, alt_begin_minute=540, alt_end_minute=600, alt_days=0b10)
    assert daemon.rates == (None, None)
    daemon.at = "2026-11-23 09:00"
    look()
    assert daemon.rates == (1000.0, 0.0)
    await daemon.set(alt_enabled=False)
    look()
    assert daemon.rates == (None, None)
    daemon.at = "2026-11-23 10:00"
    look()
    assert daemon.rates == (None, None)
    daemon.at = "2026-11-24 09:30"
    look()
    assert daemon.rates == (None, None)


async def test_slow_hours_that_were_ended_by_hand_stay_so_over_a_restart_until_the_next(
    tmp_path: Path,
) -> None:
    daemon = Daemon(tmp_path, at="2026-11-23 09:10")
    await daemon.set(alt_scheduled=True, alt_begin_minute=540, alt_end_minute=600, alt_download_rate=1000.0)
    assert daemon.rates == (1000.0, 50_000.0)
    assert Daemon(tmp_path, at="2026-11-23 09:20").rates == (1000.0, 50_000.0)
    await daemon.set(alt_enabled=False)
    for at, slow in (
        ("2026-11-23 09:30", False),
        ("2026-11-23 10:30", False),
        ("2026-11-24 09:00", True),
        ("2026-11-30 09:59", True),
        # a clock that was set back knows nothing of it
        ("2026-11-23 09:05", True),
    ):
        again = Daemon(tmp_path, at=at)
        again.scheduler._look()
        assert (again.rates == (1000.0, 50_000.0)) is slow, at
    # another timetable says anew what holds
    await daemon.set(alt_end_minute=610)
    assert daemon.rates == (1000.0, 50_000.0)
    assert Daemon(tmp_path, at="2026-11-23 09:30").rates == (1000.0, 50_000.0)


def settings(**terms: Any) -> Settings:
    return Settings(state="s", downloads="d", **terms)


def test_a_ratio_for_all_takes_the_place_of_the_rule_that_says_as_much(tmp_path: Path) -> None:
    rules = (
        SeedRule(name="a", when=(Amounts(ratio=3.0), Amounts(idle_s=9.0)), action="stop"),
        SeedRule(name="b", when=(Amounts(ratio=1.0),), action="stop", scope=Scope(label=("tv",))),
    )
    base = settings(seed_rules=rules)
    overrides = Overrides(tmp_path)
    assert overrides.effective(base)["seed_ratio"] == 3.0
    assert overrides.effective(base)["seed_ratio_limited"] is True
    overrides.set({"seed_ratio": 2.0}, base)
    first, second, third = overrides.normal(base).seed_rules
    assert (first.when, second.when, third) == ((Amounts(ratio=2.0),), (Amounts(idle_s=9.0),), rules[1])
    overrides.set({"seed_ratio_limited": False}, base)
    assert [rule.name for rule in overrides.normal(base).seed_rules] == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "values = 3", "[values]\n[under]", "[values]\nmax_peers = 5",
     "[values]\nmax_peers = -5\n[under]\nmax_peers = 200",
     "[values]\ndownload_rate = nan\n[under]\ndownload_rate = 0.0", "[values]\ncolour = 1\n[under]\ncolour = 1"],
)  # fmt: skip
def test_a_file_that_is_damaged_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "overrides.toml").write_text(text)
    overrides = Overrides(tmp_path)
    overrides.load(settings())
    assert overrides.values == {}
    assert overrides.normal(settings()) == settings()


async def test_what_cannot_be_kept_is_told(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    (tmp_path / "state").rmdir()
    with pytest.raises(StorageError):
        await daemon.set(max_peers=10)


def test_every_key_has_its_like_in_a_configuration(tmp_path: Path) -> None:
    base = configured(tmp_path).engine()
    overrides = Overrides(tmp_path / "state")
    overrides.set({key: under(base) for key, under in UNDER.items()}, base)
    assert overrides.normal(base) == base


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("][", "is damaged"),
        ("values = 3", "is damaged"),
        ("[values]\nupload_rate = 1.0", "is damaged"),
        ("[values]\nfrom_a_newer_one = 1\n[under]\n", "cannot be: from_a_newer_one"),
        (f"[values]\nmax_peers = {'9' * 400}\n[under]\nmax_peers = 1", "cannot be: max_peers"),
        ("[values]\nupload_rate = nan\n[under]\nupload_rate = 0.0", "cannot be: upload_rate"),
    ],
)
def test_what_is_left_out_of_the_file_is_told(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "overrides.toml").write_text(text)
    overrides = Overrides(tmp_path)
    assert told in overrides.load(settings())
    assert overrides.values == {}


async def test_what_the_configuration_took_back_stays_so_over_restarts(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    first, second = ('[limits]\ndownload_rate = "1 MB/s"\n', '[limits]\ndownload_rate = "2 MB/s"\n')
    await Daemon(tmp_path, first).set(download_rate=7.0)
    daemon = Daemon(tmp_path, second)
    async with trio.open_nursery() as nursery:
        await nursery.start(daemon.scheduler.run)
        await trio.sleep(60)
        nursery.cancel_scope.cancel()
    assert Daemon(tmp_path, first).rates == (1e6, None)


async def test_what_was_set_is_taken_back(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, '[limits]\ndownload_rate = "1 MB/s"\n', at="2026-11-23 09:10")
    await daemon.set(download_rate=5000.0, alt_scheduled=True, alt_begin_minute=540, alt_end_minute=600)
    await daemon.set(alt_enabled=False, alt_download_rate=1000.0, alt_upload_rate=0.0)
    assert daemon.rates == (5000.0, None)
    # their hours have their say again
    await daemon.set(alt_enabled=None)
    assert daemon.rates == (1000.0, 0.0)
    await daemon.set(**dict.fromkeys(UNDER))
    for again in (daemon, Daemon(tmp_path, '[limits]\ndownload_rate = "1 MB/s"\n')):
        assert (again.rates, dict(again.scheduler.overrides)) == ((1e6, None), {})
