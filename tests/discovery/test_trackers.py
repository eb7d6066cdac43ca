"""One announce, over the real client and over the paper one that virtual-time tests use: both must tell the same."""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio

from bittern.discovery.families import GetsUrls
from bittern.discovery.trackers import UnsupportedScheme, announce
from bittern.errors import TrackerError
from bittern.net.http import HttpClient, Unreachable
from bittern.proto.announce import AnnounceEvent, AnnounceRequest, AnnounceResponse, TrackerRefusal
from bittern.terms import Address, InfoHash, PeerId
from tests.fakes.tracker import (
    ENDLESS,
    GARBAGE,
    HANG_UP,
    NOT_HTTP,
    SILENCE,
    PaperHttp,
    Reply,
    Tracker,
    failure,
    serve,
    told,
)

REQUEST = AnnounceRequest(
    info_hash=InfoHash(bytes(range(20))),
    peer_id=PeerId(b"-bn0100-abcdefghijkl"),
    port=1729,
    uploaded=1,
    downloaded=2,
    left=3,
    event=AnnounceEvent.STARTED,
    numwant=80,
    key=1,
)
Carrier = Callable[[Tracker], AbstractAsyncContextManager[GetsUrls]]


@asynccontextmanager
async def on_paper(tracker: Tracker) -> AsyncIterator[GetsUrls]:
    tracker.url = "http://t.example/announce"
    yield PaperHttp({"http://t.example": tracker}, client="127.0.0.1")


@asynccontextmanager
async def over_sockets(tracker: Tracker) -> AsyncIterator[GetsUrls]:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, tracker)
        async with HttpClient() as http:
            yield http
        nursery.cancel_scope.cancel()


@pytest.fixture(params=[on_paper, over_sockets])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    found: Carrier = request.param
    return found


async def test_an_honest_answer(carrier: Carrier) -> None:
    tracker = Tracker(interval=900)
    tracker.peers[REQUEST.info_hash] = {Address("192.0.2.1", 6881): 0, Address("192.0.2.2", 6882): 5}
    async with carrier(tracker) as http:
        assert await announce(http, tracker.url, REQUEST) == AnnounceResponse(
            interval_s=900.0,
            peers=(Address("192.0.2.1", 6881), Address("192.0.2.2", 6882)),
            seeders=1,
            leechers=2,
        )
    [asked] = tracker.asked
    assert asked.query["info_hash"] == REQUEST.info_hash
    assert asked.client == "127.0.0.1"


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (failure(b"not today"), TrackerRefusal, "refuses: not today"),
        (Reply(failure(b"not today").body, status=403), TrackerRefusal, "refuses: not today"),
        (GARBAGE, TrackerError, "not bencode"),
        (Reply(b""), TrackerError, "not bencode"),
        (Reply(b"<html>", status=404), TrackerError, "HTTP status 404"),
        (Reply(b"<html>", status=503), Unreachable, "HTTP status 503"),
        (SILENCE, Unreachable, "no answer within 0.3 s"),
        (ENDLESS, TrackerError, "more than 256 KiB"),
        (HANG_UP, Unreachable, "not HTTP, or nothing"),
        (NOT_HTTP, Unreachable, "not HTTP, or nothing"),
    ],
)
async def test_what_is_no_answer(
    carrier: Carrier, reply: Reply, kind: type[TrackerError], words: str
) -> None:
    tracker = Tracker()
    tracker.always = reply
    async with carrier(tracker) as http:
        deadline_s = 0.3 if reply is SILENCE else 60.0
        with pytest.raises(kind, match=words) as caught:
            await announce(http, tracker.url, REQUEST, deadline_s=deadline_s)
    assert caught.value.retry_in_s is None
    assert isinstance(caught.value, Unreachable) == (kind is Unreachable)


async def test_wishes_come_through(carrier: Carrier) -> None:
    tracker = Tracker()
    tracker.script.extend(
        [failure(b"x", 7), failure(b"x", b"never"), told(interval=900, warning_message=b"hm")]
    )
    async with carrier(tracker) as http:
        for wish in (420.0, math.inf):
            with pytest.raises(TrackerRefusal) as caught:
                await announce(http, tracker.url, REQUEST)
            assert caught.value.retry_in_s == wish
        assert (await announce(http, tracker.url, REQUEST)).warning == "hm"


@pytest.mark.parametrize("url", ["udp://t.example:1337", "wss://t.example", "", "dht", "HTTPX://x"])
async def test_other_schemes_are_refused_for_good(url: str) -> None:
    with pytest.raises(UnsupportedScheme, match="not supported") as caught:
        await announce(PaperHttp(), url, REQUEST)
    assert caught.value.retry_in_s == math.inf
