"""Good peers outlive a kill: a download goes on though nobody names any, in virtual time."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock

from bittern.disk.disk import DiskGate
from bittern.disk.peerfile import PeerFile, pack_peers, unpack_peers
from bittern.engine.events import Checked, Completed, Warned
from bittern.engine.kept_peers import SLICE, KeptPeers
from bittern.engine.torrent import State
from bittern.policy.roster import Source
from bittern.terms import Address, InfoHash
from tests.fakes.engine import Engine, running
from tests.fakes.memory_peers import Manner, Town
from tests.fakes.torrents import Made, make_torrent

RATE = 100_000
MADE = make_torrent(size=800_000)


class Seen(Town):
    """The same, and who was dialled."""

    def __init__(self) -> None:
        super().__init__()
        self.dialled: list[Address] = []

    async def dial(self, address: Address) -> object:
        self.dialled.append(address)
        return await super().dial(address)


def on_disk(folder: Path, made: Made) -> list[Address]:
    compact = PeerFile(str(folder / "state")).load().get(made.info_hash)
    return [] if compact is None else unpack_peers(compact)


async def half_done(engine: Engine, town: Town, made: Made, *named: Address) -> Address:
    """Downloads from somebody whom a tracker named; gives where he is."""
    giver = town.settle(made, Manner.GIVES, RATE)
    await engine.add(made)
    torrent = engine.session.torrents[made.info_hash]
    await engine.until_true(lambda: torrent.have is not None, "checked")
    engine.session.swarms.addresses_found(torrent, (giver, *named), Source.TRACKER)
    await engine.until_true(lambda: torrent.have is not None and torrent.have.count >= 5, "half of it")
    return giver


@pytest.mark.parametrize("killed", [True, False])
async def test_a_restarted_download_goes_on_though_nobody_names_peers(
    tmp_path: Path, autojump_clock: MockClock, killed: bool
) -> None:
    town, image = Seen(), tmp_path / "as the kill left it"
    async with running(tmp_path / "it", dialer=town) as engine:
        nobody = town.nobody()
        giver = await half_done(engine, town, MADE, nobody)
        await engine.session.flusher.flush_dirty()
        shutil.copytree(tmp_path / "it/state", image)
        assert on_disk(tmp_path / "it", MADE) == [giver]
    if killed:
        shutil.rmtree(tmp_path / "it/state")
        image.rename(tmp_path / "it/state")
    assert on_disk(tmp_path / "it", MADE) == [giver]
    town.dialled.clear()
    async with running(tmp_path / "it", dialer=town) as engine:
        torrent = engine.session.torrents[MADE.info_hash]
        await engine.until_true(lambda: MADE.info_hash in engine.session.swarms.live, "awake")
        swarm = engine.session.swarms.live[MADE.info_hash]
        assert swarm.roster.source_of(giver) is Source.KEPT
        # and whoever kept it keeps it over a second kill, before anybody has answered
        await engine.session.flusher.flush_dirty()
        assert on_disk(tmp_path / "it", MADE) == [giver]
        await engine.until(Completed)
        assert torrent.complete
        assert town.dialled == [giver]
        await engine.session.flusher.flush_dirty()
        assert on_disk(tmp_path / "it", MADE) == [], "of what is complete"
    assert MADE.is_at(tmp_path / "it/downloads")


async def test_they_are_written_with_the_records_and_only_when_they_changed(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []
    save = PeerFile.save
    monkeypatch.setattr(PeerFile, "save", lambda file, kept: (writes.append(len(kept)), save(file, kept)))
    town = Town()
    async with running(tmp_path, dialer=town) as engine:
        await half_done(engine, town, make_torrent(size=20_000_000))
        await trio.sleep(100)
        assert writes == [1]
    assert writes == [1]


async def test_a_torrent_that_is_gone_or_private_leaves_none(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    town, private = Seen(), make_torrent("private", size=800_000, private=True)
    giver = town.settle(private, Manner.GIVES, RATE)
    async with running(tmp_path, dialer=town) as engine:
        await half_done(engine, town, MADE)
        await half_done(engine, town, private)
        await engine.session.flusher.flush_dirty()
        assert on_disk(tmp_path, MADE)
        assert not on_disk(tmp_path, private)
        await engine.session.remove(MADE.info_hash, reason="a test")
        await engine.session.flusher.flush_dirty()
        assert not on_disk(tmp_path, MADE)
    # nor is one believed that somebody else wrote there
    PeerFile(str(tmp_path / "state")).save({private.info_hash: pack_peers([giver])})
    town.dialled.clear()
    async with running(tmp_path, dialer=town) as engine:
        await trio.sleep(100)
        assert not town.dialled
        assert engine.session.torrents[private.info_hash].resting == b""


async def test_all_are_dialled_and_who_is_given_up_is_kept_no_more(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    town = Seen()
    async with running(tmp_path, dialer=town) as engine:
        await engine.add(MADE)
        await engine.until(Checked)
    nobody = [town.nobody() for _ in range(50)]
    PeerFile(str(tmp_path / "state")).save({MADE.info_hash: pack_peers(nobody)})
    async with running(tmp_path, dialer=town) as engine:
        await engine.until_true(lambda: set(town.dialled) == set(nobody), "dials", 60)
        await engine.session.flusher.flush_dirty()
        assert set(on_disk(tmp_path, MADE)) == set(nobody)
        engine.session.swarms.live[MADE.info_hash].roster.ban(nobody[7].host)
        await engine.session.flusher.flush_dirty()
        assert set(on_disk(tmp_path, MADE)) == {*nobody} - {nobody[7]}


async def test_a_thousand_are_remembered_in_slices_and_half_of_them_never_replaces_the_file(
    tmp_path: Path,
) -> None:
    class Inline:
        async def call(self, work: Callable[..., object], *arguments: object) -> object:
            await trio.lowlevel.checkpoint()
            return work(*arguments)

    file, hashes = PeerFile(str(tmp_path)), [InfoHash(number.to_bytes(20)) for number in range(1000)]
    file.save({one: pack_peers([Address("203.0.113.7", 6881)]) for one in hashes})
    written = file.path.stat().st_ino
    record = SimpleNamespace(state="downloading")
    torrents: Any = {
        one: SimpleNamespace(info_hash=one, record=record, private=False, complete=False, resting=b"")
        for one in hashes
    }
    kept = KeptPeers(torrents, {}, file=file, disk=cast("DiskGate", Inline()), sink=lambda _: None)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            await kept.save()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await kept.load()
        nursery.cancel_scope.cancel()
    await kept.save()
    assert turns >= len(hashes) // SLICE // 2
    assert file.path.stat().st_ino == written
    assert all(torrent.resting for torrent in torrents.values())


async def test_a_damaged_file_costs_one_line(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.add(MADE)
        await engine.until(Checked)
    path = PeerFile(str(tmp_path / "state")).path
    path.write_bytes(b"\xff" * 100)
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[MADE.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "going on")
        (warned,) = engine.told(Warned)
        assert warned.what == "peers.damaged"
        assert str(path) in warned.detail
    async with running(tmp_path) as engine:
        assert not engine.told(Warned)
