"""Checks that are interrupted: by a stop, by the torrent's removal."""

import gc
import threading
from pathlib import Path
from typing import Any

import pytest
import trio

from bittern.disk.reader import ReadStopped, SequentialReader
from bittern.engine import check_hashing, check_queue, checker
from bittern.engine.events import Checked, Completed, Removed
from bittern.engine.torrent import State, Torrent
from tests.fakes.engine import running
from tests.fakes.torrents import Made, make_torrent


def _lying_there(tmp_path: Path) -> Made:
    made = make_torrent(size=400_000, piece_length=16384)
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / made.name).write_bytes(made.payload)
    return made


async def _happened(event: threading.Event) -> None:
    with trio.fail_after(60):
        while not event.is_set():
            await trio.sleep(0.001)


async def test_a_stop_ends_a_check_at_its_next_read_and_the_next_start_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _lying_there(tmp_path)
    began = threading.Event()

    def read_slowly(reader: SequentialReader, _offset: int, _view: memoryview) -> bool:
        began.set()
        assert reader._stop.wait(300)
        raise ReadStopped

    with monkeypatch.context() as patched:
        patched.setattr(SequentialReader, "read_if_there", read_slowly)
        for module in (check_queue, checker):
            patched.setattr(module, "SMALL_BYTES", 0)
        async with running(tmp_path) as engine:
            await engine.add(made)
            await _happened(began)
        assert not engine.told(Checked)
    async with running(tmp_path) as engine:
        checked = await engine.until(Checked)
        assert checked.complete
        assert checked.hashed_bytes == 400_000
        await engine.until(Completed)
    assert made.is_at(tmp_path / "downloads")


async def test_a_removed_torrents_check_ends_and_leaves_its_place_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _lying_there(tmp_path)
    began, go = threading.Event(), threading.Event()
    read: list[int] = []
    usual = SequentialReader.read_if_there

    def read_slowly(reader: SequentialReader, offset: int, view: memoryview) -> bool:
        began.set()
        assert go.wait(300)
        read.append(offset)
        return usual(reader, offset, view)

    with monkeypatch.context() as patched:
        patched.setattr(SequentialReader, "read_if_there", read_slowly)
        for module in (check_queue, checker):
            patched.setattr(module, "SMALL_BYTES", 0)
        patched.setattr(check_hashing, "SLICE_AT_LEAST_BYTES", 1)
        patched.setattr(check_hashing, "SLICE_AT_MOST_BYTES", 1)
        # Not all of it is right, so the place would be somebody else's.
        (tmp_path / "downloads" / made.name).write_bytes(bytes(400_000))
        async with running(tmp_path) as engine:
            await engine.add(made)
            await _happened(began)
            await engine.session.remove(made.info_hash, reason="test")
            assert engine.told(Removed)
            go.set()
            (tmp_path / "downloads" / made.name).write_bytes(made.payload)
            await engine.add(made)
            await engine.until(Completed)
            assert [event.facts.path for event in engine.told(Completed)] == [
                str(tmp_path / "downloads" / made.name)
            ]
            assert len(engine.told(Checked)) == 1
            # the second check, and no more of the first than was under way
            assert len(read) <= made.piece_count + checker.CHECKS_AT_ONCE


async def test_nobody_is_talked_to_while_a_check_asked_for_during_another_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _lying_there(tmp_path)
    with (tmp_path / "downloads" / made.name).open("r+b") as file:
        file.write(bytes(16384))
    began, go = threading.Event(), threading.Event()
    states: list[tuple[State, bool]] = []
    usual = check_hashing.hash_pieces

    async with running(tmp_path) as engine:

        def hash_slowly(*terms: Any) -> Any:
            torrent = engine.session.torrents[made.info_hash]
            states.append((torrent.state, made.info_hash in engine.session.swarms.live))
            began.set()
            assert go.wait(300)
            return usual(*terms)

        with monkeypatch.context() as patched:
            patched.setattr(check_hashing, "hash_pieces", hash_slowly)
            for module in (check_queue, checker):
                patched.setattr(module, "SMALL_BYTES", 0)
            await engine.add(made)
            await _happened(began)
            torrent = engine.session.torrents[made.info_hash]
            assert engine.session.recheck(torrent)
            go.set()
            await engine.until(Checked, 2)
            assert len(states) >= 2
            assert set(states) <= {(State.CHECKING, False), (State.QUEUED, False)}
            await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")


def test_slices_hold_every_piece_once_and_become_small_towards_the_end() -> None:
    made = make_torrent(size=400_000, piece_length=16384)
    layout = check_hashing.Layout(made.piece_length, 400_000, (400_000,))
    pieces = [index for index in range(layout.piece_count) if index % 5]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(check_hashing, "SLICE_AT_LEAST_BYTES", 1)
        slices = list(check_hashing._slices(layout, pieces, 2))
    assert [piece for part in slices for piece in part] == pieces
    sizes = [len(part) for part in slices]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (5, 1)


async def test_nobody_keeps_a_torrent_that_was_removed(tmp_path: Path) -> None:
    made = make_torrent("kept by nobody")

    def kept() -> int:
        gc.collect()
        return sum(
            isinstance(one, Torrent) and one.record.info_hash == made.info_hash for one in gc.get_objects()
        )

    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        assert kept() == 1
        await engine.session.remove(made.info_hash, reason="test")
        await engine.until_true(lambda: not kept(), "gone")
