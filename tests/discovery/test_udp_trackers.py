"""The client of UDP trackers: over real sockets and over paper ones the same; and in virtual time what takes long."""

import math
import random
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
from trio.testing import MockClock

from bittern.discovery.families import GRACE_S
from bittern.discovery.trackers import UnsupportedScheme, announce, scrape
from bittern.discovery.udp_trackers import DEADLINE_S, ENDPOINTS_AT_MOST, UdpTrackers
from bittern.errors import TrackerError
from bittern.net.http import Unreachable
from bittern.net.names import Names
from bittern.net.udp import Udp
from bittern.proto.announce import (
    AnnounceEvent,
    AnnounceRequest,
    AnnounceResponse,
    Counts,
    TrackerRefusal,
)
from bittern.terms import Address, InfoHash, PeerId
from bittern.values import replace
from tests.fakes.tracker import PaperHttp
from tests.fakes.udp_tracker import (
    Heard,
    PaperNames,
    PaperNet,
    UdpTracker,
    announced,
    connected,
    error,
    serve_udp,
)

HASH = InfoHash(bytes(range(20)))
REQUEST = AnnounceRequest(
    info_hash=HASH,
    peer_id=PeerId(b"-bn0100-abcdefghijkl"),
    port=1729,
    uploaded=1,
    downloaded=2,
    left=3,
    event=AnnounceEvent.STARTED,
    numwant=80,
    key=7,
)
Carrier = Callable[[UdpTracker], AbstractAsyncContextManager[UdpTrackers]]
FOUR, SIX = Address("192.0.2.9", 6969), Address("2001:db8::9", 6969)


@asynccontextmanager
async def paper(net: PaperNet, names: PaperNames | None = None) -> AsyncIterator[UdpTrackers]:
    async with trio.open_nursery() as nursery:
        net.nursery = nursery
        made = UdpTrackers(net, names or PaperNames(), random.Random(1))
        yield made
        nursery.cancel_scope.cancel()
    assert made._waiting == {}


@asynccontextmanager
async def on_paper(tracker: UdpTracker) -> AsyncIterator[UdpTrackers]:
    tracker.url = "udp://192.0.2.9:6969/announce"
    async with paper(PaperNet({FOUR: tracker})) as made:
        yield made


@asynccontextmanager
async def over_sockets(tracker: UdpTracker, host: str = "127.0.0.1") -> AsyncIterator[UdpTrackers]:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_udp, tracker, host)
        udp = Udp([host], lambda: 0, taken=lambda _: None)
        made = UdpTrackers(udp, Names(), random.Random(1))
        await nursery.start(udp.run)
        yield made
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def over_ipv6(tracker: UdpTracker) -> AsyncIterator[UdpTrackers]:
    async with over_sockets(tracker, "::1") as made:
        yield made


@pytest.fixture(params=[on_paper, over_sockets, over_ipv6])
def carrier(request: pytest.FixtureRequest) -> Carrier:
    found: Carrier = request.param
    return found


# -- fakes and real sockets alike --------------------------------------------------------------------------------


async def test_an_honest_answer(carrier: Carrier) -> None:
    tracker = UdpTracker(interval=900)
    async with carrier(tracker) as udp:
        host = "2001:db8::5" if "[" in tracker.url else "192.0.2.5"
        tracker.peers[HASH] = {Address(host, 6881): 0, Address(host, 6882): 5}
        assert await udp.announce(f"{tracker.url}?passkey=abc", REQUEST) == AnnounceResponse(
            interval_s=900.0, peers=(Address(host, 6881), Address(host, 6882)), seeders=1, leechers=2
        )
        assert await udp.scrape(tracker.url, [HASH, InfoHash(bytes(20))]) == [Counts(1, 2), Counts(0, 0)]
    [asked] = tracker.asked(1)
    assert asked.question.info_hashes == (HASH,)
    assert asked.question.port == 1729
    assert asked.question.url_data == b"/announce?passkey=abc"
    assert len(tracker.asked(0)) == 1, "one connection serves both"


