"""Sessions of the Python API in this process: real disk, real sockets on loopback."""

import asyncio
import gc
import re
import runpy
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import trio
import trio.testing

import bittern
from bittern.daemon.spool import Spool
from bittern.engine import events as told
from bittern.engine.settings import Settings
from bittern.engine.store import Store
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent
from tests.fakes.tracker import Tracker, serve

ROOT = Path(__file__).parents[2]
QUIET = {"listen": ("127.0.0.1",), "dht": False, "lsd": False, "dial_scope": "this-host"}
PATIENCE_S = 60


def opened(folder, **options):
    return bittern.open_session(folder, **(QUIET | options))


def link_to(made, session):
    return f"magnet:?xt=urn:btih:{made.info_hash.hex()}&dn={quote(made.name)}&x.pe=127.0.0.1:{session.port}"


@asynccontextmanager
async def seeding(folder, made):
    made.write(folder)
    async with opened(folder) as session:
        torrent = await session.download(made.blob)
        with trio.fail_after(PATIENCE_S):
            await torrent.wait_complete()
        yield session


async def until_somebody_seeds(tracker, made):
    while 0 not in tracker.peers.get(made.info_hash, {}).values():
        await trio.sleep(0.01)


async def stands_at(torrent, *fields, wanted):
    with trio.fail_after(PATIENCE_S):
        while torrent.get(*fields) != wanted:
            await trio.sleep(0.01)


async def test_one_seeds_and_another_downloads_and_goes_on_where_it_stopped(tmp_path):
    made = make_torrent("film", files=(("a/one.bin", 200_000), ("two.bin", 100_000), ("empty", 0)))
    (tmp_path / "seed").mkdir()
    async with seeding(tmp_path / "seed", made) as seed:
        async with opened(tmp_path / "leech", max_peers=7) as session:
            reader = session.events()
            torrent = await session.download(link_to(made, seed), label="films")
            assert await session.download(link_to(made, seed)) is torrent
            with trio.fail_after(PATIENCE_S):
                await torrent.wait_complete()
            assert made.is_at(tmp_path / "leech")
            assert session.list() == [torrent]
            assert torrent.info_hash == made.info_hash.hex()
            assert torrent.stats() == {
                "name": "film",
                "speed": torrent.get("speed"),
                "downloaded": 300_000,
                "bytes_size": 300_000,
            }
            assert [
                (one.index, one.name, one.length, one.downloaded, one.progress, one.complete)
                for one in torrent.files()
            ] == [
                (0, "one.bin", 200_000, 200_000, 1.0, True),
                (1, "two.bin", 100_000, 100_000, 1.0, True),
                (2, "empty", 0, 0, 1.0, True),
            ]
            assert torrent.files()[0].path.read_bytes() == made.payload[:200_000]
            # no hook of a daemon that has this state later is told of what this program has heard
            assert torrent.get("label", "completed_spooled") == ("films", True)
            assert torrent.get("added_event_id", "started_event_id", "downloaded_event_id") == ("", "", "")
            assert torrent.get("bitfield", "state") == (b"\xf8", "seeding")
            await torrent.stop()
            await torrent.stop()
            assert torrent.state == "stopped"
        kinds = [type(event) async for event in reader]
        assert kinds[0] is told.Added
        assert told.Completed in kinds
        async with opened(tmp_path / "leech") as session:
            [again] = session.list()
            assert again.get("state", "downloaded", "label") == ("stopped", 300_000, "films")
            assert await session.download(link_to(made, seed)) is again
            with trio.fail_after(PATIENCE_S):
                await again.wait_complete()
            await stands_at(again, "state", wanted="seeding")
            # nothing of it was fetched twice
            assert again.get("downloaded_bytes") == 300_000


