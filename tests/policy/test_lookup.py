"""The course of one search: whom it asks, when it ends, and what liars can do to it."""

import itertools
import random

from bittern.policy.lookup import ALPHA, CANDIDATES, OF_NETWORK, QUERIES, UNFIT_STORES, Lookup
from bittern.policy.routing import K
from bittern.proto.krpc import NodeInfo
from bittern.proto.nodeid import fits, make_node_id
from bittern.terms import Address, NodeId

OWN = NodeId(b"\xff" * 20)
TARGET = bytes(20)


def local(number: int) -> NodeInfo:
    """The smaller, the nearer; on loopback every id fits."""
    return NodeInfo(NodeId(number.to_bytes(20)), Address("127.0.0.1", number))


def unfit(number: int) -> NodeInfo:
    return NodeInfo(NodeId(number.to_bytes(20)), Address(f"50.{number // 250}.{number % 250}.1", 7))


def fit(number: int, rng: random.Random) -> NodeInfo:
    address = Address(f"60.{number // 250}.{number % 250}.1", 7)
    return NodeInfo(make_node_id(address.host, rng), address)


def answer(lookup: Lookup, info: NodeInfo, told: list[NodeInfo] | None = None, token: bytes = b"t") -> None:
    lookup.answered(info, info.node_id, told or [], token)


def test_it_asks_the_nearest_a_few_at_a_time() -> None:
    lookup = Lookup(TARGET, OWN, [local(n) for n in range(1000, 1020)])
    assert lookup.ask(100) == [local(n) for n in range(1000, 1000 + ALPHA)]
    assert lookup.ask(100) == []
    answer(lookup, local(1000), [local(1), local(2)])
    assert lookup.ask(100) == [local(1)]
    lookup.failed(local(1001))
    assert lookup.ask(0) == []
    assert lookup.ask(100) == [local(2)]
    assert not lookup.done


def test_it_ends_when_the_nearest_k_have_answered() -> None:
    lookup = Lookup(TARGET, OWN, [local(n) for n in range(1, 40)])
    while asked := lookup.ask(1):
        assert not lookup.done
        answer(lookup, asked[0])
    assert lookup.done
    assert lookup.asked == K
    assert lookup.nearest() == [local(n) for n in range(1, K + 1)]


def test_slow_ones_are_not_waited_for_when_there_are_enough_others() -> None:
    lookup = Lookup(TARGET, OWN, [local(n) for n in range(1, 40)])
    slow = lookup.ask(ALPHA)
    assert lookup.ask(1) == []
    for one in slow:
        lookup.slow(one)
    assert len(lookup.ask(ALPHA)) == ALPHA, "others are asked in their place"
    for number in range(ALPHA + 1, 2 * ALPHA + 1):
        answer(lookup, local(number))
    while asked := lookup.ask(1):
        assert not lookup.done
        answer(lookup, asked[0])
    assert lookup.done
    # what they say later counts as well
    answer(lookup, slow[0])
    assert lookup.nearest()[0] == slow[0]


def test_with_too_few_others_they_are_waited_for() -> None:
    lookup = Lookup(TARGET, OWN, [local(n) for n in range(1, 4)])
    for one in lookup.ask(3):
        lookup.slow(one)
    assert lookup.ask(9) == []
    assert not lookup.done
    for number in range(1, 4):
        lookup.failed(local(number))
    assert lookup.done
    assert lookup.nearest() == []


def test_without_anybody_it_is_done() -> None:
    assert Lookup(TARGET, OWN, []).done


def test_ourselves_are_no_candidate() -> None:
    lookup = Lookup(TARGET, OWN, [NodeInfo(OWN, Address("127.0.0.1", 9)), local(1)])
    assert lookup.ask(9) == [local(1)]


def test_a_node_that_tells_of_itself_or_of_the_same_again_gains_nothing() -> None:
    lookup = Lookup(TARGET, OWN, [local(5)])
    (first,) = lookup.ask(9)
    answer(lookup, first, [local(5), local(6), local(6), NodeInfo(local(7).node_id, local(6).address)])
    assert lookup.ask(9) == [local(6)]


