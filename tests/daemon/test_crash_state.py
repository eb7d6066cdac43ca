"""Limits that were set, and receipts, cut at every change that they make on disk."""

import json
import random
from pathlib import Path

import msgspec
import pytest
import trio

from bittern.daemon import receipts as receipts_module
from bittern.daemon.config import Config, Watch, default_config
from bittern.daemon.config_reader import Folder
from bittern.daemon.overrides import Overrides
from bittern.daemon.receipts import Receipts
from bittern.engine.events import Event
from bittern.engine.settings import Settings
from tests.fakes.crash_disk import Crash, recording
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent

BASE = Settings(state="", downloads="")
MADE = make_torrent("film", size=1000)


@pytest.mark.parametrize("crash", list(Crash))
async def test_limits_that_were_acknowledged_hold_and_half_a_file_never_does(
    tmp_path: Path, crash: Crash
) -> None:
    world = tmp_path / "state"
    world.mkdir()
    kept: list[tuple[int, float]] = []
    with recording(world) as noted:
        overrides = Overrides(world)
        for rate in (1000.0, 2000.0, 3000.0):
            overrides.set({"download_limited": True, "download_rate": rate}, BASE)
            await overrides.keep()
            kept.append((len(noted.changes), rate))
    rng = random.Random(f"{crash}")
    for change in range(len(noted.changes) + 1):
        noted.leave(change, crash, rng)
        again = Overrides(world)
        assert again.load(BASE) == ""
        least = max((rate for at, rate in kept if at <= change), default=0.0)
        assert again.values.get("download_rate", 0.0) in {least, least + 1000.0}


async def receipts_follow(world: Path, torrent_is: str) -> None:
    watch = Watch(folder=Folder(world / "drop"), receipts=True)
    config: Config = msgspec.structs.replace(default_config(world), watch=(watch,))
    heard: list[Receipts] = []

    def tell(event: Event) -> None:
        for receipts in heard:
            receipts.noted(event)

    async with running(world, also=tell) as engine:
        receipts = Receipts(config, engine.session, engine.supervisor)
        heard.append(receipts)
        engine.session.heard = receipts.changed
        drop = str(world / "drop" / "a.torrent")
        async with trio.open_nursery() as nursery:
            await nursery.start(receipts.run)
            await engine.add(MADE, receipt=drop)
            torrent = engine.session.torrents[MADE.info_hash]
            if torrent_is == "stopped":
                await engine.session.pause(MADE.info_hash)
            path = Path(receipts_module.receipt_path(drop))

            def follows() -> bool:
                try:
                    return bool(json.loads(path.read_text())["state"] == torrent.state.value)
                except (OSError, ValueError):
                    return False

            await engine.until_true(follows, "the receipt")
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("crash", [Crash.KILL, pytest.param(Crash.NAMES, marks=pytest.mark.proof)])
async def test_a_receipt_that_a_crash_left_old_or_empty_is_right_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash: Crash
) -> None:
    monkeypatch.setattr(receipts_module, "EVERY_S", 0.01)
    world = tmp_path / "world"
    (world / "drop").mkdir(parents=True)
    with recording(world) as noted:
        await receipts_follow(world, "stopped")
    rng = random.Random(f"{crash}")
    about = [
        number
        for number, change in enumerate(noted.changes, 1)
        if change.path.startswith("drop/") or change.new_path.startswith("drop/")
    ]
    assert about
    for change in about:
        noted.leave(change, crash, rng)
        await receipts_follow(world, "stopped")
        assert [path.name for path in (world / "drop").iterdir()] == ["a.torrent.status.json"]