async def test_one_stopped_halfway_keeps_what_it_has_and_goes_on_from_there(tmp_path, nursery):
    tracker = Tracker()
    await nursery.start(serve, tracker)
    made = make_torrent(size=1 << 20, trackers=[[tracker.url]])
    (tmp_path / "seed").mkdir()
    async with seeding(tmp_path / "seed", made):
        with trio.fail_after(PATIENCE_S):
            await until_somebody_seeds(tracker, made)
            async with opened(tmp_path / "leech", download_rate=1.2e5) as session:
                torrent = await session.download(made.blob)
                while torrent.get("downloaded") < 2 * made.piece_length:
                    await trio.sleep(0.01)
                await torrent.stop()
                had, downloaded = torrent.get("bitfield", "downloaded")
                assert 0 < int.from_bytes(had).bit_count() < made.piece_count
            async with opened(tmp_path / "leech") as session:
                [torrent] = session.list()
                assert torrent.get("bitfield", "state", "downloaded") == (had, "stopped", downloaded)
                assert torrent.files()[0].downloaded == downloaded
                assert await session.download(made.blob) is torrent
                await torrent.wait_complete()
    assert made.is_at(tmp_path / "leech")


async def test_what_was_not_stopped_goes_on_by_itself(tmp_path, nursery):
    tracker = Tracker()
    await nursery.start(serve, tracker)
    made = make_torrent(trackers=[[tracker.url]])
    (tmp_path / "seed").mkdir()
    async with opened(tmp_path / "leech") as session:
        torrent = await session.download(made.blob)
        assert torrent.get("downloaded", "bitfield") == (0, bytes(1))
    async with seeding(tmp_path / "seed", made):
        with trio.fail_after(PATIENCE_S):
            await until_somebody_seeds(tracker, made)
            async with opened(tmp_path / "leech") as session:
                await session.list()[0].wait_complete()
    assert made.is_at(tmp_path / "leech")


async def test_a_stop_is_told_to_the_trackers_before_it_returns(tmp_path, nursery):
    tracker = Tracker()
    await nursery.start(serve, tracker)
    made = make_torrent(trackers=[[tracker.url]])
    async with opened(tmp_path) as session:
        torrent = await session.download(made.blob)
        with trio.fail_after(PATIENCE_S):
            while tracker.events() != ["started"]:
                await trio.sleep(0.01)
        await session.stop_all()
        assert tracker.events() == ["started", "stopped"]
        assert torrent.state == "stopped"
        await torrent.resume()
        assert torrent.state != "stopped"


async def test_removing_takes_the_files_that_were_made_and_no_others(tmp_path):
    found, made = make_torrent("found.bin"), make_torrent("folder", files=(("deep/made.bin", 100_000),))
    seed_folder, folder = tmp_path / "seed", tmp_path / "leech"
    seed_folder.mkdir()
    folder.mkdir()
    found.write(folder)
    async with seeding(seed_folder, made) as seed, opened(folder) as session:
        one = await session.download(found.blob)
        two = await session.download(link_to(made, seed))
        with trio.fail_after(PATIENCE_S):
            await one.wait_complete()
            await two.wait_complete()
        assert made.is_at(folder)
        await session.remove(one.info_hash, delete_data=True)
        await session.remove(two, delete_data=True)
        assert found.is_at(folder)
        assert not (folder / "folder").exists()
        assert session.list() == []
        with pytest.raises(bittern.TorrentNotFound):
            await session.remove(two)
        with pytest.raises(bittern.TorrentNotFound):
            two.stats()
        assert repr(two) == f"<Torrent {made.info_hash.hex()} gone>"
        await two.stop()
        await session.stop(bytes(20))
    assert not list(folder.rglob("removed/*")), "nobody's hook waits for it"


