"""Disks that are full, gone or dead: nobody fails, nothing is written where it does not belong, and all of it heals."""

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from bittern.disk import places
from bittern.disk.places import SENTINEL, Look
from bittern.disk.stamps import FileStamp
from bittern.engine import guard
from bittern.engine.events import (
    Checked,
    Completed,
    DiskLow,
    DiskRecovered,
    Failed,
    FolderAway,
    FolderBack,
    Held,
    Released,
)
from bittern.engine.store import Store
from bittern.engine.torrent import State
from bittern.policy.add_terms import AddTerms
from bittern.policy.selection import Choice
from bittern.proto import messages as m
from bittern.proto.bitfield import Bitfield
from bittern.terms import InfoHash
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_EVERY_S", 0.05)


class Disks:
    """What looks say of room: by folder name, free bytes and a device of its own."""

    def __init__(self) -> None:
        self.free: dict[str, int] = {}
        self.hang: dict[str, threading.Event] = {}
        self.hanging: set[str] = set()

    def look(self, folder: str, *rest: object) -> Look:
        name = Path(folder).name
        if name in self.hang and not self.hang[name].is_set():
            self.hanging.add(name)
            self.hang[name].wait(300)
            self.hanging.discard(name)
        found = places.look(folder, *rest)  # type: ignore[arg-type]  # passed on as they came
        if name not in self.free:
            return found
        return Look(found.identity, found.away, found.remembered, hash(name), self.free[name])


@pytest.fixture
def disks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disks]:
    made = Disks()
    monkeypatch.setattr(guard, "look", made.look)
    yield made
    for event in made.hang.values():
        event.set()


def state_of(engine: Engine, made: Made) -> State:
    return engine.session.torrents[made.info_hash].state


async def until_state(engine: Engine, made: Made, state: State) -> None:
    await engine.until_true(lambda: state_of(engine, made) is state, state.value)


async def seed_it(engine: Engine, made: Made, count: int = 1) -> None:
    async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
        await seed.say(m.HAVE_ALL, m.UNCHOKE)
        nursery.start_soon(seed.serve, made)
        await engine.until(Completed, count)
        nursery.cancel_scope.cancel()


async def test_a_download_waits_for_room_and_begins_by_itself(tmp_path: Path, disks: Disks) -> None:
    small, large = make_torrent("small", size=MIB, seed=1), make_torrent("large", size=8 * MIB, seed=2)
    disks.free["downloads"] = 15 * MIB
    async with running(tmp_path, reserve_bytes=10 * MIB, preallocate=True) as engine:
        await engine.add(large)
        held = await engine.until(Held)
        assert held.missing_bytes == 3 * MIB
        assert not (engine.downloads / "large").exists(), "it was given no room"
        low = await engine.until(DiskLow)
        assert (low.path, low.free_bytes, low.needed_bytes) == (str(engine.downloads), 15 * MIB, 3 * MIB)
        await engine.add(small)
        await seed_it_when_ready(engine, small)
        assert state_of(engine, large) is State.HELD
        disks.free["downloads"] = 18 * MIB
        await engine.until(Released)
        await engine.until(DiskRecovered)
        await seed_it_when_ready(engine, large, 2)
        assert len(engine.told(Checked)) == 2
        assert len(engine.told(DiskLow)) == 1
        assert not engine.told(Failed)


async def test_below_the_reserve_downloads_are_held_and_seeds_go_on(tmp_path: Path, disks: Disks) -> None:
    seeded, download = make_torrent("seeded", seed=1), make_torrent("download", size=MIB, seed=2)
    disks.free["downloads"] = 100 * MIB
    async with running(tmp_path, reserve_bytes=40 * MIB) as engine:
        seeded.write(engine.downloads)
        await engine.add(seeded)
        await engine.until(Completed)
        await engine.add(download)
        await until_state(engine, download, State.DOWNLOADING)
        disks.free["downloads"] = 39 * MIB
        await engine.until(Held)
        assert state_of(engine, seeded) is State.SEEDING
        # not at the first byte above it
        disks.free["downloads"] = 45 * MIB
        await engine.until_true(
            lambda: engine.session.guard._looks[str(engine.downloads)].free_bytes == 45 * MIB, "a look"
        )
        await engine.session.guard.look()
        assert state_of(engine, download) is State.HELD
        disks.free["downloads"] = 51 * MIB
        await until_state(engine, download, State.DOWNLOADING)
        await seed_it(engine, download, 2)
        assert len(engine.told(DiskLow)) == len(engine.told(DiskRecovered)) == 1


