"""The DHT service: when torrents are looked for, how much is sent, and what survives a restart."""

import random
import threading
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bittern.discovery.dht import CONTENT_S, LEAST_S, WANTING_S, Dht, DhtFacts
from bittern.discovery.dht_state import PLACES_AT_MOST, dump_tables, load_places, load_tables
from bittern.disk.atomic import write_atomic
from bittern.errors import TrackerError
from bittern.net.udp import Udp
from bittern.policy.dhtnode import QUERIES_BURST, QUERIES_PER_S, DhtNode
from bittern.proto.datagram import Kind
from bittern.proto.krpc import Method, NodeInfo, Query, pack_response, parse_krpc
from bittern.proto.nodeid import make_node_id
from bittern.terms import Address, InfoHash, NodeId

HOST = "127.0.0.1"


class Wire:
    """UDP sockets that note what is sent; `answer`: the one node of the network says that it knows nobody."""

    def __init__(self, *, answer: bool = False) -> None:
        self.port = 1729
        self.sent: list[tuple[float, Query, Address]] = []
        self.answer = answer
        self._receive: Callable[[memoryview, Address], bool] | None = None

    def register(self, kind: Kind, receive: Callable[[memoryview, Address], bool]) -> None:
        assert kind is Kind.DHT
        self._receive = receive

    def send(self, datagram: bytes, to: Address) -> bool:
        query = parse_krpc(datagram)
        assert isinstance(query, Query)
        self.sent.append((trio.current_time(), query, to))
        if self.answer and self._receive is not None:
            token = b"t" if query.method is Method.GET_PEERS else b""
            blob = pack_response(query.transaction, node_id_at(to), seen_as=bytes(6), token=token)
            trio.lowlevel.current_trio_token().run_sync_soon(self._receive, memoryview(blob), to)
        return True

    def targets(self, method: Method) -> list[bytes]:
        return [query.target for _, query, _ in self.sent if query.method is method]


def node_id_at(address: Address) -> NodeId:
    return make_node_id(address.host, random.Random(repr(address)))


class NoNames:
    """Nobody can be looked up but numbers."""

    async def lookup(self, host: str) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        if host[0].isdigit():
            return (host,)
        raise TrackerError("no such name")


class Torrent:
    """One that is looked for."""

    def __init__(self, number: int, *, wants: bool = True, private: bool = False) -> None:
        self.info_hash = InfoHash(random.Random(number).randbytes(20))
        self.private = private
        self.wants = wants
        self.found: list[Address] = []
        self.counted: list[tuple[int, int]] = []

    def dht_facts(self) -> DhtFacts:
        return DhtFacts(wants_peers=self.wants, seed=not self.wants, scrape=True)

    def dht_found(self, addresses: tuple[Address, ...]) -> None:
        self.found += addresses

    def dht_counted(self, seeds: int, others: int) -> None:
        self.counted.append((seeds, others))


def made(udp, state: Path, *, routers=(), families=(4,), port: int = 7000) -> Dht:
    return Dht(
        udp,
        NoNames(),
        families=families,
        port=lambda: port,
        routers=routers,
        state=state,
        rng=random.Random(str(state)),
    )


def remember(dht: Dht, count: int = 1) -> None:
    """As if it had a table from before."""
    places = [Address(f"50.1.{n}.1", 6881) for n in range(count)]
    dht.nodes[4].table.remembered(
        [NodeInfo(node_id_at(place), place) for place in places], trio.current_time()
    )


async def until(check: Callable[[], bool], what: str) -> None:
    with trio.move_on_after(400):  # a search that came to nothing is made again after minutes
        while not check():
            await trio.sleep(0.005)
        return
    raise AssertionError(what)


