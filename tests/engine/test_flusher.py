"""Nothing that was to be written is forgotten."""

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from bittern.disk.stamps import FileStamp
from bittern.engine import flusher, store
from bittern.engine.events import Added, Arrived, Checked, Completed, Failed, Warned
from bittern.engine.torrent import State, Torrent
from bittern.errors import StorageError
from bittern.proto import messages as m
from tests.fakes.engine import Engine, running
from tests.fakes.faults import Fault
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent


async def test_a_flush_that_is_cancelled_before_it_began_leaves_its_work_to_others(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        service = engine.session.flusher
        torrent = engine.session.torrents[made.info_hash]
        await service.flush_dirty()
        calls = engine.disk.call

        async def waits_for_a_thread(fn: Callable[..., Any], *args: Any) -> Any:
            await trio.sleep_forever()

        torrent.record.label = "noted"
        with trio.CancelScope() as scope:
            engine.disk.call = waits_for_a_thread  # type: ignore[method-assign]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(service.durable, torrent)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        engine.disk.call = calls  # type: ignore[method-assign]
        await service.flush_dirty()
        path = tmp_path / f"state/resume/{made.info_hash.hex()}.toml"
        assert b"noted" in path.read_bytes()


@asynccontextmanager
async def two_known(folder: Path) -> AsyncIterator[tuple[Engine, Torrent, Torrent]]:
    async with running(folder, strict=False) as engine:
        for name in ("bad", "good"):
            await engine.add(make_torrent(name))
        await engine.until(Checked, 2)
        bad, good = sorted(engine.session.torrents.values(), key=lambda torrent: torrent.record.name)
        await engine.session.flusher.flush_dirty()
        yield engine, bad, good


def on_disk(folder: Path, torrent: Torrent) -> bytes:
    return (folder / f"state/resume/{torrent.info_hash.hex()}.toml").read_bytes()


def note(engine: Engine, label: str, *torrents: Torrent) -> None:
    for torrent in torrents:
        torrent.record.label = label
        engine.session.flusher.mark(torrent)


async def test_each_who_waits_hears_that_the_record_could_not_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []

    async def wait(engine: Engine, torrent: Torrent) -> None:
        try:
            await engine.session.flusher.durable(torrent)
        except StorageError as error:
            heard.append(str(error))
        else:
            heard.append("durable")

    async with two_known(tmp_path) as (engine, bad, good):
        fault = Fault(monkeypatch, store, "dump_record", lambda record: record.name == "bad")
        async with trio.open_nursery() as nursery:
            for torrent in (bad, good, bad):
                nursery.start_soon(wait, engine, torrent)
        assert (
            sorted(one.split(",")[0] for one in heard)
            == ["durable"] + ["its record could not be written"] * 2
        )
        fault.on = False
        heard.clear()
        await wait(engine, bad)
        assert heard == ["durable"]
        assert not engine.session.flusher._urgent


async def test_a_record_that_cannot_be_packed_holds_up_no_other_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_known(tmp_path) as (engine, bad, good):
        fault = Fault(monkeypatch, store, "dump_record", lambda record: record.name == "bad")
        for label in ("first", "second"):
            note(engine, label, bad, good)
            await engine.session.flusher.flush_dirty()
            assert label.encode() in on_disk(tmp_path, good)
        assert fault.count == 2
        assert len(engine.bugs) == 1
        assert not engine.told(Failed)
        fault.on = False
        await engine.session.flusher.flush_dirty()
        assert b"second" in on_disk(tmp_path, bad)


async def test_a_record_that_cannot_be_written_holds_up_no_other_and_is_told_once(tmp_path: Path) -> None:
    async with two_known(tmp_path) as (engine, bad, good):
        path = tmp_path / f"state/resume/{bad.info_hash.hex()}.toml"
        path.unlink()
        path.mkdir()
        for label in ("first", "second"):
            note(engine, label, bad, good)
            await engine.session.flusher.flush_dirty()
            assert label.encode() in on_disk(tmp_path, good)
        assert [event.what for event in engine.told(Warned)] == ["state.unwritable"]
        path.rmdir()
        await engine.session.flusher.flush_dirty()
        assert b"second" in on_disk(tmp_path, bad)


async def test_a_bug_in_syncing_one_torrents_files_fails_that_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with two_known(tmp_path) as (engine, bad, good):
        Fault(monkeypatch, flusher, "_sync", lambda job: job.torrent is bad, times=1)
        note(engine, "noted", bad, good)
        await engine.session.flusher.flush_dirty()
        assert b"noted" in on_disk(tmp_path, good)
        assert [event.facts.info_hash for event in engine.told(Failed)] == [bad.info_hash]
        assert len(engine.bugs) == 1


async def test_who_waits_for_a_torrent_that_is_removed_hears_it(tmp_path: Path) -> None:
    async with two_known(tmp_path) as (engine, bad, _good):
        refused = trio.Event()

        async def wait() -> None:
            with pytest.raises(StorageError, match="removed"):
                await engine.session.flusher.durable(bad)
            refused.set()

        async with trio.open_nursery() as nursery, engine.session.flusher._lock:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            del engine.session.torrents[bad.info_hash]
        assert refused.is_set()
        assert not engine.session.flusher._urgent
        engine.session.torrents[bad.info_hash] = bad


class _Turns(trio.abc.Instrument):
    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, timeout: float) -> None:
        self.count += 1


