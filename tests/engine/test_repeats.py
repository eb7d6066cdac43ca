"""Where a bug was met, and how much is told of it."""

import pytest

from bittern.disk.attempt import attempt
from bittern.engine.repeats import (
    CHARS_AT_MOST,
    ELSEWHERE,
    FORGOTTEN_S,
    PLACES_AT_MOST,
    Repeats,
    brief,
    place_of,
)


def met(repeats: Repeats, place: str, now: float = 0.0) -> bool:
    return repeats.is_new(place, now, where="here", error="a bug", remedy="none")


def test_however_many_places_there_are_so_many_are_known() -> None:
    repeats = Repeats()
    new = sum(met(repeats, f"place {number}") for number in range(10_000))
    assert new == PLACES_AT_MOST + 1
    assert not met(repeats, "place 0", 1.0), "who is known stays so"
    told = {more.place: more.count for more in repeats.rest(2.0)}
    assert told == {ELSEWHERE: 10_000 - new, "place 0": 1}
    assert met(repeats, "another", FORGOTTEN_S + 3), "for others are forgotten"
    assert not met(repeats, "another", FORGOTTEN_S + 4)


def test_each_pause_is_longer_than_the_one_before() -> None:
    repeats = Repeats()
    met(repeats, "here")
    at = []
    for second in range(100_000):
        met(repeats, "here", float(second))
        at += [second for _ in repeats.due(float(second))]
    assert at[:12] == [1, 3, 7, 15, 31, 63, 127, 255, 511, 1023, 2047, 4095]
    assert at[12:15] == [4095 + 3600, 4095 + 7200, 4095 + 10_800]


def raised(error: Exception) -> BaseException:
    def bug() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        bug()
    return caught.value


def test_a_place_is_the_class_and_the_line_that_raised() -> None:
    one, same, other = (raised(error) for error in (KeyError(1), KeyError("x"), ValueError(1)))
    assert place_of(one) == place_of(same) != place_of(other)
    assert place_of(one).startswith("KeyError at ")
    crashed = [attempt(lambda key=key: {}[key]) for key in (1, 2)]  # type: ignore[misc]  # a bug on purpose
    first, second = (place_of(one) for one in crashed if isinstance(one, Exception))
    assert first == second
    assert first.startswith("KeyError at ")
    assert place_of(KeyError(1)) == "KeyError"


def test_what_a_bug_says_of_itself_is_cut() -> None:
    assert brief(ValueError("x")) == "ValueError('x')"
    assert len(brief(ValueError("x" * 100_000))) == CHARS_AT_MOST
