"""Who is in the routing table, who goes, who waits, and who is told of."""

import random

import pytest

from bittern.policy.routing import (
    ASK_AGAIN_S,
    GOOD_S,
    ID_BITS,
    OF_NETWORK_IN_BUCKET,
    OF_NETWORK_IN_TABLE,
    SPARES,
    Contact,
    K,
    RoutingTable,
    network_of,
    place_of,
)
from bittern.proto.krpc import NodeInfo
from bittern.proto.nodeid import fits, make_node_id
from bittern.terms import Address, NodeId

OWN = NodeId(bytes(20))


def far(number: int) -> NodeId:
    """One in the bucket farthest from ours."""
    return NodeId(b"\x80" + number.to_bytes(19))


def place(number: int) -> Address:
    """Each in a network of its own, on no local one."""
    return Address(f"50.{number // 200}.{number % 200}.1", 6881)


def near_and_far(rng: random.Random) -> NodeId:
    """At any depth, as it comes about around our own id."""
    return NodeId((rng.getrandbits(ID_BITS) >> rng.randrange(30)).to_bytes(20))


def full(now: float = 0.0) -> RoutingTable:
    """With eight in the farthest bucket, and the near ones opened."""
    table = RoutingTable(OWN, now)
    for number in range(K):
        assert table.answered(far(number), place(number), now)
    assert table.answered(NodeId(b"\x01" + bytes(19)), place(100), now)
    return table


def test_a_full_bucket_lets_nobody_in_while_its_nodes_answer() -> None:
    table = full()
    assert not table.answered(far(50), place(50), 1.0)
    assert table.get(far(50)) is None
    assert len(table) == K + 1


def test_who_fails_twice_makes_room_for_the_spare_seen_last() -> None:
    table = full()
    table.answered(far(50), place(50), 1.0)
    table.answered(far(51), place(51), 2.0)
    table.failed(far(3), place(3))
    assert table.get(far(3)) is not None
    table.failed(far(3), place(3))
    assert table.get(far(3)) is None
    assert table.get(far(51)) is not None
    assert table.get(far(50)) is None


def test_without_a_spare_a_bad_node_stays_but_is_told_to_nobody() -> None:
    table = full()
    for _ in range(5):
        table.failed(far(3), place(3))
    assert table.get(far(3)) is not None
    assert far(3) not in [one.node_id for one in table.closest(far(3), 20, 0.0)]
    assert far(3) not in [one.node_id for one in table.nearest(far(3), 20)]
    # the next one that answers takes its place
    assert table.answered(far(50), place(50), 1.0)
    assert table.get(far(3)) is None


def test_when_all_are_bad_a_search_begins_with_them_nevertheless() -> None:
    table = full()
    for contact in table.contacts():
        table.failed(contact.node_id, contact.address)
        table.failed(contact.node_id, contact.address)
    assert table.closest(OWN, K, 0.0) == []
    assert len(table.nearest(OWN, K)) == K


def test_a_failure_elsewhere_is_not_held_against_it() -> None:
    table = full()
    table.failed(far(3), place(4))
    table.failed(far(3), place(4))
    assert not table.get(far(3)).bad


def test_an_answer_forgives() -> None:
    table = full()
    table.failed(far(3), place(3))
    table.answered(far(3), place(3), 1.0)
    table.failed(far(3), place(3))
    assert not table.get(far(3)).bad


def test_an_id_does_not_move_while_its_node_lives() -> None:
    table = full()
    assert not table.answered(far(3), place(60), 1.0)
    assert table.get(far(3)).address == place(3)
    table.failed(far(3), place(3))
    table.failed(far(3), place(3))
    assert table.answered(far(3), place(60), 2.0)
    assert table.get(far(3)).address == place(60)


def test_a_host_is_there_once_with_its_latest_id() -> None:
    table = full()
    near = NodeId(b"\x02" + bytes(19))
    assert table.answered(near, place(3), 1.0)
    assert table.get(far(3)) is None
    # another port of a live node's host is somebody who wants more than one place
    assert not table.answered(NodeId(b"\x03" + bytes(19)), Address(place(3).host, 1), 2.0)
    assert table.get(near) is not None


def test_states_of_a_node() -> None:
    contact = Contact(far(1), place(1))
    assert not contact.good(0.0)
    contact.queried_at = 0.0
    assert not contact.good(0.0), "a query alone proves nothing"
    contact.answered_at = 0.0
    assert contact.good(GOOD_S)
    assert not contact.good(GOOD_S + 1)
    contact.queried_at = GOOD_S
    assert contact.good(GOOD_S + 1)
    contact.failures = 1
    assert not contact.good(GOOD_S + 1)


def test_the_longest_unseen_is_pinged_first_where_somebody_waits() -> None:
    table = full()
    later = GOOD_S + 10
    table.answered(far(2), place(2), 9.0)
    table.answered(far(50), place(50), later)
    assert table.to_ping(5.0) is None
    pinged = table.to_ping(later)
    assert pinged is not None
    assert pinged.node_id != far(2)
    assert pinged.node_id[0] == 0x80, "not the one in a bucket without spares"
    # not the same again, and all of them in time
    others = {table.to_ping(later).node_id for _ in range(K)}
    assert pinged.node_id not in others
    assert len(others) == K
    assert table.to_ping(later) is None
    assert table.to_ping(later + ASK_AGAIN_S + 1) is not None


