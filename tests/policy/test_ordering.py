"""The order of the queue: whoever is moved stands where he was put, and nobody else changes places."""

import random

import pytest

from bittern.policy.ordering import Rank, Step, moved, stepped


def line(order: dict[str, Rank]) -> str:
    return "".join(sorted(order, key=lambda one: order[one]))


def made(text: str) -> dict[str, Rank]:
    return {one: Rank(0, float(number)) for number, one in enumerate(text, 1)}


@pytest.mark.parametrize(
    ("who", "to", "after"),
    [
        ("d", 0, "dabc"),
        ("a", 3, "bcda"),
        ("b", 2, "acbd"),
        ("c", 1, "acbd"),
        ("b", 1, "abcd"),
        ("a", 99, "bcda"),
    ],
)
def test_one_is_moved(who: str, to: int, after: str) -> None:
    order = made("abcd")
    changes = moved(order, who, to)
    assert set(changes) <= {who}
    assert line(order | changes) == after


def test_a_priority_changes_where_the_place_demands_it() -> None:
    order = {"a": Rank(-5, 1.0), "b": Rank(0, 2.0), "c": Rank(0, 3.0), "d": Rank(7, 1.0)}
    top = moved(order, "d", 0)
    assert line(order | top) == "dabc"
    assert top["d"].behind == -5
    assert moved(order, "a", 3)["a"].behind == 7
    assert moved(order, "c", 1)["c"].behind == 0


def test_it_may_go_on_for_ever() -> None:
    """Between two floats there are only so many others."""
    order = made("abcd")
    for _ in range(300):
        before = line(order)
        order |= moved(order, before[3], 2)
        assert line(order) == before[:2] + before[3] + before[2]
    assert all(rank.rank for rank in order.values())


def test_a_walk_of_moves_is_a_walk_of_a_list() -> None:
    rng = random.Random(3)
    order = {one: Rank(rng.randrange(-1, 2), float(number)) for number, one in enumerate("abcdefgh", 1)}
    expected = list(line(order))
    for _ in range(2000):
        who, to = rng.choice("abcdefgh"), rng.randrange(8)
        order |= moved(order, who, to)
        expected.remove(who)
        expected.insert(to, who)
        assert line(order) == "".join(expected)
        assert all(rank.rank for rank in order.values())


@pytest.mark.parametrize(
    ("step", "chosen", "after"),
    [
        ("top", "ce", "ceabdf"), ("bottom", "ac", "bdefac"), ("up", "ce", "acbedf"), ("up", "ab", "abcdef"),
        ("up", "ac", "acbdef"), ("down", "ef", "abcdef"), ("down", "bc", "adbcef"), ("down", "bf", "acbdef"),
    ],
)  # fmt: skip
def test_several_keep_their_order(step: Step, chosen: str, after: str) -> None:
    order = made("abcdef")
    for who, to in stepped([("abcdef".index(one), one) for one in chosen], step, 6):
        order |= moved(order, who, to)
    assert line(order) == after
