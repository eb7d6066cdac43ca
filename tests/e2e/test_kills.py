"""SIGKILL at random moments: nothing is lost, nothing is doubled, nothing false is claimed."""

import hashlib
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload, allocated, digest_of
from tests.fakes.processes import PATIENCE_S, free_port, wait_until
from tests.fakes.tracker_process import Tracker


def check_claims(bittern: Bittern, payload: Payload, folders: list[Path]) -> int:
    """Every piece that the record claims is right on the disk; how many there are."""
    claimed = bittern.claimed(payload)
    for index in claimed:
        found = {hashlib.sha1(payload.read_piece(folder, index)).digest() for folder in folders}
        assert payload.piece_hash(index) in found, f"piece {index} is claimed and wrong"
    return len(claimed)


def under_way(bittern: Bittern) -> bool:
    """Did its last run get to a download that was not over? (Ask when it has ended.)"""
    return bool(
        bittern.events("daemon.loaded", this_run=True)
        and bittern.events("torrent.added")
        and not bittern.events("torrent.downloaded")
    )


def _is_over(bittern: Bittern) -> bool:
    """Is it up, and was the completion told, in this run or by one whose end came before its word of it?"""
    ready = bittern.events("daemon.ready", this_run=True)
    done = (bittern.state / "deliveries" / "done").glob("*.toml")
    return bool(ready) and any('"completed"' in one.read_text() for one in done)


def _has_or_is_over(bittern: Bittern, copies: list[Path], size: int) -> bool:
    return sum(map(allocated, copies)) >= size or _is_over(bittern)


def one_download(
    bittern: Bittern, payload: Payload, tracker: Tracker, kills: int, moments: Callable[[], float]
) -> tuple[int, int]:
    """From the drop to the hook, killed while it downloads up to that often; how often it was, and how many claims of
    pieces were checked after kills. Kills while it starts, and after the last piece, come on top and are not counted.

    Every third end is an orderly stop: what that flushed is what later kills must not hurt. After a kill that came
    before it was up the moment is counted from there on, or a slow machine would never get further.
    """
    incomplete = Path(bittern.tables["paths"].get("incomplete", bittern.downloads))
    copies = [incomplete / payload.name, bittern.downloads / payload.name]
    bittern.give(payload, tracker.url)
    ends = killed = claimed = checked = 0
    orderly = False
    too_soon = False
    while True:
        bittern.start("daemon.loaded" if too_soon else "")
        patience = moments() if killed < kills else 120.0
        try:
            wait_until(lambda: _is_over(bittern), patience, "completion")
            break
        except AssertionError:
            assert killed < kills, bittern.tail()
        # One that ended by itself would look like one more kill.
        assert bittern.alive, bittern.tail()
        for event in bittern.events("torrent.checked", this_run=True):
            # Claimed pieces are believed (the last one may be short), and after an orderly stop all the rest too.
            assert event["hashed_bytes"] <= payload.total - max(0, claimed - 1) * payload.piece_length
            assert not orderly
        ends += 1
        too_soon = not bittern.events("daemon.loaded", this_run=True)
        orderly = False
        by_kill = ends % 3 != 2
        if by_kill:
            bittern.kill()
            killed += under_way(bittern)
        else:
            # However slow the machine is, it must have something to flush.
            enough = sum(map(allocated, copies)) + 16 * payload.piece_length
            wait_until(partial(_has_or_is_over, bittern, copies, enough), PATIENCE_S, "a few pieces more")
            # Before it is ready the signal may find no one to be orderly.
            assert bittern.stop() == 0 or not bittern.events("daemon.ready", this_run=True)
            orderly = bool(bittern.events("torrent.checked", this_run=True))
        now_claimed = check_claims(bittern, payload, [incomplete, bittern.downloads])
        assert now_claimed >= claimed, "what was flushed is forgotten"
        claimed = now_claimed
        checked += claimed * by_kill
    assert bittern.stop() == 0
    assert digest_of(bittern.downloads / payload.name) == payload.digest
    assert check_claims(bittern, payload, [bittern.downloads]) == payload.piece_count
    assert len(bittern.events("torrent.added")) <= 1
    assert len(bittern.records()) == 1
    assert len({one.event_id for one in bittern.told("completed")}) == 1
    bittern.check_unhurt()
    # and there is nothing left to do
    with bittern:
        assert bittern.events("daemon.loaded", this_run=True)[-1]["complete"] == 1
    return killed, checked


def kill_often(
    tmp_path: Path,
    payload: Payload,
    upload_limit: int,
    kills: int,
    most_each: int,
    moments: Callable[[], float],
) -> None:
    checked = 0
    with (
        Tracker(tmp_path / "tracker", payload.info_hash) as tracker,
        Libtorrent(tmp_path / "seeder") as seeder,
    ):
        seeder.upload_limit = upload_limit
        seeder.add(payload.torrent(tmp_path, tracker.url), payload.folder)
        tracker.wait_for(payload.info_hash, seeds=1)
        for number in range(50):
            bittern = Bittern(tmp_path / f"bittern {number}", network={"port": free_port()})
            if number % 2:
                bittern.tables["paths"]["incomplete"] = str(bittern.work / "incomplete")
                bittern.write_config()
            done = one_download(bittern, payload, tracker, max(1, min(kills, most_each)), moments)
            kills -= done[0]
            checked += done[1]
            if kills <= 0 and checked:
                break
    assert kills <= 0
    assert checked, "no kill came after a piece was claimed: nothing is proved"


def at_random(low: float, high: float) -> Callable[[], float]:
    rng = random.Random(high)
    return lambda: rng.uniform(low, high)


SIZES = [9 * MIB, 100, 3 * MIB + 5]


def test_killed_and_started_again(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    kill_often(tmp_path, payload_of("killed", SIZES, 128 * 1024), 4 * MIB, 4, 3, at_random(0.7, 1.5))


@pytest.mark.proof
def test_fifty_kills(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    """A start takes about half a second, so some kills come before it is ready, and some near the end."""
    kill_often(tmp_path, payload_of("fifty kills", SIZES, 128 * 1024), 4 * MIB, 50, 10, at_random(0.1, 1.8))


@pytest.mark.proof
def test_kills_of_a_slow_download(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    """Slow enough that records are written while it runs."""
    kill_often(tmp_path, payload_of("slow kills", SIZES, 128 * 1024), 350_000, 3, 3, at_random(8, 22))
