"""Lines that are remembered read as those that are written anew."""

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from bittern.disk.toml import dump_lines, dump_toml

SCALARS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
)
KEYS = st.sampled_from(["name", "state", "checked", "number", "added_wall"])


@given(st.lists(st.dictionaries(KEYS, SCALARS), max_size=4), st.frozensets(KEYS))
def test_a_table_reads_the_same_whatever_is_remembered(
    tables: list[dict[str, object]], common: frozenset[str]
) -> None:
    for table in tables:
        assert dump_lines(table, common) == dump_toml(table)


def test_what_python_takes_for_equal_is_told_apart() -> None:
    for value in (True, 1, 1.0, False, 0, 0.0):
        assert dump_lines({"x": value}, {"x"}) == dump_toml({"x": value})


def test_what_has_to_be_escaped_is() -> None:
    values = ('a"b', "a\\b", "\t", "\x7f", "\0", "", "naïve", "\u2028", float("inf"), -1, -0.0, 1e300, 10**18)
    for value in values:
        assert dump_lines({"x": value}, frozenset()) == dump_toml({"x": value})
    assert dump_lines({"x": float("nan")}, frozenset()) == b"x = nan\n"


def test_letters_at_which_python_would_break_a_line_do_not() -> None:
    table = {"name": "a\x85b\u2028c\nd", "state": "e\u2029f", "number": 1}
    assert tomllib.loads(dump_lines(table, {"state"}).decode()) == table
