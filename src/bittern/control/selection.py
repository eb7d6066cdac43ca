"""Which torrents somebody means: by the beginning of an info hash, or by name."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import Final

from bittern.control.turns import Turns
from bittern.engine.torrent import Torrent

HASH_DIGITS: Final = 40
PATTERN_CHARACTERS_AT_MOST: Final = 1000
PATTERNS_AT_MOST: Final = 1000


class SelectionError(ValueError):
    """Nobody, or not one alone, is meant; the message says why."""


async def select(torrents: Iterable[Torrent], patterns: Sequence[str]) -> list[Torrent]:
    """All whom any of the patterns picks out, in their order; raises for a pattern that picks out nobody.

    A pattern is a name with `*`, `?` and `[...]`, a whole name, or the first digits of an info hash: of a hash only
    one torrent may be meant, of a name all are.
    """
    if len(patterns) > PATTERNS_AT_MOST:
        raise SelectionError(f"more than {PATTERNS_AT_MOST} patterns")
    everyone = list(torrents)
    chosen: set[Torrent] = set()
    turns = Turns()
    for pattern in dict.fromkeys(patterns):
        await turns.next()
        chosen.update(_picked_out(everyone, pattern))
    return [torrent for torrent in everyone if torrent in chosen]


def one(torrents: Iterable[Torrent], beginning: str) -> Torrent:
    """The one whose info hash begins so."""
    found = _by_hash(torrents, beginning.lower())
    if len(found) != 1:
        raise SelectionError(
            f"{len(found)} torrents begin with {beginning}" if found else f"no torrent {_shown(beginning)}"
        )
    return found[0]


def _picked_out(torrents: Sequence[Torrent], pattern: str) -> list[Torrent]:
    if len(pattern) > PATTERN_CHARACTERS_AT_MOST:
        raise SelectionError("a pattern that long names no torrent")
    found = [torrent for torrent in torrents if torrent.record.name == pattern]
    if not found and any(sign in pattern for sign in "*?["):
        matches = re.compile(translate(pattern)).match
        found = [torrent for torrent in torrents if matches(torrent.record.name)]
    if not found:
        found = _by_hash(torrents, pattern.lower())
        if len(found) > 1:
            raise SelectionError(f"{len(found)} torrents begin with {pattern}: write more of the info hash")
    if not found:
        raise SelectionError(f"no torrent {_shown(pattern)}")
    return found


def _by_hash(torrents: Iterable[Torrent], beginning: str) -> list[Torrent]:
    if not 0 < len(beginning) <= HASH_DIGITS or not set(beginning) <= set("0123456789abcdef"):
        return []
    return [torrent for torrent in torrents if torrent.info_hash.hex().startswith(beginning)]


def _shown(pattern: str) -> str:
    return f"has the name or the info hash {pattern!r}"
