"""Torrents that are moved to another folder, whatever they are about, and whatever comes between."""

import errno
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from bittern.disk import copying, mover
from bittern.disk.copying import Copier
from bittern.disk.mover import Move
from bittern.disk.resume import load_record
from bittern.engine import failures
from bittern.engine.events import Checked, Completed, Failed, Moved, Removed, Warned
from bittern.engine.moving import COPIES_AT_ONCE, ENDS_WITHIN_S
from bittern.engine.torrent import State, Torrent
from bittern.errors import StorageError
from bittern.policy.add_terms import AddTerms
from bittern.proto import messages as m
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import ScriptedPeer, connected
from tests.fakes.torrents import Made, make_torrent


class Brake:
    """Holds moves after so many steps, until it is let go. Between folders nothing can be linked: all is copied."""

    def __init__(self) -> None:
        self.steps = 0
        self.hold_after = 1 << 30
        self.reached, self.go = threading.Event(), threading.Event()
        self.copied = 0

    async def held(self) -> None:
        await trio.to_thread.run_sync(self.reached.wait, 20)
        assert self.reached.is_set()


@pytest.fixture
def brake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brake]:
    found = Brake()
    plain_link, plain_step, plain_slice = os.link, Move.step, Copier._copy_slice

    def link(name: str, new: str, **where: Any) -> None:
        if where["src_dir_fd"] != where["dst_dir_fd"]:
            raise OSError(errno.EXDEV, "another file system")
        plain_link(name, new, **where)

    def step(self: Move) -> int | None:
        found.steps += 1
        if found.steps > found.hold_after:
            found.reached.set()
            found.go.wait(300)
        return plain_step(self)

    def copy_slice(self: Copier, fd: int, copy: int, start: int, length: int) -> bytes:
        found.copied += length
        return plain_slice(self, fd, copy, start, length)

    monkeypatch.setattr(os, "link", link)
    for module in (copying, mover):
        monkeypatch.setattr(module, "SLICE_BYTES", 16_384)
    monkeypatch.setattr(Move, "step", step)
    monkeypatch.setattr(Copier, "_copy_slice", copy_slice)
    yield found
    found.go.set()


def in_two_files() -> Made:
    return make_torrent("it", files=[("a", 150_000), ("sub/b", 80_000)], piece_length=16_384)


async def seeded(engine: Engine, made: Made) -> Torrent:
    made.write(engine.downloads)
    await engine.add(made)
    await engine.until(Completed)
    return engine.session.torrents[made.info_hash]


async def loaded(engine: Engine, made: Made) -> Torrent:
    await engine.until_true(lambda: made.info_hash in engine.session.torrents, "loaded")
    return engine.session.torrents[made.info_hash]


async def fetched(leech: ScriptedPeer, made: Made, index: int) -> bytes:
    await leech.say(m.pack_requests([(index, 0, len(made.piece(index)))]))
    return (await leech.hear_until("piece"))[8:]


def moving_to(folder: Path, made: Made) -> str:
    return load_record((folder / f"state/resume/{made.info_hash.hex()}.toml").read_bytes()).moving_to


def nothing_in(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if not path.name.startswith(".bittern-folder")]


async def test_a_seed_is_served_from_the_old_folder_while_it_is_copied(tmp_path: Path, brake: Brake) -> None:
    made, there = in_two_files(), tmp_path / "there/deep"
    brake.hold_after = 5
    async with running(tmp_path) as engine:
        torrent = await seeded(engine, made)
        assert await engine.session.move(made.info_hash, str(there))
        assert moving_to(tmp_path, made) == str(there)
        await brake.held()
        assert torrent.state is State.MOVING
        with pytest.raises(StorageError, match="being moved"):
            await engine.session.move(made.info_hash, str(tmp_path / "third"))
        async with connected(engine.address, made.info_hash) as leech:
            await leech.say(m.INTERESTED)
            await leech.hear_until("unchoke")
            assert await fetched(leech, made, 3) == made.piece(3)
            brake.go.set()
            moved = await engine.until(Moved)
            assert await fetched(leech, made, 12) == made.piece(12)
        assert torrent.state is State.SEEDING
        assert moved.facts.path == str(there / "it")
        assert moved.source == str(engine.downloads)
    assert made.is_at(there)
    assert nothing_in(tmp_path / "downloads")
    assert moving_to(tmp_path, made) == ""
    async with running(tmp_path) as engine:
        torrent = await loaded(engine, made)
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
        assert not engine.told(Checked)