async def test_who_announces_is_found(tmp_path: Path) -> None:
    """Three daemons on loopback; the first introduces the others to each other."""
    udps = [Udp([HOST], lambda: 0, taken=lambda _: None) for _ in range(3)]
    seeder, leecher = Torrent(1, wants=False), Torrent(1)
    async with trio.open_nursery() as nursery:
        for udp in udps:
            await nursery.start(udp.run)
        router = made(udps[0], tmp_path / "0")
        dhts = [router]
        await nursery.start(router.run)
        for number in (1, 2):
            dht = made(
                udps[number], tmp_path / str(number), routers=[(HOST, udps[0].port)], port=7000 + number
            )
            await nursery.start(dht.run)
            dhts.append(dht)
        dhts[1].add(seeder)
        dhts[1].need_peers(seeder)
        await until(lambda: any(len(dht.nodes[4].store) for dht in dhts), "an announce")
        dhts[2].add(leecher)
        await until(lambda: bool(leecher.found), "peers")
        assert leecher.found == [Address(HOST, 7001)]
        await until(lambda: leecher.counted == [(1, 0)], "a scrape")
        await dhts[2].save()
        met = Address(HOST, udps[1].port)
        nursery.cancel_scope.cancel()
    saved = load_tables((tmp_path / "2").read_bytes())
    assert saved[4].node_id == dhts[2].nodes[4].own_id
    assert met in {address for _, address in saved[4].nodes}


async def test_a_saved_table_does_without_routers(tmp_path: Path) -> None:
    udps = [Udp([HOST], lambda: 0, taken=lambda _: None) for _ in range(2)]
    torrent = Torrent(1)
    async with trio.open_nursery() as nursery:
        for udp in udps:
            await nursery.start(udp.run)
        other = made(udps[0], tmp_path / "0")
        await nursery.start(other.run)
        other.nodes[4].store.add(torrent.info_hash, Address("50.1.1.1", 5), trio.current_time(), seed=False)
        node = DhtNode(NodeId(bytes(20)), rng=random.Random(2), now=0.0, send=lambda *_: None)
        node.table.answered(other.nodes[4].own_id, Address(HOST, udps[0].port), 0.0)
        (tmp_path / "1").write_bytes(dump_tables({4: node}))
        dht = made(udps[1], tmp_path / "1", routers=[("no.such.host", 1)])
        dht.add(torrent)
        await nursery.start(dht.run)
        assert dht.nodes[4].own_id == bytes(20)
        await until(lambda: torrent.found == [Address("50.1.1.1", 5)], "peers")
        nursery.cancel_scope.cancel()


async def test_private_torrents_never_come_near_it(tmp_path: Path, autojump_clock: MockClock) -> None:
    wire = Wire(answer=True)
    dht = made(wire, tmp_path / "dht.toml")
    secret, plain = Torrent(1, private=True), Torrent(2)
    async with trio.open_nursery() as nursery:
        await nursery.start(dht.run)
        remember(dht)
        for torrent in (secret, plain):
            dht.add(torrent)
            dht.need_peers(torrent)
        await trio.sleep(2 * CONTENT_S)
        nursery.cancel_scope.cancel()
    assert plain.info_hash in wire.targets(Method.ANNOUNCE_PEER)
    assert all(secret.info_hash != query.target for _, query, _ in wire.sent)


