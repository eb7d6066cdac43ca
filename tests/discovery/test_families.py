"""Announces by both families: what each tells comes together, and one that leads nowhere delays nobody for long."""

import pytest
import trio
from trio.testing import MockClock

from bittern.discovery.families import GRACE_S, REMEMBERED_AT_MOST, SILENT_S, HttpFamilies, Silences
from bittern.discovery.trackers import announce, scrape
from bittern.errors import TrackerError
from bittern.net.http import HttpClient, HttpResponse, Unreachable
from bittern.net.names import Names
from bittern.net.scope import DialScope
from bittern.proto.announce import AnnounceEvent, AnnounceRequest, Counts, TrackerRefusal
from bittern.proto.bencode import encode
from bittern.terms import Address, InfoHash, PeerId
from tests.fakes.processes import free_port
from tests.fakes.tracker import SILENCE, PaperHttp, Reply, Tracker, failure, serve, told
from tests.fakes.udp_tracker import PaperNames

HOST = "http://t.example"
URL = f"{HOST}/announce"
REQUEST = AnnounceRequest(
    info_hash=InfoHash(bytes(range(20))),
    peer_id=PeerId(b"-bn0100-abcdefghijkl"),
    port=1729,
    uploaded=0,
    downloaded=0,
    left=3,
    event=AnnounceEvent.STARTED,
    numwant=80,
    key=1,
)
BOTH = PaperNames({"t.example": ("2001:db8::1", "192.0.2.1")})


class House:
    """A tracker as each family meets it, and as who comes by either."""

    def __init__(self) -> None:
        self.four, self.six, self.any = Tracker(), Tracker(), Tracker()
        self.http4, self.http6 = PaperHttp({HOST: self.four}), PaperHttp({HOST: self.six})
        self.either = PaperHttp({HOST: self.any})

    def families(self, *, v4: bool = True, v6: bool = True) -> HttpFamilies:
        return HttpFamilies(self.either, BOTH, v4=self.http4 if v4 else None, v6=self.http6 if v6 else None)


async def test_both_hear_of_us(autojump_clock: MockClock) -> None:
    house = House()
    house.four.always = told(interval=900, peers=b"\xc0\0\2\5\0\7", complete=3, incomplete=1)
    six = b"\x20\x01" + bytes(13) + b"\1\0\7"
    house.six.always = told(interval=900, peers6=six, complete=1, incomplete=4)
    found = await announce(house.families(), URL, REQUEST)
    assert set(found.peers) == {Address("192.0.2.5", 7), Address("2001::1", 7)}
    assert (found.seeders, found.leechers) == (3, 4)
    assert house.four.asked[0].query == house.six.asked[0].query, "key and all"
    files = {b"files": {REQUEST.info_hash: {b"complete": 5, b"incomplete": 2}}}
    house.four.always = house.six.always = Reply(encode(files))
    assert await scrape(house.families(), URL, REQUEST.info_hash) == Counts(5, 2)
    assert house.any.asked == []


async def test_only_by_the_families_that_we_listen_with(autojump_clock: MockClock) -> None:
    house = House()
    await announce(house.families(v6=False), URL, REQUEST)
    assert (len(house.four.asked), len(house.six.asked), len(house.any.asked)) == (1, 0, 0)
    # if the host has an address of another family only, that is better than nothing
    only_six = HttpFamilies(house.either, PaperNames({"t.example": ("2001:db8::1",)}), v4=house.http4)
    await announce(only_six, URL, REQUEST)
    assert (len(house.four.asked), len(house.any.asked)) == (1, 1)
    with pytest.raises(Unreachable, match="cannot be looked up"):
        await announce(HttpFamilies(house.either, PaperNames(), v4=house.http4), URL, REQUEST)
    assert house.any.asked[1:] == []


