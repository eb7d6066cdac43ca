"""What is kept for others: no more than there is room for, and who is near to us first."""

import random

from bittern.policy import peerstore
from bittern.policy.peerstore import KEPT_S, SECRET_S, PeerStore, Tokens
from bittern.proto.bloom import BloomFilter
from bittern.proto.compact import pack_address, pack_host
from bittern.terms import Address, InfoHash, NodeId

OWN = NodeId(bytes(20))
ONE = InfoHash(b"\1" * 20)
OTHER = InfoHash(b"\2" * 20)


def host(number: int, port: int = 6881) -> Address:
    return Address(f"50.{number >> 8 & 255}.{number & 255}.1", port)


def made(seed: int = 1) -> PeerStore:
    return PeerStore(OWN, random.Random(seed))


def torrent(number: int) -> InfoHash:
    return InfoHash(random.Random(number).randbytes(20))


def consistent(store: PeerStore) -> None:
    peers = [peer for one in store._torrents.values() for peer in one.peers.values()]
    assert store.peer_count == len(peers) == sum(store._networks.values())
    assert all(one.peers for one in store._torrents.values())


def test_a_host_is_kept_once_with_its_latest_port_and_role() -> None:
    store = made()
    assert store.add(ONE, host(1, 1000), 0.0, seed=False)
    assert store.add(ONE, host(1, 2000), 1.0, seed=True)
    assert store.peers(ONE, 10, 1.0) == [pack_address(host(1, 2000))]
    assert store.peers(ONE, 10, 1.0, noseed=True) == []
    assert store.peers(OTHER, 10, 1.0) == []
    consistent(store)


def test_a_peer_is_forgotten_when_it_is_silent_for_long() -> None:
    store = made()
    store.add(ONE, host(1), 0.0, seed=False)
    store.add(OTHER, host(1), 50.0, seed=False)
    store.add(ONE, host(2), 100.0, seed=False)
    assert store.peers(ONE, 10, KEPT_S + 1) == [pack_address(host(2))]
    consistent(store)
    store.expire(KEPT_S + 60)
    assert len(store) == 1
    store.expire(KEPT_S + 101)
    assert (len(store), store.peer_count) == (0, 0)
    consistent(store)


def test_more_than_wanted_are_drawn_by_lot() -> None:
    store = made()
    for number in range(100):
        store.add(ONE, host(number), 0.0, seed=False)
    drawn = [tuple(store.peers(ONE, 10, 0.0)) for _ in range(5)]
    assert all(len(set(one)) == 10 for one in drawn)
    assert len(set(drawn)) == 5


def test_a_torrent_has_room_for_so_many() -> None:
    store = made()
    for number in range(peerstore.PEERS_PER_TORRENT):
        assert store.accepts(ONE)
        assert store.add(ONE, host(number), 0.0, seed=False)
    assert not store.accepts(ONE)
    assert not store.add(ONE, host(5000), 0.0, seed=False)
    assert store.add(ONE, host(7), 1.0, seed=True), "who is there may come again"
    consistent(store)


def test_hash_spam_ends_at_the_edge_and_near_torrents_stay() -> None:
    store = made()
    near = [InfoHash(bytes(5) + random.Random(n).randbytes(15)) for n in range(50)]
    for number, info_hash in enumerate(near):
        assert store.add(info_hash, host(number), 0.0, seed=False)
    for number in range(peerstore.TORRENTS + 2000):
        store.add(torrent(number), host(number), 0.0, seed=False)
    assert len(store) == peerstore.TORRENTS
    assert all(store.peers(one, 1, 0.0) for one in near)
    assert store.add(InfoHash(bytes(20)), host(1), 0.0, seed=False), "the nearest of all finds room"
    consistent(store)


def test_peers_in_all_are_bounded(monkeypatch) -> None:
    monkeypatch.setattr(peerstore, "PEERS", 300)
    store = made()
    for number in range(2000):
        store.add(torrent(number % 20), host(number), 0.0, seed=False)
        assert store.peer_count <= 300 + 1
    consistent(store)


def test_one_network_does_not_fill_it() -> None:
    store = made()
    for number in range(3 * peerstore.TORRENTS_PER_NETWORK):
        store.add(torrent(number), Address(f"50.1.1.{number % 250}", 1), 0.0, seed=False)
    assert store.peer_count == peerstore.TORRENTS_PER_NETWORK


def test_filters_hold_seeds_and_others() -> None:
    store = made()
    assert store.filters(ONE, 0.0) is None
    store.add(ONE, host(1), 0.0, seed=True)
    store.add(ONE, host(2), 0.0, seed=False)
    seeds, others = (BloomFilter(one) for one in store.filters(ONE, 0.0))
    assert [pack_host(host(n).host) in seeds for n in (1, 2)] == [True, False]
    assert [pack_host(host(n).host) in others for n in (1, 2)] == [False, True]
    store.add(ONE, host(2), 1.0, seed=True)
    assert store.filters(ONE, 2.0)[0] == seeds.to_bytes(), "not made anew at each question"
    assert store.filters(ONE, 100.0)[0] != seeds.to_bytes()


def test_tokens_are_for_one_host_and_torrent_and_five_to_ten_minutes() -> None:
    tokens = Tokens(random.Random(1), 0.0)
    token = tokens.make("50.1.1.1", ONE, 0.0)
    assert tokens.good(token, "50.1.1.1", ONE, SECRET_S)
    assert not tokens.good(token, "50.1.1.2", ONE, 0.0)
    assert not tokens.good(token, "50.1.1.1", OTHER, 0.0)
    assert not tokens.good(b"", "50.1.1.1", ONE, 0.0)
    fresh = tokens.make("50.1.1.1", ONE, SECRET_S)
    assert fresh != token
    assert tokens.good(fresh, "50.1.1.1", ONE, 2 * SECRET_S)
    assert not tokens.good(token, "50.1.1.1", ONE, 2 * SECRET_S)


def test_after_a_long_pause_no_old_token_is_good() -> None:
    tokens = Tokens(random.Random(1), 0.0)
    token = tokens.make("50.1.1.1", ONE, 0.0)
    assert not tokens.good(token, "50.1.1.1", ONE, 1e9)
    fresh = tokens.make("50.1.1.1", ONE, 1e9)
    assert tokens.good(fresh, "50.1.1.1", ONE, 1e9 + SECRET_S - 1)
