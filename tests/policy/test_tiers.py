"""A torrent's trackers as people change them."""

import pytest

from bittern.errors import TrackerListError
from bittern.policy.tiers import (
    checked_tiers,
    tiers_of_text,
    with_replaced,
    with_trackers,
    without_trackers,
)
from bittern.proto.metainfo import MAX_TRACKERS

A, B, C = "http://a/announce", "udp://b:1", "https://c/x?passkey=1"


def test_a_text_of_tiers() -> None:
    assert tiers_of_text(f"{A}\n{B}\n\n\n{C}\r\n{A}\n") == ((A, B), (C,))
    assert tiers_of_text("\n \n") == ()


@pytest.mark.parametrize(
    "bad",
    [
        [[A, "ftp://a/announce"]],
        [["http://"]],
        [["http://a/\x00"]],
        [["http://a/" + 3000 * "x"]],
        [[A, 7]],
        [["http://a/\ud800"]],
        [A],
        "http://a",
        [[f"http://a/{number}"] for number in range(MAX_TRACKERS + 1)],
    ],
)
def test_what_is_no_list_of_trackers(bad: object) -> None:
    with pytest.raises(TrackerListError):
        checked_tiers(bad)


def test_some_more_and_some_fewer() -> None:
    assert with_trackers(((A, B),), [C, A]) == ((A, B), (C,))
    assert without_trackers(((A, B), (C,)), [C, A]) == ((B,),)
    assert with_replaced(((A, B),), [(B, C)]) == ((A, C),)
    for change in (lambda: without_trackers(((A,),), [B]), lambda: with_replaced(((A,),), [(B, C)])):
        with pytest.raises(TrackerListError, match="no tracker"):
            change()
