"""Over IPv6 alone, and beside IPv4."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload, digest_of
from tests.fakes.processes import HOST, free_port
from tests.fakes.recording_tracker import RecordingTracker

PayloadOf = Callable[..., Payload]

HOST6 = "::1"
ONLY6 = {"listen": [HOST6], "dial_scope": "this-host"}
BOTH = {"listen": [HOST, HOST6], "dial_scope": "this-host"}


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
            first.wait("torrent.completed")
            assert tracker.told("started")[0]["port"] == str(first.port)
            seeder.stop()
            second = Bittern(tmp_path / "second", network=ONLY6)
            with RecordingTracker(first.port, host=HOST6) as another, second:
                second.give(payload, another.url)
                second.wait("torrent.completed")
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
            leecher.wait("torrent.completed")
            assert digest_of(leecher.downloads / payload.name) == payload.digest


@pytest.mark.proof
def test_an_http_tracker_hears_of_us_by_both_families(tmp_path: Path, payload_of: PayloadOf) -> None:
    """It is called localhost; only its IPv6 side knows somebody."""
    payload = payload_of("v6", 2 * MIB + 7, 65536)
    keys: set[str] = set()
    seeder = Libtorrent(tmp_path / "seeder")
    seeder.host = HOST6
    with seeder, RecordingTracker(listens_on=free_port()) as four:
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        with RecordingTracker(seeder.port, host=HOST6, listens_on=four.port) as six:
            with Bittern(tmp_path / "bittern", network=BOTH) as bittern:
                bittern.give(payload, f"http://localhost:{four.port}/announce")
                bittern.wait("torrent.completed")
            for tracker, host in ((four, HOST), (six, HOST6)):
                announces = [one for one in tracker.announces if "key" in one]  # and not scrapes
                events = [one.get("event") for one in announces]
                # `completed`, given up at the stop, comes by another connection: perhaps it is heard after `stopped`
                assert events[0] == "started", host
                assert "stopped" in events, host
                assert set(tracker.clients) == {host}
                keys |= {one["key"] for one in announces}
            assert len(keys) == 1, "by which the tracker knows that both are one"
