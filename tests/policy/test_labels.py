"""Labels."""

import pytest

from bittern.policy.labels import CHARACTERS_AT_MOST, LABELS_AT_MOST, as_text, checked, labels_in


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", ()),
        ("  ", ()),
        ("films", ("films",)),
        (" films ", ("films",)),
        ("films,hd", ("films", "hd")),
        ("films, of 1960 ,,films,", ("films", "of 1960")),
        (",", ()),
    ],
)
def test_a_text_parts_at_commas(text: str, labels: tuple[str, ...]) -> None:
    assert labels_in(text) == labels
    assert labels_in(as_text(labels)) == labels


@pytest.mark.parametrize(
    "labels",
    ["films", None, {"films": 1}, [3], ["films", None], [""], [" "], ["a,b"], ["a\nb"], ["a\x1b"]],
)
def test_what_can_be_no_labels_is_refused(labels: object) -> None:
    with pytest.raises(ValueError, match="label"):
        checked(labels)


def test_labels_have_bounds() -> None:
    assert checked(["x" * CHARACTERS_AT_MOST]) == ("x" * CHARACTERS_AT_MOST,)
    assert len(checked([str(number) for number in range(LABELS_AT_MOST)])) == LABELS_AT_MOST
    for labels in (["x" * (CHARACTERS_AT_MOST + 1)], [str(number) for number in range(LABELS_AT_MOST + 1)]):
        with pytest.raises(ValueError, match="label"):
            checked(labels)


def test_each_counts_once_in_the_order_given() -> None:
    assert checked([" b ", "a", "b"]) == ("b", "a")
