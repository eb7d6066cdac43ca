"""Labels: words of somebody's own that a torrent carries, the first being the one that it is filed under.

As one text they stand with commas between; so none has a comma in it.
"""

from collections.abc import Iterable
from typing import Final

CHARACTERS_AT_MOST: Final = 255
"""In one; so many in all, too, where they come as one text of the configuration."""
LABELS_AT_MOST: Final = 64
UNLABELLED: Final = ("",)
"""What patterns see where there is none."""


def labels_in(text: str) -> tuple[str, ...]:
    """Those of a text, each once."""
    if "," not in text:
        return (text,) if (text := text.strip()) else ()
    return tuple(dict.fromkeys(label for part in text.split(",") if (label := part.strip())))


def as_text(labels: Iterable[str]) -> str:
    """The reverse."""
    return ",".join(labels)


def checked(labels: object) -> tuple[str, ...]:
    """A list of labels from outside; `ValueError` says in one clause what is wrong with it."""
    if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
        raise ValueError("labels are a list of texts")
    if len(labels) > LABELS_AT_MOST:
        raise ValueError(f"at most {LABELS_AT_MOST} labels")
    for label in labels:
        if not label.strip() or len(label) > CHARACTERS_AT_MOST or "," in label or not label.isprintable():
            raise ValueError(
                f"a label has 1 to {CHARACTERS_AT_MOST} characters, and no comma or control character"
            )
    return labels_in(as_text(labels))


def label_fault(text: object) -> str:
    """What is wrong with one text of labels from outside, in one clause; "" when nothing is."""
    if not isinstance(text, str):
        return "it is a text, with commas between several"
    try:
        checked(labels_in(text))
    except ValueError as error:
        return str(error)
    return ""
