"""Which of two connections to one peer id stays: a table, and every order in which two ends can meet."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.policy.doubles import CROSSING_S, Double, judge

REFUSE, REPLACE, KEEP_BOTH = Double.REFUSE, Double.REPLACE, Double.KEEP_BOTH
YOUNG, OLD = CROSSING_S - 1, CROSSING_S + 1
BOTH = (False, True)


@pytest.mark.parametrize(
    ("outbound", "other_outbound", "same_host", "greater", "useful", "age_s", "expected"),
    [
        # the same host: the greater id's dial stays
        (False, False, True, True, False, OLD, REFUSE),
        (True, True, True, False, False, OLD, REFUSE),
        (True, False, True, True, True, OLD, REPLACE),
        (True, False, True, False, False, OLD, REFUSE),
        (False, True, True, True, False, OLD, REFUSE),
        (False, True, True, False, True, OLD, REPLACE),
        # from elsewhere: one that is of use keeps the newcomer out, one that is not does not
        (False, False, False, True, True, OLD, REFUSE),
        (False, False, False, False, False, YOUNG, KEEP_BOTH),
        (False, True, False, False, True, YOUNG, REFUSE),
        (True, True, False, False, True, YOUNG, REFUSE),
        (True, True, False, True, False, OLD, KEEP_BOTH),
        # our dial against one that came: only the smaller gives up its own, and for no old idler
        (True, False, False, True, True, OLD, KEEP_BOTH),
        (True, False, False, False, True, OLD, REFUSE),
        (True, False, False, False, False, YOUNG, REFUSE),
        (True, False, False, False, False, OLD, KEEP_BOTH),
    ],
)
def test_the_rule(
    outbound: bool,
    other_outbound: bool,
    same_host: bool,
    greater: bool,
    useful: bool,
    age_s: float,
    expected: Double,
) -> None:
    assert (
        judge(
            outbound=outbound,
            other_outbound=other_outbound,
            same_host=same_host,
            ours_is_greater=greater,
            other_useful=useful,
            other_age_s=age_s,
        )
        is expected
    )


@pytest.mark.parametrize(
    ("outbound", "other", "greater", "useful", "age_s"), list(product(BOTH, BOTH, BOTH, BOTH, (0.0, OLD)))
)
def test_nobody_from_elsewhere_ends_a_connection(
    outbound: bool, other: bool, greater: bool, useful: bool, age_s: float
) -> None:
    verdict = judge(
        outbound=outbound,
        other_outbound=other,
        same_host=False,
        ours_is_greater=greater,
        other_useful=useful,
        other_age_s=age_s,
    )
    assert verdict is not REPLACE


class End:
    """One of two bitterns that dial each other; `sees_one_host`: the other has the same address on both lines."""

    def __init__(self, *, greater: bool, sees_one_host: bool, useful: bool) -> None:
        self.greater = greater
        self.sees_one_host = sees_one_host
        self.useful = useful
        self.standing: dict[str, bool] = {}
        """Connection -> did we dial it?"""

    def meets(self, line: str, *, outbound: bool) -> set[str]:
        """A handshake was read; gives the lines that this end closes."""
        closed: set[str] = set()
        for other, other_outbound in self.standing.items():
            verdict = judge(
                outbound=outbound,
                other_outbound=other_outbound,
                same_host=self.sees_one_host,
                ours_is_greater=self.greater,
                other_useful=self.useful,
                other_age_s=0.0,
            )
            if verdict is REFUSE:
                return {line}
            if verdict is REPLACE:
                closed.add(other)
        self.standing = {one: mine for one, mine in self.standing.items() if one not in closed}
        self.standing[line] = outbound
        return closed


@given(
    st.permutations(["dial a", "answer a", "dial b", "answer b", "news a", "news b"]),
    st.tuples(*[st.booleans()] * 4),
)
def test_two_that_dial_each_other_stay_connected(
    order: list[str], how: tuple[bool, bool, bool, bool]
) -> None:
    """Line `a` is opened by the greater one, `b` by the smaller; `dial`: the far end reads the hello, `answer`: the
    near end reads the answer, `news`: closings are seen. Every step comes after the one before it on its line.
    """
    ends = {
        "a": End(greater=True, sees_one_host=how[0], useful=how[2]),
        "b": End(greater=False, sees_one_host=how[1], useful=how[3]),
    }
    steps = {line: iter(("dial", "answer")) for line in "ab"}
    closed: set[str] = set()

    def spread() -> None:
        for end in ends.values():
            for line in closed:
                end.standing.pop(line, None)

    for step in order:
        what, line = step.split()
        if what == "news":
            spread()
            continue
        step_due = next(steps[line])
        if line in closed:
            continue
        near, far = (ends["a"], ends["b"]) if line == "a" else (ends["b"], ends["a"])
        end = far if step_due == "dial" else near
        closed |= end.meets(line, outbound=step_due == "answer")
    spread()
    assert ends["a"].standing.keys() == ends["b"].standing.keys()
    assert ends["a"].standing, "each gave up its own for the other's"
    if how[0] and how[1]:
        assert len(ends["a"].standing) == 1
