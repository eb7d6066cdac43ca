"""SIGKILL at random moments: nothing is lost, nothing is doubled, nothing false is claimed."""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload, digest_of
from tests.fakes.processes import free_port, wait_until
from tests.fakes.tracker_process import Tracker


def check_claims(bittern: Bittern, payload: Payload, folders: list[Path]) -> int:
    """Every piece that the record claims is right on the disk; how many there are."""
    claimed = bittern.claimed(payload)
    for index in claimed:
        found = {hashlib.sha1(payload.read_piece(folder, index)).digest() for folder in folders}
        assert payload.piece_hash(index) in found, f"piece {index} is claimed and wrong"
    return len(claimed)


def one_download(bittern: Bittern, payload: Payload, tracker: Tracker, kills: int, rng: random.Random) -> int:
    """From the drop to the hook, killed on the way up to that often; how often it was."""
    incomplete = Path(bittern.tables["paths"].get("incomplete", bittern.downloads))
    folders = [incomplete, bittern.downloads]
    bittern.give(payload, tracker.url)
    killed, claimed = 0, 0
    while True:
        bittern.start("")
        # A start takes about half a second: some kills come before it is ready.
        patience = rng.uniform(0.1, 1.6) if killed < kills else 90.0
        try:
            wait_until(
                lambda: bittern.events("hook.done", this_run=True, on="completed"), patience, "completion"
            )
            break
        except AssertionError:
            assert killed < kills, bittern.tail()
        for event in bittern.events("torrent.checked", this_run=True):
            # Claimed pieces are believed; the last one may be short.
            assert event["hashed_bytes"] <= payload.total - max(0, claimed - 1) * payload.piece_length
        bittern.kill()
        killed += 1
        now_claimed = check_claims(bittern, payload, folders)
        assert now_claimed >= claimed, "what was flushed is forgotten"
        claimed = now_claimed
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
    return killed


def kill_often(tmp_path: Path, payload: Payload, kills: int, most_each: int) -> None:
    rng = random.Random(kills)
    left = kills
    with (
        Tracker(tmp_path / "tracker", payload.info_hash) as tracker,
        Libtorrent(tmp_path / "seeder") as seeder,
    ):
        seeder.upload_limit = 5 * MIB
        seeder.add(payload.torrent(tmp_path, tracker.url), payload.folder)
        tracker.wait_for(payload.info_hash, seeds=1)
        for number in range(50):
            bittern = Bittern(tmp_path / f"bittern {number}", network={"port": free_port()})
            if number % 2:
                bittern.tables["paths"]["incomplete"] = str(bittern.work / "incomplete")
                bittern.write_config()
            left -= one_download(bittern, payload, tracker, min(left, most_each), rng)
            if left <= 0:
                break
    assert left <= 0


def test_killed_and_started_again(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    kill_often(tmp_path, payload_of("killed", [9 * MIB, 100, 3 * MIB + 5], 128 * 1024), 4, 2)


@pytest.mark.proof
def test_fifty_kills(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    kill_often(tmp_path, payload_of("fifty kills", [9 * MIB, 100, 3 * MIB + 5], 128 * 1024), 50, 10)
