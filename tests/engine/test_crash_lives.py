"""Moves, choices of files and removals, cut at every change that they make on disk: the next start ends what was begun,
and what was acknowledged holds.
"""

import contextlib
import errno
import os
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from bittern.disk.parts import unpack_files
from bittern.engine.events import Checked, Completed, Failed, Moved
from bittern.engine.torrent import State, Torrent
from bittern.policy.selection import SKIP, Choice, unpack_levels
from bittern.proto import messages as m
from tests.fakes.crash_disk import Crash, Recording, recording
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent

PIECE = 16 * 1024
WHOLE = make_torrent("whole", files=[("a", 40_000), ("sub/b", 50_000), ("empty", 0)], piece_length=PIECE)
PART = make_torrent("part", files=[("c", 60_000), ("sub/deep/d", 30_000)], piece_length=PIECE)
CHOSEN = make_torrent("chosen", files=[("a", 40_000), ("sub/b", 50_000), ("c", 30_000)], piece_length=PIECE)
GONE = make_torrent("gone", files=[("a", 20_000), ("sub/b", 20_000)], piece_length=PIECE)
OWN = frozenset({".bittern-folder", "lock"})


@dataclass
class Life:
    """From `begins` on what is told of here happens; `promised` is what was acknowledged, after so many changes."""

    noted: Recording
    begins: int = 0
    promised: list[tuple[int, str]] = field(default_factory=list)

    def begin(self) -> None:
        self.begins = len(self.noted.changes)

    def promise(self, what: str) -> None:
        self.promised.append((len(self.noted.changes), what))

    def before(self, change: int) -> list[str]:
        return [what for at, what in self.promised if at <= change]


Live = Callable[[Path, Life], Awaitable[None]]
Survive = Callable[[Path, list[str], list[str]], Awaitable[None]]
"""Starts on what is left; it is given what was promised, and what was asked for at all."""


async def settled(engine: Engine) -> None:
    """Nothing is under way any more."""

    def rests() -> bool:
        session = engine.session
        return (
            not session.lifecycle.checks
            and not session.lifecycle.moving._jobs
            and all(
                torrent.state in {State.SEEDING, State.DOWNLOADING, State.STOPPED, State.ERROR}
                and not torrent.record.moving_to
                for torrent in session.torrents.values()
            )
        )

    await engine.until_true(rests, "at rest")
    assert not engine.told(Failed)
    assert not engine.bugs


async def claims_what_is_there(engine: Engine, torrent: Torrent, made: Made) -> int:
    """Reads every piece that it says it has; gives how many."""
    opened = await engine.session.opened(torrent)
    have = torrent.have
    pieces = list(range(made.piece_count)) if have is None else list(have.indices())
    for index in pieces:
        buffer = bytearray(len(made.piece(index)))
        opened.storage.read_into(index * made.piece_length, memoryview(buffer))
        assert buffer == made.piece(index), f"piece {index} of {made.name}"
    opened.storage.close()
    return len(pieces)


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.name not in OWN)


async def fetch(engine: Engine, made: Made, completions: int) -> None:
    async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
        await seed.say(m.HAVE_ALL, m.UNCHOKE)
        nursery.start_soon(seed.serve, made)
        await engine.until(Completed, completions)
        nursery.cancel_scope.cancel()


# -------------------------------------------------------------------------------------------------- moves


@contextlib.contextmanager
def two_disks() -> Iterator[None]:
    """No name can be given across folders: what is moved has to be copied."""
    real = os.link

    def link(path: Any, new: Any, *, src_dir_fd: int, dst_dir_fd: int, follow_symlinks: bool) -> None:
        if not os.path.samestat(os.fstat(src_dir_fd), os.fstat(dst_dir_fd)):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        real(path, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd, follow_symlinks=follow_symlinks)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "link", link)
        yield