async def test_a_copy_that_a_stop_broke_off_goes_on_while_it_is_seeded(tmp_path: Path, brake: Brake) -> None:
    made, there = in_two_files(), tmp_path / "there"
    brake.hold_after = 6
    async with running(tmp_path) as engine:
        await seeded(engine, made)
        await engine.session.move(made.info_hash, str(there))
        await brake.held()
        plain_stop = engine.session.lifecycle.stop

        def stop() -> None:
            plain_stop()
            threading.Timer(0.2, brake.go.set).start()

        engine.session.lifecycle.stop = stop  # type: ignore[method-assign] — goes on once it is told to stop
    before, brake.steps = brake.copied, 0
    assert 0 < before < 230_000
    brake.reached.clear()
    brake.go.clear()
    brake.hold_after = 0
    async with running(tmp_path) as engine:
        torrent = await loaded(engine, made)
        await brake.held()
        assert torrent.state is State.MOVING
        assert torrent.reachable
        async with connected(engine.address, made.info_hash) as leech:
            await leech.say(m.INTERESTED)
            await leech.hear_until("unchoke")
            assert await fetched(leech, made, 0) == made.piece(0)
        brake.go.set()
        await engine.until(Moved)
        assert torrent.state is State.SEEDING
        # no more than the slice that it was at is copied twice
        assert brake.copied <= 230_000 + 16_384
    assert made.is_at(there)
    assert nothing_in(tmp_path / "downloads")


@pytest.mark.usefixtures("brake")
async def test_a_download_goes_on_in_the_new_folder_with_what_it_had(tmp_path: Path) -> None:
    made, there = in_two_files(), tmp_path / "there"
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent = engine.session.torrents[made.info_hash]
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.serve(made, pieces=6)
            await engine.until_true(lambda: torrent.have is not None and torrent.have.count >= 5, "5 pieces")
            assert await engine.session.move(made.info_hash, str(there))
            await engine.until(Moved)
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        assert torrent.have is not None
        assert torrent.have.count >= 5
        assert len(engine.told(Checked)) == 1, "something was hashed again"
        assert nothing_in(tmp_path / "downloads")
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            completed = await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert completed.facts.folder == str(there)
    assert made.is_at(there)


async def test_what_lies_in_the_incomplete_folder_stays_there_until_it_is_whole(tmp_path: Path) -> None:
    made, there = in_two_files(), tmp_path / "there"
    async with running(tmp_path) as engine:
        await engine.add(made, incomplete=str(tmp_path / "incomplete"))
        await engine.until(Checked)
        await engine.session.move(made.info_hash, str(there))
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            assert (await engine.until(Completed)).facts.folder == str(there)
            nursery.cancel_scope.cancel()
    assert made.is_at(there)
    assert nothing_in(tmp_path / "incomplete")


@pytest.mark.usefixtures("brake")
@pytest.mark.parametrize("state", [State.STOPPED, State.ERROR])
async def test_who_does_not_run_is_moved_too(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 1000.0)
    made, there = in_two_files(), tmp_path / "there"
    async with running(tmp_path) as engine:
        torrent = await seeded(engine, made)
        if state is State.STOPPED:
            await engine.session.pause(made.info_hash)
        else:
            engine.session.lifecycle.torrent_failed(torrent, StorageError("made to fail"))
        assert torrent.state is state
        await engine.session.move(made.info_hash, str(there))
        await engine.until(Moved)
        if state is State.STOPPED:
            assert torrent.state is State.STOPPED
            await engine.session.resume(made.info_hash)
        await engine.until_true(lambda: torrent.state is State.SEEDING and not torrent.error, "seeding")
    assert made.is_at(there)


