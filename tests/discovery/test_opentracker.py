"""Announces to a real opentracker, over the real client."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from bittern.discovery.trackers import announce
from bittern.errors import TrackerError
from bittern.net.http import HttpClient
from bittern.proto.announce import AnnounceEvent, AnnounceRequest, AnnounceResponse
from bittern.proto.handshake import make_peer_id
from bittern.terms import InfoHash
from tests.fakes.tracker_process import Tracker

KNOWN = InfoHash(random.Random(11).randbytes(20))
UNKNOWN = InfoHash(random.Random(12).randbytes(20))


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with Tracker(tmp_path, KNOWN.hex()) as tracker:
        yield tracker.url


async def asked(
    http: HttpClient, url: str, seed: int, event: AnnounceEvent, left: int, info_hash: InfoHash = KNOWN
) -> AnnounceResponse:
    request = AnnounceRequest(
        info_hash=info_hash,
        peer_id=make_peer_id(random.Random(seed), "0.1.0"),
        port=10_000 + seed,
        uploaded=0,
        downloaded=0,
        left=left,
        event=event,
        numwant=80,
        key=seed,
    )
    return await announce(http, url, request)


async def test_a_swarm_of_three(url: str) -> None:
    async with HttpClient() as http:
        await asked(http, url, 1, AnnounceEvent.STARTED, 0)
        second = await asked(http, url, 2, AnnounceEvent.STARTED, 100)
        assert {(peer.host, peer.port) for peer in second.peers} >= {("127.0.0.1", 10_001)}
        assert (second.seeders, second.leechers) == (1, 1)
        assert second.interval_s > 60
        third = await asked(http, url, 3, AnnounceEvent.STARTED, 100)
        assert {peer.port for peer in third.peers} >= {10_001, 10_002}
        done = await asked(http, url, 2, AnnounceEvent.COMPLETED, 0)
        assert (done.seeders, done.leechers) == (2, 1)
        await asked(http, url, 1, AnnounceEvent.STOPPED, 0)
        last = await asked(http, url, 3, AnnounceEvent.NONE, 50)
        assert (last.seeders, last.leechers) == (1, 1)
        assert 10_001 not in {peer.port for peer in last.peers}


async def test_a_torrent_that_it_does_not_know(url: str) -> None:
    async with HttpClient() as http:
        with pytest.raises(TrackerError, match="refuses: "):
            await asked(http, url, 1, AnnounceEvent.STARTED, 0, UNKNOWN)