async def test_one_connection_for_all_torrents(carrier: Carrier) -> None:
    tracker = UdpTracker()
    async with carrier(tracker) as udp, trio.open_nursery() as nursery:
        for number in range(16):
            request = replace(REQUEST, info_hash=InfoHash(bytes([number]) * 20))
            nursery.start_soon(udp.announce, tracker.url, request)
    assert len(tracker.asked(0)) == 1
    assert {one.question.info_hashes[0][0] for one in tracker.asked(1)} == set(range(16))
    transactions = {one.question.transaction for one in tracker.heard}
    assert len(transactions) == 17


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "169.254.169.254", "::ffff:127.0.0.1", "192.0.2.9"])
async def test_strangers_reach_no_service_of_this_machine(host: str) -> None:
    close = host != "192.0.2.9"
    at = f"[{host}]" if ":" in host else host
    for port, path, barred in (
        (53, "/announce", close),
        (6969, "/rpc?say=this", close),
        (6969, "/announce/../rpc", close),
        (6969, "", False),
        (6969, "/", False),
        (6969, "/?say=this", close),
        (6969, "/announce?key=1", False),
    ):
        tracker = UdpTracker()
        names = PaperNames()
        async with paper(PaperNet({Address(host, port): tracker}), names) as udp:
            url = f"udp://{at}:{port}{path}"
            if barred:
                with pytest.raises(TrackerError, match="on this machine") as caught:
                    await udp.announce(url, REQUEST)
                assert caught.value.retry_in_s == math.inf
                assert not tracker.heard
            else:
                await udp.announce(url, REQUEST)
                assert len(tracker.heard) == 2


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (lambda one: error(one.question.transaction, b"not today"), TrackerRefusal, "refuses: not today"),
        (lambda one: announced(one.question.transaction)[:12], TrackerError, "no answer to the question"),
        (lambda one: connected(one.question.transaction, 9), TrackerError, "no answer to the question"),
        (lambda one: struct.pack(">II", 9, one.question.transaction), TrackerError, "no answer"),
    ],
)
async def test_what_is_no_answer(
    carrier: Carrier, spoil: Callable[[Heard], bytes], kind: type[TrackerError], words: str
) -> None:
    tracker = UdpTracker()
    async with carrier(tracker) as udp:
        tracker.script.extend([b"", spoil])
        with pytest.raises(kind, match=words) as caught:
            await udp.announce(tracker.url, REQUEST)
        assert not isinstance(caught.value, Unreachable)
        # the next one is answered
        assert (await udp.announce(tracker.url, REQUEST)).interval_s == 1800


async def test_a_tracker_that_was_restarted_is_asked_for_a_new_connection(carrier: Carrier) -> None:
    tracker = UdpTracker()
    async with carrier(tracker) as udp:
        await udp.announce(tracker.url, REQUEST)
        tracker.restart()
        await udp.announce(tracker.url, REQUEST)
        assert len(tracker.asked(0)) == 2
        # but if it always says so, it refuses
        tracker.always = lambda one: (
            tracker.honest(one)
            if not one.question.action
            else error(one.question.transaction, b"bad connection id")
        )
        with pytest.raises(TrackerRefusal, match="bad connection"):
            await udp.announce(tracker.url, REQUEST)
    assert len(tracker.heard) < 10


async def test_behind_the_same_door_as_http(carrier: Carrier) -> None:
    tracker = UdpTracker()
    async with carrier(tracker) as udp:
        url = tracker.url.replace("udp:", "UDP:") + "?passkey=s3cr3ts"
        assert (await announce(PaperHttp(), url, REQUEST, udp=udp)).leechers == 1
        assert await scrape(PaperHttp(), url, HASH, udp=udp) == Counts(0, 1)
        tracker.script.append(lambda one: error(one.question.transaction, b"s3cr3ts is unknown"))
        with pytest.raises(TrackerRefusal, match="refuses: … is unknown"):
            await announce(PaperHttp(), url, REQUEST, udp=udp)
    with pytest.raises(UnsupportedScheme):
        await announce(PaperHttp(), url, REQUEST)


# -- in virtual time -----------------------------------------------------------------------------------------------


async def test_the_ladder(autojump_clock: MockClock) -> None:
    net = PaperNet()
    async with paper(net) as udp:
        with pytest.raises(Unreachable, match="no answer within 45 s"):
            await udp.announce("udp://192.0.2.9:6969", REQUEST)
        assert trio.current_time() == pytest.approx(45)
    assert [at for at, _, _ in net.sent] == pytest.approx([0, 15])