async def test_all_whose_records_were_written_together_go_on_in_the_same_turn(tmp_path: Path) -> None:
    turns = _Turns()
    went_on: list[int] = []
    async with running(tmp_path) as engine:
        for number in range(8):
            await engine.add(make_torrent(str(number)))
        await engine.until(Checked, 8)
        flusher = engine.session.flusher
        await flusher.flush_dirty()
        trio.lowlevel.add_instrument(turns)

        async def wait(torrent: Torrent) -> None:
            await flusher.durable(torrent)
            went_on.append(turns.count)

        async with trio.open_nursery() as nursery:
            for torrent in engine.session.torrents.values():
                nursery.start_soon(wait, torrent)
        trio.lowlevel.remove_instrument(turns)
    leader, *others = went_on
    assert set(others) == {others[0]}
    assert others[0] <= leader + 1


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_when_who_is_to_write_next_is_cancelled_another_does(tmp_path: Path, cancelled: int) -> None:
    """Before its turn, in the moment in which it comes, and while it waits for the lock."""
    async with two_known(tmp_path) as (engine, bad, good):
        flusher, calls = engine.session.flusher, engine.disk.call
        began, may_end = trio.Event(), trio.Event()
        written: list[str] = []

        async def slow_at_first(fn: Callable[..., Any], *args: Any) -> Any:
            if not began.is_set():
                began.set()
                await may_end.wait()
            return await calls(fn, *args)

        async def wait(torrent: Torrent, scope: trio.CancelScope) -> None:
            with scope:
                await flusher.durable(torrent)
                written.append(torrent.record.name)

        engine.disk.call = slow_at_first  # type: ignore[method-assign]
        scope = trio.CancelScope()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, bad, trio.CancelScope())
            await began.wait()
            # both come while a batch is under way, so the first of them is to write the next
            nursery.start_soon(wait, bad, scope)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(wait, good, trio.CancelScope())
            await trio.testing.wait_all_tasks_blocked()
            if cancelled == 0:
                scope.cancel()
            may_end.set()
            if cancelled == 1:
                while len(written) < 1:
                    await trio.lowlevel.checkpoint()
                scope.cancel()
            if cancelled == 2:
                await flusher._lock.acquire()
                while not flusher._led:
                    await trio.lowlevel.checkpoint()
                scope.cancel()
                flusher._lock.release()
        assert written in (["bad", "good"], ["bad", "bad", "good"])
        assert not flusher._urgent
        assert not flusher._led


