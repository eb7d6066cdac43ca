"""Labels change while a torrent is there."""

from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bittern.engine.events import Added, Completed
from bittern.engine.torrent import State
from bittern.errors import StorageError
from bittern.net.dialer import Dialer
from bittern.policy.seedrules import Amounts, Scope, SeedRule
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent

MADE = make_torrent()
KEY = MADE.info_hash


async def test_labels_are_durable_and_told_with_the_torrent(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.add(MADE, label="films, hd,films")
        assert (await engine.until(Added)).facts.labels == ("films", "hd")
        session = engine.session
        assert await session.set_labels(KEY, ["seen", "films"])
        written = (tmp_path / "state" / "resume" / f"{KEY.hex()}.toml").read_text()
        assert 'label = "seen,films"' in written
        assert not await session.set_labels(bytes(20), ["x"])  # type: ignore[arg-type] — no torrent of ours
        with pytest.raises(ValueError, match="comma"):
            await session.set_labels(KEY, ["ok", "a,b"])
    async with running(tmp_path) as engine:
        facts = engine.session.torrents[KEY].facts()
        assert (facts.label, facts.labels) == ("seen", ("seen", "films"))
        await engine.session.set_labels(KEY, [])
        facts = engine.session.torrents[KEY].facts()
        assert (facts.label, facts.labels) == ("", ())
    async with running(tmp_path) as engine:
        assert engine.session.torrents[KEY].record.label == ""


async def test_a_record_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as engine:
        await engine.add(MADE)

        def full(records: object) -> None:
            raise StorageError("the disk is full")

        monkeypatch.setattr(engine.store, "write", full)
        with pytest.raises(StorageError):
            await engine.session.set_labels(KEY, ["films"])
        monkeypatch.undo()


async def test_a_seed_rule_for_a_label_is_for_who_gets_it_later(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    rule = SeedRule(name="seen", when=(Amounts(seed_time_s=60),), action="stop", scope=Scope(label=("seen",)))
    async with running(tmp_path, dialer=Dialer(), seed_rules=(rule,)) as engine:
        MADE.write(engine.downloads)
        await engine.add(MADE, label="films")
        await engine.until(Completed)
        torrent = engine.session.torrents[KEY]
        await trio.sleep(200)
        assert torrent.state is State.SEEDING
        await engine.session.set_labels(KEY, ["films", "seen"])
        await engine.until_true(lambda: torrent.state is State.STOPPED, "stopped")