async def test_ten_thousand_torrents_are_spread_and_those_that_want_peers_go_first(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """An eighth of an hour is enough to see it; the network is one node, so a torrent costs two queries."""
    wire = Wire(answer=True)
    dht = made(wire, tmp_path / "dht.toml")
    calm = [Torrent(n, wants=False) for n in range(10_000)]
    eager = [Torrent(20_000 + n) for n in range(50)]
    async with trio.open_nursery() as nursery:
        await nursery.start(dht.run)
        remember(dht)
        for torrent in [*calm, *eager]:
            dht.add(torrent)
        await trio.sleep(60)
        began = wire.sent[0][0]
        announced = wire.targets(Method.ANNOUNCE_PEER)
        assert {torrent.info_hash for torrent in eager} <= set(announced)
        assert len(wire.sent) <= 60 * QUERIES_PER_S + QUERIES_BURST + 1
        asked = len({*announced} & {torrent.info_hash for torrent in calm})
        # the first of them sooner than their share, for they do not know yet how many will come
        assert 0.7 < asked / (60 / CONTENT_S * len(calm)) < 1.7
        first = [query.target for at, query, _ in wire.sent if at < began + 1.5]
        assert sum(target in {one.info_hash for one in eager} for target in first) > len(first) / 2
        nursery.cancel_scope.cancel()


async def test_who_wants_peers_asks_often_and_a_content_one_seldom(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    wire = Wire(answer=True)
    dht = made(wire, tmp_path / "dht.toml")
    eager, calm = Torrent(1), Torrent(2, wants=False)
    async with trio.open_nursery() as nursery:
        await nursery.start(dht.run)
        remember(dht)
        dht.add(eager)
        dht.add(calm)
        await trio.sleep(2 * CONTENT_S)
        counts = [wire.targets(Method.ANNOUNCE_PEER).count(one.info_hash) for one in (eager, calm)]
        assert counts[0] == pytest.approx(2 * CONTENT_S / WANTING_S, abs=4)
        assert counts[1] in (2, 3)
        # who becomes hungry does not wait for its turn, and does not ask without end either
        calm.wants = True
        before = len(wire.targets(Method.ANNOUNCE_PEER))
        for _ in range(100):
            dht.need_peers(calm)
            await trio.sleep(0.1)
        hungry = wire.targets(Method.ANNOUNCE_PEER)[before:]
        assert hungry.count(calm.info_hash) <= 1
        await trio.sleep(LEAST_S)
        assert calm.info_hash in wire.targets(Method.ANNOUNCE_PEER)[before:]
        dht.remove(eager)
        dht.remove(calm)
        await trio.sleep(5)
        wire.sent.clear()
        await trio.sleep(WANTING_S * 2)
        assert not {eager.info_hash, calm.info_hash} & {query.target for _, query, _ in wire.sent}
        nursery.cancel_scope.cancel()


async def test_without_anybody_searches_wait_for_the_first_who_answers(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    wire = Wire()
    dht = made(wire, tmp_path / "dht.toml", routers=[("50.2.2.2", 7)])
    torrent = Torrent(1)
    async with trio.open_nursery() as nursery:
        await nursery.start(dht.run)
        dht.add(torrent)
        await trio.sleep(30)
        assert wire.targets(Method.GET_PEERS) == []
        assert {to for *_, to in wire.sent} == {Address("50.2.2.2", 7)}
        wire.answer = True
        dht.met(Address("50.3.3.3", 8))
        await trio.sleep(2)
        assert torrent.info_hash in wire.targets(Method.GET_PEERS)
        nursery.cancel_scope.cancel()


async def test_names_of_torrents_nodes_are_looked_up(tmp_path: Path, autojump_clock: MockClock) -> None:
    wire = Wire()
    dht = made(wire, tmp_path / "dht.toml")
    async with trio.open_nursery() as nursery:
        await nursery.start(dht.run)
        dht.introduced([("no.such.host", 1), ("50.4.4.4", 9), *[("no.such.host", 1)] * 1000])
        await trio.sleep(1)
        assert {to for *_, to in wire.sent} == {Address("50.4.4.4", 9)}
        assert len(dht._introductions._waiting) == 0
        nursery.cancel_scope.cancel()


async def test_nodes_of_torrents_introduce_us_after_a_restart_too(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    state = tmp_path / "dht.toml"
    places = [("50.4.4.4", 9), ("50.4.4.5", 10)]
    before = made(Wire(), state)
    async with trio.open_nursery() as nursery:
        await nursery.start(before.run)
        before.introduced([(f"host{n}.example", 1 + n) for n in range(16)])
        before.introduced(places)
        # a kill a moment later finds them on the disk
        for _ in range(1000):
            if state.exists():
                break
            await trio.to_thread.run_sync(time.sleep, 0.01)
        assert load_places(state.read_bytes())[-1] == places[-1]
        for number in range(100):
            await trio.sleep(0.1)
            before.introduced([(f"other{number}.example", 1)])
        before.introduced(places)
        await before.save()
        nursery.cancel_scope.cancel()
    assert len(load_places(state.read_bytes())) == PLACES_AT_MOST
    wire = Wire()
    after = made(wire, state)
    async with trio.open_nursery() as nursery:
        await nursery.start(after.run)
        await trio.sleep(1)
        assert {to for *_, to in wire.sent} == {Address(*place) for place in places}
        nursery.cancel_scope.cancel()


async def test_of_two_saves_at_once_the_later_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, later = tmp_path / "dht.toml", threading.Event()

    def write(path: Path, blob: bytes) -> None:
        if b"second" not in blob:
            later.wait(0.2)  # whoever does not wait is through by now
        write_atomic(path, blob)
        if b"second" in blob:
            later.set()

    monkeypatch.setattr("bittern.discovery.dht.write_atomic", write)
    dht = made(Wire(), state)
    async with trio.open_nursery() as nursery:
        dht.introduced([("first.example", 1)])
        nursery.start_soon(dht.save)
        await trio.testing.wait_all_tasks_blocked()
        dht.introduced([("second.example", 2)])
        await dht.save()
    assert load_places(state.read_bytes())[-1] == ("second.example", 2)


def test_introducers_that_are_none_are_left_out() -> None:
    listed = b"['a', 1], ['', 1], ['b', 0], ['c', 65536], [1, 1], ['d'], 'e', ['f', 'g'], ['h', 2]"
    assert load_places(b"format = 1\nintroducers = [" + listed + b"]") == [("a", 1), ("h", 2)]
    assert load_places(b"format = 1\nintroducers = 3") == []
    assert load_places(b"format = 1") == []


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\xff\xfe",
        b"format = 2",
        b"format = 1\nipv4 = 3",
        b"format = 1\n[ipv4]\nnode_id = 'zz'\nnodes = []",
    ],
)
async def test_a_state_file_that_is_none_costs_nothing(
    tmp_path: Path, blob: bytes, autojump_clock: MockClock
) -> None:
    state = tmp_path / "dht.toml"
    state.write_bytes(blob)
    dht = made(Wire(), state)
    async with trio.open_nursery() as nursery:
        await nursery.start(dht.run)
        assert len(dht.nodes[4].own_id) == 20
        await dht.save()
        nursery.cancel_scope.cancel()
    assert state.read_bytes() == blob, "nothing is written over it while nobody is known"


def test_tables_there_and_back() -> None:
    nodes = {}
    for family, host in ((4, "50.1.{}.1"), (6, "2001:db8:a{:x}::1")):
        node = DhtNode(
            NodeId(bytes([family]) * 20), rng=random.Random(1), now=0.0, send=lambda *_: None, family=family
        )
        for number in range(6):
            place = Address(host.format(number), 6881)
            node.table.answered(node_id_at(place), place, float(number))
        gone = Address(host.format(3), 6881)
        node.table.failed(node_id_at(gone), gone)
        node.table.failed(node_id_at(gone), gone)
        nodes[family] = node
    blob = dump_tables(nodes)
    assert tomllib.loads(blob.decode())["format"] == 1
    saved = load_tables(blob)
    for family, node in nodes.items():
        assert saved[family].node_id == node.own_id
        assert len(saved[family].nodes) == 5
        assert set(saved[family].nodes) < {one.info for one in node.table.contacts()}
        assert saved[family].nodes[0].address.host.count("5"), "the one seen last comes first"


async def test_an_unreachable_node_is_told_to_nobody(tmp_path: Path, autojump_clock: MockClock) -> None:
    dht = made(Wire(), tmp_path / "dht.toml")
    assert dht.udp_port == 0
    async with trio.open_nursery() as nursery:
        await nursery.start(dht.run)
        assert dht.udp_port == 1729
        dht.nodes[4].reach.read_only = True
        assert dht.udp_port == 0
        nursery.cancel_scope.cancel()
