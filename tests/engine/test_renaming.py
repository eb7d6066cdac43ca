"""Files and folders of torrents that get other names, whatever the torrent is about, and whatever comes between."""

import random
from pathlib import Path

import pytest
import trio

from bittern.disk.renames import pack_renaming
from bittern.disk.resume import load_record
from bittern.engine.events import Checked, Completed, Failed, Moved, Removed, Renamed
from bittern.engine.torrent import State, Torrent
from bittern.errors import FileSelectionError, StorageError
from bittern.policy.add_terms import AddTerms
from bittern.proto import messages as m
from tests.fakes.crash_disk import Crash, Recording, recording
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected, piece
from tests.fakes.torrents import Made, make_torrent

BOX = make_torrent("box", files=[("a", 40_000), ("sub/b", 50_000), ("sub/deep/c", 1)], piece_length=16384)
LONE = make_torrent("one.bin", size=100_000, piece_length=16384)


def the(engine: Engine, made: Made) -> Torrent:
    return engine.session.torrents[made.info_hash]


async def is_whole(engine: Engine, made: Made) -> list[str]:
    """Its files lie where it says, and nothing else does in that folder; gives their paths."""
    opened = await engine.session.opened(the(engine, made))
    names = [name for name in opened.names if name is not None]
    folder = Path(the(engine, made).data_folder)
    assert b"".join((folder / name).read_bytes() for name in names) == made.payload
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there - {".bittern-folder"} == set(names)
    return names


async def rename(engine: Engine, made: Made, path: str, name: str) -> None:
    assert await engine.session.rename(made.info_hash, path, name)


async def test_names_hold_over_restarts_checks_moves_and_are_removed(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        BOX.write(engine.downloads)
        await engine.add(BOX)
        await engine.until(Completed)
        async with connected(engine.address, BOX.info_hash) as peer:
            await peer.say(m.HAVE_NONE, m.INTERESTED)
            await peer.hear_until("unchoke")
            await rename(engine, BOX, "box/sub/b", "B2")
            await rename(engine, BOX, "box/sub", "folder")
            await rename(engine, BOX, "box", "crate")
            await peer.say(m.pack_requests([(3, 0, 16384)]))
            assert (await peer.hear_until("piece"))[8:] == BOX.piece(3)
        names = await is_whole(engine, BOX)
        assert names == ["crate/a", "crate/folder/B2", "crate/folder/deep/c"]
        assert the(engine, BOX).record.name == "crate"
        assert the(engine, BOX).state is State.SEEDING
        assert [event.new for event in engine.told(Renamed)] == ["box/sub/B2", "box/folder", "crate"]
        assert engine.told(Renamed)[-1].facts.path == str(engine.downloads / "crate")
    async with running(tmp_path) as engine:
        assert await is_whole(engine, BOX) == names
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "checked")
        assert not engine.told(Checked), "nothing had to be hashed"
        assert engine.session.recheck(the(engine, BOX))
        await engine.until(Checked)
        assert (the(engine, BOX).state, the(engine, BOX).whole) == (State.SEEDING, True)
        await engine.session.move(BOX.info_hash, str(engine.downloads / "there"))
        await engine.until(Moved)
        assert await is_whole(engine, BOX) == names
        await rename(engine, BOX, "crate/folder/B2", "b")
        # another torrent may be called so now
        await engine.add(make_torrent("box", files=[("x", 10)]))
        await engine.until(Checked, 2)
        assert not engine.told(Failed)


