"""Where data lies: adoption, foreign files, shared files, other names, moves."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from bittern.disk.paths import roots_of
from bittern.disk.places import SENTINEL
from bittern.disk.resume import load_record
from bittern.engine import failures
from bittern.engine.events import Added, Checked, Completed, Downloaded, Failed, FolderAway, Removed
from bittern.engine.store import PackedRecord, Store
from bittern.engine.territory import Territory
from bittern.engine.torrent import State
from bittern.errors import MetainfoError, StateError, StorageError
from bittern.policy.add_terms import AddTerms
from bittern.proto import messages as m
from bittern.terms import InfoHash
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent


async def _seed_it(engine: Engine, made: Made, count: int = 1) -> None:
    async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
        await seed.say(m.HAVE_ALL, m.UNCHOKE)
        nursery.start_soon(seed.serve, made)
        await engine.until(Completed, count)
        nursery.cancel_scope.cancel()


async def test_whole_data_is_adopted_and_partial_data_is_completed(tmp_path: Path) -> None:
    made = make_torrent(size=400_000)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / made.name).write_bytes(made.payload[:200_000] + bytes(200_000))
    async with running(tmp_path) as engine:
        await engine.add(made)
        checked = await engine.until(Checked)
        assert not checked.complete
        assert checked.hashed_bytes == 400_000
        assert engine.session.torrents[made.info_hash].have.count == 3
        await _seed_it(engine, made)
        assert engine.told(Completed)[0].facts.path == str(downloads / made.name)
    assert made.is_at(downloads)


async def test_foreign_data_is_never_touched(tmp_path: Path) -> None:
    made = make_torrent(size=100_000)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / made.name).write_bytes(b"somebody's diary" * 1000)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        await _seed_it(engine, made)
        path = Path(engine.told(Completed)[0].facts.path)
        assert path.name == f"{made.name}.{made.info_hash.hex()[:8]}"
        assert path.read_bytes() == made.payload
    assert (downloads / made.name).read_bytes() == b"somebody's diary" * 1000


async def test_the_other_name_may_be_taken_as_well(tmp_path: Path) -> None:
    made = make_torrent(size=100_000)
    digits = made.info_hash.hex()
    stranger = make_torrent(f"{made.name}.{digits[:8]}", size=100_000, seed=2)
    diaries = [tmp_path / "downloads" / name for name in (made.name, f"{made.name}.{digits[:16]}")]
    diaries[0].parent.mkdir()
    for diary in diaries:
        diary.write_bytes(b"somebody's diary")
    async with running(tmp_path) as engine:
        await engine.add(stranger)
        await engine.until(Checked)
        await _seed_it(engine, stranger)
        await engine.add(made)
        # every name was looked at, and of what lies there only a whole piece is worth hashing
        assert (await engine.until(Checked, 2)).hashed_bytes == 100_000
        await _seed_it(engine, made, 2)
        assert Path(engine.told(Completed)[1].facts.path).name == f"{made.name}.{digits[:24]}"
    assert stranger.is_at(tmp_path / "downloads")
    assert all(diary.read_bytes() == b"somebody's diary" for diary in diaries)


async def test_without_a_free_name_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 0.0)
    made = make_torrent(size=100_000)
    diaries = [tmp_path / "downloads" / root for root in roots_of(made.name, made.info_hash)]
    diaries[0].parent.mkdir()
    for diary in diaries:
        diary.write_bytes(b"somebody's diary")
    async with running(tmp_path) as engine:
        await engine.add(made)
        assert "taken" in (await engine.until(Failed)).reason
        assert all(diary.read_bytes() == b"somebody's diary" for diary in diaries)
        diaries[1].unlink()
        await engine.until(Checked)
        await _seed_it(engine, made)
        assert engine.told(Completed)[0].facts.path == str(diaries[1])


async def test_what_was_only_allocated_is_not_foreign(tmp_path: Path) -> None:
    made = make_torrent(size=100_000)
    left = tmp_path / "downloads" / made.name
    left.parent.mkdir()
    with left.open("wb") as file:
        file.truncate(100_000)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        await _seed_it(engine, made)
        assert engine.told(Completed)[0].facts.path == str(left)


@pytest.mark.parametrize("obstacle", ["folder", "link", "fifo"])
async def test_what_is_no_file_is_left_alone(tmp_path: Path, obstacle: str) -> None:
    made = make_torrent(size=100_000)
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious")
    target = tmp_path / "downloads" / made.name
    target.parent.mkdir()
    if obstacle == "folder":
        target.mkdir()
    elif obstacle == "link":
        target.symlink_to(outside)
    else:
        os.mkfifo(target)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        await _seed_it(engine, made)
        assert Path(engine.told(Completed)[0].facts.path).read_bytes() == made.payload
    assert outside.read_bytes() == b"precious"


async def test_two_torrents_of_one_name_do_not_write_one_file(tmp_path: Path) -> None:
    one, two = make_torrent(size=100_000, seed=1), make_torrent(size=100_000, piece_length=32768, seed=2)
    assert one.name == two.name
    async with running(tmp_path) as engine:
        await engine.add(one)
        await engine.add(two)
        await engine.until(Checked, 2)
        await _seed_it(engine, one)
        await _seed_it(engine, two, 2)
        found = {event.facts.info_hash: Path(event.facts.path) for event in engine.told(Completed)}
    assert found[one.info_hash].read_bytes() == one.payload
    assert found[two.info_hash].read_bytes() == two.payload


async def test_whole_verified_data_is_shared(tmp_path: Path) -> None:
    one, two = make_torrent(size=100_000), make_torrent(size=100_000, piece_length=32768)
    assert one.payload == two.payload
    async with running(tmp_path) as engine:
        one.write(engine.downloads)
        await engine.add(one)
        await engine.until(Completed)
        await engine.add(two)
        done = await engine.until(Completed, 2)
        assert done.facts.path == engine.told(Completed)[0].facts.path
        assert engine.session.torrents[two.info_hash].record.shared
    assert {path.name for path in (tmp_path / "downloads").iterdir()} == {one.name, SENTINEL}


async def test_incomplete_data_lies_apart_and_is_moved(tmp_path: Path) -> None:
    made = make_torrent("album", files=[("a", 100_000), ("b/c", 50_000), ("empty", 0)])
    incomplete = tmp_path / "incomplete"
    async with running(tmp_path) as engine:
        await engine.add(made, incomplete=str(incomplete))
        await engine.until(Checked)
        assert not (engine.downloads / made.name).exists()
        await _seed_it(engine, made)
        done = engine.told(Completed)[0]
        assert done.facts.folder == str(engine.downloads)
        # and it is seeded from there
        await engine.until_true(
            lambda: engine.session.torrents[made.info_hash].state is State.SEEDING, "seeding"
        )
    assert made.is_at(tmp_path / "downloads")
    assert not (incomplete / made.name).exists()


async def test_a_name_is_free_where_the_data_lies_no_more(tmp_path: Path) -> None:
    one, two = make_torrent(size=100_000, seed=1), make_torrent(size=100_000, seed=2)
    found, incomplete, other = make_torrent(seed=3), str(tmp_path / "incomplete"), str(tmp_path / "other")
    async with running(tmp_path) as engine:
        add = engine.session.add
        await engine.add(one, incomplete=incomplete)
        await engine.until(Checked)
        await _seed_it(engine, one)
        # found whole in its final folder, nothing of it will lie in the other one
        found.write(Path(other))
        await add(found.blob, AddTerms(other, incomplete=incomplete))
        await engine.until(Completed, 2)
        await add(two.blob, AddTerms(str(tmp_path / "third"), incomplete=incomplete))
        await engine.until(Checked, 3)
        assert engine.session.torrents[two.info_hash].record.root == two.name


async def test_a_name_is_kept_until_the_move_is_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken up again after a crash, the move would take a newcomer's files along."""
    one, two = make_torrent(size=100_000, seed=1), make_torrent(size=100_000, seed=2)
    incomplete = str(tmp_path / "incomplete")
    real = Store.write
    moved = broken = False

    def write(self: Store, records: Sequence[PackedRecord]) -> None:
        nonlocal moved, broken
        moved = moved or any(load_record(blob).moving_to for _, blob in records)
        if moved and any(not load_record(blob).incomplete_folder for _, blob in records):
            broken = True
            raise StorageError("made to fail")
        real(self, records)

    async with running(tmp_path) as engine:
        await engine.add(one, incomplete=incomplete)
        await engine.until(Checked)
        monkeypatch.setattr(Store, "write", write)
        async with connected(engine.address, one.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, one)
            await engine.until(Failed)
            nursery.cancel_scope.cancel()
        assert broken
        assert one.is_at(engine.downloads)
        monkeypatch.setattr(Store, "write", real)
        await engine.session.add(two.blob, AddTerms(str(tmp_path / "other"), incomplete=incomplete))
        await engine.until(Checked, 2)
        assert engine.session.torrents[two.info_hash].record.root != two.name


