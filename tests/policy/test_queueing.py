"""Who may run when not all may."""

import random

import pytest

from bittern.policy.queueing import Line


def line_of(at_most: int | None, count: int) -> Line[int]:
    line: Line[int] = Line(at_most)
    for n in range(count):
        line.ask(n, number=n)
    line.settle()
    return line


def test_without_a_limit_everybody_runs_at_once():
    line: Line[int] = Line()
    assert all(line.ask(n, number=n) for n in range(100))
    assert line.settle() == ([], [])


def test_first_come_first_served_and_the_next_when_one_leaves():
    line = line_of(2, 5)
    assert line.running() == {0, 1}
    line.leave(0)
    assert line.settle() == ([2], [])
    assert not line.ask(3, number=3), "asking again changes nothing"


def test_nobody_overtakes_who_waits_in_the_moment_between():
    line = line_of(2, 3)
    line.leave(0)
    assert not line.ask(9, number=9)
    assert line.settle() == ([2], [])


def test_the_more_wanted_takes_the_place_of_the_least():
    line = line_of(2, 3)
    assert not line.ask(9, number=9, priority=5)
    assert line.settle() == ([9], [1])
    line.ask(2, number=2, priority=9)
    assert line.settle() == ([2], [0])


def test_an_equal_does_not_send_anybody_away():
    line: Line[int] = Line(1)
    assert line.ask(7, number=7)
    assert not line.ask(3, number=3)
    assert line.settle() == ([], [])


def test_who_stands_still_runs_on_beside_another_and_counts_again_when_it_recovers():
    line = line_of(1, 3)
    line.stands_still(0, True)
    assert line.settle() == ([1], [])
    assert line.running() == {0, 1}
    line.stands_still(0, False)
    assert line.settle() == ([], [1])
    line.stands_still(2, True)
    assert line.settle() == ([], []), "who does not run cannot stand still"


def test_who_is_forced_runs_and_counts_not():
    line = line_of(1, 2)
    assert line.ask(9, number=9, forced=True)
    assert line.settle() == ([], [])
    assert line.running() == {0, 9}
    line.ask(9, number=9, forced=False)
    assert line.settle() == ([], [9])
    assert line.ask(9, number=9, forced=True)


def test_a_new_limit():
    line = line_of(1, 4)
    line.limit(3)
    assert line.settle() == ([1, 2], [])
    line.limit(1)
    assert line.settle()[1] == [1, 2]
    line.limit(None)
    assert line.settle()[0] == [1, 2, 3]


@pytest.mark.parametrize("seed", range(40))
def test_walks(seed: int) -> None:
    rng = random.Random(seed)
    line: Line[int] = Line(3)
    wants: dict[int, tuple[int, bool]] = {}
    stalled: set[int] = set()
    running: set[int] = set()
    for _ in range(300):
        who = rng.randrange(12)
        match rng.randrange(6):
            case 0 | 1:
                wants[who] = rng.choice([-1, 0, 0, 1]), rng.random() < 0.1
                priority, forced = wants[who]
                if line.ask(who, number=who, priority=priority, forced=forced):
                    running.add(who)
            case 2:
                line.leave(who)
                wants.pop(who, None)
                running.discard(who)
                stalled.discard(who)
            case 3 if who in running:
                line.stands_still(who, True)
                stalled.add(who)
            case 4 if who in running:
                line.stands_still(who, False)
                stalled.discard(who)
            case 5 if rng.random() < 0.2:
                line.limit(rng.choice([1, 3, 5, None]))
        line.check()
        admitted, held = line.settle()
        line.check()
        assert not set(admitted) & running
        assert set(held) <= running
        running = (running | set(admitted)) - set(held)
        stalled -= set(held)
        stalled -= set(admitted)
        assert line.running() == running
        counted = {one for one in running if not wants[one][1] and one not in stalled}
        waiting = wants.keys() - running
        if line.at_most is not None:
            assert len(counted) <= line.at_most
            assert not waiting or len(counted) == line.at_most
            assert not waiting or max(wants[w][0] for w in waiting) <= min(wants[c][0] for c in counted)
        else:
            assert not waiting
        assert not any(wants[one][1] for one in waiting)
        assert line.settle() == ([], [])
