"""A torrent that is removed with its data takes only what is its own with it, and a removal that fails is undone."""

import errno
from pathlib import Path

import pytest
import trio

from bittern.disk.resume import ResumeRecord, dump_record, load_record
from bittern.engine import guard, removing
from bittern.engine.events import Checked, Completed, Failed, FolderAway, Removed, Warned
from bittern.engine.torrent import State, Torrent
from bittern.errors import PlaceGone, StorageError
from bittern.proto import messages as m
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_EVERY_S", 0.05)


def _path(folder: Path, made: Made) -> Path:
    return folder / f"state/resume/{made.info_hash.hex()}.toml"


def _record(folder: Path, made: Made) -> ResumeRecord:
    return load_record(_path(folder, made).read_bytes())


async def until_state(engine: Engine, made: Made, state: State) -> None:
    torrent = engine.session.torrents[made.info_hash]
    await engine.until_true(lambda: torrent.state is state, state.value)


async def seed_it(engine: Engine, made: Made) -> None:
    async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
        await seed.say(m.HAVE_ALL, m.UNCHOKE)
        nursery.start_soon(seed.serve, made)
        await engine.until(Completed)
        nursery.cancel_scope.cancel()


async def test_what_came_by_its_name_into_the_final_folder_is_not_deleted(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made, incomplete=str(tmp_path / "incomplete"))
        await until_state(engine, made, State.DOWNLOADING)
        (engine.downloads / "payload.bin").write_text("somebody's")
        await engine.session.remove(made.info_hash, reason="test", with_data=True)
        assert (engine.downloads / "payload.bin").read_text() == "somebody's"
        assert not (tmp_path / "incomplete/payload.bin").exists()


async def test_what_is_in_the_way_of_a_move_is_not_deleted(tmp_path: Path) -> None:
    made = make_torrent("it", files=[("one", 70_000), ("two", 70_000)])
    async with running(tmp_path) as engine:
        await engine.add(made, incomplete=str(tmp_path / "incomplete"))
        await until_state(engine, made, State.DOWNLOADING)
        (engine.downloads / "it").mkdir()
        (engine.downloads / "it/two").write_text("somebody's")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(seed_it, engine, made)
            await engine.until(Failed)
            nursery.cancel_scope.cancel()
        assert (engine.downloads / "it/one").exists(), "it was moved before the other one was refused"
        await engine.session.remove(made.info_hash, reason="test", with_data=True)
        assert (engine.downloads / "it/two").read_text() == "somebody's"
        assert not (engine.downloads / "it/one").exists()
        assert not (tmp_path / "incomplete/it").exists()


async def test_a_disk_that_is_away_keeps_its_torrent_and_the_next_start_does_not_remove_it_unasked(
    tmp_path: Path,
) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await until_state(engine, made, State.DOWNLOADING)
        await seed_it(engine, made)
        engine.downloads.rename(tmp_path / "unplugged")
        engine.downloads.mkdir()
        with pytest.raises(PlaceGone):
            await engine.session.remove(made.info_hash, reason="test", with_data=True)
        await until_state(engine, made, State.OFFLINE)
        engine.downloads.rmdir()
        (tmp_path / "unplugged").rename(engine.downloads)
        await until_state(engine, made, State.SEEDING)
    assert not _record(tmp_path, made).leaving
    async with running(tmp_path) as engine:
        await until_state(engine, made, State.SEEDING)
        assert not engine.told(Removed)


async def test_a_disk_that_is_found_away_in_the_middle_of_a_removal_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record says for a moment that it leaves, and whoever looks then takes it for stopped."""
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await until_state(engine, made, State.DOWNLOADING)
        await seed_it(engine, made)
        durable = engine.session.flusher.durable

        async def slow(torrent: Torrent) -> None:
            await durable(torrent)
            engine.downloads.rename(tmp_path / "unplugged")
            engine.downloads.mkdir()
            await engine.until(FolderAway)

        with monkeypatch.context() as patch:
            patch.setattr(engine.session.flusher, "durable", slow)
            with pytest.raises(PlaceGone):
                await engine.session.remove(made.info_hash, reason="test", with_data=True)
        await until_state(engine, made, State.OFFLINE)
        engine.downloads.rmdir()
        (tmp_path / "unplugged").rename(engine.downloads)
        await until_state(engine, made, State.SEEDING)


async def test_a_removal_that_cannot_be_ended_downloads_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent("it", files=[("one", 70_000), ("two", 70_000)])
    async with running(tmp_path) as engine:
        await engine.add(made)
        await until_state(engine, made, State.DOWNLOADING)
        await seed_it(engine, made)
    record = _record(tmp_path, made)
    record.leaving = True
    _path(tmp_path, made).write_bytes(dump_record(record))
    (tmp_path / "downloads/it/one").unlink()

    def refuse(*args: object) -> None:
        raise StorageError("the disk is read-only", errno=errno.EROFS)

    with monkeypatch.context() as patch:
        patch.setattr(removing, "erase", refuse)
        async with running(tmp_path) as engine:
            await engine.until(Warned)
            await until_state(engine, made, State.STOPPED)
    async with running(tmp_path) as engine:
        await engine.until(Removed)
    assert not (tmp_path / "downloads/it").exists()


async def test_the_files_that_another_name_would_have_had_are_not_taken_for_ours(tmp_path: Path) -> None:
    made = make_torrent("it", files=[("one", 70_000), ("two", 70_000)])
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent = engine.session.torrents[made.info_hash]
        assert any(torrent.record.made)
        engine.session.lifecycle.whereabouts.settle_root(torrent)
        assert not any(torrent.record.made)