async def test_a_lost_datagram_is_sent_again(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    net = PaperNet({FOUR: tracker})
    net.lose = lambda number: number in {0, 2}
    async with paper(net) as udp:
        await udp.announce("udp://192.0.2.9:6969", REQUEST)
    assert [round(at) for at, _, _ in net.sent] == [0, 15, 15, 30]
    first, again = net.sent[2], net.sent[3]
    assert first[1] == again[1], "the same transaction, so that a late answer counts"


async def test_an_answer_that_comes_late_counts(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    net = PaperNet({FOUR: tracker})
    net.latency_s = 16.0
    async with paper(net) as udp:
        await udp.announce("udp://192.0.2.9:6969", REQUEST)
        assert trio.current_time() == pytest.approx(32)


async def test_whatever_it_does_not_answer_there_is_an_end(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    tracker.always = lambda one: (
        tracker.honest(one) if one.question.action == 0 and trio.current_time() > 29 else None
    )
    async with paper(PaperNet({FOUR: tracker})) as udp:
        with pytest.raises(Unreachable):
            await udp.announce("udp://192.0.2.9:6969", REQUEST)
        assert trio.current_time() <= DEADLINE_S


async def test_connections_are_kept_for_a_minute(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    async with paper(PaperNet({FOUR: tracker})) as udp:
        for pause in (59, 2, 58, 61):
            await udp.announce("udp://192.0.2.9:6969", REQUEST)
            await trio.sleep(pause)
        await udp.announce("udp://192.0.2.9:6969", REQUEST)
        assert [round(one.at) for one in tracker.asked(0)] == [0, 61, 180]
    used = {one.question.connection for one in tracker.asked(1)}
    assert used == set(tracker.connections)


async def test_a_silent_tracker_is_asked_once_for_all_who_wait(autojump_clock: MockClock) -> None:
    net = PaperNet()
    failed: list[float] = []
    async with paper(net) as udp:

        async def ask() -> None:
            with pytest.raises(Unreachable):
                await udp.announce("udp://192.0.2.9:6969", REQUEST)
            failed.append(trio.current_time())

        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(ask)
    assert failed == pytest.approx([45] * 16)
    assert len(net.sent) == 2


async def test_who_waits_goes_on_when_the_first_is_cancelled(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    net = PaperNet({FOUR: tracker})
    net.latency_s = 4.0
    async with paper(net) as udp:
        answered: list[AnnounceResponse] = []

        async def ask() -> None:
            answered.append(await udp.announce("udp://192.0.2.9:6969", REQUEST))

        async with trio.open_nursery() as nursery:
            first = await nursery.start(_cancellable, udp)
            await trio.sleep(1)
            nursery.start_soon(ask)
            await trio.sleep(1)
            first.cancel()
    assert len(answered) == 1


async def _cancellable(udp: UdpTrackers, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await udp.announce("udp://192.0.2.9:6969", REQUEST)


async def test_cancelled_at_any_moment_it_leaves_nothing(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    net = PaperNet({FOUR: tracker})
    net.latency_s = 2.0
    net.lose = lambda number: number % 3 == 1
    names = PaperNames({"t.example": ("2001:db8::9", "192.0.2.9")})
    async with paper(net, names) as udp:
        for tenths in range(1, 440, 7):
            with trio.move_on_after(tenths / 10):
                await udp.announce("udp://t.example:6969", REQUEST)
            assert udp._waiting == {}
            assert all(one.attempt is None for one in udp._endpoints.values())
            await trio.sleep(61)


async def test_both_families_hear_of_us(autojump_clock: MockClock) -> None:
    four, six = UdpTracker(), UdpTracker()
    four.peers[HASH] = {Address("192.0.2.5", 1): 0}
    six.peers[HASH] = {Address("2001:db8::5", 2): 0, Address("2001:db8::6", 2): 0}
    net = PaperNet({FOUR: four, SIX: six})
    names = PaperNames({"t.example": ("2001:db8::9", "192.0.2.9", "192.0.2.10")})
    async with paper(net, names) as udp:
        told = await udp.announce("udp://t.example:6969/announce", REQUEST)
        assert {peer.host for peer in told.peers} == {"192.0.2.5", "2001:db8::5", "2001:db8::6"}
        assert (told.seeders, told.leechers) == (2, 1)
    [one], [other] = four.asked(1), six.asked(1)
    assert one.question.key == other.question.key == 7
    assert "192.0.2.10" not in {to.host for _, _, to in net.sent}, "one address of each family"


async def test_a_family_that_leads_nowhere_delays_nobody_for_long(autojump_clock: MockClock) -> None:
    four = UdpTracker()
    net = PaperNet({FOUR: four})
    names = PaperNames({"t.example": ("2001:db8::9", "192.0.2.9")})
    async with paper(net, names) as udp:
        await udp.announce("udp://t.example:6969", REQUEST)
        assert trio.current_time() <= GRACE_S + 0.2
        sent = len(net.sent)
        before = trio.current_time()
        await udp.announce("udp://t.example:6969", REQUEST)
        assert trio.current_time() - before < 0.2, "it is known to be silent"
        assert {to.host for _, _, to in net.sent[sent:]} == {"192.0.2.9"}
        await trio.sleep(700)
        six = net.trackers[SIX] = UdpTracker()
        await udp.announce("udp://t.example:6969", REQUEST)
        assert len(six.asked(1)) == 1


async def test_a_family_without_a_way_is_no_delay(autojump_clock: MockClock) -> None:
    four = UdpTracker()
    net = PaperNet({FOUR: four})
    net.unreachable.add("2001:db8::9")
    names = PaperNames({"t.example": ("2001:db8::9", "192.0.2.9")})
    async with paper(net, names) as udp:
        await udp.announce("udp://t.example:6969", REQUEST)
        assert trio.current_time() < 0.2
        with pytest.raises(Unreachable, match=r"cannot be reached \(Network is unreachable\)"):
            await udp.announce("udp://[2001:db8::9]:6969", REQUEST)
        del net.own[True]
        with pytest.raises(Unreachable, match="no address that we can send"):
            await udp.announce("udp://[2001:db8::9]:6969", REQUEST)


async def test_a_refusal_says_more_than_silence(autojump_clock: MockClock) -> None:
    four = UdpTracker()
    four.script.extend([b"", lambda one: error(one.question.transaction, b"no")])
    names = PaperNames({"t.example": ("2001:db8::9", "192.0.2.9")})
    async with paper(PaperNet({FOUR: four}), names) as udp:
        with pytest.raises(TrackerRefusal, match="no"):
            await udp.announce("udp://t.example:6969", REQUEST)


async def test_the_next_address_of_a_host_that_is_half_dead(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    net = PaperNet({FOUR: tracker})
    names = PaperNames({"t.example": ("192.0.2.8", "192.0.2.9")})
    async with paper(net, names) as udp:
        with pytest.raises(Unreachable):
            await udp.announce("udp://t.example:6969", REQUEST)
        await udp.announce("udp://t.example:6969", REQUEST)
        assert tracker.events() == ["started"]


async def test_forgeries_are_dropped(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    net = PaperNet({FOUR: tracker})
    net.latency_s = 10.0
    rng = random.Random(2)
    async with paper(net) as udp, trio.open_nursery() as nursery:
        told: list[AnnounceResponse] = []

        async def ask() -> None:
            told.append(await udp.announce("udp://192.0.2.9:6969", REQUEST))

        nursery.start_soon(ask)
        await trio.sleep(1)
        transaction = int.from_bytes(net.sent[0][1][12:16])
        waiting = set(udp._waiting)
        # the right transaction from a wrong address, and any transaction from the right one
        for source in (Address("192.0.2.66", 6969), Address("192.0.2.9", 6970), Address("::1", 6969)):
            assert not net.deliver(connected(transaction, 666), source)
        for _ in range(20_000):
            forged = rng.getrandbits(32)
            if forged not in waiting:
                assert not net.deliver(connected(forged, 666), FOUR)
        for size in range(8):
            assert not net.deliver(connected(transaction, 666)[:size], FOUR)
        assert set(udp._waiting) == waiting
        assert len(udp._endpoints) == 1
        await trio.sleep(10)
        transaction = int.from_bytes(net.sent[1][1][12:16])
        assert net.deliver(announced(transaction, b"\xc0\0\2\7\0\7"), FOUR)
        assert not net.deliver(announced(transaction, b"\xc0\0\2\6\0\6"), FOUR), "the first one counts"
        await trio.sleep(1)
    assert told[0].peers == (Address("192.0.2.7", 7),)


async def test_what_is_known_of_addresses_is_bounded(autojump_clock: MockClock) -> None:
    net = PaperNet()
    async with paper(net) as udp, trio.open_nursery() as nursery:
        for number in range(2 * ENDPOINTS_AT_MOST):
            nursery.start_soon(_fails, udp, f"udp://10.0.{number >> 8}.{number & 255}:1")
    assert len(udp._endpoints) == ENDPOINTS_AT_MOST


async def _fails(udp: UdpTrackers, url: str) -> None:
    with pytest.raises(Unreachable):
        await udp.announce(url, REQUEST)


@pytest.mark.parametrize(
    "url",
    ["udp://", "udp://:80", "udp://h:0", "udp://h:99999", "udp://h:x", "udp://[::1", "udp://h/" + "x" * 2000],
)
async def test_urls_that_cannot_be_used(url: str) -> None:
    async with paper(PaperNet()) as udp:
        with pytest.raises(TrackerError, match="has a URL that") as caught:
            await udp.announce(url, REQUEST)
        assert caught.value.retry_in_s == float("inf")


async def test_the_port_may_be_left_out(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    async with paper(PaperNet({Address("192.0.2.9", 80): tracker})) as udp:
        await udp.announce("udp://192.0.2.9", REQUEST)
    assert tracker.asked(1)[0].question.url_data == b""


async def test_room_may_be_short(autojump_clock: MockClock) -> None:
    tracker = UdpTracker()
    net = PaperNet({FOUR: tracker})
    send = net.send
    short = [True]

    def lost(datagram: bytes, to: Address) -> bool:
        return False if short and short.pop() else send(datagram, to)

    net.send = lost  # type: ignore[method-assign]  # a fault is put in
    async with paper(net) as udp:
        await udp.announce("udp://192.0.2.9:6969", REQUEST)
        assert 15 <= trio.current_time() < 16