async def test_what_has_its_room_already_is_not_counted_twice(tmp_path: Path, disks: Disks) -> None:
    made, other = make_torrent("film", size=8 * MIB, seed=1), make_torrent("other", size=4 * MIB, seed=2)
    disks.free["downloads"] = 20 * MIB
    async with running(tmp_path, reserve_bytes=10 * MIB, preallocate=True) as engine:
        await engine.add(made)
        await until_state(engine, made, State.DOWNLOADING)
        disks.free["downloads"] = 14 * MIB  # 8 MiB were given to it, and somebody gave 2 back
        await engine.until_true(
            lambda: engine.session.guard._looks[str(engine.downloads)].free_bytes == 14 * MIB, "a look"
        )
        await engine.add(other)
        await until_state(engine, other, State.DOWNLOADING)
        assert not engine.told(Held)


async def test_a_final_folder_on_another_disk_needs_room_too(tmp_path: Path, disks: Disks) -> None:
    made = make_torrent(size=4 * MIB)
    disks.free = {"downloads": 12 * MIB, "fast": 1000 * MIB}
    async with running(tmp_path, reserve_bytes=10 * MIB) as engine:
        await engine.add(made, incomplete=str(tmp_path / "fast"))
        assert (await engine.until(Held)).missing_bytes == 2 * MIB
        assert (await engine.until(DiskLow)).path == str(engine.downloads)
        disks.free["downloads"] = 14 * MIB
        await seed_it_when_ready(engine, made)
    assert made.is_at(tmp_path / "downloads")


async def seed_it_when_ready(engine: Engine, made: Made, count: int = 1) -> None:
    await until_state(engine, made, State.DOWNLOADING)
    await seed_it(engine, made, count)


async def test_below_the_reserve_of_the_state_folder_all_downloads_are_held(
    tmp_path: Path, disks: Disks
) -> None:
    seeded, one, two = (make_torrent(f"t{seed}", seed=seed) for seed in (1, 2, 3))
    disks.free = {"downloads": 10_000 * MIB, "other": 10_000 * MIB, "state": 65 * MIB}
    async with running(tmp_path, reserve_bytes=256 * MIB) as engine:
        seeded.write(engine.downloads)
        await engine.add(seeded)
        await engine.until(Completed)
        await engine.add(one)
        await engine.session.add(two.blob, AddTerms(str(tmp_path / "other")))
        for made in (one, two):
            # the folder for states may lie on a small disk, and never needs as much as one for downloads
            await until_state(engine, made, State.DOWNLOADING)
        disks.free["state"] = 63 * MIB
        await engine.until(Held, 2)
        low = await engine.until(DiskLow)
        assert (low.path, low.free_bytes) == (str(tmp_path / "state"), 63 * MIB)
        assert state_of(engine, seeded) is State.SEEDING
        await engine.session.guard.look()
        disks.free["state"] = 100 * MIB
        for made in (one, two):
            await until_state(engine, made, State.DOWNLOADING)
        assert len(engine.told(DiskLow)) == len(engine.told(DiskRecovered)) == 1


async def test_what_skipped_files_share_with_wanted_ones_needs_room_in_the_state_folder(
    tmp_path: Path, disks: Disks
) -> None:
    made = make_torrent("shared", files=(("a", MIB), ("b", 8 * MIB), ("c", MIB)), piece_length=4 * MIB)
    disks.free = {"downloads": 18 * MIB, "state": 19 * MIB}
    async with running(tmp_path, reserve_bytes=16 * MIB) as engine:
        await engine.add(made, selection=Choice(skip=("b",)))
        # its wanted pieces are 4 and 2 MiB; b has 3 and 1 of them, and only a and c lie among the downloads
        assert (await engine.until(Held)).missing_bytes == MIB
        assert (await engine.until(DiskLow)).path == str(tmp_path / "state")
        disks.free["state"] = 20 * MIB
        await seed_it_when_ready(engine, made)
        parts = tmp_path / f"state/torrents/{made.info_hash.hex()}.parts"
        assert 0 < parts.stat().st_blocks * 512 <= 4 * MIB + 65536


