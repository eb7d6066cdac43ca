"""Whatever is done to torrents in whatever order, each goes on where nothing keeps it, and nobody is stuck."""

import contextlib
import errno
import random
from pathlib import Path

import pytest
import trio

from bittern.disk import places
from bittern.disk.places import Look
from bittern.engine import failures, guard
from bittern.engine import queue as queueing
from bittern.engine.events import Checked, Completed, Removed
from bittern.engine.torrent import State, Torrent
from bittern.errors import StorageError
from bittern.net.dialer import Dialer
from tests.fakes.engine import Engine, running
from tests.fakes.inline_disk import InlineDisk
from tests.fakes.torrents import Made, make_torrent

RESERVE_BYTES = 10 << 20
STEPS = 120
EVENTS = (
    *("pause", "resume", "recheck", "fail", "refuse", "away", "full", "queue", "force", "remove", "add"),
    *("wait", "wait"),
)


@pytest.fixture
def _one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose turn it is among tasks trio draws at random: for a walk that a seed gives again, the same each time."""
    monkeypatch.setattr("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True)
    monkeypatch.setattr("trio._core._run._r", random.Random(7))


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(queueing, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 0.05)
    monkeypatch.setattr(failures, "RETRY_MOST_S", 0.1)


class _World:
    """What happens to the torrents, and what must become of them."""

    def __init__(self, engine: Engine, rng: random.Random, made: list[Made]) -> None:
        self.engine = engine
        self.rng = rng
        self.made = made
        self.full = False
        self.away = False

    def any_torrent(self) -> Torrent | None:
        return self.rng.choice([*self.engine.session.torrents.values()] or [None])  # type: ignore[list-item]  # of either

    async def step(self) -> None:
        session, torrent, rng = self.engine.session, self.any_torrent(), self.rng
        what = rng.choice(EVENTS)
        self.slow_down()
        if what == "away":
            self.turn_disk()
        elif what == "full":
            self.full = not self.full
        elif what == "add":
            with contextlib.suppress(StorageError):
                await self.engine.add(rng.choice(self.made))
        elif what == "wait":
            await trio.sleep(rng.random() * 0.05)
        elif torrent is None:
            return
        elif what == "pause":
            with contextlib.suppress(StorageError):  # removed meanwhile
                await session.pause(torrent.info_hash)
        elif what == "resume":
            with contextlib.suppress(StorageError):
                await session.resume(torrent.info_hash)
        elif what == "recheck":
            session.recheck(torrent)
        elif what == "fail":
            session.lifecycle.torrent_failed(
                torrent, StorageError("made up", errno=rng.choice([errno.EIO, errno.EACCES, errno.ESTALE]))
            )
        elif what == "refuse":
            error = StorageError("full", errno=errno.ENOSPC, path=f"{torrent.data_folder}/x")
            session.lifecycle.torrent_failed(torrent, error)
        elif what in {"queue", "force"}:
            forced = rng.random() < 0.3 if what == "force" else None
            with contextlib.suppress(StorageError):
                await session.set_place(torrent.info_hash, priority=rng.randrange(-2, 3), forced=forced)
        elif what == "remove" and rng.random() < 0.3:
            with contextlib.suppress(StorageError):  # its disk is away, or somebody else has removed it
                await session.remove(torrent.info_hash, reason="test", with_data=rng.random() < 0.5)

    def slow_down(self) -> None:
        """The disk's jobs take their time, now more and now less: others come in between."""
        if isinstance(disk := self.engine.disk, InlineDisk):
            disk.delay_s = self.rng.choice([0, 0.001, 0.01])

    def turn_disk(self) -> None:
        downloads, unplugged = self.engine.downloads, self.engine.folder / "unplugged"
        if self.away:
            downloads.rmdir()
            unplugged.rename(downloads)
        else:
            downloads.rename(unplugged)
            downloads.mkdir()
        self.away = not self.away

    async def settles(self) -> None:
        """All is well again: who is not paused runs or waits for its turn, and as many run as may."""
        self.full = False
        if self.away:
            self.turn_disk()
        await self.engine.until_true(self.sane, "sane states", 180)

    def sane(self) -> bool:
        torrents = [*self.engine.session.torrents.values()]
        running_now = [one for one in torrents if one.state is State.DOWNLOADING and not one.record.forced]
        waiting = [one for one in torrents if one.state is State.QUEUED and one.ready]
        seeding = {State.SEEDING}
        return (len(running_now) == 2 or not waiting) and all(
            one.state is State.STOPPED
            if one.record.stopped
            else one.state in seeding
            if one.record.state == "complete"
            else one.state is State.DOWNLOADING or one in waiting
            for one in torrents
        )


