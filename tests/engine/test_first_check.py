"""The first check of a torrent, when what follows from it fails: it is tried again as the first, and told once."""

import contextlib
import errno
import math
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from bittern.disk import hashing
from bittern.disk import preparing as preparing_module
from bittern.disk.resume import load_record
from bittern.engine import check_queue, checker, failures, survey
from bittern.engine.events import Checked, Completed, Failed, Recovered
from bittern.engine.findings import Findings
from bittern.engine.guard import Guard
from bittern.engine.last_steps import LastSteps
from bittern.engine.store import PackedRecord, Store
from bittern.engine.torrent import Torrent
from bittern.errors import StorageError
from bittern.policy.add_terms import AddTerms
from bittern.proto import messages as m
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 0.0)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_download_folder_that_cannot_be_made_heals(tmp_path: Path, restarted: bool) -> None:
    made = make_torrent(files=[("a", 100_000), ("b/c", 0), ("d", 70_000)])
    folder = tmp_path / "in the way" / "films"
    folder.parent.touch()
    async with running(tmp_path) as engine:
        await engine.session.add(made.blob, AddTerms(str(folder)))
        await engine.until(Failed)
        assert not engine.told(Checked)
        if not restarted:
            folder.parent.unlink()
            await engine.until(Checked)
            assert len(engine.told(Failed)) == 1
    if restarted:
        folder.parent.unlink()
    async with running(tmp_path) as engine:
        if restarted:
            await engine.until(Checked)
        else:
            await engine.until_true(
                lambda: engine.session.torrents[made.info_hash].reachable, "it is checked"
            )
            assert not engine.told(Checked)
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert engine.told(Completed)[0].reason == "downloaded"
    assert made.is_at(folder)


async def test_a_stop_before_the_folder_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_torrent()
    folder = tmp_path / "new" / "films"
    measuring = trio.Event()

    async def measure(*_: object, **__: object) -> None:
        measuring.set()
        await trio.sleep_forever()

    with monkeypatch.context() as slow:
        slow.setattr(Guard, "measure", measure)
        async with running(tmp_path) as engine:
            await engine.session.add(made.blob, AddTerms(str(folder)))
            await measuring.wait()
    assert not folder.exists()
    async with running(tmp_path) as engine:
        await engine.until(Checked)
        assert folder.is_dir()