async def test_a_folder_of_its_own_is_kept_and_what_others_put_into_it_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_torrent("film", files=(("mixed/one.bin", 100_000), ("alone/two.bin", 100_000)))
    (tmp_path / "seed").mkdir()
    async with seeding(tmp_path / "seed", made) as seed, opened("leech") as session:
        own = tmp_path / "elsewhere" / "deep"
        torrent = await session.download(link_to(made, seed), downloads="elsewhere/deep")
        with trio.fail_after(PATIENCE_S):
            await torrent.wait_complete()
        assert made.is_at(own)
        assert torrent.files()[0].path == own / "film" / "mixed" / "one.bin"
        assert not (tmp_path / "leech" / "film").exists()
        # who adds it again does not move it
        assert await session.download(made.blob, downloads=tmp_path) is torrent
        assert torrent.get("folder") == str(own)
        (own / "film" / "mixed" / "notes.txt").write_text("mine")
        await torrent.remove(delete_data=True)
    assert sorted(path.name for path in (own / "film").rglob("*")) == ["mixed", "notes.txt"]


async def test_a_folder_that_was_named_for_a_link_holds_for_its_torrent(tmp_path):
    made = make_torrent("film")
    link = f"magnet:?xt=urn:btih:{made.info_hash.hex()}"
    async with opened(tmp_path) as session:
        torrent = await session.download(link, downloads=tmp_path / "own", label="films")
        assert await session.download(made.blob) is torrent
        assert torrent.get("folder", "label", "name") == (str(tmp_path / "own"), "films", "film")


async def test_all_are_stopped_though_one_cannot_be_written_down(tmp_path, monkeypatch):
    some = [make_torrent(name) for name in ("one", "two", "three")]
    async with opened(tmp_path) as session:
        one, two, three = [await session.download(made.blob) for made in some]
        write = Store.write

        def refuse(self, records):
            if any(two.info_hash in path for path, _ in records):
                raise bittern.StorageError("no room")
            write(self, records)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", refuse)
            with pytest.raises(bittern.StorageError, match="no room"):
                await session.stop_all()
        assert [torrent.state for torrent in (one, two, three)] == ["stopped"] * 3
        await session.stop_all()
    async with opened(tmp_path) as session:
        assert [torrent.state for torrent in session.list()] == ["stopped"] * 3


async def test_calls_that_come_to_nothing_say_so(tmp_path):
    made = make_torrent()
    async with opened(tmp_path) as session:
        for unknown in ("00" * 20, bytes(20), "hello", b"short"):
            with pytest.raises(bittern.TorrentNotFound):
                session.torrent(unknown)
        with pytest.raises(bittern.MetainfoError):
            await session.download(b"no torrent")
        with pytest.raises(bittern.MagnetError):
            await session.download("magnet:?dn=nobody")
        with pytest.raises(FileNotFoundError):
            await session.download(tmp_path / "nowhere.torrent")
        with pytest.raises(bittern.MetainfoError, match="not a file"):
            await session.download("/dev/null")
        (tmp_path / "a.torrent").write_bytes(made.blob)
        torrent = await session.download(tmp_path / "a.torrent")
        assert session.torrent(made.info_hash) is torrent is session.torrent(made.info_hash.hex().upper())
        assert torrent.name == made.name in repr(torrent)
        with pytest.raises(bittern.UnknownField, match="nonsense"):
            torrent.get("name", "nonsense")
        with pytest.raises(bittern.UnknownField):
            torrent.stats(["have"])
        assert torrent.get("name") == made.name
        assert torrent.get() == ()
        # the same folder cannot be had twice, nor the same port
        with pytest.raises(bittern.StateError):
            async with opened(tmp_path):
                pass
        with pytest.raises(bittern.PortTaken):
            async with opened(tmp_path / "other", port=session.port):
                pass
    for call in (torrent.stats, session.list, session.events):
        with pytest.raises(bittern.SessionClosed):
            call()
    with pytest.raises(bittern.SessionClosed):
        await torrent.stop()


