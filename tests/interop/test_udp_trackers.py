"""The daemon with UDP trackers only: opentracker for IPv4, a tracker of our tests' own where IPv6 comes in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bittern.proto.announce import AnnounceEvent
from bittern.terms import Address
from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload, digest_of
from tests.fakes.processes import free_port, wait_until
from tests.fakes.tracker_process import Tracker
from tests.fakes.udp_tracker import UdpTracker, serving_udp

PayloadOf = Callable[..., Payload]


@contextmanager
def a_seeder(
    tmp_path: Path, payload: Payload, *trackers: str, host: str = "127.0.0.1"
) -> Iterator[Libtorrent]:
    seeder = Libtorrent(tmp_path / "seeder")
    seeder.host = host
    with seeder:
        seeder.add(payload.torrent(tmp_path, *trackers), payload.folder)
        seeder.wait_whole()
        yield seeder


def test_we_find_a_seeder_through_a_udp_tracker_only(tmp_path: Path, payload_of: PayloadOf) -> None:
    payload = payload_of("by datagram", 2 * MIB + 9, 65536)
    with (
        Tracker(tmp_path / "tracker", payload.info_hash) as tracker,
        a_seeder(tmp_path, payload, tracker.udp_url),
    ):
        tracker.wait_for(payload.info_hash, seeds=1)
        with Bittern(tmp_path / "bittern", network={"dial_scope": "this-host"}) as bittern:
            bittern.give(payload, tracker.udp_url)
            bittern.wait("torrent.completed")
            assert digest_of(bittern.downloads / payload.name) == payload.digest
            # it heard `completed`, and hears `stopped` in the end
            tracker.wait_for(payload.info_hash, seeds=2)
        wait_until(lambda: tracker.peers(payload.info_hash) == (1, 0), 120, "stopped")


@pytest.mark.proof
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_what_a_udp_tracker_hears(tmp_path: Path, payload_of: PayloadOf, host: str) -> None:
    payload = payload_of("by datagram", 2 * MIB + 9, 65536)
    tracker = UdpTracker()
    with serving_udp(tracker, host) as url, a_seeder(tmp_path, payload, host=host) as seeder:
        tracker.peers[bytes.fromhex(payload.info_hash)] = {Address(host, seeder.port): 0}
        with Bittern(tmp_path / "bittern", network={"listen": [host]}) as bittern:
            bittern.give(payload, f"{url}?passkey=s3cret")
            bittern.wait("torrent.completed")
            wait_until(lambda: "completed" in tracker.events(), 120, "completed")
            port = bittern.port
    started, completed, stopped = (one.question for one in tracker.asked(1))
    assert [one.event for one in (started, completed, stopped)] == [
        AnnounceEvent.STARTED,
        AnnounceEvent.COMPLETED,
        AnnounceEvent.STOPPED,
    ]
    for told in (started, completed, stopped):
        assert told.info_hashes[0].hex() == payload.info_hash
        assert told.peer_id.startswith(b"-bn")
        assert told.port == port, "our own, and not the tracker's"
        assert told.key == started.key
        assert told.url_data == b"/announce?passkey=s3cret"
    assert {one.source.port for one in tracker.heard} == {port}, (
        "from the UDP port, the same number by default"
    )
    assert (started.left, started.downloaded, started.uploaded) == (payload.total, 0, 0)
    assert completed.left == 0
    assert completed.downloaded >= payload.total
    assert "s3cret" not in bittern.out.read_text() + bittern.log.read_text()


def test_both_families_and_mixed_tiers(tmp_path: Path, payload_of: PayloadOf) -> None:
    """A dead HTTP tracker, then one that is called localhost and has an address of each family."""
    payload = payload_of("by datagram", 2 * MIB + 9, 65536)
    trackers = {host: UdpTracker() for host in ("127.0.0.1", "::1")}
    port = free_port()
    with (
        serving_udp(trackers["127.0.0.1"], "127.0.0.1", port),
        serving_udp(trackers["::1"], "::1", port),
        a_seeder(tmp_path, payload, host="::1") as seeder,
    ):
        trackers["::1"].peers[bytes.fromhex(payload.info_hash)] = {Address("::1", seeder.port): 0}
        with Bittern(
            tmp_path / "bittern", network={"listen": ["127.0.0.1", "::1"], "dial_scope": "this-host"}
        ) as bittern:
            bittern.give(
                payload,
                "http://127.0.0.1:1/announce",
                f"udp://localhost:{port}",
                "udp://elsewhere.invalid",
            )
            bittern.wait("torrent.completed")
            bittern.wait("tracker.trouble", tracker="udp://elsewhere.invalid")
        for host, tracker in trackers.items():
            assert tracker.events()[0] == "started", host
            assert tracker.events()[-1] == "stopped", host
    keys = {one.question.key for tracker in trackers.values() for one in tracker.asked(1)}
    assert len(keys) == 1
    assert {one.source.host for tracker in trackers.values() for one in tracker.heard} == set(trackers)