@pytest.mark.parametrize(
    "seed", [1, 2, 3, *(pytest.param(seed, marks=pytest.mark.proof) for seed in range(4, 24))]
)
@pytest.mark.usefixtures("_one_order")
async def test_a_random_walk_ends_in_sane_states(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    rng = random.Random(seed)
    made = [make_torrent(f"it-{number}", size=100_000, seed=number) for number in range(6)]
    world: list[_World] = []

    def look(folder: str, *rest: object) -> Look:
        found = places.look(folder, *rest)  # type: ignore[arg-type]  # passed on as they came
        if Path(folder).name != "downloads" or not world:
            return found
        free = 0 if world[0].full else 1 << 40
        return Look(found.identity, found.away, found.remembered, found.device, free)

    monkeypatch.setattr(guard, "look", look)
    for part in range(3):
        async with running(tmp_path, dialer=Dialer(), reserve_bytes=RESERVE_BYTES, max_downloads=2) as engine:
            world[:] = [_World(engine, rng, made)]
            world[0].slow_down()
            for number, one in enumerate(made):
                if number % 2 and not part:
                    one.write(engine.downloads)
                await engine.add(one)
            async with trio.open_nursery() as nursery:
                for _ in range(STEPS // 3):
                    # what one begins others may cross
                    nursery.start_soon(world[0].step)
                    await trio.sleep(rng.choice([0, 0, 0.002, 0.02]))
            if part == 1:
                await world[0].settles()
            elif world[0].away:
                world[0].turn_disk()
            assert not engine.bugs
    async with running(tmp_path, dialer=Dialer(), max_downloads=2) as engine:
        world[:] = [_World(engine, rng, made)]
        await world[0].settles()
        assert not engine.told(Removed), "nobody asked for it in this run"


async def test_a_last_piece_that_lands_while_the_queue_holds_its_torrent_completes_it(tmp_path: Path) -> None:
    made, other = make_torrent("it", seed=1), make_torrent("other", seed=2)
    async with running(tmp_path, max_downloads=1) as engine:
        session = engine.session
        await engine.add(made)
        torrent = session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        await engine.add(other)
        await session.set_place(other.info_hash, priority=1)
        await engine.until_true(lambda: torrent.state is State.QUEUED and torrent.ready, "its turn is over")
        made.write(engine.downloads)
        opened = await session.opened(torrent)
        for piece in range(opened.layout.piece_count):
            session.lifecycle.piece_written(torrent, piece, opened.storage, range(1))
        await engine.until(Completed)
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")


async def test_a_torrent_that_is_to_be_checked_again_does_not_run_before(tmp_path: Path) -> None:
    made, other = make_torrent("it", seed=1), make_torrent("other", seed=2)
    async with running(tmp_path, max_downloads=1) as engine:
        session = engine.session
        for one in (other, made):
            await engine.add(one)
            await engine.until(Checked, 1 + (one is made))
        torrent = session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.QUEUED and torrent.ready, "it waits")
        assert session.recheck(torrent)
        torrent.record.forced = True
        session.lifecycle.holds.reconsider(torrent)
        assert torrent.state is State.QUEUED, "nobody downloads into what is hashed"
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        await engine.until(Checked, 2)


async def test_who_failed_in_doubt_rests_with_its_disk_and_comes_back_with_it(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        session = engine.session
        await engine.add(made)
        torrent = session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        world = _World(engine, random.Random(1), [made])
        world.turn_disk()
        await engine.until_true(lambda: torrent.state is State.OFFLINE, "offline")
        # as of a move, which nothing stops: told when the disk is known to be away
        torrent.state = State.MOVING
        session.lifecycle.torrent_failed(torrent, StorageError("made up", errno=errno.EIO))
        await engine.until_true(lambda: torrent.state is State.OFFLINE, "offline again")
        world.turn_disk()
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading again")
