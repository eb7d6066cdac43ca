"""Whole networks of DHT nodes in virtual time, nearly a third of them dead."""

import statistics

import pytest

from bittern.policy.dhtnode import DhtNode
from bittern.policy.search import Announcement, SearchResult
from bittern.terms import Address, InfoHash
from tests.fakes.dht_network import Network

DEAD = 0.3


def search(
    network: Network, at: Address, info_hash: InfoHash, announcement: Announcement | None = None
) -> tuple[SearchResult, list[Address]]:
    """Runs the network until that node knows."""
    found: list[Address] = []
    results: list[SearchResult] = []
    node = network.nodes[at]
    node.search(
        info_hash,
        network.now,
        urgent=True,
        found=found.extend,
        done=results.append,
        announcement=announcement,
    )
    network.tick(at)
    while not results:
        network.step()
    return results[0], found


def measure(network: Network, searches: int) -> None:
    everybody = list(network.nodes)
    network.dead = set(network.rng.sample(everybody, int(DEAD * len(everybody))))
    alive = [address for address in everybody if address not in network.dead]
    results = []
    for _ in range(searches):
        info_hash = InfoHash(network.rng.randbytes(20))
        one, other = network.rng.sample(alive, 2)
        port = network.rng.randrange(1, 65536)
        stored, _ = search(network, one, info_hash, Announcement(port=port, implied_port=False, seed=True))
        network.run(network.now + 1.0)
        looked, found = search(network, other, info_hash)
        assert Address(one.host, port) in found, "who looks finds who announced"
        results += [stored, looked]
    # what is asked and what is answered, and the announces
    packets = [2 * result.asked + 2 * result.stored for result in results]
    assert statistics.median(result.hops for result in results) <= 20
    assert statistics.median(packets) <= 80
    assert max(result.asked for result in results) <= 100


def test_five_hundred_nodes() -> None:
    network = Network(1)
    for _ in range(500):
        network.add()
    network.fill_tables(per_bucket=6)
    measure(network, 10)


@pytest.mark.proof
def test_ten_thousand_nodes() -> None:
    network = Network(2)
    for _ in range(10_000):
        network.add()
    network.fill_tables()
    measure(network, 100)


def test_a_network_grows_out_of_one_node() -> None:
    """Each knows only the first when it comes; nobody's table is filled by hand."""
    network = Network(3)
    first = network.where(network.add())
    nodes: list[DhtNode] = []
    for _ in range(40):
        node = network.add()
        node.greet(first)
        network.tick(network.where(node))
        nodes.append(node)
        network.run(network.now + 0.5)
    network.run(network.now + 20)
    assert statistics.median(len(node.table) for node in nodes) >= 12
    places = list(network.nodes)
    info_hash = InfoHash(network.rng.randbytes(20))
    search(network, places[5], info_hash, Announcement(port=7, implied_port=False, seed=False))
    network.run(network.now + 1)
    _, found = search(network, places[30], info_hash)
    assert found == [Address(places[5].host, 7)]


def test_a_third_of_lost_datagrams_does_not_keep_a_search_from_its_end() -> None:
    network = Network(4, loss=0.3)
    for _ in range(100):
        network.add()
    network.fill_tables(per_bucket=6)
    places = list(network.nodes)
    info_hash = InfoHash(network.rng.randbytes(20))
    result, _ = search(network, places[5], info_hash, Announcement(port=7, implied_port=False, seed=False))
    assert result.stored
    _, found = search(network, places[30], info_hash)
    assert Address(places[5].host, 7) in found


def test_sybils_near_a_torrent_do_not_hide_it() -> None:
    """A hundred nodes of two networks sit next to the torrent, answer that there is nothing, and tell of each other."""
    network = Network(5)
    for _ in range(200):
        network.add()
    network.fill_tables(per_bucket=6)
    places = list(network.nodes)
    info_hash = InfoHash(network.rng.randbytes(20))
    liars = []
    for number in range(100):
        node_id = info_hash[:18] + number.to_bytes(2)
        liar = network.add(Address(f"60.1.{number % 2}.{number + 1}", 6881), node_id=node_id)
        liar.answers.store.accepts = lambda _: True  # type: ignore[method-assign] — takes everything, gives nothing
        liar.answers.store.peers = lambda *_, **__: []  # type: ignore[method-assign]
        liars.append(network.where(liar))
    for address in liars:
        for other in liars:
            network.nodes[address].table.answered(network.nodes[other].own_id, other, 0.0)
    for address in places:
        for liar in liars:
            network.nodes[address].table.answered(network.nodes[liar].own_id, liar, 0.0)
    search(network, places[5], info_hash, Announcement(port=7, implied_port=False, seed=False))
    network.run(network.now + 1)
    _, found = search(network, places[30], info_hash)
    assert Address(places[5].host, 7) in found