async def test_waiting_ends_with_the_torrent_and_with_the_session(tmp_path, nursery):
    one, two = make_torrent("one"), make_torrent("two")
    ends = []

    async def wait(torrent):
        try:
            await torrent.wait_complete()
        except bittern.CallError as error:
            ends.append((torrent.info_hash, type(error)))

    async with opened(tmp_path) as session:
        torrents = [await session.download(made.blob) for made in (one, two)]
        for torrent in torrents:
            nursery.start_soon(wait, torrent)
        await trio.testing.wait_all_tasks_blocked()
        await torrents[0].remove()
        with trio.fail_after(PATIENCE_S):
            while not ends:
                await trio.sleep(0.01)
    with trio.fail_after(PATIENCE_S):
        while len(ends) < 2:
            await trio.sleep(0.01)
    assert ends == [
        (one.info_hash.hex(), bittern.TorrentNotFound),
        (two.info_hash.hex(), bittern.SessionClosed),
    ]


async def test_names_trackers_and_labels_are_changed_and_stay_so(tmp_path):
    made = make_torrent("box", files=(("a", 20_000), ("b", 30_000)))
    made.write(tmp_path)
    tiers = [["http://127.0.0.1:9/a", "http://127.0.0.1:9/b"], ["http://127.0.0.1:9/c"]]
    async with opened(tmp_path) as session:
        torrent = await session.download(made.blob)
        with trio.fail_after(PATIENCE_S):
            await torrent.wait_complete()
        await torrent.rename("box/a", "A")
        await torrent.rename("box", "crate")
        await torrent.set_trackers(tiers)
        await torrent.set_labels(["films", "old"])
        with pytest.raises(bittern.FileSelectionError, match="no file"):
            await torrent.rename("box/c", "d")
        (tmp_path / "theirs").mkdir()
        with pytest.raises(bittern.StorageError, match="in the way"):
            await torrent.rename("crate", "theirs")
        for wrong in ("http://127.0.0.1:9/a", ["http://127.0.0.1:9/a"], [["ftp://x"]], [[7]], 7):
            with pytest.raises(bittern.TrackerListError):
                await torrent.set_trackers(wrong)
        for wrong in ("films", ["a,b"], [""], [7], 7):
            with pytest.raises(bittern.OptionError, match="label"):
                await torrent.set_labels(wrong)
    async with opened(tmp_path) as session:
        (torrent,) = session.list()
        assert torrent.name == "crate"
        assert [one.path for one in torrent.files()] == [tmp_path / "crate/A", tmp_path / "crate/b"]
        assert torrent.get("labels") == ["films", "old"]
        assert [list(tier) for tier in torrent.get("trackers")] == tiers
        await torrent.remove()
        for call in (torrent.rename("x", "y"), torrent.set_trackers([]), torrent.set_labels([])):
            with pytest.raises(bittern.TorrentNotFound):
                await call


async def test_an_error_in_the_block_comes_out_as_it_is_and_all_is_written(tmp_path):
    made = make_torrent()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 — whose block it is, is what is tested
        async with opened(tmp_path) as session:
            await session.download(made.blob)
            raise ZeroDivisionError
    with trio.move_on_after(PATIENCE_S) as scope:
        async with opened(tmp_path) as session:
            assert session.list()[0].info_hash == made.info_hash.hex()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    with pytest.raises(bittern.SessionClosed):
        session.list()


async def test_a_bug_of_ours_ends_the_session_with_its_cause(tmp_path, monkeypatch, caplog):
    async def fall(self, **_):
        raise ZeroDivisionError

    monkeypatch.setattr("bittern.engine.heartbeat.Heartbeat.run", fall)
    monkeypatch.setattr("bittern.engine.supervision.RESTARTS_AT_MOST", 0)
    monkeypatch.setattr("bittern.engine.supervision.Intensity.fell", lambda self, now: True)
    with pytest.raises(bittern.SessionFailed, match="ZeroDivisionError"):
        async with opened(tmp_path):
            await trio.sleep_forever()
    assert "heartbeat failed" in caplog.text


