"""How clients say which trackers a torrent is to have: the native API's words, and those of Transmission's RPC."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from bittern.errors import TrackerListError
from bittern.policy.tiers import (
    Tiers,
    checked_tiers,
    tiers_of_text,
    with_replaced,
    with_trackers,
    without_trackers,
)
from bittern.proto.metainfo import MAX_TRACKERS, MAX_URL_BYTES

Change: TypeAlias = Callable[[Tiers], Tiers]

TRACKERS_AT_MOST_BYTES: Final = 1 << 20
WORDS: Final = ("tiers", "add", "remove")
RPC_WORDS: Final = ("tracker_list", "tracker_add", "tracker_remove", "tracker_replace")
TEXT_AT_MOST: Final = MAX_TRACKERS * (MAX_URL_BYTES + 2)


def tracker_change(body: bytes) -> Change:
    """Of the body of a PATCH; `TrackerListError`."""
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not told or not set(told) <= set(WORDS) or None in told.values():
        raise TrackerListError(f"the body is a JSON object with some of {', '.join(WORDS)}")
    add, remove = _list(told, "add"), _texts(told, "remove")
    tiers = checked_tiers(told["tiers"]) if "tiers" in told else None

    def change(before: Tiers) -> Tiers:
        return with_trackers(without_trackers(before if tiers is None else tiers, remove), add)

    return change


def rpc_tracker_change(arguments: Mapping[str, Any]) -> Change | None:
    """Of a `torrent-set`; None when it says nothing of trackers. `TrackerListError`."""
    if all(arguments.get(word) is None for word in RPC_WORDS):
        return None
    text = arguments.get("tracker_list")
    if text is not None and (not isinstance(text, str) or len(text) > TEXT_AT_MOST):
        raise TrackerListError("tracker_list is a text of URLs, one a line, with an empty line between tiers")
    tiers = None if text is None else tiers_of_text(text)
    add, remove = _list(arguments, "tracker_add"), _list(arguments, "tracker_remove")
    pairs = _list(arguments, "tracker_replace")
    if len(pairs) % 2:
        raise TrackerListError(
            "tracker_replace is a list of ids, each with the URL behind it that replaces it"
        )

    def change(before: Tiers) -> Tiers:
        # as `trackers` and `trackerStats` number them
        numbered = [url for tier in before for url in tier]
        gone = [_numbered(numbered, one) for one in remove]
        changes = [(_numbered(numbered, one), url) for one, url in zip(pairs[::2], pairs[1::2], strict=True)]
        base = before if tiers is None else tiers
        return with_trackers(without_trackers(with_replaced(base, changes), gone), add)

    return change


def _numbered(urls: list[str], one: object) -> str:
    """Older clients name the URL itself."""
    if isinstance(one, str):
        return one
    if isinstance(one, bool) or not isinstance(one, int) or not 0 <= one < len(urls):
        raise TrackerListError("a tracker is named by its id in trackerStats, or by its URL")
    return urls[one]


def _list(told: Mapping[str, Any], word: str) -> list[Any]:
    value = told.get(word)
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > 2 * MAX_TRACKERS:
        raise TrackerListError(f"{word} is a list of at most {2 * MAX_TRACKERS}")
    return value


def _texts(told: Mapping[str, Any], word: str) -> list[str]:
    value = _list(told, word)
    if not all(isinstance(one, str) for one in value):
        raise TrackerListError(f"{word} is a list of URLs")
    return value
