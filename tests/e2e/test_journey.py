"""The main job, with the real process: a dropped .torrent becomes verified files, and someone is told."""

import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload, allocated, digest_of
from tests.fakes.processes import PATIENCE_S, wait_until

PayloadOf = Callable[..., Payload]

PIECE_BYTES = 64 * 1024


@pytest.fixture
def payload(payload_of: PayloadOf) -> Payload:
    return payload_of("journey", [3 * MIB, 0, 5, 2 * MIB + 77], PIECE_BYTES)


def seeding(tmp_path: Path, payload: Payload, upload_limit: int = 0) -> Libtorrent:
    """A seeder that is up and has it all; enter it."""
    seeder = Libtorrent(tmp_path / "seeder")
    seeder.upload_limit = upload_limit
    seeder.seed_mode = True
    seeder.launch()
    seeder.add(payload.torrent(tmp_path), payload.folder)
    seeder.wait_whole()
    return seeder


def test_drop_done_hook_files(tmp_path: Path, payload: Payload) -> None:
    seeder = seeding(tmp_path, payload)
    bittern = Bittern(
        tmp_path / "bittern",
        paths={"incomplete": str(tmp_path / "incomplete")},
        watch={"label": "films"},
    )
    (tmp_path / "incomplete").mkdir()
    try:
        with bittern:
            bittern.give(payload)
            bittern.wait("torrent.checked", complete=False, hashed_bytes=0)
            seeder.connect(bittern.port)
            bittern.wait("torrent.completed", info_hash=payload.info_hash, name=payload.name)
            assert digest_of(bittern.downloads / payload.name) == payload.digest
            assert not (tmp_path / "incomplete" / payload.name).exists()
            bittern.wait("hook.done", on="completed", exit_status=0)
            [told] = bittern.told("completed")
            names = [event["event"] for event in bittern.events(info_hash=payload.info_hash)]
    finally:
        seeder.stop()
    order = ["torrent.added", "torrent.checked", "torrent.downloaded", "torrent.completed"]
    assert [name for name in names if name in order] == order
    assert (bittern.drop / "accepted" / f"{payload.name}.torrent").read_bytes() == payload.blob()

    path = str(bittern.downloads / payload.name)
    assert told.argv == [payload.name]
    assert told.cwd == "/"
    wanted = {
        "BITTERN_EVENT": "completed",
        "BITTERN_EVENT_ID": told.event_id,
        "BITTERN_ATTEMPT": "1",
        "BITTERN_INFO_HASH": payload.info_hash,
        "BITTERN_NAME": payload.name,
        "BITTERN_PATH": path,
        "BITTERN_DIR": str(bittern.downloads),
        "BITTERN_SIZE_BYTES": str(payload.total),
        "BITTERN_LABEL": "films",
        "TR_TORRENT_ID": "1",
        "TR_TORRENT_NAME": payload.name,
        "TR_TORRENT_DIR": str(bittern.downloads),
        "TR_TORRENT_HASH": payload.info_hash,
        "TR_TORRENT_LABELS": "films",
        "TR_TORRENT_PRIORITY": "0",
        "TR_TORRENT_TRACKERS": "",
    }
    assert {key: told.env.get(key) for key in wanted} == wanted
    assert int(told.env["TR_TORRENT_BYTES_DOWNLOADED"]) >= payload.total
    assert told.env["TR_APP_VERSION"]
    assert told.env["TR_TIME_LOCALTIME"]
    assert not [key for key in told.env if key.startswith(("WATCHDOG_", "LISTEN_")) or key == "NOTIFY_SOCKET"]
    when = told.stdin.pop("time")
    assert isinstance(when, int | float)
    assert told.stdin == {
        "event": "completed",
        "event_id": told.event_id,
        "attempt": 1,
        "info_hash": payload.info_hash,
        "name": payload.name,
        "path": path,
        "dir": str(bittern.downloads),
        "size_bytes": payload.total,
        "label": "films",
        "labels": ["films"],
        "watch": str(bittern.drop),
        "reason": "downloaded",
    }
    [added] = bittern.told("added")
    assert added.stdin["info_hash"] == payload.info_hash
    assert added.event_id != told.event_id


