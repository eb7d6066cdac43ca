"""What a tracker hears over the life of a download, and what of it must not be written down."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.fakes.bittern_process import Bittern, run_command
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload
from tests.fakes.processes import PATIENCE_S, wait_until
from tests.fakes.recording_tracker import RecordingTracker


def answered(bittern: Bittern, payload: Payload) -> bool:
    """Has the one tracker, in this run of the daemon?"""
    told = run_command("trackers", "--json", "--config", bittern.config, payload.name)
    return told.returncode == 0 and json.loads(told.stdout)[0]["answered_s_ago"] is not None


def test_what_a_tracker_hears(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    payload = payload_of("announced", 2 * MIB + 9, 65536)
    bittern = Bittern(tmp_path / "bittern", log={"level": "debug"})
    with Libtorrent(tmp_path / "seeder") as seeder:
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        with RecordingTracker(seeder.port) as tracker:
            with bittern:
                bittern.give(payload, tracker.url)
                bittern.wait("torrent.completed")
                wait_until(lambda: tracker.told("completed"), PATIENCE_S, "completed")
                port = bittern.port
            [started], [completed], [stopped] = map(tracker.told, ("started", "completed", "stopped"))
            # seeding from the start: `completed` is not said again
            with bittern:
                wait_until(lambda: len(tracker.told("started")) == 2, PATIENCE_S, "started again")
                wait_until(lambda: answered(bittern, payload), PATIENCE_S, "the answer to it")
            assert len(tracker.told("completed")) == 1
            assert len(tracker.told("stopped")) == 2
            assert tracker.told("started")[1]["left"] == "0"
    for told in (started, completed, stopped):
        assert told["passkey"] == "s3cret"
        assert told["info_hash"].encode("latin-1").hex() == payload.info_hash
        assert told["peer_id"].startswith("-bn")
        assert told["port"] == str(port)
        assert told["compact"] == "1"
        assert told["key"] == started["key"]
    assert started["left"] == str(payload.total)
    assert (started["downloaded"], started["uploaded"]) == ("0", "0")
    assert completed["left"] == "0"
    assert int(completed["downloaded"]) >= payload.total
    assert started["numwant"] == "80"
    assert completed["trackerid"] == "it's me"
    assert "s3cret" not in bittern.out.read_text() + bittern.log.read_text()


def test_a_stop_does_not_wait_for_a_silent_tracker(
    tmp_path: Path, payload_of: Callable[..., Payload]
) -> None:
    payload = payload_of("silent", 50_000, 16384)
    with RecordingTracker() as tracker:
        with Bittern(tmp_path / "bittern") as bittern:
            bittern.give(payload, tracker.url)
            # whoever has not answered is not told of the stop
            wait_until(lambda: answered(bittern, payload), PATIENCE_S, "the answer to `started`")
            tracker.silent.set()
        # within 10 s, as every stop here
        assert len(tracker.told("stopped")) == 1