async def test_an_unmounted_disk_while_running(tmp_path: Path) -> None:
    whole, part = make_torrent("whole", seed=1), make_torrent("part", size=20 * 65536, seed=2)
    away = tmp_path / "away"
    async with running(tmp_path) as engine:
        whole.write(engine.downloads)
        await engine.add(whole)
        await engine.until(Completed)
        await engine.add(part)
        await until_state(engine, part, State.DOWNLOADING)
        torrent = engine.session.torrents[part.info_hash]
        async with connected(engine.address, part.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.serve(part, pieces=4 * 5)
        await engine.until_true(lambda: torrent.have is not None and torrent.have.count >= 3, "some pieces")
        # what is written after the record is hashed again, and told
        await engine.until_true(lambda: not engine.session.usage().disk_queue_bytes, "all are written")
        await engine.session.flusher.flush_dirty()
        claimed = Bitfield.from_bytes(20, torrent.record.have).count
        engine.downloads.rename(away)
        engine.downloads.mkdir()  # the bare mountpoint
        told = await engine.until(FolderAway)
        assert (told.path, told.torrents) == (str(engine.downloads), 2)
        assert state_of(engine, whole) is state_of(engine, part) is State.OFFLINE
        assert not engine.session.swarms.live
        # also what comes now is not put there
        late = make_torrent("late", seed=3)
        await engine.add(late)
        await until_state(engine, late, State.OFFLINE)
        assert not list(engine.downloads.iterdir())
        checks = len(engine.told(Checked))
        engine.downloads.rmdir()
        away.rename(engine.downloads)
        assert (await engine.until(FolderBack)).torrents == 3
        await until_state(engine, whole, State.SEEDING)
        await until_state(engine, part, State.DOWNLOADING)
        await until_state(engine, late, State.DOWNLOADING)
        assert torrent.have is not None
        assert torrent.have.count >= claimed
        assert len(engine.told(Checked)) == checks + 1, "only the newcomer had to be looked at"
        await seed_it(engine, part, 2)
        assert not engine.told(Failed)
    assert part.is_at(tmp_path / "downloads")


async def test_a_disk_that_goes_between_two_looks_is_met_by_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks: the disk layer alone notices."""
    made = make_torrent(size=20 * 65536)
    monkeypatch.setattr(guard, "LOOK_EVERY_S", 1000.0)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await until_state(engine, made, State.DOWNLOADING)
        await engine.session.guard.look()
        away = tmp_path / "away"
        engine.downloads.rename(away)
        engine.downloads.mkdir()
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)

            async def serve() -> None:
                with contextlib.suppress(trio.EndOfChannel, OSError, trio.BrokenResourceError):
                    await seed.serve(made)

            nursery.start_soon(serve)
            await until_state(engine, made, State.OFFLINE)
            nursery.cancel_scope.cancel()
        assert not list(engine.downloads.iterdir())
        engine.downloads.rmdir()
        away.rename(engine.downloads)
        # the first may join a look that began before the disk was back
        while state_of(engine, made) is State.OFFLINE:
            await engine.session.guard.look()
        await seed_it_when_ready(engine, made)
        assert not engine.told(Failed)


@pytest.mark.parametrize("bare", [True, False])
async def test_a_start_without_the_disk(tmp_path: Path, bare: bool) -> None:
    whole, part = make_torrent("whole", seed=1), make_torrent("part", size=20 * 65536, seed=2)
    disk, away = tmp_path / "disk", tmp_path / "away"
    disk.mkdir()
    async with running(tmp_path) as engine:
        whole.write(disk)
        for made in (whole, part):
            await engine.session.add(made.blob, AddTerms(str(disk)))
        await engine.until(Completed)
        await until_state(engine, part, State.DOWNLOADING)
    disk.rename(away)
    if bare:
        disk.mkdir()
    async with running(tmp_path) as engine:
        assert state_of(engine, whole) is state_of(engine, part) is State.OFFLINE
        assert engine.session.counts().offline == 2
        assert (await engine.until(FolderAway)).torrents == 2
        await trio.sleep(0.2)
        assert disk.exists() == bare
        assert not bare or not list(disk.iterdir())
        if bare:
            disk.rmdir()
        away.rename(disk)
        await until_state(engine, whole, State.SEEDING)
        await until_state(engine, part, State.DOWNLOADING)
        assert not engine.told(Failed)
        assert not engine.told(Checked), "nothing had to be hashed"


async def test_records_of_an_older_bittern_and_no_disk(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
    (tmp_path / "state/places.toml").unlink()
    (tmp_path / "downloads" / SENTINEL).unlink()
    (tmp_path / "downloads").rename(tmp_path / "away")
    async with running(tmp_path) as engine:
        assert state_of(engine, made) is State.OFFLINE
        assert not list(engine.downloads.iterdir())
        engine.downloads.rmdir()
        (tmp_path / "away").rename(engine.downloads)
        await until_state(engine, made, State.SEEDING)
        await engine.until_true((engine.downloads / SENTINEL).exists, "a hidden file")


async def test_no_folder_is_looked_at_before_it_is_known_what_is_to_lie_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading many records takes longer than the time between two looks."""
    made, away = make_torrent(), tmp_path / "away"
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
    (tmp_path / "state/places.toml").unlink()
    (tmp_path / "downloads" / SENTINEL).unlink()
    (tmp_path / "downloads").rename(away)
    known = Store.known

    def slow(self: Store) -> list[InfoHash]:
        time.sleep(0.3)
        return known(self)

    monkeypatch.setattr(Store, "known", slow)
    async with running(tmp_path) as engine:
        assert not list(engine.downloads.iterdir())
        assert state_of(engine, made) is State.OFFLINE
        assert (await engine.until(FolderAway)).torrents == 1


async def test_what_lies_on_a_disk_that_wakes_up_waits_for_it_at_the_start(
    tmp_path: Path, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, part = make_torrent("whole", seed=1), make_torrent("part", seed=2)
    disk = tmp_path / "disk"
    disk.mkdir()
    async with running(tmp_path) as engine:
        whole.write(disk)
        for made in (whole, part):
            await engine.session.add(made.blob, AddTerms(str(disk)))
        await engine.until(Completed)
        await until_state(engine, part, State.DOWNLOADING)
    monkeypatch.setattr(guard, "SILENT_S", 1000.0)
    monkeypatch.setattr(guard, "PATIENCE_S", 0.05)
    disks.hang["disk"] = threading.Event()
    async with running(tmp_path) as engine:
        # nobody knows yet whether it is the disk or a bare mountpoint
        assert state_of(engine, whole) is State.OFFLINE
        await until_state(engine, part, State.OFFLINE)
        await engine.session.guard.look()
        disks.hang["disk"].set()
        await until_state(engine, whole, State.SEEDING)
        await until_state(engine, part, State.DOWNLOADING)
        assert not [told for told in engine.told(FolderAway) if told.path == str(disk)], (
            "it only took a while"
        )
        assert not engine.told(Failed)


async def test_all_who_wait_for_a_look_hear_of_it_at_once(
    tmp_path: Path, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as engine:
        watch = engine.session.guard
        monkeypatch.setattr(guard, "PATIENCE_S", 1000.0)
        disks.hang["downloads"] = threading.Event()
        await engine.until_true(lambda: str(engine.downloads) in watch._asked, "a look")
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.look)
                nursery.start_soon(watch.look)
                await trio.testing.wait_all_tasks_blocked()
                disks.hang["downloads"].set()


async def test_looks_are_rare_where_nothing_is_written_and_every_disk_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = [0]

    def look(folder: str, *rest: object) -> Look:
        looked[0] += 1
        return places.look(folder, *rest)  # type: ignore[arg-type]  # passed on as they came

    async def several_more() -> None:
        before = looked[0]
        await engine.until_true(lambda: looked[0] > before + 6, "looks every few beats")

    async def no_more() -> None:
        before = -1
        while looked[0] != before:
            before = looked[0]
            await trio.sleep(10 * guard.LOOK_EVERY_S)

    monkeypatch.setattr(guard, "CALM_BEATS", 10**9)
    monkeypatch.setattr(guard, "look", look)
    made = make_torrent()
    async with running(tmp_path) as engine:
        with trio.fail_after(60):
            await no_more()
            await engine.add(made)
            await several_more()
            await seed_it(engine, made)
            await no_more()
            # a disk that is away is looked for
            away = tmp_path / "away"
            engine.downloads.rename(away)
            engine.downloads.mkdir()
            engine.session.guard.poke()
            await until_state(engine, made, State.OFFLINE)
            await several_more()
            engine.downloads.rmdir()
            away.rename(engine.downloads)
            await until_state(engine, made, State.SEEDING)
            await no_more()


async def test_few_threads_look_at_many_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work, counts, lock, several = [0], [0], threading.Lock(), threading.Event()

    def look(folder: str, *rest: object) -> Look:
        with lock:
            at_work[0] += 1
            counts.append(at_work[0])
            if at_work[0] > 1:
                several.set()
        if not several.wait(60):
            several.set()  # one at a time: nobody else need wait for that
        time.sleep(0.001)
        with lock:
            at_work[0] -= 1
        return places.look(folder, *rest)  # type: ignore[arg-type]  # passed on as they came

    async with running(tmp_path) as engine:
        folders = [str(tmp_path / f"downloads/{number}") for number in range(100)]
        monkeypatch.setattr(guard, "PATIENCE_S", 60.0)
        monkeypatch.setattr(guard, "look", look)
        engine.session.guard._folders.update(dict.fromkeys(folders))
        await engine.session.guard.look()
        assert engine.session.guard.looks.keys() >= set(folders)
        assert 1 < max(counts) <= guard.LOOKS_AT_ONCE


async def test_a_kill_before_a_new_folder_was_written_down(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.session.add(made.blob, AddTerms(str(tmp_path / "new")))
        await until_state(engine, made, State.DOWNLOADING)
    (tmp_path / "state/places.toml").unlink()
    (tmp_path / "new" / SENTINEL).unlink(missing_ok=True)
    async with running(tmp_path) as engine:
        await until_state(engine, made, State.DOWNLOADING)
        assert not engine.told(FolderAway)


async def test_a_kill_in_a_move_out_of_a_new_folder_before_it_was_written_down(tmp_path: Path) -> None:
    made, incomplete = make_torrent(), tmp_path / "incomplete"
    async with running(tmp_path) as engine:
        await engine.add(made, incomplete=str(incomplete))
        await until_state(engine, made, State.DOWNLOADING)
        record = engine.session.torrents[made.info_hash].record
    shutil.rmtree(incomplete)
    incomplete.mkdir()
    made.write(engine.downloads)
    moved = (engine.downloads / made.name).stat()
    record.have, record.moving_to = Bitfield.full(record.piece_count).to_bytes(), record.folder
    record.stamps = (FileStamp(moved.st_size, moved.st_mtime_ns),)
    engine.store.write([engine.store.packed(record)])
    (tmp_path / "state/places.toml").unlink()
    async with running(tmp_path) as engine:
        await until_state(engine, made, State.SEEDING)
        assert not engine.told(FolderAway)


async def test_a_mount_that_hangs_stops_nobody_else(
    tmp_path: Path, disks: Disks, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, alive, nfs = make_torrent("dead", seed=1), make_torrent("alive", seed=2), str(tmp_path / "nfs")
    Path(nfs).mkdir()

    async def hang(engine: Engine) -> None:
        """For so long that it is a dead mount."""
        disks.hang["nfs"] = threading.Event()
        asked = engine.session.guard._asked
        await engine.until_true(lambda: nfs in asked and "nfs" in disks.hanging, "a look")
        asked[nfs] -= guard.SILENT_S

    async with running(tmp_path) as engine:
        monkeypatch.setattr(guard, "PATIENCE_S", 0.05)
        dead.write(tmp_path / "nfs")
        await engine.session.add(dead.blob, AddTerms(nfs))
        await engine.until(Completed)
        await hang(engine)
        told = await engine.until(FolderAway)
        assert told.path == nfs
        assert "does not answer" in told.reason
        assert state_of(engine, dead) is State.OFFLINE
        await engine.add(alive)
        await seed_it_when_ready(engine, alive, 2)
        disks.hang["nfs"].set()
        await until_state(engine, dead, State.SEEDING)
        # and an end while one hangs is not held up
        await hang(engine)
        await engine.until(FolderAway, 2)
    assert not disks.hang["nfs"].is_set()


@pytest.mark.parametrize("jump_s", [-86400.0, 86400.0])
async def test_a_clock_that_jumps_by_a_day(
    tmp_path: Path, disks: Disks, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    made = make_torrent(size=4 * MIB)
    real: Callable[[], float] = time.time
    disks.free["downloads"] = 12 * MIB
    async with running(tmp_path, reserve_bytes=10 * MIB) as engine:
        await engine.add(made)
        await engine.until(Held)
        monkeypatch.setattr(time, "time", lambda: real() + jump_s)
        disks.free["downloads"] = 14 * MIB
        await until_state(engine, made, State.DOWNLOADING)
        disks.free["downloads"] = 9 * MIB
        await until_state(engine, made, State.HELD)
        monkeypatch.setattr(time, "time", real)
        disks.free["downloads"] = 20 * MIB
        await seed_it_when_ready(engine, made)
        assert not engine.told(Failed)


async def test_a_torrent_that_is_called_as_our_hidden_file(tmp_path: Path) -> None:
    made = make_torrent(SENTINEL)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await until_state(engine, made, State.DOWNLOADING)
        await seed_it(engine, made)
        assert engine.told(Completed)[0].facts.path != str(engine.downloads / SENTINEL)
        assert b"bittern" in (engine.downloads / SENTINEL).read_bytes()