@pytest.mark.parametrize("first", ["link", "real"])
async def test_two_folders_that_are_one_hold_no_name_twice(tmp_path: Path, first: str) -> None:
    one, two = make_torrent(size=100_000, seed=1), make_torrent(size=100_000, seed=2)
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    async with running(tmp_path) as engine:
        for made, folder in zip(
            (one, two), ("link", "real") if first == "link" else ("real", "link"), strict=True
        ):
            await engine.session.add(made.blob, AddTerms(str(tmp_path / folder)))
        await engine.until(Checked, 2)
        await _seed_it(engine, one)
        await _seed_it(engine, two, 2)
        found = {event.facts.info_hash: Path(event.facts.path) for event in engine.told(Completed)}
    assert found[one.info_hash].read_bytes() == one.payload
    assert found[two.info_hash].read_bytes() == two.payload


async def test_data_that_is_about_to_be_moved_is_not_shared(tmp_path: Path) -> None:
    """Else whoever is done first takes the other one's data along."""
    one, two = make_torrent(size=100_000), make_torrent(size=100_000, piece_length=32768)
    incomplete, target = str(tmp_path / "incomplete"), tmp_path / "target"
    target.touch()
    async with running(tmp_path) as engine:
        await engine.session.add(one.blob, AddTerms(str(target), incomplete=incomplete))
        await engine.until(Checked)
        async with connected(engine.address, one.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, one)
            await engine.until(Failed)
            nursery.cancel_scope.cancel()
        await engine.add(two, incomplete=incomplete)
        checked = await engine.until(Checked, 2)
        assert not checked.complete
        target.unlink()
        engine.session.lifecycle.failures.retry_due(math.inf)
        await engine.until(Completed)
    assert one.is_at(target)


