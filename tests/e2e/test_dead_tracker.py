"""Killed at half, and nobody is there any more who would name peers: the download goes on with those that it had."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload, digest_of
from tests.fakes.processes import wait_until
from tests.fakes.recording_tracker import RecordingTracker


@pytest.mark.proof
def test_a_killed_download_goes_on_without_its_tracker(
    tmp_path: Path, payload_of: Callable[..., Payload]
) -> None:
    payload = payload_of("kept", 40 * MIB, 65536)
    bittern = Bittern(tmp_path / "bittern")
    with Libtorrent(tmp_path / "seeder") as seeder:
        # what is on record every 15 s is not to be all of it
        seeder.upload_limit = MIB
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        with RecordingTracker(seeder.port) as tracker:
            bittern.give(payload, tracker.url)
            bittern.start()
            wait_until((bittern.state / "peers.bencode").exists, 60, "its peers are kept")
            assert not bittern.events("torrent.downloaded")
            bittern.kill()
        with bittern:
            bittern.wait("torrent.completed", 120)
            assert bittern.events("tracker.trouble", this_run=True)
    assert digest_of(bittern.downloads / payload.name) == payload.digest