@pytest.mark.parametrize("with_data", [False, True])
@pytest.mark.parametrize("steps", [1, 6, 18])
async def test_who_is_removed_while_it_is_copied_leaves_no_stray_files(
    tmp_path: Path, brake: Brake, with_data: bool, steps: int
) -> None:
    made, there = in_two_files(), tmp_path / "there"
    async with running(tmp_path) as engine:
        torrent = await seeded(engine, made)
        torrent.record.made = b"\xff"
        brake.hold_after = steps
        await engine.session.move(made.info_hash, str(there))
        await brake.held()
        async with trio.open_nursery() as nursery:

            async def remove() -> None:
                await engine.session.remove(made.info_hash, reason="test", with_data=with_data)

            nursery.start_soon(remove)
            await engine.until_true(lambda: made.info_hash not in engine.session.torrents, "let go")
            brake.go.set()
        await engine.until(Removed)
        assert not engine.told(Failed)
        assert not engine.told(Warned)
    assert nothing_in(there)
    assert nothing_in(tmp_path / "downloads") if with_data else made.is_at(tmp_path / "downloads")


@pytest.mark.usefixtures("brake")
async def test_who_is_removed_while_its_copy_waits_for_its_turn_does_not_wait_for_others(
    tmp_path: Path,
) -> None:
    made, there = in_two_files(), tmp_path / "there"
    async with running(tmp_path) as engine:
        torrent = await seeded(engine, made)
        torrent.record.made = b"\xff"
        turns = engine.session.lifecycle.moving._turns
        for _ in range(COPIES_AT_ONCE):
            await turns.acquire_on_behalf_of(object())
        await engine.session.move(made.info_hash, str(there))
        await engine.until_true(lambda: turns.statistics().tasks_waiting == 1, "waiting")
        with trio.fail_after(ENDS_WITHIN_S - 10):
            await engine.session.remove(made.info_hash, reason="test", with_data=True)
        assert not engine.told(Warned)
    assert nothing_in(there)
    assert nothing_in(tmp_path / "downloads")


async def test_a_move_is_called_off_by_moving_it_where_it_is(tmp_path: Path, brake: Brake) -> None:
    made, there = in_two_files(), tmp_path / "there"
    async with running(tmp_path) as engine:
        torrent = await seeded(engine, made)
        brake.hold_after = 6
        await engine.session.move(made.info_hash, str(there))
        await brake.held()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(engine.session.move, made.info_hash, str(engine.downloads))
            await trio.testing.wait_all_tasks_blocked(0.02)
            brake.go.set()
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
        assert not torrent.record.moving_to
    assert made.is_at(tmp_path / "downloads")
    assert nothing_in(there)


@pytest.mark.usefixtures("brake")
@pytest.mark.parametrize("bug", [False, True])
async def test_a_move_that_fails_leaves_it_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: bool
) -> None:
    made, there = in_two_files(), tmp_path / "there"
    (there / "it/sub").mkdir(parents=True)
    (there / "it/sub/b").write_text("somebody's")
    if bug:
        plain = mover.take_name

        def broken(name: str, source: int, new: str, target: int) -> None:
            if name == "b":
                raise RuntimeError("made to break")
            plain(name, source, new, target)

        (there / "it/sub/b").unlink()
        monkeypatch.setattr(mover, "take_name", broken)
    async with running(tmp_path, strict=False) as engine:
        torrent = await seeded(engine, made)
        await engine.session.move(made.info_hash, str(there))
        warned = await engine.until(Warned)
        assert warned.what == "torrent.move_failed"
        assert ("made to break" if bug else "in the way") in warned.detail
        assert torrent.state is State.SEEDING
        assert not torrent.record.moving_to
        assert len(engine.bugs) == bug
        assert not engine.told(Failed)
    assert made.is_at(tmp_path / "downloads")
    assert not (there / "it/a").exists()


async def test_files_are_looked_for_where_somebody_says_that_they_lie(tmp_path: Path) -> None:
    made, there = in_two_files(), tmp_path / "there"
    async with running(tmp_path) as engine:
        torrent = await seeded(engine, made)
        there.mkdir()
        (engine.downloads / "it").rename(there / "it")
        assert await engine.session.move(made.info_hash, str(there), only_look=True)
        checked = await engine.until(Checked, 2)
        assert checked.hashed_bytes == 230_000
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
        assert torrent.facts().folder == str(there)
    async with running(tmp_path) as engine:
        torrent = await loaded(engine, made)
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
    assert made.is_at(there)