@pytest.mark.parametrize("incomplete", [False, True])
async def test_what_is_on_record_before_the_folder_was_made(
    incomplete: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say that the torrent was checked: after a kill nobody would make the folder. Who asks for another
    folder at that moment gets it.
    """
    made = make_torrent()
    folder, other, later = tmp_path / "new", tmp_path / "other", tmp_path / "incomplete"
    preparing, go = threading.Event(), threading.Event()
    usual = Findings._make_ready

    def make_ready(*terms: Any) -> Any:
        preparing.set()
        assert go.wait(60)
        return usual(*terms)

    monkeypatch.setattr(Findings, "_make_ready", make_ready)
    async with running(tmp_path) as engine:
        session = engine.session
        await session.add(made.blob, AddTerms(str(folder), incomplete=str(later) if incomplete else ""))
        await trio.to_thread.run_sync(preparing.wait)
        await session.move(made.info_hash, str(other))
        assert not folder.exists()
        assert not later.exists()
        assert not load_record(next(tmp_path.glob("state/resume/*.toml")).read_bytes()).checked
        go.set()
        await engine.until(Checked)
        torrent = session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.record.folder == str(other), "it is to lie there")
        await engine.until_true(lambda: not torrent.record.moving_to and torrent.reachable, "it downloads")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep_seeding, engine, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
    assert made.is_at(other)


async def test_what_was_found_whole_stays_found_after_a_stop_before_the_last_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, incomplete = make_torrent(), tmp_path / "incomplete"
    made.write(incomplete)

    async def not_yet(*_: object) -> None:
        await trio.sleep_forever()

    with monkeypatch.context() as slow:
        slow.setattr(LastSteps, "_contained", not_yet)
        async with running(tmp_path) as engine:
            await engine.add(made, incomplete=str(incomplete))
            await engine.until(Checked)
    async with running(tmp_path) as engine:
        assert (await engine.until(Completed)).reason == "already-complete"


async def test_a_kill_while_room_is_allocated_by_writing_leaves_it_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file system cannot allocate, the C library writes zeros, for minutes: they are nobody else's data."""
    made = make_torrent()
    folder = tmp_path / "new"
    writing, go = threading.Event(), threading.Event()

    def allocate(fd: int, length: int) -> None:
        os.pwrite(fd, bytes(length), 0)
        writing.set()
        assert go.wait(60)

    monkeypatch.setattr(preparing_module, "_allocate", allocate)
    async with running(tmp_path) as engine:
        engine.session.lifecycle.findings.preallocate = True
        await engine.session.add(made.blob, AddTerms(str(folder)))
        await trio.to_thread.run_sync(writing.wait)
        path = next(tmp_path.glob("state/resume/*.toml"))
        blob = path.read_bytes()
        go.set()
        await engine.until(Checked)
    path.write_bytes(blob)
    async with running(tmp_path) as engine:
        await engine.until(Checked)
        assert engine.session.torrents[made.info_hash].record.root == load_record(blob).root


async def test_what_was_found_whole_stays_found_when_the_commit_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent()
    real = Store.write
    failures = 0

    def write(self: Store, records: Sequence[PackedRecord]) -> None:
        nonlocal failures
        if not failures and any(load_record(blob).state == "complete" for _, blob in records):
            failures += 1
            raise StorageError("made to fail")
        real(self, records)

    monkeypatch.setattr(Store, "write", write)
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        completed = await engine.until(Completed)
        assert failures
        assert completed.reason == "already-complete"
        assert len(engine.told(Checked)) == 1


@pytest.mark.parametrize("restarted", [False, True])
async def test_what_was_hashed_before_the_preallocation_failed_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    made = make_torrent(files=[("a", 100_000), ("b", 70_000)])
    real = os.posix_fallocate
    full = True
    hashed: list[int] = []

    def posix_fallocate(fd: int, at: int, length: int) -> None:
        if full:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        real(fd, at, length)

    monkeypatch.setattr(os, "posix_fallocate", posix_fallocate)
    monkeypatch.setattr(
        survey, "hash_pieces", lambda *args: hashed.extend(args[2]) or hashing.hash_pieces(*args)
    )
    async with running(tmp_path, preallocate=True) as engine:
        made.write(engine.downloads)
        (engine.downloads / made.name / "b").unlink()
        await engine.add(made)
        assert "too large" in (await engine.until(Failed)).reason
        pieces = len(hashed)
        torrent = engine.session.torrents[made.info_hash]
        await _fails_again(engine, torrent)
        assert not engine.told(Checked)
        assert len(hashed) == pieces
        if not restarted:
            full = False
            engine.session.lifecycle.failures.retry_due(math.inf)
            await engine.until(Checked)
            assert len(hashed) == pieces
            await _it_goes_on(engine, made)
    full = False
    async with running(tmp_path, preallocate=True) as engine:
        if restarted:
            await engine.until(Checked)
            await _it_goes_on(engine, made)


async def _fails_again(engine: Engine, torrent: Torrent) -> None:
    failures = torrent.failures
    engine.session.lifecycle.failures.retry_due(math.inf)
    await engine.until_true(lambda: torrent.failures > failures, "it is tried again")


async def _it_goes_on(engine: Engine, made: Made) -> None:
    [checked] = engine.told(Checked)
    assert not checked.complete
    assert checked.hashed_bytes == 100_000 // 65536 * 65536
    await engine.until_true(lambda: not engine.session.torrents[made.info_hash].error, "it has recovered")
    assert not (engine.downloads / f"{made.name}.{made.info_hash.hex()[:8]}").exists()


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_folder_that_may_not_be_written_is_an_error_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    made = make_torrent(files=[("a", 100_000), ("b", 70_000)])
    read_only = True
    monkeypatch.setattr(os, "access", lambda path, mode: not read_only)
    monkeypatch.setenv("INVOCATION_ID", "systemd's")
    async with running(tmp_path) as engine:
        await engine.add(made)
        failed = await engine.until(Failed)
        assert f"ReadWritePaths={engine.downloads}" in failed.reason
        torrent = engine.session.torrents[made.info_hash]
        await _fails_again(engine, torrent)
        assert not engine.told(Checked)
        # what is put there meanwhile is found
        made.write(engine.downloads)
        (engine.downloads / made.name / "b").unlink()
        if not restarted:
            read_only = False
            engine.session.lifecycle.failures.retry_due(math.inf)
            await engine.until(Recovered)
            assert [event.hashed_bytes for event in engine.told(Checked)] == [65536]
            assert len(engine.told(Failed)) == 1
    async with running(tmp_path) as engine:
        if restarted:
            await engine.until(Failed)
            read_only = False
            engine.session.lifecycle.failures.retry_due(math.inf)
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.reachable, "it downloads")
        assert [event.hashed_bytes for event in engine.told(Checked)] == ([65536] if restarted else [])
        # and later no less than at first
        read_only = True
        engine.session.lifecycle.torrent_failed(torrent, StorageError("made to fail"))
        await _fails_again(engine, torrent)
        read_only = False
        engine.session.lifecycle.failures.retry_due(math.inf)
        await engine.until(Recovered, 2 if restarted else 1)
        assert torrent.record.root == made.name


