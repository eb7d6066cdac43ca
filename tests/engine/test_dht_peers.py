"""What the engine has to do with the DHT: what it is told of, and what peers tell each other of it (BEP 5, 27)."""

import random
from pathlib import Path

import pytest

from bittern.engine.events import Completed
from bittern.engine.torrent import State, Torrent
from bittern.policy.add_terms import AddTerms
from bittern.proto import messages as m
from bittern.proto.bencode import Value, decode, encode
from bittern.proto.handshake import make_peer_id
from bittern.terms import Address, InfoHash
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected, dialled
from tests.fakes.torrents import Made, make_torrent

UDP_PORT = 4711


class HeardDht:
    """Notes what the engine tells it."""

    def __init__(self) -> None:
        self.udp_port = UDP_PORT
        self.external_hosts: list[str] = []
        self.located_at: list[str] = []
        self.added: dict[InfoHash, Torrent] = {}
        self.removed: list[InfoHash] = []
        self.hungry: list[InfoHash] = []
        self.places: list[tuple[str, int]] = []
        self.nodes: list[Address] = []

    def add(self, torrent: Torrent) -> None:
        self.added[torrent.info_hash] = torrent

    def remove(self, torrent: Torrent) -> None:
        self.removed.append(torrent.info_hash)

    def need_peers(self, torrent: Torrent) -> None:
        self.hungry.append(torrent.info_hash)

    def introduced(self, places: tuple[tuple[str, int], ...]) -> None:
        self.places += places

    def located(self, host: str) -> None:
        self.located_at.append(host)

    def met(self, address: Address) -> None:
        self.nodes.append(address)


async def seeding(engine: Engine, made: Made) -> None:
    made.write(engine.downloads)
    await engine.add(made)
    await engine.until(Completed)


async def test_ports_are_told_both_ways(tmp_path: Path) -> None:
    made, dht = make_torrent(), HeardDht()
    async with running(tmp_path, dht=dht) as engine:
        await seeding(engine, made)
        assert list(dht.added) == [made.info_hash]
        async with connected(engine.address, made.info_hash, dht=True) as peer:
            assert peer.theirs.dht
            assert await peer.hear_until("port") == UDP_PORT.to_bytes(2)
            # only the first counts
            await peer.say(m.pack_port(7000), m.pack_port(7001), m.INTERESTED)
            await peer.hear_until("unchoke")
        assert dht.nodes == [Address("127.0.0.1", 7000)]


async def test_who_knows_no_dht_is_told_nothing(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path, dht=HeardDht()) as engine:
        await seeding(engine, made)
        async with connected(engine.address, made.info_hash) as peer:
            await peer.say(m.INTERESTED)
            assert "port" not in await names_until_unchoke(peer)


async def names_until_unchoke(peer) -> list[str]:
    names = []
    while "unchoke" not in names:
        names.append((await peer.hear())[0])
    return names


@pytest.mark.parametrize("on", [True, False])
async def test_a_private_torrent_or_no_dht_at_all_leaves_no_trace(tmp_path: Path, on: bool) -> None:
    dht = HeardDht() if on else None
    made = with_nodes(make_torrent(private=on))
    async with running(tmp_path, dht=dht) as engine:
        await seeding(engine, made)
        async with connected(engine.address, made.info_hash, dht=True) as peer:
            assert not peer.theirs.dht
            await peer.say(m.pack_port(7000), m.INTERESTED)
            assert "port" not in await names_until_unchoke(peer)
    if dht is not None:
        assert (dht.added, dht.nodes, dht.places, dht.hungry) == ({}, [], [], [])


async def test_a_magnet_that_turns_out_private_leaves_the_dht(tmp_path: Path) -> None:
    made, dht = make_torrent(private=True), HeardDht()
    link = f"magnet:?xt=urn:btih:{made.info_hash.hex()}"
    async with running(tmp_path, dht=dht) as engine:
        await engine.session.add_magnet(link, AddTerms(str(engine.downloads)))
        await engine.until_true(lambda: made.info_hash in dht.added, "the search for its metadata")
        assert not dht.removed
        dht.added.clear()
        await engine.add(made)
        torrent = engine.session.torrents[made.info_hash]
        assert dht.removed == [made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        assert not dht.added


def with_nodes(made: Made) -> Made:
    top = decode(made.blob)
    assert isinstance(top, dict)
    nodes: list[Value] = [[b"one.example", 6881], [b"192.0.2.1", 7], [b"bad host", 7], [b"x", 0], b"odd"]
    top[b"nodes"] = nodes
    return Made(made.name, encode(top), made.payload, made.piece_length, made.info_hash, made.paths)


async def test_nodes_of_a_torrent_introduce_us(tmp_path: Path) -> None:
    made, dht = with_nodes(make_torrent()), HeardDht()
    async with running(tmp_path, dht=dht) as engine:
        await engine.add(made)
        assert dht.places == [("one.example", 6881), ("192.0.2.1", 7)]


async def test_peers_out_of_the_dht_are_dialled_and_what_is_removed_is_forgotten(tmp_path: Path) -> None:
    made, dht = make_torrent(), HeardDht()
    async with running(tmp_path, dht=dht) as engine:
        await engine.add(made)
        await engine.until_true(lambda: made.info_hash in dht.added, "the DHT hears of it")
        torrent = dht.added[made.info_hash]
        facts = torrent.dht_facts()
        assert (facts.wants_peers, facts.seed, facts.scrape) == (True, False, True)
        peer_id = make_peer_id(random.Random(1), "9.9.9")
        async with dialled(lambda at: torrent.dht_found((at,)), made.info_hash, peer_id) as peer:
            assert peer.theirs.dht
        torrent.dht_counted(3, 4)
        assert torrent.counted == (3, 4)
        await engine.session.remove(made.info_hash, reason="asked")
        assert dht.removed == [made.info_hash]


async def test_where_peers_and_trackers_see_us_the_dht_hears_and_the_other_way_round(tmp_path: Path) -> None:
    made, dht = make_torrent(), HeardDht()
    dht.external_hosts = ["2001:db8::5"]
    async with running(tmp_path, dht=dht) as engine:
        await seeding(engine, made)
        swarms = engine.session.swarms
        port = engine.listener.port
        async with connected(engine.address, made.info_hash) as peer:
            await peer.hear_until("extended")
            (swarm,) = swarms.live.values()
            assert list(swarm.roster._ours.values()) == [Address("2001:db8::5", port)]
            # on loopback nobody has a vote
            told = {b"yourip": bytes([8, 8, 8, 8])}
            await peer.say(m.pack_extended(0, encode(told)), m.INTERESTED)
            await peer.hear_until("unchoke")
            engine.session.announcer.located("8.8.8.8")
            for number in range(3):
                swarms.seen_as(Address(f"50.{number}.1.1", 6881), "8.8.8.8")
            assert dht.located_at == []
            swarms.seen_as(Address("50.99.1.1", 6881), "8.8.8.8")
            assert dht.located_at == ["8.8.8.8"]
            assert swarm.roster._ours[False] == Address("8.8.8.8", port)
            assert set(swarms.stand_at) == {Address("8.8.8.8", port), Address("2001:db8::5", port)}
