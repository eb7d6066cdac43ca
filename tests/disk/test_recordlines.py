"""Records by the quick way: the same as by a whole TOML parser, or not at all."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.disk.recordlines import plain_table

KEYS = frozenset("abc")


def by_toml(text):
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


@pytest.mark.parametrize(
    "text",
    [
        'a = "x"\nb = 7\nc = true\n',
        'a = ""\nb = 0\nc = false',
        "a = 0.5\nb = 1795295770.0128932\nc = 10.0\n",
        'a = [\n    [\n        "http://tracker.example/announce",\n    ],\n]\nb = [\n]\n',
        'a = "träcker ☃ = ["\n',
        "",
    ],
)
def test_what_we_write_is_read_so(text):
    assert plain_table(text, KEYS) == by_toml(text)


@pytest.mark.parametrize(
    "text",
    [
        'a = "x\\n"\n',
        'a = "x"y"\n',
        'a = """x"""\n',
        'a = "x" # y\n',
        'a = "\u00a0"\n',
        "a = 'x'\n",
        "a = -1\n",
        "a = 01\n",
        "a = 1_0\n",
        "a = ٣\n",
        "a = 9999999999999999999999\n",
        "a = 1e5\n",
        "a = 01.5\n",
        "a = nan\n",
        "a = \n",
        "a = 1\na = 2\n",
        "d = 1\n",
        "a=1\n",
        "[a]\n",
        "# a\n",
        "a = [\n1\n",
        "a = [\n1\n]]\n]\n",
        "a = [1]\n",
        'a = [\n"""\n]\n"""\n]\n',
        "a = [\n]\nb\n]\n",
        "a = 1\r\nb = 2\r\n",
        'a = "\x00"\n',
    ],
)
def test_all_else_is_left_to_the_parser(text):
    assert plain_table(text, KEYS) is None


values = st.one_of(
    st.sampled_from(
        ['"', '""', '"x"', "[", "]", "[]", "1", "0", "00", "1.5", "1.", "true", "True", "{}", "\\"]
    ),
    st.text(st.sampled_from('"\\[]0159.,ae_+- \t\r\u00a0'), max_size=6),
    st.text(max_size=4),
)
lines = st.one_of(
    st.builds(lambda key, value: f"{key} = {value}", st.sampled_from(["a", "b", "c", "d", ""]), values),
    values,
)


@given(st.lists(lines, max_size=8).map("\n".join))
def test_it_never_says_anything_else(text):
    found = plain_table(text, KEYS)
    assert found is None or found == by_toml(text)
