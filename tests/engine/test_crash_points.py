"""A life of the daemon, cut at every change that it makes on disk: nothing that was acknowledged is lost."""

import contextlib
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from bittern.daemon.config import Config, Hook, Paths, Watch
from bittern.daemon.config_reader import Folder
from bittern.daemon.hooks import HookRunner
from bittern.daemon.spool import Spool
from bittern.daemon.watch import Watcher
from bittern.disk.atomic import write_atomic
from bittern.disk.resume import ResumeRecord, load_record
from bittern.engine.events import Added, Checked, Completed, Event, Failed, Removed, Started
from bittern.engine.supervision import Supervisor
from bittern.net.http import HttpClient
from bittern.proto import messages as m
from bittern.proto.bitfield import Bitfield
from tests.fakes.crash_disk import Crash, Recording, recording
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent

FOUND = make_torrent("found", files=[("a", 40_000), ("sub/b", 50_000)], piece_length=16384)
FETCHED = make_torrent(
    "fetched", files=[("c", 100_000), ("sub/deep/d", 30_000), ("e", 1)], piece_length=16384
)
GONE = make_torrent("gone", size=20_000, piece_length=16384)
ALL = (FOUND, FETCHED, GONE)


@dataclass
class Life:
    """What the daemon told, and after how many changes."""

    told: list[tuple[int, Event]] = field(default_factory=list)
    dropped: int = 0
    """From so many changes on all the drops were there."""

    def before(self, change: int) -> list[Event]:
        return [event for at, event in self.told if at <= change]


def config_of(folder: Path) -> Config:
    return Config(
        paths=Paths(
            state=Folder(folder / "state"),
            downloads=Folder(folder / "downloads"),
            incomplete=Folder(folder / "incomplete"),
        ),
        watch=(Watch(folder=Folder(folder / "drop")),),
        hook=(Hook(on=("started", "completed", "removed"), command=("/bin/true",)),),
    )


async def live(world: Path, noted: Recording, life: Life) -> None:
    """Three drops: one whole already, one fetched and moved, one removed again."""
    config = config_of(world)
    hooks: list[HookRunner] = []

    def tell(event: Event) -> None:
        life.told.append((len(noted.changes), event))
        hooks[0].submit(event)

    async with HttpClient() as http:
        hooks.append(
            HookRunner(
                config,
                world / "state",
                http=http,
                supervisor=Supervisor(lambda event: None, strict=True),
                rng=random.Random(3),
            )
        )
        async with running(world, also=tell) as engine, trio.open_nursery() as nursery:
            hooks[0].bind(engine.session)
            await nursery.start(hooks[0].run)
            for made in ALL:
                # as a careful user would drop it, for what he loses by himself is not ours to keep
                write_atomic(world / "drop" / f"{made.name}.torrent", made.blob)
            life.dropped = len(noted.changes)
            await nursery.start(Watcher(config, engine.session, engine.supervisor).run)
            await engine.until(Checked, 3)
            async with connected(engine.address, FETCHED.info_hash) as seed:
                await seed.say(m.HAVE_ALL, m.UNCHOKE)
                await seed.serve(FETCHED, pieces=4)
                await engine.session.flusher.flush_dirty()
                await seed.serve(FETCHED, pieces=2)
                await engine.session.flusher.flush_dirty()
                async with trio.open_nursery() as serving:
                    serving.start_soon(seed.serve, FETCHED)
                    await engine.until(Completed, 2)
                    serving.cancel_scope.cancel()
            await engine.session.remove(GONE.info_hash, reason="of no use")
            done = world / "state/deliveries/done"
            await engine.until_true(lambda: len(os.listdir(done)) == 5, "hooks told")
            await engine.until_true(lambda: not engine.session.undelivered(), "taken over")
            nursery.cancel_scope.cancel()