async def test_a_reader_of_events_who_is_too_slow_is_told_what_he_missed(tmp_path):
    async with opened(tmp_path) as session:
        reader, idle = session.events(), session.events()
        for number in range(bittern.EVENTS_KEPT + 5):
            session._life.tell(told.Warned(what="test", detail=str(number)))
        assert await anext(reader) == bittern.EventsLost(5)
        assert (await anext(reader)).detail == "5"
        # whoever stops reading costs nothing
        del idle
        gc.collect()
        assert list(session._life.readers) == [reader]
        async with reader:
            pass
        assert list(session._life.readers) == []


async def test_what_a_killed_session_could_not_tell_is_told_to_the_first_reader_once(tmp_path):
    whole, gone = make_torrent("whole"), make_torrent("gone", size=100_000)
    # nobody notes here that something was told, as when the kill came first
    async with running(tmp_path) as engine:
        whole.write(engine.downloads)
        await engine.add(whole)
        await engine.until(told.Completed)
        await engine.add(gone)
        await engine.until(told.Started)
        await engine.session.remove(gone.info_hash, reason="asked for")
    folder, state = engine.downloads, tmp_path / "state"
    assert list(state.glob("removed/*"))
    ids = [one.event_id for one in engine.events if getattr(one, "event_id", "")]
    async with opened(folder, state=state) as session:
        torrent = session.list()[0]
        assert torrent.get("completed_spooled", "added_event_id") == (True, "")
        first, second = session.events(), session.events()
    untold = [event async for event in first if getattr(event, "event_id", "")]
    assert [(type(one), one.facts.info_hash) for one in untold] == [
        (told.Removed, gone.info_hash),
        (told.Added, whole.info_hash),
        (told.Completed, whole.info_hash),
    ]
    assert {one.event_id for one in untold} <= set(ids)
    assert not [event async for event in second if getattr(event, "event_id", "")]
    assert not list(state.glob("removed/*"))
    async with opened(folder, state=state) as session:
        reader = session.events()
    assert not [event async for event in reader if getattr(event, "event_id", "")]


async def test_what_a_killed_daemon_could_not_tell_its_hooks_stays_on_record_for_them(tmp_path):
    made, gone = make_torrent(), make_torrent("gone", size=100_000)
    state = tmp_path / "state"
    async with running(tmp_path) as engine:
        Spool.below(state).load()
        await engine.add(made)
        await engine.until(told.Started)
        await engine.add(gone)
        await engine.session.remove(gone.info_hash, reason="asked for")
    for _ in range(2):
        async with opened(engine.downloads, state=state) as session:
            assert all(session.list()[0].get("added_event_id", "started_event_id"))
            reader = session.events()
        heard = [type(event) async for event in reader if getattr(event, "event_id", "")]
        assert heard == [told.Removed, told.Added, told.Started]
        assert list(state.glob("removed/*"))


async def test_of_what_was_untold_without_a_reader_nothing_is_left_either(tmp_path):
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(told.Started)
    async with opened(engine.downloads, state=tmp_path / "state") as session:
        assert session.list()[0].get("added_event_id", "started_event_id") == ("", "")
    async with opened(engine.downloads, state=tmp_path / "state") as session:
        reader = session.events()
    assert not [event async for event in reader if isinstance(event, told.Added)]


def test_what_a_session_is_told_is_what_the_engine_knows():
    hints = Settings.__annotations__
    assert {
        name: hints.get(name) for name in bittern.Options.__annotations__
    } == bittern.Options.__annotations__


def test_public_names_are_there():
    assert bittern.PEER_ID_PREFIX == b"-bn0100-"
    assert bittern._PUBLIC == set(bittern.api.__all__) < set(dir(bittern))
    assert not hasattr(bittern, "nonsense")
    assert all(getattr(bittern, name) is getattr(bittern.api, name) for name in bittern._PUBLIC)


