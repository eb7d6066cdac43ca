"""The announcer in virtual time: who hears what, in which order, and how much of it at once."""

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from bittern.discovery.announced import AnnounceFacts
from bittern.discovery.announcer import AT_ONCE, SLICE, Announcer
from bittern.discovery.families import GetsUrls
from bittern.discovery.stopping import FAREWELLS_AT_ONCE
from bittern.discovery.trackers import without_secrets
from bittern.net.http import HttpClient, HttpResponse
from bittern.policy.announcing import AnnounceState
from bittern.terms import Address, InfoHash, PeerId
from tests.fakes.tracker import GARBAGE, SILENCE, Asked, PaperHttp, Reply, Tracker, failure, serve, told
from tests.fakes.udp_tracker import PaperNames

ID = PeerId(b"-bn0100-abcdefghijkl")
KEY = "0123456789abcdef"
HOST = "http://t.example"
THOUSANDS = 1000
URL = f"{HOST}/{KEY}/announce"
OTHER = f"http://u.example/announce?passkey={KEY}"


class FakeTorrent:
    """What the announcer sees of a torrent."""

    def __init__(self, number: int, *tiers: Sequence[str], complete: bool = False) -> None:
        self._info_hash = InfoHash(number.to_bytes(20))
        self.announce = AnnounceState(tiers or [(URL,)], random.Random(number))
        self.left = 0 if complete else 1000
        self.wants_peers = not complete
        self.wide = False
        self.found: list[Address] = []
        self.switched_after: list[int] = []
        self.told: list[tuple[str, str | None]] = []

    @property
    def info_hash(self) -> InfoHash:
        return self._info_hash

    def announce_facts(self) -> AnnounceFacts:
        return AnnounceFacts(
            uploaded=7,
            downloaded=1000 - self.left,
            left=self.left,
            wants_peers=self.wants_peers,
            priority=0 if self.left else 1,
            wide=self.wide,
        )

    def peers_found(self, addresses: tuple[Address, ...]) -> None:
        self.found += addresses

    def tracker_switched(self) -> None:
        self.switched_after.append(len(self.found))

    def tracker_answered(self, url: str, trouble: str | None) -> None:
        assert KEY not in url + str(trouble)
        self.told.append((url, trouble))


def an_announcer(http: GetsUrls, **options: object) -> Announcer:
    return Announcer(
        http,
        peer_id=ID,
        port=lambda: 1729,
        numwant=80,
        rng=random.Random(3),
        **options,  # type: ignore[arg-type]  # the few that a test sets
    )


@asynccontextmanager
async def running(http: PaperHttp, **options: object) -> AsyncIterator[Announcer]:
    announcer = an_announcer(http, **options)
    async with trio.open_nursery() as nursery:
        await nursery.start(announcer.run)
        yield announcer
        nursery.cancel_scope.cancel()


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


@pytest.fixture
def http(tracker: Tracker) -> PaperHttp:
    return PaperHttp({HOST: tracker})


async def test_a_life(autojump_clock: MockClock, tracker: Tracker, http: PaperHttp) -> None:
    tracker.extra = {"tracker_id": b"tid", "min_interval": 600}
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        announcer.add(torrent)
        await trio.sleep(1)
        assert tracker.events() == ["started"]
        first = tracker.asked[0].query
        assert first["peer_id"] == ID
        assert first["info_hash"] == torrent.info_hash
        assert first["port"] == b"1729"
        assert first["left"] == b"1000"
        assert first["uploaded"] == b"7"
        assert first["numwant"] == b"80"
        assert "trackerid" not in first
        await trio.sleep(2000)
        assert tracker.events() == ["started", ""]
        assert 0.9 * 1800 <= tracker.asked[1].at - tracker.asked[0].at <= 1.1 * 1800 + 1
        assert tracker.asked[1].query["trackerid"] == b"tid"
        torrent.left, torrent.wants_peers = 0, False
        announcer.completed(torrent)
        await trio.sleep(1)
        assert tracker.events() == ["started", "", "completed"]
        assert tracker.asked[2].query["left"] == b"0"
        assert tracker.asked[2].query["numwant"] == b"0"
        await trio.sleep(4000)
        assert tracker.events()[3:] == ["", ""]
        announcer.remove(torrent)
        await trio.sleep(1)
        assert tracker.events()[5:] == ["stopped"]
        await trio.sleep(10_000)
        assert len(tracker.asked) == 6
    assert len({one.query["key"] for one in tracker.asked}) == 1