async def survive(world: Path, change: int, crash: Crash, life: Life) -> None:
    """Starts again on what is left."""
    told = life.before(change)
    added = {event.facts.info_hash for event in told if isinstance(event, Added)}
    completed = [event for event in told if isinstance(event, Completed)]
    removed = {event.facts.info_hash for event in told if isinstance(event, Removed)}
    later = {event.facts.info_hash for _, event in life.told if isinstance(event, Removed)}
    records = records_of(world)
    for made in ALL:
        claims_only_what_is_there(world, made, records.get(made.info_hash))
    async with running(world) as engine:
        known = set(engine.session.torrents)
        assert added - later <= known
        assert not removed & known
        for made in ALL:
            dropped = (world / "drop" / f"{made.name}.torrent").exists()
            if change >= life.dropped:
                assert dropped or made.info_hash in known | later
        undelivered = {event.event_id for event in engine.session.undelivered()}
        spooled = {path.stem for _, path in Spool.below(world / "state").paths()}
        sure = undelivered | spooled
        assert {event.event_id for event in completed} <= sure
        ids = {
            kind: {event.event_id for _, event in life.told if isinstance(event, kind)}
            for kind in (Started, Removed)
        }
        assert GONE.info_hash in known or GONE.info_hash not in added or ids[Removed] & sure
        for made in ALL:
            record = records.get(made.info_hash)
            if record is not None and record.started:
                assert any(
                    event.event_id in sure
                    for _, event in life.told
                    if isinstance(event, Started) and event.facts.info_hash == made.info_hash
                )
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "checked")
        assert not engine.told(Failed)
        assert not engine.bugs
        assert not {event.facts.info_hash for event in completed} & {
            event.facts.info_hash for event in engine.told(Completed)
        }, "told twice"
        if crash is Crash.KILL:
            hashed = {event.facts.info_hash: event.hashed_bytes for event in engine.told(Checked)}
            for made in ALL:
                record = records.get(made.info_hash)
                if record is not None and record.checked:
                    assert hashed.get(made.info_hash, 0) <= len(made.payload) - claimed_bytes(made, record)


def records_of(world: Path) -> dict[bytes, ResumeRecord]:
    found = {}
    for path in (world / "state/resume").glob("[0-9a-f]*.toml"):
        record = load_record(path.read_bytes())
        found[bytes(record.info_hash)] = record
    return found


def claimed(made: Made, record: ResumeRecord) -> list[int]:
    if record.state == "complete":
        return list(range(made.piece_count))
    return list(Bitfield.from_bytes(made.piece_count, record.have).indices()) if record.have else []


def claimed_bytes(made: Made, record: ResumeRecord) -> int:
    return sum(len(made.piece(index)) for index in claimed(made, record))


def claims_only_what_is_there(world: Path, made: Made, record: ResumeRecord | None) -> None:
    if record is None:
        return
    found = b""
    for path, length in made.paths:
        blob = b""
        # in the middle of a move a file lies here or there
        for folder in ("downloads", "incomplete"):
            with contextlib.suppress(FileNotFoundError):
                blob = max(blob, (world / folder / path).read_bytes()[:length], key=len)
        found += blob.ljust(length, b"\0")
    for index in claimed(made, record):
        at = index * made.piece_length
        assert found[at : at + made.piece_length] == made.piece(index), f"piece {index} of {made.name}"


async def test_a_life_without_a_crash(tmp_path: Path) -> None:
    """What the others rely on: that the record of changes leads to what really is there."""
    world, noted, life = await lived(tmp_path)
    there = {path.relative_to(world): path.read_bytes() for path in world.rglob("*") if path.is_file()}
    noted.leave(len(noted.changes), Crash.KILL, random.Random(1))
    left = {path.relative_to(world): path.read_bytes() for path in world.rglob("*") if path.is_file()}
    assert left == there
    kinds = {change.kind for change in noted.changes}
    assert kinds >= {"name", "unname", "rename", "folder", "unfolder", "bytes", "sync", "sync folder"}
    assert len([event for _, event in life.told if isinstance(event, Completed)]) == 2


@pytest.mark.parametrize("crash", list(Crash))
async def test_some_crashes(tmp_path: Path, crash: Crash) -> None:
    world, noted, life = await lived(tmp_path)
    rng = random.Random(f"{crash} some")
    for change in sorted(rng.sample(range(len(noted.changes) + 1), 12)):
        noted.leave(change, crash, rng)
        await survive(world, change, crash, life)


@pytest.mark.proof
@pytest.mark.parametrize("crash", list(Crash))
async def test_every_crash(tmp_path: Path, crash: Crash) -> None:
    world, noted, life = await lived(tmp_path)
    rng = random.Random(f"{crash} every")
    for change in range(len(noted.changes) + 1):
        for _ in range(3 if crash is Crash.CHANCE else 1):
            noted.leave(change, crash, rng)
            try:
                await survive(world, change, crash, life)
            except BaseException as error:
                error.add_note(f"after change {change}: {noted.changes[change - 1]}")
                raise


async def lived(tmp_path: Path) -> tuple[Path, Recording, Life]:
    world, life = tmp_path / "world", Life()
    # the incomplete folder is new, as at the first start
    for folder in ("drop", "downloads", "state"):
        (world / folder).mkdir(parents=True)
    FOUND.write(world / "downloads")
    with recording(world) as noted:
        await live(world, noted, life)
    return world, noted, life
