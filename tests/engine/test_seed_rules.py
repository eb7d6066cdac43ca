"""What a seed rule says is done, once, at its time, and not before; what was counted survives restarts and crashes."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bittern.disk.places import SENTINEL
from bittern.disk.resume import ResumeRecord, dump_record, load_record
from bittern.engine import flusher, seeding
from bittern.engine.events import Added, Completed, Removed, SeedingDone, Warned
from bittern.engine.moving import Moving
from bittern.engine.torrent import State, Torrent
from bittern.errors import StorageError
from bittern.net.dialer import Dialer
from bittern.policy.add_terms import AddTerms
from bittern.policy.seedrules import Amounts, Scope, SeedGuard, SeedRule
from tests.fakes.engine import Engine, running
from tests.fakes.torrents import Made, make_torrent

HOUR = 360.0
"""A short one: each second of it is a heartbeat."""


def rule(action: Any = "stop", folder: str = "", **when: float) -> SeedRule:
    return SeedRule(name="enough", when=(Amounts(**when),), action=action, folder=folder)


async def seeded(engine: Engine, made: Made, **terms: Any) -> Torrent:
    """One whose data bittern made: as if it had been downloaded."""
    await engine.add(made, **terms)
    await engine.until(Added)
    torrent = engine.session.torrents[made.info_hash]
    await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
    made.write(engine.downloads)
    torrent.state = State.QUEUED
    torrent.have = None
    torrent.record.checked = False
    engine.session.lifecycle.checks.submit(torrent)
    await engine.until(Completed)
    return torrent


def record_of(folder: Path, made: Made) -> ResumeRecord:
    return load_record((folder / f"state/resume/{made.info_hash.hex()}.toml").read_bytes())


async def test_seed_time_is_counted_once_over_restarts_and_a_paused_torrent_has_none(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = make_torrent()
    options: Any = {"dialer": Dialer(), "seed_rules": (rule(seed_time_s=2 * HOUR),)}
    async with running(tmp_path, **options) as engine:
        torrent = await seeded(engine, made)
        await trio.sleep(HOUR / 2)
        assert engine.session.seeding.seed_time_s(torrent) == pytest.approx(HOUR / 2, abs=20)
    await trio.sleep(10 * HOUR)
    async with running(tmp_path, **options) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await trio.sleep(HOUR / 2)
        assert engine.session.seeding.seed_time_s(torrent) == pytest.approx(HOUR, abs=20)
        await engine.session.pause(made.info_hash)
        await trio.sleep(3 * HOUR)
        assert engine.session.seeding.seed_time_s(torrent) == pytest.approx(HOUR, abs=20)
        assert engine.session.seeding.outlook(torrent) is None
        await engine.session.resume(made.info_hash)
        await trio.sleep(1)
        outlook = engine.session.seeding.outlook(torrent)
        assert outlook is not None
        assert outlook.in_s == pytest.approx(HOUR, abs=20)
        assert not engine.told(SeedingDone)
        await trio.sleep(HOUR + 30)
        assert torrent.state is State.STOPPED
        # a look at the rules comes every five seconds
        assert re.fullmatch("seed rule enough: seed time 12 min( [1-5] s)? of 12 min", torrent.record.stopped)
        assert len(engine.told(SeedingDone)) == 1
    async with running(tmp_path, **options) as engine:
        torrent = engine.session.torrents[made.info_hash]
        assert torrent.state is State.STOPPED
        # somebody wants it to go on: the rule does not take that back
        await engine.session.resume(made.info_hash)
        await trio.sleep(HOUR)
        assert torrent.state is State.SEEDING
        assert not engine.told(SeedingDone)
    async with running(tmp_path, **options) as engine:
        await trio.sleep(60)
        assert engine.session.torrents[made.info_hash].state is State.SEEDING


async def test_a_crash_costs_a_minute_of_seed_time_and_a_lost_clock_none_that_records_know(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = make_torrent()
    async with running(tmp_path, dialer=Dialer()) as engine:
        torrent = await seeded(engine, made)
        engine.session.seeding.uploaded(torrent, trio.current_time())
        await trio.sleep(HOUR)
        noted = (tmp_path / "state/clock.toml").read_bytes()
        torrent.record.active_at = engine.session.seeding._clock.now()
        engine.session.flusher.mark(torrent)
        await trio.sleep(20)
    (tmp_path / "state/clock.toml").write_bytes(noted)
    async with running(tmp_path, dialer=Dialer()) as engine:
        torrent = engine.session.torrents[made.info_hash]
        assert HOUR - 90 <= engine.session.seeding.seed_time_s(torrent) <= HOUR + 30
    (tmp_path / "state/clock.toml").write_text("run_s = -7")
    async with running(tmp_path, dialer=Dialer()) as engine:
        torrent = engine.session.torrents[made.info_hash]
        assert HOUR - 90 <= engine.session.seeding.seed_time_s(torrent) <= HOUR + 30


async def test_idle_is_counted_from_the_last_upload_and_a_ratio_is_seen_when_it_is_reached(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = make_torrent()
    rules = (
        SeedRule(name="two", when=(Amounts(ratio=2.0, idle_s=HOUR), Amounts(idle_s=3 * HOUR)), action="stop"),
    )
    async with running(tmp_path, dialer=Dialer(), seed_rules=rules) as engine:
        torrent = await seeded(engine, made)
        for _ in range(3):
            await trio.sleep(2 * HOUR)
            engine.session.swarms.moved_bytes(torrent, down=0, up=1, now=trio.current_time())
        assert torrent.state is State.SEEDING
        engine.session.swarms.moved_bytes(torrent, down=0, up=2 * len(made.payload), now=trio.current_time())
        await trio.sleep(HOUR - 10)
        assert torrent.state is State.SEEDING
        await trio.sleep(20)
        assert torrent.state is State.STOPPED


async def test_new_rules_hold_at_once_and_guards_hold_them_back(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = make_torrent(trackers=[["http://t.private.example/announce"]])
    async with running(tmp_path, dialer=Dialer()) as engine:
        torrent = await seeded(engine, made)
        guard = SeedGuard(until=(Amounts(seed_time_s=2 * HOUR),), scope=Scope(tracker=("*.private.example",)))
        engine.session.seeding.set_rules((rule(seed_time_s=60.0),), (guard,))
        await trio.sleep(2 * HOUR - 60)
        assert torrent.state is State.SEEDING
        await trio.sleep(120)
        assert torrent.state is State.STOPPED


async def test_ten_thousand_idle_torrents_are_not_looked_at(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    real = seeding.foresee

    def counted(*args: Any) -> Any:
        looks.append(1)
        return real(*args)

    monkeypatch.setattr(seeding, "foresee", counted)
    async with running(tmp_path, dialer=Dialer(), seed_rules=(rule(idle_s=500 * HOUR),)) as engine:
        await seeded(engine, make_torrent())
        await trio.sleep(HOUR)
        assert len(looks) <= 3


async def test_a_removal_tells_first_and_waits_until_hooks_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "LOOK_EVERY_S", 0.01)
    made = make_torrent()
    async with running(tmp_path, seed_rules=(rule("remove", ratio=1.0),)) as engine:
        engine.session.seeding.awaits_delivery = True
        torrent = await seeded(engine, made)
        assert engine.told(SeedingDone) == []
        engine.session.swarms.moved_bytes(torrent, down=0, up=len(made.payload), now=trio.current_time())
        told = await engine.until(SeedingDone)
        assert (told.rule, told.action, told.reason) == ("enough", "remove", "enough: ratio 1 of 1")
        assert record_of(tmp_path, made).seeding_done_id == told.event_id
        assert made.info_hash in engine.session.torrents
        engine.session.delivered(made.info_hash, told.event_id)
        removed = await engine.until(Removed)
        assert removed.reason == "seed rule enough: ratio 1 of 1"
    assert made.is_at(tmp_path / "downloads")
    assert not list((tmp_path / "state/resume").iterdir())


async def test_a_crash_before_the_action_tells_the_same_event_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "LOOK_EVERY_S", 0.01)
    made = make_torrent()
    rules = (rule("remove", ratio=1.0),)
    async with running(tmp_path, seed_rules=rules) as engine:
        engine.session.seeding.awaits_delivery = True
        torrent = await seeded(engine, made)
        engine.session.swarms.moved_bytes(torrent, down=0, up=len(made.payload), now=trio.current_time())
        first = await engine.until(SeedingDone)
        # never delivered: here it dies
    async with running(tmp_path, seed_rules=rules) as engine:
        assert (await engine.until(SeedingDone)).event_id == first.event_id
        await engine.until(Removed)


@pytest.mark.parametrize("multi", [False, True])
async def test_only_files_that_we_made_and_nobody_changed_are_deleted(
    multi: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "LOOK_EVERY_S", 0.01)
    files = [("a/one", 70_000), ("a/two", 70_000), ("b/three", 70_000)] if multi else []
    made = make_torrent("it", files=files)
    async with running(tmp_path, seed_rules=(rule("remove-with-data", ratio=1.0),)) as engine:
        torrent = await seeded(engine, made)
        if multi:
            changed = engine.downloads / "it/b/three"
            os.utime(changed, (1, 1))
            (engine.downloads / "it/a/foreign").write_text("somebody's")
        engine.session.swarms.moved_bytes(torrent, down=0, up=len(made.payload), now=trio.current_time())
        await engine.until(Removed)
    left = {str(path.relative_to(tmp_path / "downloads")) for path in (tmp_path / "downloads").rglob("*")}
    left.discard(SENTINEL)
    assert left == ({"it", "it/a", "it/a/foreign", "it/b", "it/b/three"} if multi else set())


async def test_data_that_was_there_before_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        await engine.session.remove(made.info_hash, reason="test", with_data=True)
    assert made.is_at(tmp_path / "downloads")
    assert not list((tmp_path / "state/resume").iterdir())


async def test_data_that_another_torrent_has_too_is_not_deleted(tmp_path: Path) -> None:
    made = make_torrent(trackers=[["http://a.example/"]])
    other = make_torrent(private=True)
    async with running(tmp_path) as engine:
        await seeded(engine, made)
        await engine.session.add(other.blob, AddTerms(str(engine.downloads)))
        await engine.until(Completed, 2)
        assert engine.session.torrents[other.info_hash].record.shared
        await engine.session.remove(made.info_hash, reason="test", with_data=True)
        assert made.is_at(engine.downloads)


async def test_data_of_a_disk_that_is_away_is_not_taken_for_deleted(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await seeded(engine, made)
        away = tmp_path / "away"
        engine.downloads.rename(away)
        engine.downloads.mkdir()
        with pytest.raises(StorageError):
            await engine.session.remove(made.info_hash, reason="test", with_data=True)
        assert made.info_hash in engine.session.torrents
        engine.downloads.rmdir()
        away.rename(engine.downloads)
        await engine.session.guard.look()
        await engine.session.remove(made.info_hash, reason="test", with_data=True)
        assert not (engine.downloads / "payload.bin").exists()


async def test_a_magnet_that_nobody_has_described_yet_has_no_data(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        added = await engine.session.add_magnet(
            "magnet:?xt=urn:btih:" + "ab" * 20, AddTerms(str(engine.downloads))
        )
        assert await engine.session.remove(added.info_hash, reason="test", with_data=True)
        assert not engine.session.torrents


async def test_a_removal_that_a_crash_interrupted_is_ended_at_the_next_start(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await seeded(engine, made)
    record = record_of(tmp_path, made)
    record.leaving = True
    (tmp_path / "downloads/payload.bin").unlink()
    (tmp_path / f"state/resume/{made.info_hash.hex()}.toml").write_bytes(dump_record(record))
    async with running(tmp_path) as engine:
        await engine.until(Removed)
        assert not engine.session.torrents
    assert not list((tmp_path / "state/resume").iterdir())


async def test_a_move_leads_elsewhere_and_seeding_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(flusher, "FLUSH_EVERY_S", 1000.0)
    made = make_torrent("it", files=[("a/one", 70_000), ("two", 70_000)])
    archive = tmp_path / "archive"
    rules = (rule("move", str(archive), ratio=1.0), rule("remove", ratio=2.0))
    async with running(tmp_path, seed_rules=rules) as engine:
        torrent = await seeded(engine, made)
        engine.session.swarms.moved_bytes(torrent, down=0, up=len(made.payload), now=trio.current_time())
        assert (await engine.until(SeedingDone)).action == "move"
        await engine.until_true(
            lambda: torrent.record.folder == str(archive) and torrent.state is State.SEEDING, "moved"
        )
        await engine.until_true(lambda: not torrent.record.seeding_done_id, "done")
        await engine.until_true(
            lambda: not record_of(tmp_path, made).seeding_done_id, "told no more, if it dies now"
        )
    assert made.is_at(archive)
    assert not (tmp_path / "downloads/it").exists()
    async with running(tmp_path, seed_rules=rules) as engine:
        torrent = engine.session.torrents[made.info_hash]
        assert torrent.state is State.SEEDING
        assert torrent.record.folder == str(archive)
        engine.session.swarms.moved_bytes(torrent, down=0, up=len(made.payload), now=trio.current_time())
        assert (await engine.until(SeedingDone)).action == "remove"
        await engine.until(Removed)


async def test_a_move_that_cannot_be_leaves_it_seeding_where_it_is_and_is_not_tried_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seeding, "LOOK_EVERY_S", 0.01)
    tries: list[str] = []
    usual = Moving.relocate

    async def relocate(moving: Moving, torrent: Torrent, folder: str) -> None:
        tries.append(folder)
        await usual(moving, torrent, folder)

    monkeypatch.setattr(Moving, "relocate", relocate)
    made = make_torrent()
    archive = tmp_path / "archive"
    archive.mkdir()
    (archive / "payload.bin").write_text("somebody's")
    async with running(tmp_path, seed_rules=(rule("move", str(archive), ratio=1.0),)) as engine:
        torrent = await seeded(engine, made)
        engine.session.swarms.moved_bytes(torrent, down=0, up=len(made.payload), now=trio.current_time())
        warned = await engine.until(Warned)
        assert warned.what == "seeding.rule_failed"
        for _ in range(20):
            # somebody is served meanwhile
            engine.session.swarms.moved_bytes(torrent, down=0, up=1, now=trio.current_time())
            await trio.sleep(0.01)
        assert tries == [str(archive)]
        assert torrent.state is State.SEEDING
        assert torrent.record.moving_to == ""
        # whoever changes the rules wants to see what comes of it
        engine.session.seeding.set_rules((rule("move", str(archive), ratio=0.5),), ())
        await engine.until_true(lambda: len(tries) == 2, "another try")
    assert made.is_at(tmp_path / "downloads")
    assert (archive / "payload.bin").read_text() == "somebody's"


async def test_a_move_that_a_crash_interrupted_is_ended_at_the_next_start(tmp_path: Path) -> None:
    made = make_torrent()
    archive = tmp_path / "archive"
    async with running(tmp_path) as engine:
        await seeded(engine, made)
    record = record_of(tmp_path, made)
    record.moving_to = str(archive)
    archive.mkdir()
    (tmp_path / "downloads/payload.bin").rename(archive / "payload.bin")
    (tmp_path / f"state/resume/{made.info_hash.hex()}.toml").write_bytes(dump_record(record))
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(
            lambda: torrent.state is State.SEEDING and torrent.record.folder == str(archive), "seeding there"
        )
    assert record_of(tmp_path, made).moving_to == ""