async def test_the_example_of_the_readme_downloads(tmp_path, capsys):
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    names = {"__name__": "example"}
    exec(compile(block, "README.md", "exec"), names)  # what is tested is the text itself
    made = make_torrent("film", files=(("one.bin", 100_000),))
    (tmp_path / "seed").mkdir()
    async with seeding(tmp_path / "seed", made) as seed:
        with trio.fail_after(PATIENCE_S):
            await names["main"](link_to(made, seed), str(tmp_path / "leech"), **QUIET)
    assert made.is_at(tmp_path / "leech")
    assert "one.bin" in capsys.readouterr().out


async def test_the_example_for_asyncio_downloads(tmp_path):
    example = runpy.run_path(str(ROOT / "etc" / "examples" / "from_asyncio.py"))
    made = make_torrent("payload.bin")
    (tmp_path / "seed").mkdir()
    async with seeding(tmp_path / "seed", made) as seed:
        link = link_to(made, seed)

        def run():
            return asyncio.run(example["download"](link, str(tmp_path / "leech"), **QUIET))

        with trio.fail_after(PATIENCE_S):
            figures = await trio.to_thread.run_sync(run)
    assert figures["downloaded"] == figures["bytes_size"] == 300_000
    assert made.is_at(tmp_path / "leech")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=repr)
async def test_whoever_ends_the_program_in_the_block_does_so_without_a_group(tmp_path, error):
    async def body():
        async with opened(tmp_path):
            raise error

    with pytest.raises(type(error)) as caught:
        await body()
    assert caught.value is error


@pytest.mark.parametrize(
    "option",
    [
        {"port": 70000}, {"port": -1}, {"port": True}, {"port": "80"}, {"download_rate": float("nan")},
        {"upload_rate": -1}, {"upload_rate": "fast"}, {"listen": ()}, {"listen": "0.0.0.0"},
        {"listen": ("localhost",)}, {"dial_scope": "here"}, {"dht": 1}, {"lsd": None}, {"pex": "no"},
        {"dht_bootstrap": ("router",)}, {"dht_bootstrap": ("router:0",)}, {"max_peers": 0},
        {"max_peers_per_torrent": 1.5}, {"upload_slots": 0}, {"max_downloads": -1}, {"max_seeds": 0},
        {"open_files": 1}, {"piece_memory": 1}, {"preallocate": 0}, {"reserve_bytes": -1}, {"colour": "red"},
    ],
    ids=repr,
)  # fmt: skip
async def test_options_that_cannot_be(tmp_path, option):
    async def body():
        async with opened(tmp_path, **option):
            pass

    with pytest.raises(bittern.OptionError, match=next(iter(option))) as found:
        await body()
    assert isinstance(found.value, bittern.BitternError | ValueError)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("folder", ["a\0b", "a\ud800", b"bytes"], ids=ascii)
async def test_a_folder_that_cannot_be_is_refused_without_a_trace(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    for kinds in ({"downloads": folder}, {"downloads": "some", "state": folder}):
        with pytest.raises(bittern.OptionError, match=list(kinds)[-1]):
            async with bittern.open_session(**kinds, **QUIET):
                pass
    assert list(tmp_path.iterdir()) == []
    async with opened(tmp_path) as session:
        with pytest.raises(bittern.OptionError, match="downloads"):
            await session.download(make_torrent().blob, downloads=folder)
        assert session.list() == []


async def test_a_label_that_cannot_be_is_refused_without_a_trace(tmp_path):
    async with opened(tmp_path) as session:
        for label in ("a\ud800", "two\nlines", "x" * 256, 7, ["a"]):
            with pytest.raises(bittern.OptionError, match="label"):
                await session.download(make_torrent().blob, label=label)
        assert session.list() == []
        torrent = await session.download(make_torrent().blob, label="films, new")
        assert torrent.get("label", "labels") == ("films", ["films", "new"])