async def test_a_family_that_leads_nowhere(autojump_clock: MockClock) -> None:
    house = House()
    house.six.always = SILENCE
    families = house.families()
    for _ in range(3):
        await announce(families, URL, REQUEST)
    assert trio.current_time() < GRACE_S + 1
    assert len(house.six.asked) == 1
    await trio.sleep(SILENT_S)
    house.six.always = None
    await announce(families, URL, REQUEST)
    assert len(house.six.asked) == 2


async def test_what_went_wrong(autojump_clock: MockClock) -> None:
    house = House()
    house.six.always, house.four.always = SILENCE, failure(b"no")
    with pytest.raises(TrackerRefusal, match="refuses: no"):
        await announce(house.families(), URL, REQUEST)
    house.four.always = SILENCE
    families = house.families()
    with pytest.raises(Unreachable):
        await announce(families, URL, REQUEST)
    house.four.always = house.six.always = None
    assert await announce(families, URL, REQUEST), "both were silent: both are asked again"


@pytest.mark.parametrize("url", ["http://[::1/announce", "http:///announce"])
async def test_urls_without_a_host_are_left_to_the_client(url: str, autojump_clock: MockClock) -> None:
    class Refuses(PaperHttp):
        async def get(self, url: str, *, max_bytes: int, deadline_s: float) -> HttpResponse:
            raise TrackerError("has a URL that cannot be used")

    families = HttpFamilies(Refuses(), BOTH, v4=PaperHttp(), v6=PaperHttp())
    with pytest.raises(TrackerError, match="cannot be used"):
        await announce(families, url, REQUEST)


async def test_silences_are_bounded(autojump_clock: MockClock) -> None:
    silences: Silences[int] = Silences()
    for number in range(2 * REMEMBERED_AT_MOST):
        silences.note(number)
    assert len(silences._until) == REMEMBERED_AT_MOST
    last = 2 * REMEMBERED_AT_MOST - 1
    assert silences.speaking([0, last]) == [0]
    assert silences.speaking([last, last - 1]) == [last, last - 1], "all are silent"


async def test_real_clients_go_out_by_their_family() -> None:
    four, six = Tracker(), Tracker()
    here = DialScope(this_host=True)
    async with (
        trio.open_nursery() as nursery,
        HttpClient(scope=here) as either,
        HttpClient(scope=here, names=Names(scope=here), local_address="0.0.0.0") as http4,
        HttpClient(scope=here, names=Names(scope=here), local_address="::") as http6,
    ):
        port = free_port()
        await nursery.start(serve, four, port)
        await nursery.start(serve, six, port, "::1")
        families = HttpFamilies(either, Names(scope=here), v4=http4, v6=http6)
        await announce(families, f"http://[::1]:{port}/announce", REQUEST)
        assert [one.client for one in six.asked] == ["::1"]
        await announce(families, f"http://127.0.0.1:{port}/announce", REQUEST)
        assert [one.client for one in four.asked] == ["127.0.0.1"]
        nursery.cancel_scope.cancel()


async def test_each_family_connects_to_what_our_own_resolver_says() -> None:
    # the system knows nobody by that name
    names = Names(resolve=lambda host: {"t.example": ["127.0.0.1", "::1"]}[host])
    four, six = Tracker(), Tracker()
    async with (
        trio.open_nursery() as nursery,
        HttpClient() as either,
        HttpClient(names=names, local_address="0.0.0.0") as http4,
        HttpClient(names=names, local_address="::") as http6,
    ):
        port = free_port()
        await nursery.start(serve, four, port)
        await nursery.start(serve, six, port, "::1")
        families = HttpFamilies(either, names, v4=http4, v6=http6)
        for _ in range(2):
            await announce(families, f"http://t.example:{port}/announce", REQUEST)
        assert [one.client for one in four.asked] == 2 * ["127.0.0.1"]
        assert [one.client for one in six.asked] == 2 * ["::1"]
        assert {one.headers["host"] for one in four.asked + six.asked} == {f"t.example:{port}"}
        nursery.cancel_scope.cancel()
