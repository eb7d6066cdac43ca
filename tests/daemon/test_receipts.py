"""Receipts beside drops, of a real engine whose folder has nobody else in it."""

import json
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import structlog
import trio

from bittern.daemon import receipts as receipts_module
from bittern.daemon.config import Config, Watch, default_config
from bittern.daemon.receipts import Receipts, receipt_path
from bittern.engine.events import Event
from bittern.policy.add_terms import AddTerms
from bittern.proto.bitfield import Bitfield
from tests.fakes.engine import Engine, running
from tests.fakes.torrents import Made, make_torrent

LINK = "magnet:?xt=urn:btih:" + "ab" * 20


class World:
    """A watched folder with receipts, and what its torrents do."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.folder = base / "drop"
        self.folder.mkdir()
        watch = Watch(folder=str(self.folder), receipts=True)  # type: ignore[arg-type]
        self.config: Config = msgspec.structs.replace(default_config(base), watch=(watch,))
        self.receipts: Receipts | None = None
        self.writes: list[str] = []

    def drop(self, name: str) -> str:
        return str(self.folder / name)

    def said(self, name: str = "a.torrent") -> dict[str, Any]:
        try:
            return dict(json.loads(Path(receipt_path(self.drop(name))).read_text()))
        except FileNotFoundError:
            return {}

    async def settled(self) -> None:
        """Nothing is written any more."""
        while self.writes:
            self.writes.clear()
            await trio.sleep(0.1)

    def _noted(self, event: Event) -> None:
        if self.receipts is not None:
            self.receipts.noted(event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Engine]:
        self.receipts = None
        async with running(self.base / "engine", also=self._noted) as engine:
            self.receipts = Receipts(self.config, engine.session, engine.supervisor)
            engine.session.heard = self.receipts.changed
            async with trio.open_nursery() as nursery:
                await nursery.start(self.receipts.run)
                yield engine
                nursery.cancel_scope.cancel()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(receipts_module, "EVERY_S", 0.01)
    real = receipts_module._write_one
    made = World(tmp_path)

    def write(one: Any) -> None:
        made.writes.append(one.drop)
        real(one)

    monkeypatch.setattr(receipts_module, "_write_one", write)
    return made


@pytest.fixture
def torrent() -> Made:
    return make_torrent("film", files=(("film.mkv", 200_000),))


async def test_it_follows_a_torrent_from_the_drop_to_its_end(world: World, torrent: Made) -> None:
    async with world.running() as engine:
        await engine.add(torrent, receipt=world.drop("a.torrent"), label="films")
        await engine.until_true(lambda: world.said().get("state") == "downloading", "a receipt")
        said = world.said()
        assert (said["name"], said["percent"], said["error"], said["label"]) == ("film", 0.0, "", "films")
        assert (said["info_hash"], said["final"]) == (torrent.info_hash.hex(), False)
        assert said["path"] == str(engine.downloads / "film")
        assert said["added_at"] > 0
        assert "trackers" not in said
        await engine.session.pause(torrent.info_hash)
        await engine.until_true(lambda: world.said()["state"] == "stopped", "the pause")
    async with world.running() as engine:
        await engine.session.resume(torrent.info_hash)
        await engine.until_true(lambda: world.said()["state"] == "downloading", "the restart")
        await engine.session.remove(torrent.info_hash, reason="enough of it")
        await engine.until_true(lambda: world.said().get("final") is True, "the end")
        assert (world.said()["state"], world.said()["reason"]) == ("removed", "enough of it")
    assert [path.name for path in world.folder.iterdir()] == ["a.torrent.status.json"]


async def test_only_what_has_changed_is_written(world: World) -> None:
    made = [make_torrent(f"t{one}", size=100) for one in range(40)]
    async with world.running() as engine:
        for number, one in enumerate(made):
            await engine.add(one, receipt=world.drop(f"{number}.torrent"))
        await engine.until_true(
            lambda: all(
                world.said(f"{number}.torrent").get("state") == "downloading" for number in range(40)
            ),
            "all receipts",
        )
        await world.settled()
        await engine.session.pause(made[7].info_hash)
        await engine.until_true(lambda: world.said("7.torrent")["state"] == "stopped", "the pause")
        await trio.sleep(0.1)
        assert set(world.writes) == {world.drop("7.torrent")}
    stamps = {path: path.stat().st_mtime_ns for path in world.folder.iterdir()}
    world.writes.clear()
    async with world.running() as engine:
        await engine.until_true(lambda: len(set(world.writes)) >= 40, "the look at all of them")
        await trio.sleep(0.1)
    same = [path for path in world.folder.iterdir() if stamps.get(path) == path.stat().st_mtime_ns]
    assert Path(receipt_path(world.drop("7.torrent"))) in same


async def test_links_share_a_receipt(world: World, torrent: Made) -> None:
    async with world.running() as engine:
        drop = world.drop("l.magnet")
        await engine.session.add_magnet(LINK, AddTerms(str(engine.downloads), receipt=drop))
        await engine.add(torrent, receipt=drop)
        await engine.until_true(lambda: world.said("l.magnet").get("links") == 2, "both")
        states = {one["state"] for one in world.said("l.magnet")["torrents"]}
        assert "metadata" in states
        await engine.session.remove(torrent.info_hash, reason="x")
        await engine.until_true(lambda: world.said("l.magnet")["links"] == 1, "one less")
        assert world.said("l.magnet")["final"] is False


async def test_a_tied_drop_takes_its_receipt_along(world: World, torrent: Made) -> None:
    async with world.running() as engine:
        drop = world.drop("a.torrent")
        await engine.add(torrent, receipt=drop, tie=True, drop_path=drop)
        await engine.until_true(lambda: world.said().get("state") == "downloading", "a receipt")
        await engine.session.remove(torrent.info_hash, reason="its file is gone")
        await engine.until_true(lambda: not list(world.folder.iterdir()), "its end")


async def test_what_was_removed_in_the_last_moment_is_told_after_the_start(
    world: World, torrent: Made
) -> None:
    stale = {"drop": world.drop("gone.torrent"), "state": "seeding", "final": False}
    Path(receipt_path(world.drop("gone.torrent"))).write_text(json.dumps(stale))
    foreign = world.folder / "x.torrent.status.json"
    foreign.write_text('{"drop": "/etc/passwd", "final": false}')
    async with world.running() as engine:
        await engine.until_true(lambda: world.said("gone.torrent")["state"] == "removed", "the truth")
        assert world.said("gone.torrent")["final"] is True
    assert json.loads(foreign.read_text())["drop"] == "/etc/passwd"


async def test_traps_in_the_folder_are_not_followed(world: World, torrent: Made) -> None:
    precious = world.base / "precious"
    precious.write_text("mine")
    (world.folder / ".a.torrent.status.json.tmp").symlink_to(precious)
    (world.folder / "a.torrent.status.json").symlink_to(precious)
    async with world.running() as engine:
        await engine.add(torrent, receipt=world.drop("a.torrent"))
        await engine.until_true(lambda: not Path(receipt_path(world.drop("a.torrent"))).is_symlink(), "it")
    assert precious.read_text() == "mine"
    assert world.said()["name"] == "film"


async def test_a_folder_that_refuses_costs_nobody_anything(
    world: World, torrent: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts_module, "AGAIN_S", 0.05)
    real, full = receipts_module._write_one, [True]

    def write(one: Any) -> None:
        if full:
            raise OSError(28, "No space left on device", one.drop)
        real(one)

    monkeypatch.setattr(receipts_module, "_write_one", write)
    with structlog.testing.capture_logs() as log:
        async with world.running() as engine:
            await engine.add(torrent, receipt=world.drop("a.torrent"))
            await engine.until_true(
                lambda: any(one["event"] == "receipt.not_written" for one in log), "a word"
            )
            await trio.sleep(0.2)
            full.clear()
            await engine.until_true(lambda: world.said().get("state") == "downloading", "a receipt")
    assert len([one for one in log if one["event"] == "receipt.not_written"]) == 1


async def test_a_refused_drop_has_its_last_word(world: World) -> None:
    async with world.running() as engine:
        assert world.receipts is not None
        world.receipts.rejected(world.drop("b.torrent"), "no bencode", world.drop("rejected/b.torrent"))
        world.receipts.rejected("/elsewhere/b.torrent", "no bencode", "")
        await engine.until_true(lambda: world.said("b.torrent").get("final") is True, "it")
    assert (world.said("b.torrent")["state"], world.said("b.torrent")["error"]) == ("rejected", "no bencode")


@pytest.mark.parametrize("name", ["a.torrent", "x" * 247 + ".torrent", "\udcff" * 247 + ".torrent"])
def test_a_receipts_name_fits(tmp_path: Path, name: str) -> None:
    path = Path(receipt_path(str(tmp_path / name)))
    assert len(os.fsencode(f".{path.name}.tmp")) <= 255
    assert path.name.endswith(".status.json")


async def test_it_follows_what_comes_in(world: World, torrent: Made) -> None:
    async with world.running() as engine:
        await engine.add(torrent, receipt=world.drop("a.torrent"))
        await engine.until_true(lambda: world.said().get("state") == "downloading", "a receipt")
        assert world.receipts is not None
        one = engine.session.torrents[torrent.info_hash]
        have = Bitfield(torrent.piece_count)
        # as if its swarm lived, and had brought pieces
        lively = SimpleNamespace(live={torrent.info_hash: None})
        world.receipts._session = SimpleNamespace(torrents=engine.session.torrents, swarms=lively)  # type: ignore[assignment]
        before, one.have = one.have, have
        for index in range(2):
            have.set(index)
            wanted = math.floor(1000 * (index + 1) * torrent.piece_length / len(torrent.payload)) / 10
            await engine.until_true(lambda wanted=wanted: world.said()["percent"] == wanted, f"{wanted} %")  # type: ignore[misc]
        one.have = before


async def test_two_drops_of_one_name_the_receipt_is_the_last_ones(world: World, torrent: Made) -> None:
    later = make_torrent("later", size=100)
    async with world.running() as engine:
        assert world.receipts is not None
        await engine.add(torrent, receipt=world.drop("a.torrent"))
        await engine.until_true(lambda: world.said().get("name") == "film", "the first")
        await engine.add(later, receipt=world.drop("a.torrent"))
        await engine.until_true(lambda: world.said()["name"] == "later", "the second")
        world.writes.clear()
        await engine.session.pause(torrent.info_hash)
        await engine.session.pause(later.info_hash)
        await engine.until_true(lambda: world.said()["state"] == "stopped", "the pause")
        assert world.said()["name"] == "later"
    async with world.running() as engine:
        assert world.receipts is not None
        await trio.sleep(0.1)
        assert world.said()["name"] == "later"
        # the first is dropped again
        world.receipts.taken([torrent.info_hash])
        await engine.until_true(lambda: world.said()["name"] == "film", "the first again")
        await engine.session.remove(later.info_hash, reason="x")
        world.receipts.rejected(world.drop("a.torrent"), "no bencode", "")
        await engine.until_true(lambda: world.said()["state"] == "rejected", "the verdict")
        await engine.session.remove(torrent.info_hash, reason="x")
        await trio.sleep(0.1)
    assert world.said()["state"] == "rejected"


async def test_receipts_that_strangers_have_planted_cost_nothing(
    world: World, torrent: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plant(name: str, said: object) -> None:
        Path(receipt_path(world.drop(name))).write_text(json.dumps(said))

    plant("0.torrent", {"final": False, "drop": "\ud800"})
    plant("1.torrent", {"final": False, "drop": world.drop("1.torrent"), "x": "y" * 500_000, "name": ["z"]})
    Path(receipt_path(world.drop("2.torrent"))).write_text("[" * 900_000)
    async with world.running() as engine:
        await engine.until_true(lambda: world.said("1.torrent").get("state") == "removed", "the truth")
        assert set(world.said("1.torrent")) == {"drop", "state", "final"}
        await engine.add(torrent, receipt=world.drop("a.torrent"))
        await engine.until_true(lambda: world.said().get("name") == "film", "a receipt")
    assert json.loads(Path(receipt_path(world.drop("0.torrent"))).read_text())["drop"] == "\ud800"
    monkeypatch.setattr(receipts_module, "ORPHANS_READ_BYTES", 10)
    plant("1.torrent", {"final": False, "drop": world.drop("1.torrent"), "x": "y" * 500_000})
    assert receipts_module.orphans(str(world.folder), set()) == []


async def test_receipts_in_sub_folders(world: World, torrent: Made) -> None:
    watch = msgspec.structs.replace(world.config.watch[0], subfolders=True)
    world.config = msgspec.structs.replace(world.config, watch=(watch,))
    sub, outside = world.folder / "films", world.base / "outside"
    for folder in (sub, outside):
        folder.mkdir()
    stale = {"drop": str(sub / "gone.torrent"), "state": "seeding", "final": False}
    (sub / "gone.torrent.status.json").write_text(json.dumps(stale))
    async with world.running() as engine:
        await engine.until_true(lambda: world.said("films/gone.torrent")["state"] == "removed", "the truth")
        await engine.add(torrent, receipt=str(sub / "a.torrent"))
        await engine.until_true(lambda: world.said("films/a.torrent").get("name") == "film", "a receipt")
        sub.rename(world.base / "elsewhere")
        sub.symlink_to(outside)
        world.writes.clear()
        await engine.session.pause(torrent.info_hash)
        await engine.until_true(lambda: world.writes, "a try")
        await trio.sleep(0.1)
    assert not list(outside.iterdir())
