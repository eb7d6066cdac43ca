"""Peer exchange's decisions: what is told, what is believed; and a random walk."""

import random

import pytest

from bittern.policy.exchange import (
    FAILED_AT_MOST,
    FIRST_S,
    HEARD_BURST,
    INTERVAL_S,
    TELLERS_AT_MOST,
    TOLD_AT_MOST,
    UNTRIED_AT_MOST,
    Hearing,
    Tellers,
    Telling,
    worth_telling,
    worth_trying,
)
from bittern.policy.routing import place_of
from bittern.proto.pex import REACHABLE, SEED, PexMessage
from bittern.terms import Address


def at(number: int, port: int = 6881) -> Address:
    return Address(f"192.0.{number >> 8}.{number & 255}", port)


def test_only_changes_are_told_and_no_more_than_once_a_minute() -> None:
    telling = Telling(10.0)
    assert telling.due_at == 10.0 + FIRST_S
    assert telling.news({at(1): 0, at(2): SEED}, 20.0) == ({at(1): 0, at(2): SEED}, [])
    assert telling.due_at == 20.0 + INTERVAL_S
    assert telling.news({at(2): 0, at(3): 0}, 90.0) == ({at(3): 0}, [at(1)])
    assert telling.news({at(2): 0, at(3): 0}, 160.0) is None
    # nothing was said, so the next news need not wait
    assert telling.due_at == 90.0 + INTERVAL_S


def test_a_crowd_is_told_in_portions_those_first_who_can_be_reached() -> None:
    crowd = {at(number): REACHABLE if number % 2 else 0 for number in range(2 * TOLD_AT_MOST)}
    telling = Telling(0.0)
    first = telling.news(crowd, 60.0)
    assert first is not None
    assert len(first[0]) == TOLD_AT_MOST
    assert set(first[0].values()) == {REACHABLE}
    second = telling.news(crowd, 120.0)
    assert second is not None
    assert first[0] | second[0] == crowd
    gone = telling.news({}, 180.0), telling.news({}, 240.0)
    assert sorted(one for part in gone if part is not None for one in part[1]) == sorted(crowd)


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_other_side_knows_in_the_end(seed: int) -> None:
    rng = random.Random(seed)
    telling, theirs, here = Telling(0.0), set[Address](), dict[Address, int]()
    for turn in range(300):
        for _ in range(rng.randrange(8)):
            address = at(rng.randrange(200))
            if here.pop(address, None) is None:
                here[address] = rng.choice([0, SEED, REACHABLE])
        if turn > 280:
            here = dict(list(here.items())[:5])
        news = telling.news(here, float(turn))
        if news is not None:
            added, dropped = news
            assert added or dropped
            assert len(added) <= TOLD_AT_MOST
            assert len(dropped) <= TOLD_AT_MOST
            assert not set(added) & (theirs | set(dropped))
            assert set(dropped) <= theirs
            theirs = (theirs | set(added)) - set(dropped)
    assert theirs == set(here)


def test_one_message_a_minute_is_heard_and_a_few_that_come_early() -> None:
    hearing = Hearing(0.0)
    assert sum(hearing.may_tell(0.5) for _ in range(100)) == HEARD_BURST
    assert sum(hearing.may_tell(second / 10) for second in range(6000)) in {9, 10}


@pytest.mark.parametrize(
    ("host", "teller", "worth"),
    [
        ("203.0.113.1", "198.51.100.1", True),
        ("203.0.113.1", "192.168.1.2", True),
        ("192.168.1.3", "192.168.1.2", True),
        ("192.168.1.3", "198.51.100.1", False),
        ("10.0.0.1", "2001:db8::1", False),
        ("fe80::1", "198.51.100.1", False),
        ("fd00::1", "fd00::2", True),
        ("127.0.0.1", "192.168.1.2", False),
        ("127.0.0.1", "198.51.100.1", False),
        ("127.0.0.2", "127.0.0.1", True),
        ("::1", "127.0.0.1", True),
        ("::1", "fd00::2", False),
    ],
)
def test_local_addresses_mean_something_only_where_they_are_local(
    host: str, teller: str, worth: bool
) -> None:
    assert worth_telling(host, teller) is worth


def test_a_host_counts_once_whatever_its_ports_but_on_this_machine() -> None:
    message = PexMessage(
        added=(
            (at(1, 80), 0),
            (at(1, 443), 0),
            (at(2), 0),
            (Address("127.0.0.1", 1), 0),
            (Address("127.0.0.1", 2), 0),
            (Address("10.0.0.1", 2), 0),
        )
    )
    taken = {place_of(at(2, 5))}
    assert list(worth_trying(message, "198.51.100.1", taken=taken, seeds=True)) == [at(1, 80)]
    assert list(worth_trying(message, "127.0.0.9", taken=taken, seeds=True)) == [
        at(1, 80),
        Address("127.0.0.1", 1),
        Address("127.0.0.1", 2),
        Address("10.0.0.1", 2),
    ]


def test_a_seed_is_of_no_use_to_a_seed() -> None:
    message = PexMessage(added=((at(1), SEED | REACHABLE), (at(2), REACHABLE)))
    assert list(worth_trying(message, "198.51.100.1", taken=(), seeds=False)) == [at(2)]


def test_who_names_nobody_who_is_there_is_not_believed_any_more() -> None:
    tellers = Tellers()
    for _ in range(FAILED_AT_MOST):
        assert tellers.may_name("liar")
        tellers.named("liar")
        tellers.tried("liar", there=False)
    assert not tellers.may_name("liar")
    assert tellers.may_name("other")


def test_one_who_was_there_is_enough() -> None:
    tellers = Tellers()
    tellers.named("honest")
    tellers.tried("honest", there=True)
    for _ in range(10 * FAILED_AT_MOST):
        tellers.named("honest")
        tellers.tried("honest", there=False)
    assert tellers.may_name("honest")


def test_nobody_names_more_than_can_be_tried() -> None:
    tellers = Tellers()
    for _ in range(UNTRIED_AT_MOST):
        tellers.named("talker")
    assert not tellers.may_name("talker")
    tellers.tried("talker", there=None)
    assert tellers.may_name("talker")


def test_tellers_are_bounded_and_the_latest_are_remembered() -> None:
    tellers = Tellers()
    for number in range(3 * TELLERS_AT_MOST):
        tellers.named(str(number))
    assert len(tellers._tellers) == TELLERS_AT_MOST
    assert str(3 * TELLERS_AT_MOST - 1) in tellers._tellers
    tellers.tried("0", there=False)