@pytest.mark.parametrize("incomplete", [False, True])
@pytest.mark.parametrize("there", ["all", "some", "nothing"])
async def test_a_move_asked_for_during_the_first_check_takes_along_what_is_found(
    there: str, incomplete: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent(files=[("a", 100_000), ("b", 300_000)])
    began, go = threading.Event(), threading.Event()
    usual = checker.survey_of
    final, target = tmp_path / "downloads", tmp_path / "elsewhere"
    other = tmp_path / "incomplete" if incomplete else final
    if there != "nothing":
        made.write(final if there == "all" else other)
    if there == "some":
        (other / made.name / "b").write_bytes(bytes(1000))

    def survey_slowly(*terms: Any) -> Any:
        began.set()
        assert go.wait(60)
        return usual(*terms)

    async with running(tmp_path) as engine:
        monkeypatch.setattr(checker, "survey_of", survey_slowly)
        for module in (check_queue, checker):
            monkeypatch.setattr(module, "SMALL_BYTES", 0)
        await engine.add(made, incomplete=str(tmp_path / "incomplete") if incomplete else "")
        await trio.to_thread.run_sync(began.wait)
        await engine.session.move(made.info_hash, str(target))
        go.set()
        await engine.until(Checked)
        torrent = engine.session.torrents[made.info_hash]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_keep_seeding, engine, made)
            await engine.until_true(
                lambda: (
                    (torrent.record.state, torrent.record.folder, torrent.record.moving_to)
                    == ("complete", str(target), "")
                ),
                "it lies there",
            )
            nursery.cancel_scope.cancel()
        assert made.is_at(target)
        assert not (final / made.name).exists()
        assert not (tmp_path / "incomplete" / made.name).exists()
        assert not engine.told(Failed)


async def _keep_seeding(engine: Engine, made: Made) -> None:
    while True:
        # a move parts from peers
        with contextlib.suppress(OSError, trio.EndOfChannel, trio.BrokenResourceError):
            async with connected(engine.address, made.info_hash) as peer:
                await peer.say(m.HAVE_ALL, m.UNCHOKE)
                await peer.serve(made)
        await trio.sleep(0.02)


async def test_what_was_checked_and_synced_is_not_left_open(tmp_path: Path) -> None:
    made = make_torrent(files=[("a", 100_000), ("b/c", 30_000), ("d", 70_000)])
    made.write(tmp_path / "downloads")
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Completed)
        assert engine.session.usage().open_files == 0


async def test_a_single_file_that_is_found_whole_is_synced_while_it_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent()
    opened: list[str] = []
    synced: list[bool] = []
    real_open, real_sync, real_write = os.open, os.fdatasync, Store.write

    def follow_open(path: Any, *args: Any, **terms: Any) -> int:
        opened.append(os.path.basename(path))
        return real_open(path, *args, **terms)

    def follow_sync(fd: int) -> None:
        assert os.readlink(f"/proc/self/fd/{fd}").endswith(made.name)
        synced.append(True)
        real_sync(fd)

    def follow_write(self: Store, records: Any) -> None:
        assert synced or all(load_record(blob).state != "complete" for _, blob in records)
        real_write(self, records)

    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        monkeypatch.setattr(os, "open", follow_open)
        monkeypatch.setattr(os, "fdatasync", follow_sync)
        monkeypatch.setattr(Store, "write", follow_write)
        await engine.add(made)
        await engine.until(Completed)
        record = engine.session.torrents[made.info_hash].record
        status = (engine.downloads / made.name).stat()
    assert synced == [True]
    assert opened.count(made.name) == 1
    assert record.stamps == ((status.st_size, status.st_mtime_ns),)


async def test_of_several_files_that_are_found_whole_each_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent(files=[("a", 100_000), ("b/c", 70_000), ("d", 1)])
    synced: set[str] = set()
    before: list[set[str]] = []
    real_sync, real_write = os.fdatasync, Store.write

    def follow_sync(fd: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{fd}"))
        real_sync(fd)

    def follow_write(self: Store, records: Any) -> None:
        if any(load_record(blob).state == "complete" for _, blob in records):
            before.append(synced.copy())
        real_write(self, records)

    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        monkeypatch.setattr(os, "fdatasync", follow_sync)
        monkeypatch.setattr(Store, "write", follow_write)
        await engine.add(made)
        await engine.until(Completed)
        assert before[0] == {str(engine.downloads / path) for path, _ in made.paths}


@pytest.mark.parametrize("files", [[], [("a", 100_000), ("b/c", 70_000)]])
async def test_what_could_not_be_synced_is_not_complete_and_is_hashed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[tuple[str, int]]
) -> None:
    made = make_torrent(files=files)
    real = os.fdatasync
    failed = 0

    def fdatasync(fd: int) -> None:
        nonlocal failed
        if not failed:
            failed += 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(fd)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        refused = await engine.until(Failed)
        assert "cannot be synced" in refused.reason
        assert not engine.told(Completed)
        path = next(tmp_path.glob("state/resume/*.toml"))
        assert load_record(path.read_bytes()).state == "downloading"
        done = await engine.until(Completed)
        assert done.reason == "already-complete"
        assert engine.told(Checked)[0].hashed_bytes >= len(made.payload)