def test_data_that_is_whole_already(tmp_path: Path, payload: Payload) -> None:
    bittern = Bittern(tmp_path / "bittern")
    shutil.copytree(payload.folder / payload.name, bittern.downloads / payload.name)
    before = {path: path.stat().st_mtime_ns for path in bittern.downloads.rglob("*.bin")}
    with bittern:
        bittern.give(payload)
        assert bittern.wait("torrent.completed")["reason"] == "already-complete"
        checked = bittern.events("torrent.checked")
        assert [(event["complete"], event["hashed_bytes"]) for event in checked] == [(True, payload.total)]
        assert bittern.wait_told("completed").stdin["reason"] == "already-complete"
    assert {path: path.stat().st_mtime_ns for path in bittern.downloads.rglob("*.bin")} == before


def has_pieces(path: Path, count: int) -> bool:
    return allocated(path) >= count * PIECE_BYTES


def test_a_stop_and_a_start_hash_nothing(tmp_path: Path, payload: Payload) -> None:
    seeder = seeding(tmp_path, payload, upload_limit=3 * MIB)
    try:
        for number in range(20):
            bittern = Bittern(tmp_path / f"bittern {number}")
            before = seeder.status()["uploaded"]
            with bittern:
                bittern.give(payload)
                bittern.wait("torrent.checked")
                seeder.connect(bittern.port)
                wait_until(
                    partial(has_pieces, bittern.downloads / payload.name, 10), PATIENCE_S, "a part of it"
                )
            claimed = bittern.claimed(payload)
            assert len(claimed) > 5
            # on a slow machine all may have come before the stop
            if len(claimed) < payload.piece_count:
                break
        else:
            raise AssertionError("no stop came in the middle")
        for index in claimed:
            assert hashlib.sha1(payload.read_piece(bittern.downloads, index)).digest() == payload.piece_hash(
                index
            )
        with bittern:
            assert bittern.events("daemon.loaded", this_run=True)[-1]["torrents"] == 1
            seeder.connect(bittern.port)
            bittern.wait("torrent.completed")
            assert not bittern.events("torrent.checked", this_run=True)
            bittern.wait_told("completed")
            # only what was under way when it stopped came twice
            assert seeder.status()["uploaded"] - before < payload.total + MIB
        with bittern:
            loaded = bittern.events("daemon.loaded", this_run=True)[-1]
            assert (loaded["torrents"], loaded["complete"]) == (1, 1)
            again = [event["event"] for event in bittern.events(this_run=True) if "info_hash" in event]
            assert again == []
    finally:
        seeder.stop()
    assert digest_of(bittern.downloads / payload.name) == payload.digest
    assert len(bittern.told("completed")) == 1
    assert len(bittern.events("torrent.added")) == 1


def test_an_interrupted_hook_is_run_again(tmp_path: Path, payload: Payload) -> None:
    """At least once: whoever dies between the commit and the hook's end repeats it, under the same id."""
    bittern = Bittern(tmp_path / "bittern")
    shutil.copytree(payload.folder / payload.name, bittern.downloads / payload.name)
    gate = tmp_path / "gate"
    bittern.hook.write_text(bittern.hook.read_text() + f"while [ ! -e {gate} ]; do sleep 0.05; done\n")
    bittern.tables["hook"]["on"] = ["completed"]
    bittern.write_config()
    bittern.start()
    bittern.give(payload)
    bittern.wait_told("completed")
    bittern.kill()
    gate.touch()
    with bittern:
        done = bittern.wait("hook.done", on="completed", exit_status=0)
        assert done["attempt"] == 2
    with bittern:
        pass
    told = bittern.told("completed")
    assert [(one.attempt, one.stdin["attempt"]) for one in told] == [("1", 1), ("2", 2)]
    assert len({one.event_id for one in told}) == 1


@pytest.mark.proof
def test_a_stop_does_not_wait_for_a_stubborn_hook(tmp_path: Path, payload: Payload) -> None:
    """5 s, then TERM, then KILL; the delivery stays, and being stopped does not count as an attempt."""
    bittern = Bittern(tmp_path / "bittern")
    shutil.copytree(payload.folder / payload.name, bittern.downloads / payload.name)
    told = bittern.hook.read_text()
    bittern.hook.write_text(f"{told}trap '' TERM\nwhile :; do sleep 1; done\n")
    bittern.tables["hook"]["on"] = ["completed"]
    bittern.write_config()
    with bittern:
        bittern.give(payload)
        bittern.wait_told("completed")
    bittern.hook.write_text(told)
    with bittern:
        bittern.wait("hook.done", on="completed", exit_status=0)
    first, second = bittern.told("completed")
    assert first.event_id == second.event_id
    assert first.attempt == second.attempt