async def test_what_is_downloaded_on_and_removed_with_its_data(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.add(BOX)
        await engine.until(Checked)
        await rename(engine, BOX, "sub", "later")
        await engine.until_true(lambda: the(engine, BOX).state is State.DOWNLOADING, "downloading")
        async with connected(engine.address, BOX.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.hear_until("request")
            await seed.say(piece(2, 0, BOX.piece(2)))
            await engine.until_true(lambda: the(engine, BOX).pieces.count == 1, "a piece")
        await rename(engine, BOX, "box", "crate")
        await rename(engine, BOX, "crate/a", "A1")
        assert the(engine, BOX).pieces.count == 1
        await engine.until_true(lambda: the(engine, BOX).state is State.DOWNLOADING, "downloading")
        async with connected(engine.address, BOX.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, BOX)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert await is_whole(engine, BOX) == ["crate/A1", "crate/later/b", "crate/later/deep/c"]
        await engine.session.remove(BOX.info_hash, reason="asked for", with_data=True)
        await engine.until(Removed)
        assert [path.name for path in engine.downloads.iterdir()] in ([], [".bittern-folder"])


async def test_a_single_file_also_while_it_is_stopped_or_incomplete_elsewhere(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.add(LONE, incomplete=str(tmp_path / "incomplete"))
        await engine.until(Checked)
        await engine.session.pause(LONE.info_hash)
        await rename(engine, LONE, "one.bin", "two.bin")
        assert the(engine, LONE).state is State.STOPPED
        await engine.session.resume(LONE.info_hash)
        await engine.until_true(lambda: the(engine, LONE).state is State.DOWNLOADING, "downloading")
        async with connected(engine.address, LONE.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, LONE)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert (engine.downloads / "two.bin").read_bytes() == LONE.payload
        assert await is_whole(engine, LONE) == ["two.bin"]


async def test_what_cannot_be_renamed(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        BOX.write(engine.downloads)
        await engine.add(BOX)
        await engine.until(Completed)
        (engine.downloads / "box/mine").write_text("mine")
        (engine.downloads / "theirs").mkdir()
        for path, name in (
            ("box/a", "mine"),
            ("box/sub", "mine"),
            ("box", "theirs"),
            ("box", ".bittern-folder"),
        ):
            with pytest.raises(StorageError):
                await rename(engine, BOX, path, name)
        for path, name in (
            ("box/a", "../a"),
            ("box/a", "sub"),
            ("box/../a", "x"),
            ("box", "a/b"),
            ("x", "y"),
        ):
            with pytest.raises(FileSelectionError):
                await rename(engine, BOX, path, name)
        LONE.write(engine.downloads)
        await engine.add(LONE)
        await engine.until(Completed, 2)
        with pytest.raises(StorageError, match="belongs to another"):
            await rename(engine, BOX, "box", "ONE.bin")
        assert the(engine, BOX).state is State.SEEDING
        assert (engine.downloads / "box/mine").read_text() == "mine"
        # it takes along what somebody else has put there
        await rename(engine, BOX, "box", "crate")
        assert (engine.downloads / "crate/mine").exists()
        (engine.downloads / "crate").rename(engine.downloads / "gone")
        the(engine, BOX).state = State.ERROR
        with pytest.raises(StorageError, match="in error"):
            await rename(engine, BOX, "crate", "x")
        assert not await engine.session.rename(make_torrent("x").info_hash, "x", "y")
        await engine.session.add_magnet(f"magnet:?xt=urn:btih:{'ab' * 20}", AddTerms(str(engine.downloads)))
        [linked] = [one for one in engine.session.torrents.values() if one.record.state == "metadata"]
        with pytest.raises(StorageError, match="not known yet"):
            await engine.session.rename(linked.info_hash, "x", "y")


@pytest.mark.parametrize("what", ["rename", "move"])
async def test_that_one_was_changed_is_not_noted_once_it_is_gone(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as engine:
        session = engine.session
        await engine.add(LONE)
        await engine.until(Checked)

        async def removed_meanwhile(*_: object) -> None:
            await session.remove(LONE.info_hash, reason="test")

        monkeypatch.setattr(session.lifecycle.renames, "rename", removed_meanwhile)
        monkeypatch.setattr(session.lifecycle.moving, "ask", removed_meanwhile)
        if what == "rename":
            assert await session.rename(LONE.info_hash, LONE.name, "y")
        else:
            assert await session.move(LONE.info_hash, "/x")
        assert not session.torrents
        assert not session.edits.wall(LONE.info_hash)


async def test_what_others_have_put_their_data_below(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        for made, folder in ((BOX, engine.downloads), (LONE, engine.downloads / "box/sub/films")):
            made.write(folder)
            await engine.session.add(made.blob, AddTerms(str(folder)))
        await engine.until(Completed, 2)
        for path in ("box", "box/sub"):
            with pytest.raises(StorageError, match="other torrents"):
                await rename(engine, BOX, path, "crate")
        assert (engine.downloads / "box/sub/films/one.bin").exists()
        # beside them is another matter
        await rename(engine, BOX, "box/sub/b", "B")
        await rename(engine, BOX, "box/sub/deep", "flat")
        await engine.session.move(LONE.info_hash, str(engine.downloads))
        await engine.until(Moved)
        await rename(engine, BOX, "box", "crate")
        assert (engine.downloads / "crate/sub/B").exists()
        # a reload may bring folders of our own anywhere
        engine.session.lifecycle.renames._territory.set_reserved([str(engine.downloads / "crate/sub/watch")])
        with pytest.raises(StorageError, match="bittern itself"):
            await rename(engine, BOX, "crate/sub", "folder")


async def test_two_at_once_and_one_that_is_removed_meanwhile(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        BOX.write(engine.downloads)
        await engine.add(BOX)
        await engine.until(Completed)
        outcomes: list[str] = []

        async def attempt(name: str) -> None:
            try:
                await engine.session.rename(BOX.info_hash, "box/a", name)
                outcomes.append(name)
            except (StorageError, FileSelectionError):
                outcomes.append("")

        async with trio.open_nursery() as nursery:
            for name in ("x", "y", "z"):
                nursery.start_soon(attempt, name)
        names = await is_whole(engine, BOX)
        assert names[0].removeprefix("box/") in outcomes
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt, "last")
            await engine.session.remove(BOX.info_hash, reason="asked for")
        assert not engine.session.torrents


async def test_what_is_in_the_way_of_a_renaming_outlives_the_removal(tmp_path: Path) -> None:
    async with running(tmp_path) as engine:
        await engine.add(LONE)
        await engine.until_true(lambda: the(engine, LONE).state is State.DOWNLOADING, "downloading")
        async with connected(engine.address, LONE.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.hear_until("request")
            await seed.say(piece(0, 0, LONE.piece(0)))
            await engine.until_true(lambda: the(engine, LONE).pieces.count == 1, "a piece")
        await engine.session.pause(LONE.info_hash)
        assert (engine.downloads / "one.bin").exists()
        # a renaming that a crash cut off while its disk was away
        record = the(engine, LONE).record
        wanted = engine.session.lifecycle.renames._work_out(record, "one.bin", "two.bin")
        assert wanted is not None
        record.root, record.renaming = wanted.root, pack_renaming(wanted)
        (engine.downloads / "two.bin").write_text("mine")
        await engine.session.remove(LONE.info_hash, reason="asked for", with_data=True)
        assert (engine.downloads / "two.bin").read_text() == "mine"
        assert not (engine.downloads / "one.bin").exists()


async def test_a_failed_write_takes_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(tmp_path) as engine:
        BOX.write(engine.downloads)
        await engine.add(BOX)
        await engine.until(Completed)

        def refuse(*_: object) -> None:
            raise StorageError("no")

        with monkeypatch.context() as patch:
            patch.setattr("bittern.engine.renaming.rename_in", refuse)
            with pytest.raises(StorageError, match="no"):
                await rename(engine, BOX, "box", "crate")
        assert await is_whole(engine, BOX) == ["box/a", "box/sub/b", "box/sub/deep/c"]
        assert (the(engine, BOX).state, the(engine, BOX).record.name) == (State.SEEDING, "box")
        await rename(engine, BOX, "box", "crate")
    record = load_record((tmp_path / f"state/resume/{BOX.info_hash.hex()}.toml").read_bytes())
    assert (record.root, record.renaming) == ("crate", "")


STEPS = (("box/sub/b", "B2"), ("box/sub", "folder"), ("box", "crate"), ("crate/a", "A1"))


async def lived(tmp_path: Path) -> tuple[Path, Recording, list[int]]:
    """Some renamings, and after how many changes on disk each was acknowledged."""
    world, acknowledged = tmp_path / "world", []
    BOX.write(world / "downloads")
    async with running(world) as engine:
        await engine.add(BOX)
        await engine.until(Completed)
    with recording(world) as noted:
        async with running(world) as engine:
            await engine.until_true(lambda: not engine.session.lifecycle.checks, "checked")
            for path, name in STEPS:
                await rename(engine, BOX, path, name)
                acknowledged.append(len(noted.changes))
    return world, noted, acknowledged


AFTER = (
    ["box/a", "box/sub/b", "box/sub/deep/c"],
    ["box/a", "box/sub/B2", "box/sub/deep/c"],
    ["box/a", "box/folder/B2", "box/folder/deep/c"],
    ["crate/a", "crate/folder/B2", "crate/folder/deep/c"],
    ["crate/A1", "crate/folder/B2", "crate/folder/deep/c"],
)


async def survive(world: Path, done: int, crash: Crash) -> None:
    async with running(world) as engine:
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "checked")
        assert await is_whole(engine, BOX) in AFTER[done : done + 2]
        assert the(engine, BOX).state is State.SEEDING
        assert not the(engine, BOX).record.renaming
        assert not engine.told(Failed)
        assert not engine.bugs
        if crash is Crash.KILL:
            assert not engine.told(Checked), "nothing had to be hashed"


async def test_killed_at_some_points(tmp_path: Path) -> None:
    world, noted, acknowledged = await lived(tmp_path)
    rng = random.Random(5)
    for change in sorted(rng.sample(range(len(noted.changes) + 1), 6)):
        noted.leave(change, Crash.KILL, rng)
        await survive(world, sum(at <= change for at in acknowledged), Crash.KILL)


@pytest.mark.proof
@pytest.mark.parametrize("crash", [Crash.KILL, Crash.POWER, Crash.CHANCE])
async def test_killed_at_every_point(tmp_path: Path, crash: Crash) -> None:
    world, noted, acknowledged = await lived(tmp_path)
    rng = random.Random(f"{crash}")
    for change in range(len(noted.changes) + 1):
        noted.leave(change, crash, rng)
        try:
            await survive(world, sum(at <= change for at in acknowledged), crash)
        except BaseException as error:
            error.add_note(f"after change {change}: {noted.changes[change - 1]}")
            raise
