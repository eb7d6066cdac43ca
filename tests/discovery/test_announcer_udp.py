"""The announcer with UDP trackers, in virtual time: they share tiers, slots and goodbyes with those over HTTP."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from trio.testing import MockClock

from bittern.discovery.announcer import AT_ONCE, UNTRUSTED_AT_ONCE, Announcer
from bittern.discovery.udp_trackers import UdpTrackers
from bittern.policy.announcing import UNKNOWN
from bittern.proto.bencode import encode
from bittern.terms import Address, PeerId
from tests.discovery.test_announcer import FakeTorrent
from tests.fakes.tracker import Asked, PaperHttp, Reply, Tracker, told
from tests.fakes.udp_tracker import PaperNames, PaperNet, UdpTracker, error

FOUR = Address("192.0.2.9", 6969)
UDP = "udp://t.example:6969/announce"
HTTP = "http://h.example/announce"
NAMES = PaperNames({"t.example": ("192.0.2.9",), "dead.example": ("192.0.2.66",)})


@asynccontextmanager
async def running(http: PaperHttp, net: PaperNet) -> AsyncIterator[Announcer]:
    async with trio.open_nursery() as nursery:
        net.nursery = nursery
        announcer = Announcer(
            http,
            udp=UdpTrackers(net, NAMES, random.Random(1)),
            peer_id=PeerId(b"-bn0100-abcdefghijkl"),
            port=lambda: 1729,
            numwant=80,
            rng=random.Random(3),
        )
        await nursery.start(announcer.run)
        yield announcer
        nursery.cancel_scope.cancel()


async def test_a_life(autojump_clock: MockClock) -> None:
    tracker = UdpTracker(interval=900)
    tracker.peers[FakeTorrent(1).info_hash] = {Address("192.0.2.5", 7): 0}
    torrent = FakeTorrent(1, [UDP])
    async with running(PaperHttp(), PaperNet({FOUR: tracker})) as announcer:
        announcer.add(torrent)
        await trio.sleep(1)
        assert torrent.found == [Address("192.0.2.5", 7)]
        assert (torrent.announce.seeders, torrent.announce.leechers) == (1, 1)
        await trio.sleep(1000)
        torrent.left, torrent.wants_peers = 0, False
        announcer.completed(torrent)
        await trio.sleep(1)
        announcer.remove(torrent)
        await trio.sleep(1)
    assert tracker.events() == ["started", "", "completed", "stopped"]
    assert [one.question.numwant for one in tracker.asked(1)] == [80, 80, 0, 0]
    assert len({one.question.key for one in tracker.asked(1)}) == 1
    assert torrent.told == []


async def test_tiers_are_mixed(autojump_clock: MockClock) -> None:
    tracker, http = UdpTracker(), Tracker()
    torrent = FakeTorrent(1, ["udp://dead.example:1"], [HTTP], [UDP])
    async with running(PaperHttp({"http://h.example": http}), PaperNet({FOUR: tracker})) as announcer:
        announcer.add(torrent)
        await trio.sleep(40)
        assert http.asked == [], "the first tier has its time"
        await trio.sleep(10)
        assert http.events() == ["started"]
        assert torrent.told == [("udp://dead.example:1", "no answer within 45 s")]
        # a torrent in need does not wait for it
        needy = FakeTorrent(2, ["udp://dead.example:1"], [HTTP], [UDP])
        needy.wide = True
        announcer.add(needy)
        await trio.sleep(1)
        assert tracker.events() == ["started"]
        assert http.events(needy.info_hash) == ["started"]


async def test_thousands_share_a_connection_and_are_spread(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    net = PaperNet({FOUR: tracker})
    net.latency_s = 0.02
    async with running(PaperHttp(), net) as announcer:
        for number in range(1000):
            announcer.add(FakeTorrent(number, [UDP], complete=True))
        await trio.sleep(10)
        asked = tracker.asked(1)
        assert len(asked) == 1000
        assert asked[-1].at - asked[0].at < 1.5
        assert len(tracker.asked(0)) == 1
        await trio.sleep(2000)
    again = sorted(one.at for one in tracker.asked(1)[1000:])
    assert again[-1] - again[0] > 200


async def test_a_silent_udp_tracker_leaves_the_slots_to_others(autojump_clock: MockClock) -> None:
    alive = UdpTracker()
    net = PaperNet({FOUR: alive})
    waiting = [FakeTorrent(number, ["udp://dead.example:1"]) for number in range(500)]
    others = [FakeTorrent(1000 + number, [UDP], complete=True) for number in range(50)]
    async with running(PaperHttp(), net) as announcer:
        for torrent in [*waiting, *others]:
            announcer.add(torrent)
        await trio.sleep(5)
        assert len(alive.asked(1)) == 50
        assert announcer._taken == UNTRUSTED_AT_ONCE < AT_ONCE
        await trio.sleep(600)
        assert len([at for at, _, to in net.sent if to.host == "192.0.2.66"]) < 20
        # it comes back, and all are announced
        dead = net.trackers[Address("192.0.2.66", 1)] = UdpTracker()
        await trio.sleep(900)
        assert len(dead.asked(1)) == 500
        assert announcer._behind == {}
        assert announcer._taken == 0
    lines = [line for torrent in waiting for line in torrent.told]
    assert sorted(lines, key=str) == [
        ("udp://dead.example:1", "no answer within 45 s"),
        ("udp://dead.example:1", None),
    ]


async def test_a_refusal_is_told_once(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    tracker.always = lambda one: (
        error(one.question.transaction, b"not registered") if one.question.action else tracker.honest(one)
    )
    torrent = FakeTorrent(1, [UDP])
    async with running(PaperHttp(), PaperNet({FOUR: tracker})) as announcer:
        announcer.add(torrent)
        await trio.sleep(3600)
    assert torrent.told == [("udp://t.example:6969", "refuses: not registered")]
    assert len(tracker.asked(1)) < 12


async def test_farewell(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    torrents = [FakeTorrent(number, [UDP]) for number in range(200)]
    silent = FakeTorrent(999, ["udp://dead.example:1"])
    net = PaperNet({FOUR: tracker})
    async with trio.open_nursery() as sockets:
        async with running(PaperHttp(), net) as announcer:
            for torrent in [*torrents, silent]:
                announcer.add(torrent)
            await trio.sleep(100)
        net.nursery = sockets
        before = trio.current_time()
        await announcer.farewell(3.0)
        assert trio.current_time() - before < 2
    assert tracker.events().count("stopped") == 200
    assert len(tracker.asked(0)) == 2, "the first connection was too old"


def counting(asked: Asked) -> Reply:
    """Announces without counts, scrapes with them."""
    if asked.path == "/scrape":
        return Reply(encode({b"files": {asked.info_hash: {b"complete": 8, b"incomplete": 9}}}))
    return told(interval=900, peers=b"")


async def test_counts_are_asked_for_only_where_an_announce_does_not_tell(autojump_clock: MockClock) -> None:
    http = Tracker()
    http.always = counting
    torrent = FakeTorrent(1, [HTTP])
    async with running(PaperHttp({"http://h.example": http}), PaperNet()) as announcer:
        announcer.add(torrent)
        await trio.sleep(1)
        assert [one.path for one in http.asked] == ["/announce", "/scrape"]
        assert (torrent.announce.seeders, torrent.announce.leechers) == (8, 9)
        http.always = told(interval=900, complete=1, incomplete=2)
        await trio.sleep(1000)
        assert [one.path for one in http.asked][2:] == ["/announce"]
        assert (torrent.announce.seeders, torrent.announce.leechers) == (1, 2)


async def test_who_does_not_scrape_is_not_asked_each_time(autojump_clock: MockClock) -> None:
    http = Tracker()
    http.always = lambda asked: (
        Reply(b"<html>", status=404) if asked.path == "/scrape" else told(interval=900)
    )
    torrents = [FakeTorrent(number, [HTTP]) for number in range(20)]
    async with running(PaperHttp({"http://h.example": http}), PaperNet()) as announcer:
        announcer.add(torrents[0])
        await trio.sleep(1)
        for torrent in torrents:
            announcer.add(torrent)
        await trio.sleep(3 * 3600)
        assert [one.path for one in http.asked].count("/scrape") == 1
        await trio.sleep(6 * 3600)
        assert [one.path for one in http.asked].count("/scrape") <= 2 + AT_ONCE
    assert torrents[0].announce.seeders == UNKNOWN
    assert [line for torrent in torrents for line in torrent.told] == []