async def test_what_is_another_ones_is_neither_moved_nor_moved_onto(tmp_path: Path) -> None:
    one, two = make_torrent(size=100_000, seed=1), make_torrent(size=100_000, seed=2)
    there = tmp_path / "there"
    async with running(tmp_path) as engine:
        one.write(engine.downloads)
        two.write(there)
        await engine.add(one)
        await engine.session.add(two.blob, AddTerms(str(there)))
        await engine.until(Completed, 2)
        with pytest.raises(StorageError, match="another torrent"):
            await engine.session.move(one.info_hash, str(there))
        with pytest.raises(StorageError, match="another torrent"):
            await engine.session.move(one.info_hash, str(there), only_look=True)
        assert not await engine.session.move(make_torrent(seed=9).info_hash, str(there))
    assert one.is_at(tmp_path / "downloads")
    assert two.is_at(there)


async def test_what_becomes_another_ones_too_while_it_is_copied_stays(tmp_path: Path, brake: Brake) -> None:
    files = [("a", 150_000), ("sub/b", 80_000)]
    one, two = (make_torrent("it", files=files, piece_length=length) for length in (16_384, 32_768))
    there = tmp_path / "there"
    async with running(tmp_path) as engine:
        torrent = await seeded(engine, one)
        brake.hold_after = 6
        await engine.session.move(one.info_hash, str(there))
        await brake.held()
        await engine.add(two)
        await engine.until(Completed, 2)
        brake.go.set()
        assert "another torrent" in (await engine.until(Warned)).detail
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
    assert one.is_at(tmp_path / "downloads")
    assert nothing_in(there)


async def test_nothing_is_made_below_a_mountpoint_whose_disk_is_away(tmp_path: Path) -> None:
    made = in_two_files()
    disk = tmp_path / "disk"
    disk.mkdir()
    other = make_torrent("other", size=50_000)
    async with running(tmp_path) as engine:
        other.write(disk)
        await engine.session.add(other.blob, AddTerms(str(disk)))
        await engine.until(Completed)
        torrent = await seeded(engine, made)
        await engine.until(Completed, 2)
        await engine.session.guard.look()
        disk.rename(tmp_path / "unplugged")
        disk.mkdir()
        await engine.session.guard.look()
        await engine.session.move(made.info_hash, str(disk / "sub"))
        assert "is away" in (await engine.until(Warned)).detail
        assert torrent.state is State.SEEDING
        assert not list(disk.iterdir())
        # and one that is there no more is checked anew when it is back
        away = engine.session.torrents[other.info_hash]
        assert away.state is State.OFFLINE
        assert engine.session.recheck(away)
        assert away.state is State.OFFLINE
        disk.rmdir()
        (tmp_path / "unplugged").rename(disk)
        await engine.session.guard.look()
        await engine.until_true(lambda: away.state is State.SEEDING, "seeding")
        assert not engine.told(Failed)
        assert engine.told(Checked)[-1].hashed_bytes == 50_000


async def test_who_was_asked_to_move_and_is_removed_is_not_remembered(tmp_path: Path, brake: Brake) -> None:
    still, copied = in_two_files(), make_torrent("copied", size=100_000)
    async with running(tmp_path) as engine:
        moving = engine.session.lifecycle.moving
        await seeded(engine, still)
        copied.write(engine.downloads)
        await engine.add(copied)
        await engine.until(Completed, 2)
        assert await engine.session.move(still.info_hash, str(engine.downloads))
        assert not moving._asked  # it lies there already
        brake.hold_after = brake.steps + 2
        assert await engine.session.move(copied.info_hash, str(tmp_path / "there"))
        await brake.held()
        assert moving._asked
        async with trio.open_nursery() as nursery:
            for made in (still, copied):
                nursery.start_soon(partial(engine.session.remove, made.info_hash, reason="test"))
            await trio.testing.wait_all_tasks_blocked()
            brake.go.set()
        assert not moving._asked