def test_who_answers_as_somebody_else_is_out() -> None:
    lookup = Lookup(TARGET, OWN, [local(5)])
    (first,) = lookup.ask(9)
    lookup.answered(first, local(6).node_id, [local(1)], b"t")
    assert lookup.done
    assert lookup.stores() == []


def test_answers_that_nobody_waits_for_change_nothing() -> None:
    lookup = Lookup(TARGET, OWN, [local(5)])
    answer(lookup, local(5), [local(1)])
    lookup.failed(local(5))
    lookup.slow(local(5))
    assert lookup.ask(9) == [local(5)]
    answer(lookup, local(5))
    answer(lookup, local(5), [local(1)])
    assert lookup.answers == 1
    assert lookup.done


def test_a_stranger_does_not_make_us_talk_to_our_own_network() -> None:
    lookup = Lookup(TARGET, OWN, [unfit(5)])
    (first,) = lookup.ask(9)
    inside = [
        NodeInfo(NodeId(bytes(19) + b"\1"), Address(host, 7))
        for host in ("127.0.0.1", "10.0.0.1", "192.168.1.1")
    ]
    answer(lookup, first, [*inside, unfit(3)])
    assert lookup.ask(9) == [unfit(3)]


def test_few_of_one_network_are_asked() -> None:
    same = [NodeInfo(NodeId(n.to_bytes(20)), Address(f"50.1.1.{n}", 7)) for n in range(1, 200)]
    lookup = Lookup(TARGET, OWN, same)
    assert len(lookup.ask(99)) == OF_NETWORK


def test_a_network_of_liars_costs_a_bounded_number_of_queries_and_little_memory() -> None:
    """Each tells of many that do not exist, nearer and nearer to the target."""
    rng = random.Random(1)
    lookup = Lookup(TARGET, OWN, [fit(n, rng) for n in range(20)])
    numbers = itertools.count(1 << 60, -1)
    while not lookup.done:
        for info in lookup.ask(99):
            answer(lookup, info, [unfit(next(numbers) % 60_000) for _ in range(100)])
        assert len(lookup._candidates) <= CANDIDATES
        assert len(lookup._by_id) == len(lookup._candidates)
    assert lookup.asked <= QUERIES
    assert len(lookup._networks) <= CANDIDATES
    assert len(lookup._places) <= CANDIDATES


def test_made_up_ids_do_not_keep_those_that_fit_from_being_asked() -> None:
    rng = random.Random(2)
    honest = [fit(n, rng) for n in range(20)]
    lookup = Lookup(TARGET, OWN, [*honest, *(unfit(n) for n in range(1, 40))])
    asked = lookup.ask(99)
    assert sum(fits(one.node_id, one.address.host) for one in asked) == 1


def test_an_announce_goes_to_the_nearest_that_fit_and_to_some_that_do_not() -> None:
    rng = random.Random(3)
    honest = sorted((fit(n, rng) for n in range(20)), key=lambda one: one.node_id)
    odd = [unfit(n) for n in range(1, 11)]
    lookup = Lookup(TARGET, OWN, [*honest, *odd], storing=True)
    while asked := lookup.ask(99):
        for one in asked:
            answer(lookup, one, token=b"" if one in (honest[0], odd[0]) else b"t" + one.node_id)
    assert lookup.done
    stores = lookup.stores()
    assert [one for one, _ in stores if one in honest] == honest[1 : K + 1], "the nearest K that gave a token"
    assert [one for one, _ in stores if one in odd] == odd[1 : 1 + UNFIT_STORES]
    assert all(token == b"t" + one.node_id for one, token in stores)


def test_hops_are_counted() -> None:
    lookup = Lookup(TARGET, OWN, [local(900)])
    for number in range(900, 100, -100):
        (one,) = lookup.ask(9)
        assert one == local(number)
        answer(lookup, one, [local(number - 100)] if number > 200 else [])
    assert lookup.done
    assert lookup.hops == 8
