"""From what clients send to a choice of files (`policy.selection`)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from bittern.errors import FileSelectionError
from bittern.policy.selection import Choice, Term, terms_of

EVERY_FILE: Final[Term] = "*"

RPC_LISTS: Final = {
    "files_wanted": "take",
    "files_unwanted": "skip",
    "priority_high": "high",
    "priority_normal": "normal",
    "priority_low": "low",
}
"""Transmission's names, in snake_case."""

KEYS: Final = ("only", "skip", "take", "low", "normal", "high")


def rpc_choice(arguments: Mapping[str, Any]) -> Choice:
    """Numbers count the files that are listed; an empty list is all of them. `FileSelectionError`."""
    lists: dict[str, Any] = {}
    for name, key in RPC_LISTS.items():
        told = arguments.get(name)
        if told is None:
            continue
        if not isinstance(told, list) or not all(type(one) is int for one in told):
            raise FileSelectionError(f"{name} is a list of file numbers")
        lists[key] = terms_of(told) if told else (EVERY_FILE,)
    return Choice(**lists)


def of_listed(choice: Choice, pads: frozenset[int], file_count: int) -> Choice:
    """The same with numbers that count pad files too, which are not listed."""
    if not pads:
        return choice
    listed = [index for index in range(file_count) if index not in pads]

    def numbers(terms: tuple[Term, ...]) -> tuple[Term, ...]:
        ranges = [term for term in terms if not isinstance(term, str)]
        last = max((last for _, last in ranges), default=-1)
        if last >= len(listed):
            raise FileSelectionError(f"there is no file {last}: the torrent has {len(listed)}")
        # the pads in between are nobody's to choose: they may lie in the same range
        return (
            *(term for term in terms if isinstance(term, str)),
            *((listed[first], listed[last]) for first, last in ranges),
        )

    return replace(choice, **{key: numbers(getattr(choice, key)) for key in RPC_LISTS.values()})


def api_choice(told: Mapping[str, Sequence[object]]) -> Choice:
    """Of the native API: lists of numbers, ranges and patterns, by the names of `KEYS`. `FileSelectionError`."""
    lists: dict[str, Any] = {}
    for key, words in told.items():
        if key not in KEYS:
            raise FileSelectionError(f"no {key!r}; there are {', '.join(KEYS)} and sequential")
        if not isinstance(words, list):
            raise FileSelectionError(f"{key} is a list of file numbers and patterns")
        lists[key] = terms_of(words)
    return Choice(**lists)
