"""Of a real seeder's torrent one file is skipped, and taken later; a real leecher gets what there is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern, run_command
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import Payload, digest_of
from tests.fakes.tracker_process import Tracker

PIECE = 65536
SIZES = (4 * PIECE + 5000, 8 * PIECE, 3 * PIECE + 1)


@pytest.mark.proof
def test_a_file_is_skipped_and_taken_later(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    payload = payload_of("selected", SIZES, PIECE)
    skipped = payload.file_paths()[1]
    seeder, bittern = Libtorrent(tmp_path / "seeder"), Bittern(tmp_path / "bittern")

    def command(*words: object) -> None:
        done = run_command(words[0], "--config", bittern.config, *words[1:])
        assert done.returncode == 0, done.stderr

    with Tracker(tmp_path / "tracker", payload.info_hash) as tracker, seeder:
        torrent = payload.torrent(tmp_path, tracker.url)
        seeder.add(torrent, payload.folder)
        tracker.wait_for(payload.info_hash, seeds=1)
        with bittern:
            bittern.wait("control.ready")
            command("add", "--skip", 1, torrent)
            bittern.wait("torrent.completed")
            bittern.wait("hook.done", on="completed", exit_status=0)
            for path in payload.file_paths():
                there = bittern.downloads / path
                assert there.exists() == (path != skipped)
                assert path == skipped or there.read_bytes() == (payload.folder / path).read_bytes()
            (parts,) = (bittern.state / "torrents").glob("*.parts")
            # of the two pieces at its ends
            assert parts.stat().st_blocks * 512 <= 2 * PIECE + 3 * 4096
        with bittern:
            bittern.wait("control.ready")
            assert not (bittern.downloads / skipped).exists()
            assert not bittern.events("torrent.completed", this_run=True)
            command("files", payload.name, "--take", 1)
            bittern.wait("torrent.completed")
            assert digest_of(bittern.downloads / payload.name) == payload.digest
            first, second = bittern.events("torrent.completed")
            bittern.wait_told("completed", 2)
            assert first["event_id"] != second["event_id"]
            bittern.wait("hook.done", on="completed", exit_status=0)