@pytest.mark.parametrize("writer", ["one who waits", "the interval"])
async def test_after_a_flush_that_is_cancelled_before_it_began_those_who_still_wait_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writer: str
) -> None:
    """Not who had given up before, though it waited longer."""
    monkeypatch.setattr("bittern.engine.flusher.FLUSH_EVERY_S", 10_000.0)
    async with two_known(tmp_path) as (engine, bad, good):
        flusher, calls = engine.session.flusher, engine.disk.call
        gives_up, writing = trio.CancelScope(), trio.CancelScope()

        async def waits_for_a_thread(fn: Callable[..., Any], *args: Any) -> Any:
            await trio.sleep_forever()

        async def wait(torrent: Torrent, scope: trio.CancelScope) -> None:
            with scope:
                await flusher.durable(torrent)

        async def flush() -> None:
            with writing:
                await flusher.flush_dirty()

        engine.disk.call = waits_for_a_thread  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            await flusher._lock.acquire()
            if writer == "the interval":
                # it has the lock before anybody who waits
                flusher.mark(bad)
                flusher.mark(good)
                nursery.start_soon(flush)
                await trio.testing.wait_all_tasks_blocked()
            leads = trio.CancelScope()
            for torrent, scope in ((bad, leads), (bad, gives_up), (good, trio.CancelScope())):
                nursery.start_soon(wait, torrent, scope)
                await trio.testing.wait_all_tasks_blocked()
            flusher._lock.release()
            await trio.testing.wait_all_tasks_blocked()
            gives_up.cancel()
            if writer == "the interval":
                # who was to write next goes before what it would write is put back
                leads.cancel()
            await trio.testing.wait_all_tasks_blocked()
            engine.disk.call = calls  # type: ignore[method-assign]
            (leads if writer == "one who waits" else writing).cancel()
            with trio.fail_after(20):
                while len(nursery.child_tasks):
                    await trio.sleep(0.01)
        assert not flusher._urgent


async def test_what_is_written_while_a_flush_syncs_is_synced_by_the_next_and_nothing_is_dropped(
    tmp_path: Path,
) -> None:
    async with two_known(tmp_path) as (engine, bad, torrent):
        session = engine.session
        synced: list[set[int]] = []

        def sync(files: set[int]) -> None:
            session.lifecycle.bytes_written(torrent, storage, range(2, 5))
            synced.append(set(files))
            if len(synced) == 2:
                session.lifecycle.bytes_written(torrent, storage, range(7, 8))
                raise StorageError("no")

        storage: Any = SimpleNamespace(sync=sync, stamps=lambda: torrent.record.stamps)
        session.lifecycle.bytes_written(torrent, storage, range(3))
        await session.flusher.flush_dirty()
        assert synced == [{0, 1, 2}]
        assert torrent.unsynced_files == {2, 3, 4}
        await session.flusher.flush_dirty()
        assert synced[1:] == [{2, 3, 4}]
        assert torrent.unsynced_files == {2, 3, 4, 7}
        assert bad.unsynced_files is None