async def moved(world: Path, life: Life) -> None:
    """A whole torrent and a begun one go to folders that are new."""
    async with running(world) as engine:
        await engine.add(WHOLE)
        await engine.until(Completed)
        await engine.add(PART)
        await engine.until(Checked, 2)
        begun = engine.session.torrents[PART.info_hash]
        await engine.until_true(lambda: begun.have is not None, "checked")
        async with connected(engine.address, PART.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(partial(seed.serve, PART, pieces=3))
            await engine.until_true(lambda: begun.have is not None and begun.have.count >= 3, "begun")
            nursery.cancel_scope.cancel()
        await engine.session.flusher.flush_dirty()
        life.begin()
        for number, (made, folder) in enumerate(((WHOLE, "later"), (PART, "other/folder")), 1):
            assert await engine.session.move(made.info_hash, str(world / folder))
            life.promise(f"{made.name} {folder}")
            await engine.until(Moved, number)


async def lies_where_it_is_to(world: Path, promised: list[str], asked: list[str]) -> None:
    async with running(world) as engine:
        await settled(engine)
        for made, least in ((WHOLE, WHOLE.piece_count), (PART, 3)):
            torrent = engine.session.torrents[made.info_hash]
            record = torrent.record
            assert await claims_what_is_there(engine, torrent, made) >= least
            lies = Path(record.folder)
            said = [word.partition(" ")[2] for word in promised if word.startswith(made.name)]
            may = [word.partition(" ")[2] for word in asked if word.startswith(made.name)]
            assert lies in ([world / said[-1]] if said else [world / one for one in ["downloads", *may]])
            assert not record.moving_to
            for other in {world / "downloads", world / "later", world / "other/folder"} - {lies}:
                stray = [one for one in left_in(other) if one.startswith((made.name, "."))]
                assert not stray or other == world / record.folder
        assert WHOLE.is_at(Path(engine.session.torrents[WHOLE.info_hash].record.folder))
        assert not list(world.rglob("*.bittern-moving"))


# ------------------------------------------------------------------------------------- choices of files


CHOICES = (
    Choice(only=((0, 0),)),
    Choice(take=((2, 2),)),
    Choice(skip=((0, 0),), take=((1, 1),)),
    Choice(take=((0, 2),)),
)


async def chose(world: Path, life: Life) -> None:
    """It is wanted in part, less, otherwise, and whole; each time what is wanted comes."""
    async with running(world) as engine:
        await engine.add(CHOSEN)
        await engine.until(Checked)
        life.begin()
        for number, choice in enumerate(CHOICES):
            assert await engine.session.select(CHOSEN.info_hash, choice)
            life.promise(f"{number} {engine.session.torrents[CHOSEN.info_hash].record.selection}")
            await settled(engine)
            # all of the last one is there already
            await fetch(engine, CHOSEN, completions=min(number + 1, len(CHOICES) - 1))
            await settled(engine)


async def has_what_is_wanted(world: Path, promised: list[str], asked: list[str]) -> None:
    async with running(world) as engine:
        torrent = engine.session.torrents[CHOSEN.info_hash]
        record = torrent.record
        await settled(engine)
        last = int(promised[-1].partition(" ")[0]) if promised else -1
        if record.selection != (promised[-1].partition(" ")[2] if promised else ""):
            # the next one may be on record before that was said
            assert record.selection == asked[min(last + 1, len(asked) - 1)].partition(" ")[2]
        await claims_what_is_there(engine, torrent, CHOSEN)
        if torrent.state is State.DOWNLOADING:
            await fetch(engine, CHOSEN, completions=1)
        assert torrent.state is State.SEEDING
        await claims_what_is_there(engine, torrent, CHOSEN)
        levels = unpack_levels(record.selection, len(CHOSEN.paths))
        apart = unpack_files(record.parted, len(CHOSEN.paths))
        at = 0
        for index, (path, length) in enumerate(CHOSEN.paths):
            if levels[index] != SKIP:
                assert (engine.downloads / path).read_bytes() == CHOSEN.payload[at : at + length]
                assert index not in apart
            at += length


# --------------------------------------------------------------------------------------------- removals


async def removed(world: Path, life: Life) -> None:
    """One goes with its data, beside another one that was there before and whose data stays."""
    async with running(world) as engine:
        await engine.add(WHOLE)
        await engine.until(Completed)
        await engine.add(GONE)
        await engine.until(Checked, 2)
        await fetch(engine, GONE, completions=2)
        life.begin()
        await engine.session.remove(GONE.info_hash, reason="asked for", with_data=True)
        life.promise("gone")
        await engine.session.remove(WHOLE.info_hash, reason="asked for", with_data=True)
        life.promise("whole")


async def is_whole_or_gone(world: Path, promised: list[str], asked: list[str]) -> None:
    async with running(world) as engine:
        await settled(engine)
        known = engine.session.torrents
        assert (GONE.info_hash in known) <= ("gone" not in promised)
        assert (WHOLE.info_hash in known) <= ("whole" not in promised)
        if GONE.info_hash in known:
            assert known[GONE.info_hash].state is State.SEEDING
            assert GONE.is_at(engine.downloads)
        else:
            assert not [one for one in left_in(engine.downloads) if one.startswith("gone")]
        # bittern did not make these
        assert WHOLE.is_at(engine.downloads)
        state = {path.stem for path in (world / "state").rglob("*") if len(path.stem) == 40}
        assert state <= {made.info_hash.hex() for made in (WHOLE, GONE)}
    async with running(world) as engine:
        assert engine.session.torrents.keys() == known.keys()


# ------------------------------------------------------------------------------------------------- cuts


LIVES: dict[str, tuple[Live, Survive]] = {
    "move": (moved, lies_where_it_is_to),
    "copy": (moved, lies_where_it_is_to),
    "choose": (chose, has_what_is_wanted),
    "remove": (removed, is_whole_or_gone),
}


@contextlib.contextmanager
def disks(name: str) -> Iterator[None]:
    with two_disks() if name == "copy" else contextlib.nullcontext():
        yield


async def lived(tmp_path: Path, name: str) -> tuple[Path, Life]:
    world = tmp_path / "world"
    for folder in ("downloads", "state"):
        (world / folder).mkdir(parents=True)
    if name != "choose":
        WHOLE.write(world / "downloads")
    with recording(world) as noted:
        life = Life(noted)
        with disks(name):
            await LIVES[name][0](world, life)
    assert life.promised[-1][0] <= len(noted.changes)
    return world, life


async def cut(world: Path, life: Life, name: str, change: int, crash: Crash, rng: random.Random) -> None:
    life.noted.leave(change, crash, rng)
    try:
        with disks(name):
            await LIVES[name][1](world, life.before(change), [what for _, what in life.promised])
    except BaseException as error:
        error.add_note(f"{crash} after change {change}: {life.noted.changes[change - 1]}")
        raise


@pytest.mark.parametrize("name", LIVES)
async def test_some_cuts(tmp_path: Path, name: str) -> None:
    world, life = await lived(tmp_path, name)
    rng = random.Random(f"{name} some")
    for crash in Crash:
        await cut(world, life, name, rng.randint(life.begins, len(life.noted.changes)), crash, rng)


@pytest.mark.proof
@pytest.mark.parametrize("crash", list(Crash))
@pytest.mark.parametrize("name", LIVES)
async def test_every_cut(tmp_path: Path, name: str, crash: Crash) -> None:
    world, life = await lived(tmp_path, name)
    rng = random.Random(f"{name} {crash} every")
    for change in range(life.begins, len(life.noted.changes) + 1):
        await cut(world, life, name, change, crash, rng)
