"""Announces to a real opentracker, over the real clients."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import trio

from bittern.discovery.trackers import announce, scrape
from bittern.discovery.udp_trackers import UdpTrackers
from bittern.errors import TrackerError
from bittern.net.http import HttpClient
from bittern.net.names import Names
from bittern.net.udp import Udp
from bittern.proto.announce import AnnounceEvent, AnnounceRequest, AnnounceResponse, Counts
from bittern.proto.handshake import make_peer_id
from bittern.terms import InfoHash
from tests.fakes.tracker_process import Tracker

KNOWN = InfoHash(random.Random(11).randbytes(20))
OTHER = InfoHash(random.Random(13).randbytes(20))
UNKNOWN = InfoHash(random.Random(12).randbytes(20))


Ask = Callable[..., Awaitable[AnnounceResponse]]


@pytest.fixture(params=["http", "udp"])
async def door(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[HttpClient, UdpTrackers, str]]:
    with Tracker(tmp_path, KNOWN.hex(), OTHER.hex()) as tracker:
        async with HttpClient() as http, trio.open_nursery() as nursery:
            sockets = Udp(["127.0.0.1"], lambda: 0, taken=lambda _: None)
            udp = UdpTrackers(sockets, Names(), random.Random(1))
            await nursery.start(sockets.run)
            yield http, udp, tracker.url if request.param == "http" else tracker.udp_url
            nursery.cancel_scope.cancel()


@pytest.fixture
def ask(door: tuple[HttpClient, UdpTrackers, str]) -> Ask:
    http, udp, url = door

    async def asked(
        seed: int, event: AnnounceEvent, left: int, info_hash: InfoHash = KNOWN
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
        return await announce(http, url, request, udp=udp)

    return asked


async def test_a_swarm_of_three(ask: Ask) -> None:
    await ask(1, AnnounceEvent.STARTED, 0)
    second = await ask(2, AnnounceEvent.STARTED, 100)
    assert {(peer.host, peer.port) for peer in second.peers} >= {("127.0.0.1", 10_001)}
    assert (second.seeders, second.leechers) == (1, 1)
    assert second.interval_s > 60
    third = await ask(3, AnnounceEvent.STARTED, 100)
    assert {peer.port for peer in third.peers} >= {10_001, 10_002}
    done = await ask(2, AnnounceEvent.COMPLETED, 0)
    assert (done.seeders, done.leechers) == (2, 1)
    await ask(1, AnnounceEvent.STOPPED, 0)
    last = await ask(3, AnnounceEvent.NONE, 50)
    assert (last.seeders, last.leechers) == (1, 1)
    assert 10_001 not in {peer.port for peer in last.peers}


async def test_counts(door: tuple[HttpClient, UdpTrackers, str], ask: Ask) -> None:
    http, udp, url = door
    for seed, left in enumerate((0, 0, 5), 1):
        await ask(seed, AnnounceEvent.STARTED, left)
    assert await scrape(http, url, KNOWN, udp=udp) == Counts(2, 1)
    if url.startswith("udp"):
        assert await udp.scrape(url, [OTHER, KNOWN]) == [Counts(0, 0), Counts(2, 1)]


async def test_a_torrent_that_it_does_not_know(ask: Ask) -> None:
    with pytest.raises(TrackerError, match="refuses: "):
        await ask(1, AnnounceEvent.STARTED, 0, UNKNOWN)