def count_written(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The records that get their names, by these."""
    written: Counter[str] = Counter()
    rename = os.rename

    def counted(old: str, new: str, **folders: int) -> None:
        rename(old, new, **folders)
        written.update([Path(new).name] if Path(new).parent.name == "resume" else [])

    monkeypatch.setattr(os, "rename", counted)
    return written


@pytest.mark.parametrize("asked", [False, True])
async def test_a_complete_torrent_that_comes_is_written_when_it_is_added_and_when_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: bool
) -> None:
    written = count_written(monkeypatch)
    made = make_torrent()

    def hook(event: object) -> None:
        """As whoever spools events does it, several together: nobody asks for them, or they are durable there."""
        if isinstance(event, Completed):
            engine.session.delivered(made.info_hash, engine.told(Added)[0].event_id)
            engine.session.delivered(made.info_hash, event.event_id)

    async with running(tmp_path, also=hook) as engine:
        engine.session.lifecycle.asked_for = lambda event: asked
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        record = engine.session.torrents[made.info_hash].record
        await engine.until_true(lambda: record.seeding_since > 0, "it seeds")
        await engine.session.flusher.flush_dirty()
        # who asks for events is sure to be told of them, and that they were told has to be on record
        assert written == {f"{made.info_hash.hex()}.toml": 3 if asked else 2}
    # nor does an orderly stop, or a start and a stop, of an idle torrent write anything
    written.clear()
    seeding_since = record.seeding_since
    async with running(tmp_path) as engine:
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "looked at")
        record = engine.session.torrents[made.info_hash].record
        assert engine.session.undelivered() == []
        assert (record.state, record.seeding_since) == ("complete", seeding_since)
    assert not written


async def test_what_a_record_says_too_early_is_taken_back_when_it_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent()
    async with running(tmp_path, strict=False) as engine:
        engine.session.lifecycle.asked_for = lambda event: False
        fault = Fault(monkeypatch, store, "dump_record", lambda record: record.state == "complete")
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Failed)
        torrent = engine.session.torrents[made.info_hash]
        record = torrent.record
        assert fault.count
        assert (record.completed_event_id, record.completed_spooled) == ("", False)
        assert (record.state, record.seeding_since) == ("downloading", 0.0)
        fault.on = False
        engine.session.lifecycle.recheck(torrent)
        await engine.until(Completed)
        assert record.seeding_since > 0


async def test_what_was_downloaded_is_told_also_when_the_record_of_it_could_not_be_written_at_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent()
    async with running(tmp_path, strict=False) as engine:
        engine.session.lifecycle.asked_for = lambda event: False
        fault = Fault(monkeypatch, store, "dump_record", lambda record: record.state == "complete")
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as serving:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            serving.start_soon(seed.serve, made)
            await engine.until(Failed)
            serving.cancel_scope.cancel()
        torrent = engine.session.torrents[made.info_hash]
        assert not engine.told(Arrived)
        assert torrent.record.downloaded_event_id
        fault.on = False
        await engine.session.resume(made.info_hash)
        await engine.until(Completed)
        assert len(engine.told(Arrived)) == 1
        assert (torrent.record.downloaded_event_id, torrent.record.downloaded_told) == ("", True)


async def test_a_complete_torrent_that_has_to_wait_for_its_turn_does_not_seed_on_record(
    tmp_path: Path,
) -> None:
    made, other = make_torrent("a"), make_torrent("b")
    async with running(tmp_path, max_seeds=1) as engine:
        for one in (made, other):
            one.write(engine.downloads)
            await engine.add(one)
        await engine.until(Completed, 2)
        torrents = list(engine.session.torrents.values())
        assert {torrent.state for torrent in torrents} == {State.SEEDING, State.QUEUED}
        await engine.session.flusher.flush_dirty()
        for torrent in torrents:
            assert (b"seeding_since" in on_disk(tmp_path, torrent)) == (torrent.state is State.SEEDING)


@pytest.mark.parametrize("synced", [False, True])
async def test_how_files_look_by_now_is_not_replaced_by_how_they_looked_when_a_flush_began(
    tmp_path: Path, synced: bool
) -> None:
    async with two_known(tmp_path) as (engine, _, torrent):
        service, found = engine.session.flusher, (FileStamp(1, 2),)

        def look(_: object = None) -> tuple[FileStamp, ...]:
            """A check, or its completion, while the records are on their way to the disk."""
            torrent.record.stamps = found
            return (FileStamp(1, 1),)

        if synced:
            storage: Any = SimpleNamespace(sync=lambda files: None, stamps=look)
            engine.session.lifecycle.bytes_written(torrent, storage, range(1))
        else:
            plain = engine.disk.call

            async def call(fn: Callable[..., Any], *args: Any) -> Any:
                look()
                return await plain(fn, *args)

            engine.disk.call = call  # type: ignore[method-assign]
            note(engine, "noted", torrent)
        await service.flush_dirty()
        assert torrent.record.stamps == found
        if synced:
            # nor is what a flush finds itself forgotten
            storage.stamps = lambda: (FileStamp(5, 5),)
            engine.session.lifecycle.bytes_written(torrent, storage, range(1))
            await service.flush_dirty()
            assert torrent.record.stamps == (FileStamp(5, 5),)
        else:
            engine.disk.call = plain  # type: ignore[method-assign]
