"""A torrent's trackers as people change them: tiers of URLs (BEP 12), each URL once, as many as a .torrent may name."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from bittern.errors import TrackerListError
from bittern.proto.metainfo import MAX_TRACKERS, MAX_URL_BYTES, TRACKER_SCHEMES, usable_url

Tiers: TypeAlias = tuple[tuple[str, ...], ...]


def checked_tiers(tiers: object) -> Tiers:
    """Lists of lists of URLs, as values; `TrackerListError` names the first that is none."""
    if not isinstance(tiers, list | tuple):
        raise TrackerListError("trackers are a list of tiers, each a list of URLs")
    seen: set[str] = set()
    found: list[tuple[str, ...]] = []
    for tier in tiers:
        if not isinstance(tier, list | tuple):
            raise TrackerListError("a tier is a list of URLs")
        fresh = [url for url in dict.fromkeys(map(_checked, tier)) if url not in seen]
        seen.update(fresh)
        if len(seen) > MAX_TRACKERS:
            raise TrackerListError(f"a torrent has at most {MAX_TRACKERS} trackers")
        if fresh:
            found.append(tuple(fresh))
    return tuple(found)


def tiers_of_text(text: str) -> Tiers:
    """The same of URLs, one a line, with an empty line between tiers."""
    tiers: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip():
            tiers[-1].append(line.strip())
        elif tiers[-1]:
            tiers.append([])
    return checked_tiers(tiers)


def with_trackers(tiers: Tiers, urls: Iterable[object]) -> Tiers:
    """Further ones, each a tier of its own behind the others; those that are there stay where they are."""
    return checked_tiers([*tiers, *([url] for url in urls)])


def without_trackers(tiers: Tiers, urls: Iterable[str]) -> Tiers:
    """`TrackerListError` for one that is not there."""
    gone = set(urls)
    for url in gone:
        if all(url not in tier for tier in tiers):
            raise TrackerListError(f"it has no tracker {url[:MAX_URL_BYTES]!r}")
    left = [tuple([url for url in tier if url not in gone]) for tier in tiers]
    return tuple([tier for tier in left if tier])


def with_replaced(tiers: Tiers, changes: Sequence[tuple[str, object]]) -> Tiers:
    """Each first one by the second, in its place. `TrackerListError`."""
    for old, new in changes:
        without_trackers(tiers, [old])
        tiers = checked_tiers([[new if url == old else url for url in tier] for tier in tiers])
    return tiers


def _checked(url: object) -> str:
    try:
        usable = usable_url(url.encode(), TRACKER_SCHEMES) if isinstance(url, str) else None
    except UnicodeEncodeError:
        usable = None
    if usable is None:
        shown = repr(url[:200]) if isinstance(url, str) else "what is no text"
        raise TrackerListError(
            f"{shown} is no tracker: a URL of {', '.join(TRACKER_SCHEMES)} with at most {MAX_URL_BYTES} bytes"
        )
    return usable