def test_a_bucket_where_nothing_happens_is_refreshed_within_its_range() -> None:
    rng = random.Random(1)
    table = full()
    assert table.to_refresh(GOOD_S - 1, rng) is None
    targets = [table.to_refresh(GOOD_S, rng) for _ in range(10)]
    made = [int.from_bytes(one) for one in targets if one is not None]
    depths = [ID_BITS - one.bit_length() for one in made]
    assert min(depths) == 0
    assert len(made) == len(set(made)) < 10
    assert table.to_refresh(GOOD_S + 1, rng) is None


def test_who_asks_is_worth_a_ping_where_there_is_room() -> None:
    table = full()
    assert not table.queried(far(50), place(50), 1.0), "that bucket is full of good ones"
    assert table.queried(NodeId(b"\x02" + bytes(19)), place(51), 1.0)
    assert not table.queried(NodeId(b"\x02" + bytes(19)), place(3), 1.0), "that host has a place"
    assert not table.queried(OWN, place(52), 1.0)
    assert not table.queried(far(1), place(1), 500.0)
    assert table.get(far(1)).good(GOOD_S + 400)


def test_few_of_one_network_get_in() -> None:
    table = RoutingTable(OWN, 0.0)
    rng = random.Random(2)
    for number in range(200):
        table.answered(far(number), Address(f"50.1.1.{number}", 6881), 0.0)
    assert len(table) == OF_NETWORK_IN_BUCKET
    for number in range(300):
        table.answered(near_and_far(rng), place(number), 0.0)
    for number in range(200):
        table.answered(near_and_far(rng), Address(f"50.1.1.{number}", 6881), 0.0)
        table.answered(near_and_far(rng), Address(f"2001:db8::{number + 1:x}", 6881), 0.0)
    for bad in (Address("50.1.1.1", 1), Address("2001:db8::", 1)):
        assert sum(one.network == network_of(bad) for one in table.contacts()) == OF_NETWORK_IN_TABLE


def test_on_loopback_each_endpoint_is_a_node() -> None:
    table = RoutingTable(OWN, 0.0)
    assert all(table.answered(far(n), Address("127.0.0.1", 7000 + n), 0.0) for n in range(K))
    assert network_of(Address("127.0.0.1", 1)) == network_of(Address("::1", 1)) == b""
    assert place_of(Address("50.1.1.1", 7)) == "50.1.1.1"


def test_who_fits_its_address_goes_before_who_does_not() -> None:
    rng = random.Random(3)
    table = full()
    assert not any(one.fits for one in table.contacts())
    fitting = next(
        (place(n), made)
        for n in range(300, 5000)
        if (made := make_node_id(place(n).host, rng))[0] & 0x80 and fits(made, place(n).host)
    )
    assert table.answered(fitting[1], fitting[0], 1.0)
    assert table.get(far(K - 1)) is None, "the latest of those that do not fit"
    assert sum(one.node_id[0] & 0x80 != 0 for one in table.contacts()) == K
    # and not the other way round
    assert not table.answered(far(50), place(50), 1.0)


def test_memory_of_the_last_run_is_questionable() -> None:
    table = RoutingTable(OWN, 0.0)
    table.remembered([NodeInfo(far(n), place(n)) for n in range(5)], 0.0)
    assert len(table) == 5
    assert table.good_count(0.0) == 0
    assert table.closest(far(1), K, 0.0) == []
    assert [one.node_id for one in table.nearest(far(1), 1)] == [far(1)]
    assert table.to_ping(0.0) is not None
    table.answered(far(1), place(1), 1.0)
    assert table.good_count(1.0) == 1


def test_another_id_sees_the_same_nodes() -> None:
    table = full()
    moved = table.moved(NodeId(b"\xff" * 20), 5.0)
    assert moved.own_id == b"\xff" * 20
    assert {one.node_id for one in moved.contacts()} == {one.node_id for one in table.contacts()}


@pytest.mark.parametrize("seed", range(3))
def test_nearest_ones_are_those_of_the_whole_table_and_its_invariants_hold(seed: int) -> None:
    rng = random.Random(seed)
    table = RoutingTable(NodeId(rng.randbytes(20)), 0.0)
    own = int.from_bytes(table.own_id)
    for step in range(1500):
        number = rng.randrange(400)
        node_id = NodeId((own ^ random.Random(number).getrandbits(ID_BITS) >> number % 40).to_bytes(20))
        if rng.random() < 0.7:
            table.answered(node_id, place(number), step)
        else:
            table.failed(node_id, place(number))
        contacts = table.contacts()
        assert sum(len(bucket.contacts) for bucket in table._buckets) == len(contacts)
        for depth, bucket in enumerate(table._buckets):
            assert len(bucket.contacts) <= K
            assert len(bucket.spares) <= SPARES
            for one in bucket.contacts:
                shared = ID_BITS - (one.number ^ own).bit_length()
                assert shared == depth or (shared > depth and bucket is table._buckets[-1])
        if step % 50 == 0:
            target = rng.randbytes(20)
            wanted = sorted(
                (one for one in contacts if not one.bad), key=lambda one: one.number ^ int.from_bytes(target)
            )
            assert table.nearest(target, 12) == wanted[:12]
    assert len(table) > 60