async def test_whole_data_in_the_final_folder_is_not_fetched_again(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made, incomplete=str(tmp_path / "incomplete"))
        assert (await engine.until(Completed)).reason == "already-complete"
        assert engine.told(Checked)[0].hashed_bytes == len(made.payload)


async def test_an_empty_torrent_is_complete_at_once(tmp_path: Path) -> None:
    made = make_torrent("hollow", files=[("nothing", 0), ("sub/also", 0)])
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Completed)
    assert made.is_at(tmp_path / "downloads")


async def test_data_whose_folder_is_away_comes_back(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
    hidden = tmp_path / "hidden"
    (tmp_path / "downloads").rename(hidden)
    async with running(tmp_path, strict=False) as engine:
        engine.downloads.rmdir()
        assert (await engine.until(FolderAway)).torrents == 1
        torrent = engine.session.torrents[made.info_hash]
        assert torrent.state is State.OFFLINE
        assert not (tmp_path / "downloads").exists()
        hidden.rename(tmp_path / "downloads")
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding", 30)
        assert not engine.told(Failed)
        assert not engine.told(Checked)


async def test_a_changed_file_is_checked_again(tmp_path: Path) -> None:
    made = make_torrent(size=300_000)
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
    data = tmp_path / "downloads" / made.name
    spoiled = bytearray(made.payload)
    spoiled[70_000] ^= 1
    data.write_bytes(spoiled)
    async with running(tmp_path) as engine:
        checked = await engine.until(Checked)
        assert not checked.complete
        assert checked.hashed_bytes == 300_000
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
    assert made.is_at(tmp_path / "downloads")


async def test_of_a_changed_file_only_what_is_there_is_hashed(tmp_path: Path) -> None:
    made = make_torrent(size=400_000, piece_length=65536)
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    (downloads / made.name).write_bytes(made.payload[:200_000])
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
    os.utime(downloads / made.name)
    async with running(tmp_path) as engine:
        assert (await engine.until(Checked)).hashed_bytes == 4 * 65536
        assert engine.session.torrents[made.info_hash].have.count == 3


async def test_after_a_clean_stop_nothing_is_hashed(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        first = await engine.until(Completed)
    async with running(tmp_path) as engine:
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "audited")
        assert not engine.told(Checked)
        assert not engine.told(Completed)
        assert engine.session.torrents[made.info_hash].state is State.SEEDING
        told = engine.session.undelivered()
        assert [type(event) for event in told] == [Added, Completed]
        assert told[1].event_id == first.event_id
        for event in told:
            engine.session.delivered(made.info_hash, event.event_id)
    async with running(tmp_path) as engine:
        assert not engine.session.undelivered()


@pytest.mark.parametrize("damage", ["truncate", "garbage", "flip"])
async def test_a_damaged_record_costs_one_recheck(tmp_path: Path, damage: str) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made, label="films")
        await engine.until(Completed)
    path = tmp_path / f"state/resume/{made.info_hash.hex()}.toml"
    blob = path.read_bytes()
    spoiled = {
        "truncate": blob[: len(blob) // 2],
        "garbage": b"\0" * 500,
        "flip": blob.replace(b"films", b"filns"),
    }
    path.write_bytes(spoiled[damage])
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
        assert engine.told(Checked)[0].hashed_bytes == len(made.payload)
        assert engine.told(Completed)[0].reason == "already-complete"
    assert made.is_at(tmp_path / "downloads")


async def test_a_record_of_a_newer_bittern_refuses_to_start(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
    path = tmp_path / f"state/resume/{made.info_hash.hex()}.toml"
    path.write_bytes(path.read_bytes().replace(b"format = 1", b"format = 99"))
    with pytest.RaisesGroup(StateError, flatten_subgroups=True):
        async with running(tmp_path):
            pass


async def test_a_second_session_on_the_state_folder_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path):
        with pytest.raises(StateError, match="another bittern"):
            Engine(tmp_path)


async def test_adding_twice_merges_trackers_unless_private(tmp_path: Path) -> None:
    plain = make_torrent(trackers=[["http://a.example/announce"]])
    more = make_torrent(trackers=[["http://b.example/announce"]])
    assert plain.info_hash == more.info_hash
    secret = make_torrent("secret", trackers=[["http://a.example/announce"]], private=True)
    spy = make_torrent("secret", trackers=[["http://spy.example/announce"]], private=True)
    async with running(tmp_path) as engine:
        add, downloads = engine.session.add, str(engine.downloads)
        assert (await add(plain.blob, AddTerms(downloads))).kind == "added"
        assert (await add(plain.blob, AddTerms(downloads))).kind == "known"
        assert (await add(more.blob, AddTerms(downloads))).kind == "merged"
        assert (await add(secret.blob, AddTerms(downloads))).kind == "added"
        assert (await add(spy.blob, AddTerms(downloads))).kind == "known"
        with pytest.raises(MetainfoError):
            await add(b"de", AddTerms(downloads))
        await engine.until(Checked, 2)
    async with running(tmp_path) as engine:
        records = {made: engine.session.torrents[made.info_hash].record for made in (plain, secret)}
        assert records[plain].trackers == (("http://a.example/announce",), ("http://b.example/announce",))
        assert records[secret].trackers == (("http://a.example/announce",),)


async def test_a_removed_torrent_is_forgotten_and_its_data_stays(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        assert await engine.session.remove(made.info_hash, reason="test")
        assert not await engine.session.remove(made.info_hash, reason="test")
        assert engine.told(Removed)[0].reason == "test"
        await engine.add(made)
        await engine.until(Completed, 2)
        assert await engine.session.remove(made.info_hash, reason="test")
    async with running(tmp_path) as engine:
        assert not engine.session.torrents
    assert made.is_at(tmp_path / "downloads")


async def test_whose_a_path_is_is_not_said_before_all_torrents_are_known(tmp_path: Path) -> None:
    """A watched folder that is a download folder too holds files that are no drops."""
    engine = Engine(tmp_path)
    try:
        with trio.move_on_after(0.05) as scope:
            await engine.session.is_ours(str(engine.downloads / "data.torrent"))
        assert scope.cancelled_caught
    finally:
        engine.store.close()
    made = make_torrent("data.torrent")
    async with running(tmp_path) as engine:
        await engine.add(made)
        assert await engine.session.is_ours(str(engine.downloads / "data.torrent"))
        assert not await engine.session.is_ours(str(engine.downloads / "other.torrent"))


def test_bitterns_own_folders_are_no_place_for_data(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    territory = Territory([str(drop), str(drop / "accepted")])
    assert territory.reserved(str(drop), "accepted")
    assert territory.reserved(str(drop), "Accepted")
    assert territory.reserved(str(tmp_path), "drop")
    assert not territory.reserved(str(drop), "rejected.iso")
    one, two = InfoHash(b"1" * 20), InfoHash(b"2" * 20)
    territory.claim("/d", "Film", one)
    assert territory.owner("/d", "film") == one
    territory.claim("/d", "film", two)
    territory.leave("/d", "film", one)
    assert territory.owner("/d", "film") == two
    territory.leave("/d", "FILM", two)
    assert territory.owner("/d", "film") is None


async def test_a_torrent_named_like_an_own_folder_hurts_nothing(tmp_path: Path) -> None:
    made = make_torrent("accepted", files=[("x", 5000)])
    downloads = tmp_path / "downloads"
    async with running(tmp_path, reserved=(str(downloads), str(downloads / "accepted"))) as engine:
        await engine.add(made)
        await engine.until(Checked)
        await _seed_it(engine, made)
        assert Path(engine.told(Completed)[0].facts.path).name == f"accepted.{made.info_hash.hex()[:8]}"
    assert not (downloads / "accepted").exists()


async def test_a_torrent_removed_while_it_is_checked_stays_removed(tmp_path: Path) -> None:
    made = make_torrent(size=3_000_000)
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        torrent = engine.session.torrents[made.info_hash]
        assert await engine.session.remove(made.info_hash, reason="test")
        await engine.until_true(lambda: torrent not in engine.session.lifecycle.checks, "the check's end")
        engine.session.flusher.mark(torrent)
        await engine.session.flusher.flush_dirty()
        assert not engine.told(Completed)
        assert not engine.told(Failed)
    assert not list((tmp_path / "state/resume").iterdir())


async def test_a_state_folder_that_fails_while_a_move_is_noted_costs_a_retry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent()
    real = Store.write
    failed = False

    def write(self: Store, records: Sequence[PackedRecord]) -> None:
        nonlocal failed
        if not failed and any(load_record(blob).moving_to for _, blob in records):
            failed = True
            raise StorageError("made to fail")
        real(self, records)

    monkeypatch.setattr(Store, "write", write)
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 0.0)
    async with running(tmp_path) as engine:
        await engine.add(made, incomplete=str(tmp_path / "incomplete"))
        await engine.until(Checked)
        await _seed_it(engine, made)
        assert failed
        assert len(engine.told(Downloaded)) == 1
        assert made.is_at(engine.downloads)
