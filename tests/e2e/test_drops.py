"""Watched folders with the real process: whatever people and programs put there."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.payloads import Payload, make_payload
from tests.fakes.processes import PATIENCE_S, wait_until

PayloadOf = Callable[..., Payload]


@pytest.fixture
def payload(payload_of: PayloadOf) -> Payload:
    return payload_of("dropped", 50_000, 16384)


def many(tmp_path: Path, count: int, first: int = 0) -> list[Payload]:
    return [make_payload(tmp_path / "many", f"number {first + number}", 5, 16384) for number in range(count)]


@pytest.mark.parametrize("count", [200, pytest.param(1000, marks=pytest.mark.proof)])
def test_many_at_once(tmp_path: Path, count: int) -> None:
    payloads = many(tmp_path, count)
    wanted = {payload.info_hash for payload in payloads}
    bittern = Bittern(tmp_path / "bittern")
    bittern.tables["hook"]["on"] = ["failed"]
    bittern.write_config()
    with bittern:
        for payload in payloads:
            bittern.give(payload)
        bittern.wait("torrent.checked", 300, count=count)
        bittern.wait("drop.accepted", 300, count=count)
    added = [event["info_hash"] for event in bittern.events("torrent.added")]
    assert len(added) == count
    assert set(added) == wanted
    assert len(list((bittern.drop / "accepted").iterdir())) == count
    assert [path.name for path in bittern.drop.iterdir() if path.is_file()] == []
    assert set(bittern.records()) == wanted
    with bittern:
        assert bittern.events("daemon.loaded", this_run=True)[-1]["torrents"] == count
        assert not bittern.events("torrent.added", this_run=True)


@pytest.mark.parametrize("count", [120, pytest.param(2000, marks=pytest.mark.proof)])
def test_killed_while_many_are_taken_in(tmp_path: Path, count: int) -> None:
    payloads = many(tmp_path, count)
    bittern = Bittern(tmp_path / "bittern")
    bittern.tables["hook"]["on"] = ["failed"]
    bittern.write_config()
    for payload in payloads:
        bittern.give(payload)
    in_time = 0
    for number in range(30):
        bittern.start("")
        bittern.wait("torrent.added", count=5 + 20 * (number % 3))
        bittern.kill()
        left = len(list(bittern.drop.glob("*.torrent")))
        in_time += left > 0
        if number >= 2 and in_time:
            break
        # On a slow machine more is over before it is killed; and what has a record, and was not moved yet, is not added
        # again: there must be more than the next life is waited for.
        if len(payloads) - len(bittern.records()) < 60:
            more = many(tmp_path, 120, first=len(payloads))
            payloads += more
            for payload in more:
                bittern.give(payload)
    assert in_time, "no kill came while something was still to be taken in"
    count = len(payloads)
    bittern.start()
    wait_until(
        lambda: len(list((bittern.drop / "accepted").glob("*.torrent"))) == count, PATIENCE_S, "all accepted"
    )
    bittern.kill()
    with bittern:
        assert bittern.events("daemon.loaded", this_run=True)[0]["torrents"] == count
    assert set(bittern.records()) == {payload.info_hash for payload in payloads}
    added = [event["info_hash"] for event in bittern.events("torrent.added")]
    assert len(set(added)) == len(added)  # never for one that was known


def write_slowly(path: Path, blob: bytes, seconds: float) -> None:
    """As a browser or a copy over a thin line does: in its place, bit by bit."""
    steps = 20
    with path.open("wb") as file:
        for step in range(steps):
            file.write(blob[len(blob) * step // steps : len(blob) * (step + 1) // steps])
            file.flush()
            time.sleep(seconds / steps)


@pytest.mark.parametrize("seconds", [2.5, pytest.param(75, marks=pytest.mark.proof)])
def test_written_slowly(tmp_path: Path, payload: Payload, seconds: float) -> None:
    with Bittern(tmp_path / "bittern") as bittern:
        write_slowly(bittern.drop / "slow.torrent", payload.blob(), seconds)
        bittern.wait("torrent.added", info_hash=payload.info_hash)
        bittern.wait("drop.accepted")
        assert not bittern.events("drop.rejected")
    assert (bittern.drop / "accepted/slow.torrent").read_bytes() == payload.blob()


@pytest.mark.proof
def test_a_half_that_stays_a_half(tmp_path: Path, payload: Payload) -> None:
    with Bittern(tmp_path / "bittern") as bittern:
        (bittern.drop / "half.torrent").write_bytes(payload.blob()[:-40])
        (bittern.drop / "empty.torrent").touch()
        bittern.wait("drop.rejected", count=2)
        assert not bittern.events("torrent.added")
    rejected = bittern.drop / "rejected"
    assert sorted(path.name for path in rejected.iterdir()) == [
        "empty.torrent",
        "empty.torrent.reason.txt",
        "half.torrent",
        "half.torrent.reason.txt",
    ]


def test_what_is_no_drop(tmp_path: Path, payload: Payload) -> None:
    bittern = Bittern(tmp_path / "bittern")
    drop, blob = bittern.drop, payload.blob()
    (drop / "folder.torrent").mkdir()
    os.mkfifo(drop / "pipe.torrent")
    (drop / "loop.torrent").symlink_to("loop.torrent")
    (drop / ".hidden.torrent").write_bytes(blob)
    (drop / "notes.txt").write_text("not for you")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(drop / "socket.torrent"))
        with bittern:
            (drop / "real.TORRENT").write_bytes(blob)
            bittern.wait("torrent.added", info_hash=payload.info_hash)
            bittern.reload()
            bittern.wait("config.reloaded")
            (drop / "bad.torrent").write_bytes(b"nonsense")
            told = bittern.wait("drop.rejected")
            assert told["path"] == str(drop / "bad.torrent")
            assert told["reason"]
    left = {path.name for path in drop.iterdir()}
    assert {"folder.torrent", "pipe.torrent", "loop.torrent", ".hidden.torrent", "notes.txt"} <= left
    assert (drop / "rejected/bad.torrent").read_bytes() == b"nonsense"
    assert (drop / "rejected/bad.torrent.reason.txt").read_text().strip()
    # told once each, however often the folder is looked at
    ignored = [event["path"] for event in bittern.events("drop.ignored")]
    assert len(ignored) == len(set(ignored))
    assert str(drop / "pipe.torrent") in ignored


def test_all_ways_to_arrive(tmp_path: Path, payload_of: PayloadOf) -> None:
    waiting, moved, linked, odd, late = (payload_of(f"way {number}", 40_000, 16384) for number in range(5))
    bittern = Bittern(tmp_path / "bittern")
    bittern.give(waiting)  # there at start-up
    with bittern:
        bittern.give(moved)
        linked.torrent(tmp_path)
        (bittern.drop / "linked.torrent").symlink_to(tmp_path / f"{linked.name}.torrent")
        Path(os.fsdecode(bytes(bittern.drop) + b"/na\xffme.torrent")).write_bytes(odd.blob())
        bittern.wait("torrent.added", count=4)
        # Gone for a while, and back: made anew, so that whoever watched the old one sees nothing.
        bittern.drop.rename(tmp_path / "elsewhere")
        time.sleep(0.5)
        bittern.drop.mkdir()
        bittern.give(late)
        bittern.wait("torrent.added", info_hash=late.info_hash)
    added = {event["info_hash"] for event in bittern.events("torrent.added")}
    assert added == {one.info_hash for one in (waiting, moved, linked, odd, late)}


def test_twice_and_under_two_names(tmp_path: Path, payload: Payload) -> None:
    with Bittern(tmp_path / "bittern") as bittern:
        bittern.give(payload, "http://127.0.0.1:9/one")
        bittern.wait("drop.accepted")  # else the second takes the place of the first
        bittern.give(payload, "http://127.0.0.1:9/one")
        bittern.give(payload, "http://127.0.0.1:9/one", "http://127.0.0.1:9/two", name="other.torrent")
        bittern.wait("drop.accepted", count=3)
        assert len(bittern.events("torrent.added")) == 1
    [record] = bittern.records().values()
    assert {url for tier in record.trackers for url in tier} == {
        "http://127.0.0.1:9/one",
        "http://127.0.0.1:9/two",
    }


def test_tied_to_its_file(tmp_path: Path, payload: Payload) -> None:
    bittern = Bittern(tmp_path / "bittern", watch={"tie": True, "after_add": "keep"})
    shutil.copy(payload.folder / payload.name, bittern.downloads)
    with bittern:
        bittern.give(payload)
        bittern.wait("torrent.completed")
        # The folder vanishes and comes back: that removes nothing.
        away = tmp_path / "away"
        bittern.drop.rename(away)
        bittern.signal(signal.SIGHUP)
        bittern.wait("watch.missing")
        away.rename(bittern.drop)
        bittern.signal(signal.SIGHUP)  # it would see that by itself, some seconds later
        bittern.wait("watch.returned")
        time.sleep(1.5)  # in which it would be missed twice
        assert not bittern.events("torrent.removed")
        (bittern.drop / f"{payload.name}.torrent").unlink()
        bittern.wait("torrent.removed", info_hash=payload.info_hash)
        told = bittern.wait_told("removed")
        assert told.stdin["info_hash"] == payload.info_hash
    assert (bittern.downloads / payload.name).exists()
    assert not bittern.records()