async def test_peers_are_handed_over(autojump_clock: MockClock, tracker: Tracker, http: PaperHttp) -> None:
    tracker.script.append(told(interval=900, peers=b"\xc0\x00\x02\x09\x1a\xe1"))
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(1)
    assert torrent.found == [Address("192.0.2.9", 6881)]
    assert torrent.told == []


async def test_where_a_tracker_sees_us_is_heard(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    tracker.script.append(told(interval=900, **{"external ip": b"\xcb\x00\x71\x09"}))
    seen: list[str] = []
    async with running(http) as announcer:
        announcer.located = seen.append
        announcer.add(FakeTorrent(1))
        await trio.sleep(1)
    assert seen == ["203.0.113.9"]


async def test_a_torrent_that_was_complete_says_started_only(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    async with running(http) as announcer:
        announcer.add(FakeTorrent(1, complete=True))
        await trio.sleep(5000)
    assert tracker.events() == ["started", "", ""]
    assert [one.query["left"] for one in tracker.asked] == [b"0"] * 3


async def test_sixteen_at_once_and_as_fast_as_they_are_answered(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    http.latency_s = 1.0
    async with running(http) as announcer:
        for number in range(160):
            announcer.add(FakeTorrent(number))
        await trio.sleep(10.5)
    assert http.most_under_way == AT_ONCE
    assert len(tracker.asked) == 160


async def test_downloading_torrents_go_first(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    http.latency_s = 1.0
    seeds = [FakeTorrent(number, complete=True) for number in range(50)]
    leeches = [FakeTorrent(100 + number) for number in range(30)]
    announcer = an_announcer(http)
    for torrent in seeds + leeches:
        announcer.add(torrent)
    async with trio.open_nursery() as nursery:
        await nursery.start(announcer.run)
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert [one.query["left"] for one in tracker.asked[:AT_ONCE]] == [b"1000"] * AT_ONCE
    assert sum(one.query["left"] == b"1000" for one in tracker.asked[: 2 * AT_ONCE]) == 30
    assert len(tracker.asked) == 80


async def test_downloading_torrents_go_first_however_many_seeds_are_due(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    """Thousands are looked at in slices; and whoever comes amid a storm does not wait for its end."""
    http.latency_s = 1.0
    announcer = an_announcer(http)
    for number in range(3 * SLICE):
        announcer.add(FakeTorrent(number, complete=True))
    announcer.add(FakeTorrent(5000))
    async with trio.open_nursery() as nursery:
        await nursery.start(announcer.run)
        await trio.sleep(2.5)
        announcer.add(FakeTorrent(5001))
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    heard = [one.query["left"] for one in tracker.asked]
    assert heard[AT_ONCE : 2 * AT_ONCE].count(b"1000") == 1
    assert heard[3 * AT_ONCE : 4 * AT_ONCE].count(b"1000") == 1


async def test_a_storm_over_sockets_takes_one_connection_for_each_slot() -> None:
    tracker = Tracker()
    torrents = [FakeTorrent(number) for number in range(10 * AT_ONCE)]
    connections = set()
    answer = tracker.answer

    def counted(asked: Asked) -> Reply:
        connections.add(trio.lowlevel.current_task())
        return answer(asked)

    tracker.answer = counted  # type: ignore[method-assign]  # spying in place
    async with HttpClient(names=PaperNames()) as client, trio.open_nursery() as nursery:
        url = await nursery.start(serve, tracker)
        announcer = an_announcer(client)
        for torrent in torrents:
            torrent.announce = AnnounceState([(url,)], random.Random(1))
            announcer.add(torrent)
        await nursery.start(announcer.run)
        while len(tracker.asked) < len(torrents):
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert len(connections) <= AT_ONCE


async def test_thousands_that_need_no_network_leave_others_their_turns(
    autojump_clock: MockClock, http: PaperHttp
) -> None:
    announcer, turns = an_announcer(http), 0
    torrents = [FakeTorrent(number, ("wss://t.example/",)) for number in range(SLICE)]
    for torrent in torrents:
        announcer.add(torrent)
    async with trio.open_nursery() as nursery:
        await nursery.start(announcer.run)
        while not all(torrent.told for torrent in torrents):
            turns += 1
            await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()
    # of a slot up to three torrents may come between two turns of another task, all 500 of one that never waits
    assert turns >= SLICE / AT_ONCE / 4


async def test_thousands_are_announced_and_then_spread(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    http.latency_s = 0.01
    async with running(http) as announcer:
        for number in range(THOUSANDS):
            announcer.add(FakeTorrent(number, complete=True))
        await trio.sleep(10)
        assert len(tracker.asked) == THOUSANDS
        assert tracker.asked[-1].at - tracker.asked[0].at < 3.0, "no pause of ours between them"
        await trio.sleep(2000)
    again = sorted(one.at for one in tracker.asked[THOUSANDS:])
    assert len(again) == THOUSANDS
    assert again[-1] - again[0] > 200, "and from then on not in step"
    in_one_second = max(sum(start <= at < start + 1 for at in again) for start in again[::100])
    assert in_one_second < 15


async def test_failures_back_off_and_heal(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    tracker.script.extend([GARBAGE] * 4)
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(1000)
    pauses = [later.at - at.at for at, later in zip(tracker.asked, tracker.asked[1:], strict=False)][:4]
    assert tracker.events()[:5] == ["started"] * 5
    assert all(15 * 2**k <= pause <= 20 * 2**k for k, pause in enumerate(pauses))
    [(name, trouble), (_, healed)] = torrent.told
    assert name == HOST
    assert trouble is not None
    assert "not bencode" in trouble
    assert healed is None


async def test_failure_reason_is_told_once_and_retry_in_kept(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    tracker.always = failure(b"try later", 30)
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(3600 * 3 + 10)
    assert torrent.told == [(HOST, "refuses: try later")]
    assert len(tracker.asked) == 7


async def test_never_is_never(autojump_clock: MockClock, tracker: Tracker, http: PaperHttp) -> None:
    tracker.always = failure(b"unregistered torrent", b"never")
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(1e6)
        announcer.remove(torrent)
        await trio.sleep(100)
    assert tracker.events() == ["started"]


async def test_a_warning_is_told_once(autojump_clock: MockClock, tracker: Tracker, http: PaperHttp) -> None:
    tracker.extra = {"warning_message": b"please update"}
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(10_000)
        assert torrent.told == [(HOST, "please update")]
        tracker.extra = {}
        await trio.sleep(2000)
    assert torrent.told == [(HOST, "please update"), (HOST, None)]


async def test_trackers_words_do_not_show_the_passkey(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    tracker.script.append(failure(f"passkey {KEY.upper()} unknown, you asked /{KEY}/announce".encode()))
    tracker.script.append(told(interval=900, warning_message=f"{KEY} expires".encode()))
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(100)
    assert [trouble for _, trouble in torrent.told] == [
        "refuses: passkey … unknown, you asked /…/announce",
        "… expires",
    ]


def test_secrets_are_found_wherever_they_stand() -> None:
    url = "https://user:hunter2x@t.example/a/abc%3Ddef/announce.php?passkey=s3cr3ts&short=ab"
    words = without_secrets("no hunter2x, s3cr3ts, abc%3Ddef or abc=def in announce.php, ab", url)
    for secret in ("hunter2x", "s3cr3ts", "abc%3Ddef"):
        assert secret not in words
    assert words.endswith("in announce.php, ab")
    assert without_secrets("as it is", "http://[::1/broken") == "as it is"


async def test_the_next_tier_is_asked_at_once(autojump_clock: MockClock, http: PaperHttp) -> None:
    other = Tracker()
    http.trackers = {"http://u.example": other}
    http.dead_after_s = 3.0
    torrent = FakeTorrent(1, [URL], [OTHER])
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(4)
        assert other.events() == ["started"]
        announcer.remove(torrent)
        await trio.sleep(1)
    assert other.events() == ["started", "stopped"]


async def test_another_tracker_is_told_of_before_its_peers(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    other = Tracker()
    tracker.always = told(interval=900, peers=b"\xc0\0\2\5\0\7")
    other.always = told(interval=900, peers=b"\xc0\0\2\6\0\7\xc0\0\2\7\0\7")
    http.trackers["http://u.example"] = other
    torrent = FakeTorrent(1, [URL], [OTHER])
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(10)
        assert torrent.switched_after == []
        tracker.always = SILENCE
        await trio.sleep(1200)
        assert other.events()[0] == "started"
        assert torrent.switched_after == [1]
        assert len(set(torrent.found)) == 3
        torrent.left = 0
        tracker.always = told(interval=900)
        announcer.completed(torrent)
        await trio.sleep(600)
        assert tracker.events()[-1] == other.events()[-1] == "completed"
        assert torrent.switched_after == [1], "told to both, and nobody's peers asked for"


async def test_a_host_that_is_down_is_one_line_and_takes_no_slots(
    autojump_clock: MockClock, http: PaperHttp
) -> None:
    alive = Tracker()
    http.trackers = {"http://u.example": alive}
    torrents = [FakeTorrent(number) for number in range(2000)]
    healthy = [FakeTorrent(10_000 + number, [OTHER], complete=True) for number in range(50)]
    async with running(http) as announcer:
        for torrent in torrents:
            announcer.add(torrent)
        await trio.sleep(60)
        for torrent in healthy:
            announcer.add(torrent)
        await trio.sleep(30)
        assert len(alive.asked) == 50
        dead = [at for at, url in http.gets if url.startswith(HOST)]
        assert len(dead) < 100, "two thousand attempts would have taken 20 minutes of all slots"
        assert [line for torrent in torrents for line in torrent.told] == [
            (HOST, "cannot be reached (on paper)")
        ]
        # it comes back
        http.trackers[HOST] = tracker = Tracker()
        await trio.sleep(500)
        assert len(tracker.asked) == 2000
    lines = [line for torrent in torrents for line in torrent.told]
    assert sorted(lines, key=str) == sorted([(HOST, "cannot be reached (on paper)"), (HOST, None)], key=str)


async def test_one_slow_answer_is_no_outage(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    torrents = [FakeTorrent(number) for number in range(20)]
    async with running(http) as announcer:
        announcer.add(torrents[0])
        await trio.sleep(1)
        tracker.script.append(SILENCE)
        for torrent in torrents[1:]:
            announcer.add(torrent)
        await trio.sleep(40)
    assert {one.info_hash for one in tracker.asked} == {torrent.info_hash for torrent in torrents}
    assert [line for torrent in torrents for line in torrent.told] == []


async def test_unsupported_trackers_matter_only_when_there_is_no_other(
    autojump_clock: MockClock, http: PaperHttp
) -> None:
    both = FakeTorrent(1, ["udp://u.example:1337"], [URL])
    only = FakeTorrent(2, ["udp://u.example:1337", "wss://v.example"])
    async with running(http) as announcer:
        announcer.add(both)
        announcer.add(only)
        await trio.sleep(10_000)
    assert both.told == []
    [(name, trouble)] = only.told
    assert name.startswith(("udp://", "wss://"))
    assert trouble is not None
    assert trouble.endswith("trackers are not supported")
    assert all(url.startswith("http") for _, url in http.gets)


async def test_http_status_without_an_answer(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    tracker.script.extend([Reply(b"<html>", status=404), failure(b"no such passkey")])
    tracker.script[1] = Reply(failure(b"no such torrent").body, status=400)
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(30)
    assert [trouble for _, trouble in torrent.told] == [
        "answered with HTTP status 404",
        "refuses: no such torrent",
    ]


async def test_removed_while_its_announce_is_under_way(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    http.latency_s = 0.0
    tracker.always = lambda asked: Reply(tracker.honest(asked).body, delay_s=2.0)
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(1)
        announcer.remove(torrent)
        await trio.sleep(10)
    assert tracker.events() == ["started", "stopped"], "the tracker had heard of us"
    assert torrent.found == []


async def test_never_two_announces_of_one_torrent_at_once(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    tracker.always = lambda asked: Reply(tracker.honest(asked).body, delay_s=5.0)
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(6)
        announcer.completed(torrent)
        await trio.sleep(1)
        announcer.remove(torrent)
        await trio.sleep(1)
        announcer.add(torrent)
        await trio.sleep(1)
        announcer.remove(torrent)
        announcer.add(torrent)
        await trio.sleep(100)
    assert http.most_under_way == 1
    assert tracker.events() == ["started", "completed", "started"], "it came back before `stopped` was told"


async def test_stopped_is_heard_before_the_next_life(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    tracker.always = lambda asked: Reply(tracker.honest(asked).body, delay_s=5.0)
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(6)
        announcer.remove(torrent)
        await trio.sleep(1)
        announcer.add(FakeTorrent(1))
        await trio.sleep(100)
    assert tracker.events() == ["started", "stopped", "started"]
    assert http.most_under_way == 1


async def test_whoever_waits_for_a_parting_hears_of_its_end(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    tracker.always = lambda asked: Reply(tracker.honest(asked).body, delay_s=5.0)
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        await announcer.parted(torrent.info_hash)
        announcer.add(torrent)
        await trio.sleep(6)
        announcer.remove(torrent)
        began = trio.current_time()
        await announcer.parted(torrent.info_hash)
        assert trio.current_time() - began >= 5
        assert tracker.events() == ["started", "stopped"]
        # one that comes back at once has nothing to wait for
        announcer.add(torrent)
        await announcer.parted(torrent.info_hash)


async def test_many_removed_at_once_are_stopped_without_holding_up_the_others(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    torrents = [FakeTorrent(number) for number in range(200)]
    async with running(http) as announcer:
        for torrent in torrents:
            announcer.add(torrent)
        await trio.sleep(10)
        http.latency_s = 1.0
        for torrent in torrents:
            announcer.remove(torrent)
        announcer.add(FakeTorrent(1000))
        await trio.sleep(3)
        assert tracker.events(FakeTorrent(1000).info_hash) == ["started"]
        assert http.most_under_way <= AT_ONCE
        await trio.sleep(60)
    assert tracker.events().count("stopped") == 200


async def test_need_of_peers(autojump_clock: MockClock, tracker: Tracker, http: PaperHttp) -> None:
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.need_peers(torrent)
        announcer.add(torrent)
        for _ in range(100):
            announcer.need_peers(torrent)
            await trio.sleep(1)
        assert len(tracker.asked) == 2
        assert 59 < tracker.asked[1].at - tracker.asked[0].at < 62
        tracker.extra = {"min_interval": 1000}
        await trio.sleep(3000)
        asked = len(tracker.asked)
        for _ in range(900):
            announcer.need_peers(torrent)
            await trio.sleep(1)
    assert len(tracker.asked) <= asked + 1


async def test_a_torrent_without_trackers_may_get_some(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    torrent = FakeTorrent(1)
    torrent.announce = AnnounceState([], random.Random(1))
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(100)
        assert tracker.asked == []
        torrent.announce.merge([(URL,)])
        announcer.rescheduled(torrent)
        await trio.sleep(1)
    assert tracker.events() == ["started"]


async def test_farewell_reaches_who_knows_us_within_its_deadline(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    dead = Tracker()
    http.trackers["http://u.example"] = dead
    torrents = [FakeTorrent(number) for number in range(300)]
    hung = [FakeTorrent(1000 + number, [OTHER]) for number in range(10)]
    never = FakeTorrent(5000, ["http://nowhere.example/announce"])
    async with running(http) as announcer:
        for torrent in [*torrents, *hung, never]:
            announcer.add(torrent)
        await trio.sleep(60)
        late = FakeTorrent(6000)
        announcer.add(late)
        await trio.sleep(1)
        announcer.remove(late)
    dead.always = SILENCE
    http.latency_s, http.most_under_way = 0.1, 0
    waiting = trio.current_time()
    await announcer.farewell(3.0)
    assert trio.current_time() - waiting <= 3.0
    assert http.most_under_way <= FAREWELLS_AT_ONCE
    stopped = {one.info_hash for one in tracker.asked if one.event == "stopped"}
    assert stopped == {torrent.info_hash for torrent in [*torrents, late]}
    assert not any("nowhere" in url and "stopped" in url for _, url in http.gets)


async def test_farewell_while_the_service_lives(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    async with running(http) as announcer:
        announcer.add(FakeTorrent(1))
        await trio.sleep(1)
        await announcer.farewell(2.0)
        await trio.sleep(10_000)
    assert tracker.events() == ["started", "stopped"]


async def test_farewell_without_anybody(autojump_clock: MockClock) -> None:
    announcer = an_announcer(PaperHttp())
    await announcer.farewell(1.0)
    assert trio.current_time() == 0.0


async def test_the_service_can_be_started_again(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    announcer = an_announcer(http)
    tracker.script.append(SILENCE)
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            await nursery.start(announcer.run)
            announcer.add(FakeTorrent(1))
            await trio.sleep(5)
            nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        await nursery.start(announcer.run)
        await trio.sleep(200)
        nursery.cancel_scope.cancel()
    assert tracker.events()[-1] == "started"
    assert len(tracker.asked) == 2


async def test_a_bug_costs_one_announce_and_does_not_spin(
    autojump_clock: MockClock, tracker: Tracker, http: PaperHttp
) -> None:
    crashed: list[str] = []

    async def guard(body: Callable[[], Awaitable[None]], where: str) -> None:
        try:
            await body()
        except ZeroDivisionError:
            crashed.append(where)

    class Broken(FakeTorrent):
        def peers_found(self, addresses: tuple[Address, ...]) -> None:
            raise ZeroDivisionError

    class BrokenHttp(PaperHttp):
        async def get(self, url: str, *, max_bytes: int, deadline_s: float) -> HttpResponse:
            if "%00%02&" in url:
                raise ZeroDivisionError
            return await super().get(url, max_bytes=max_bytes, deadline_s=deadline_s)

    tracker.always = told(interval=900, peers=b"\xc0\x00\x02\x09\x1a\xe1")
    broken_http = BrokenHttp({HOST: tracker})
    fine = FakeTorrent(1)
    async with running(broken_http, guard=guard) as announcer:
        announcer.add(Broken(3))
        announcer.add(FakeTorrent(2))
        announcer.add(fine)
        await trio.sleep(1000)
    assert fine.found
    assert 2 <= len(crashed) < 20
    assert all(KEY not in where for where in crashed)


async def test_without_a_guard_a_bug_is_loud(autojump_clock: MockClock, http: PaperHttp) -> None:
    class Broken(FakeTorrent):
        def tracker_answered(self, url: str, trouble: str | None) -> None:
            raise ZeroDivisionError

    http.trackers.clear()
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        async with running(http) as announcer:
            announcer.add(Broken(1))
            await trio.sleep(math.inf)


TIERS = [[f"http://{letter}.example/announce"] for letter in "abcdef"]


def hosts(http: PaperHttp) -> list[str]:
    return [url.partition(".")[0][-1] for _, url in http.gets]


async def test_a_torrent_without_peers_asks_several_tiers_at_once(autojump_clock: MockClock) -> None:
    http = PaperHttp({f"http://{letter}.example": Tracker() for letter in "abcdef"})
    http.latency_s = 5.0
    torrent = FakeTorrent(1, *TIERS)
    torrent.wide = True
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(1)
        assert sorted(hosts(http)) == list("abcd"), "a quarter of the slots at most"
        announcer.need_peers(torrent)
        await trio.sleep(1)
        assert len(http.gets) == 4
        await trio.sleep(4)
        announcer.need_peers(torrent)
        await trio.sleep(1)
        assert sorted(hosts(http)) == list("abcdef")
        torrent.wide = False
        await trio.sleep(5)
        announcer.remove(torrent)
        await trio.sleep(60)
    for tracker in http.trackers.values():
        assert tracker.events() == ["started", "stopped"]


async def test_a_torrent_with_peers_asks_the_first_tier_only(autojump_clock: MockClock) -> None:
    http = PaperHttp({f"http://{letter}.example": Tracker() for letter in "abcdef"})
    torrent = FakeTorrent(1, *TIERS)
    async with running(http) as announcer:
        announcer.add(torrent)
        for _ in range(300):
            await trio.sleep(10)
            announcer.need_peers(torrent)
    assert set(hosts(http)) == {"a"}


async def test_further_tiers_wait_until_every_torrent_was_announced(autojump_clock: MockClock) -> None:
    http = PaperHttp({f"http://{letter}.example": Tracker() for letter in "abcdef"})
    torrents = [FakeTorrent(number, *TIERS) for number in range(100)]
    announcer = an_announcer(http)
    for torrent in torrents:
        torrent.wide = True
        announcer.add(torrent)
    async with trio.open_nursery() as nursery:
        await nursery.start(announcer.run)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert hosts(http)[:96] == ["a"] * 96
    assert http.most_under_way == AT_ONCE


async def test_what_trackers_count(autojump_clock: MockClock, tracker: Tracker, http: PaperHttp) -> None:
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(1)
    assert (torrent.announce.seeders, torrent.announce.leechers) == (0, 1)


async def test_other_trackers_hear_of_a_torrent_at_once_and_the_old_ones_that_it_is_gone(
    autojump_clock: MockClock, tracker: Tracker
) -> None:
    other = Tracker()
    http = PaperHttp({HOST: tracker, "http://u.example": other})
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(1)
        announcer.retier(torrent, ((OTHER,),))
        await trio.sleep(1)
        assert tracker.events() == ["started", "stopped"]
        assert other.events() == ["started"]
        assert torrent.switched_after, "a private torrent lets its peers go"
        await trio.sleep(3000)
        assert tracker.events() == ["started", "stopped"]
        assert other.events() == ["started", ""]


async def test_a_tracker_that_is_taken_away_while_it_is_asked_serves_no_more(
    autojump_clock: MockClock, tracker: Tracker
) -> None:
    other = Tracker()
    http = PaperHttp({HOST: tracker, "http://u.example": other})
    tracker.script.append(lambda asked: replace(tracker.honest(asked), delay_s=5.0))
    torrent = FakeTorrent(1)
    async with running(http) as announcer:
        announcer.add(torrent)
        await trio.sleep(1)
        announcer.retier(torrent, ((OTHER,),))
        await trio.sleep(20)
        assert other.events() == ["started"]
        assert tracker.events() == ["started", "stopped"]
        announcer.remove(torrent)
        await trio.sleep(20)
        assert tracker.events() == ["started", "stopped"]
        assert other.events() == ["started", "stopped"]
