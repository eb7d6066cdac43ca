"""Over IPv6 alone."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload, digest_of
from tests.fakes.recording_tracker import RecordingTracker

PayloadOf = Callable[..., Payload]

HOST6 = "::1"
ONLY6 = {"listen": [HOST6], "dial_scope": "this-host"}


@pytest.mark.proof
def test_a_download_over_ipv6_alone(tmp_path: Path, payload_of: PayloadOf) -> None:
    """From ours, which has it from libtorrent: a seed in either direction of dialling."""
    payload = payload_of("v6", 2 * MIB + 7, 65536)
    seeder = Libtorrent(tmp_path / "seeder")
    seeder.host = HOST6
    with seeder:
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        first = Bittern(tmp_path / "first", network=ONLY6)
        with RecordingTracker(seeder.port, host=HOST6) as tracker, first:
            first.give(payload, tracker.url)
            first.wait("torrent.completed", 60)
            assert tracker.told("started")[0]["port"] == str(first.port)
            seeder.stop()
            second = Bittern(tmp_path / "second", network=ONLY6)
            with RecordingTracker(first.port, host=HOST6) as another, second:
                second.give(payload, another.url)
                second.wait("torrent.completed", 60)
                assert digest_of(second.downloads / payload.name) == payload.digest
            assert set(tracker.clients + another.clients) == {HOST6}


@pytest.mark.proof
def test_the_dht_over_ipv6_alone(tmp_path: Path, payload_of: PayloadOf) -> None:
    payload = payload_of("v6", 2 * MIB + 7, 65536)
    router = Bittern(tmp_path / "router", network=ONLY6 | {"dht": True, "dht_bootstrap": []})
    with router:
        network = ONLY6 | {"dht": True, "dht_bootstrap": [f"[{HOST6}]:{router.udp_port}"]}
        seeder = Bittern(tmp_path / "seeder", network=network)
        leecher = Bittern(tmp_path / "leecher", network=network)
        (seeder.downloads / payload.name).write_bytes((payload.folder / payload.name).read_bytes())
        with seeder, leecher:
            seeder.give(payload)
            seeder.wait("torrent.completed")
            leecher.give(payload)
            leecher.wait("torrent.completed", 150)
            assert digest_of(leecher.downloads / payload.name) == payload.digest
