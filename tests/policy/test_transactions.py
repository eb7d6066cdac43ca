"""Queries that wait for their answers: whose, how long, and how much may come from whom meanwhile."""

import random

from bittern.policy.transactions import CREDIT, LOST_S, SLOW_S, Pending, Transactions
from bittern.proto.krpc import Method
from bittern.terms import Address

HERE = Address("50.0.0.1", 1)
THERE = Address("50.0.0.1", 2)


def to(address: Address, sent_at: float = 0.0) -> Pending:
    return Pending(address, None, Method.PING, None, sent_at)


def test_an_answer_counts_once_and_from_where_it_was_asked() -> None:
    transactions = Transactions(random.Random(1))
    pending = to(HERE)
    transaction = transactions.begin(pending)
    assert transactions.awaits(HERE)
    assert not transactions.awaits(THERE)
    assert transactions.answered(transaction, THERE) is None
    assert transactions.answered(bytes(4), HERE) is None
    transactions.heard(HERE)
    assert transactions.answered(transaction, HERE) is pending
    assert not transactions.awaits(HERE)
    assert transactions.answered(transaction, HERE) is None


def test_more_than_was_asked_for_is_a_strangers_and_the_next_query_begins_anew() -> None:
    transactions = Transactions(random.Random(1))
    for _ in range(2):
        transaction = transactions.begin(to(HERE))
        assert [transactions.heard(HERE) for _ in range(CREDIT + 1)] == [True] * CREDIT + [False]
        transactions.end(transaction)
    many = [transactions.begin(to(HERE)) for _ in range(100)]
    for transaction in many:
        # who answers each of many is within its credit all the time
        assert transactions.heard(HERE)
        assert transactions.answered(transaction, HERE) is not None


def test_each_becomes_slow_once_and_is_lost_when_it_is_called_for() -> None:
    transactions = Transactions(random.Random(1))
    first, second = to(HERE, 0.0), to(THERE, 0.5)
    lost = transactions.begin(first)
    transactions.begin(second)
    assert transactions.next_at() == SLOW_S
    assert transactions.overdue(SLOW_S - 0.01) == ([], [])
    assert transactions.overdue(SLOW_S) == ([first], [])
    assert transactions.next_at() == 0.5 + SLOW_S
    assert transactions.overdue(0.5 + SLOW_S) == ([second], [])
    assert transactions.next_at() == LOST_S
    assert transactions.overdue(LOST_S) == ([], [lost])
    assert transactions.end(lost) is first
    assert transactions.next_at() == 0.5 + LOST_S
