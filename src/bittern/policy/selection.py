"""Which files of a torrent are wanted, and how soon: levels of files, and what follows for pieces.

A level is one character: `h` high, `n` normal, `l` low, `-` skipped; the levels of a torrent are a string of them, one
a file, pad files among them. A record keeps them as runs ("3n-2h"), or "" when every file is normal.

A piece is wanted when a wanted file has a byte in it, and as soon as the soonest of these. Pad files (BEP 47) follow
whatever they share a piece with.
"""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import translate
from typing import Any, Final, Literal, TypeAlias

from bittern.errors import FileSelectionError
from bittern.proto.bitfield import Bitfield
from bittern.proto.layout import Layout

SKIP: Final = "-"
LOW: Final = "l"
NORMAL: Final = "n"
HIGH: Final = "h"

LevelName: TypeAlias = Literal["skip", "low", "normal", "high"]
LEVELS: Final[dict[LevelName, str]] = {"skip": SKIP, "low": LOW, "normal": NORMAL, "high": HIGH}
"""By the words that people use."""
NAMES: Final = {level: word for word, level in LEVELS.items()}

BANDS: Final = {HIGH: 0, NORMAL: 1, LOW: 2}
"""A piece of a lower band is fetched before those of a higher one."""
NORMAL_BAND: Final = BANDS[NORMAL]

TERMS_AT_MOST: Final = 10_000
"""Of one choice; what a client sends that ticks single files."""
PATTERNS_AT_MOST: Final = 200
PATTERN_BYTES: Final = 1024
PATTERNS_BYTES: Final = 8192
"""All of them: each is compared with each file, of which there may be 100 000, and the worst of this size take 6 s of a
thread.
"""

_RUN: Final = re.compile(r"(\d{0,7})([hnl-])")

Term: TypeAlias = "str | tuple[int, int]"
"""A pattern for names, or the first and the last of a range of file numbers, counted from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A wish about files, followed in this order: all but `only` are skipped (when it is not None), `skip` are skipped,
    `take` are not; then the levels of those that are not skipped.

    A pattern with a slash is compared with the path below the torrent's folder, one without with the name and with
    that of every folder above it (`*.nfo`, `Sample`, `extras/*`); case does not count, and `*` passes slashes.
    """

    only: tuple[Term, ...] | None = None
    skip: tuple[Term, ...] = ()
    take: tuple[Term, ...] = ()
    low: tuple[Term, ...] = ()
    normal: tuple[Term, ...] = ()
    high: tuple[Term, ...] = ()

    def __post_init__(self) -> None:
        terms = [term for name in _FIELDS for term in getattr(self, name) or ()]
        if len(terms) > TERMS_AT_MOST or sum(isinstance(term, str) for term in terms) > PATTERNS_AT_MOST:
            raise FileSelectionError(
                f"more than {PATTERNS_AT_MOST} patterns or {TERMS_AT_MOST} numbers of files in one selection"
            )
        patterns_bytes = sum(
            len(term.encode("utf-8", "surrogatepass")) for term in terms if isinstance(term, str)
        )
        if patterns_bytes > PATTERNS_BYTES:
            raise FileSelectionError(
                f"patterns of {patterns_bytes} bytes in one selection, more than {PATTERNS_BYTES}"
            )
        for term in terms:
            if isinstance(term, str):
                if not term or len(term.encode("utf-8", "surrogatepass")) > PATTERN_BYTES:
                    raise FileSelectionError(
                        f"a pattern for files is empty or longer than {PATTERN_BYTES} bytes"
                    )
            elif not 0 <= term[0] <= term[1]:
                raise FileSelectionError(f"{term[0]}-{term[1]} is no range of file numbers")

    @property
    def empty(self) -> bool:
        """Does it say nothing?"""
        return self == _NOTHING

    def then(self, later: "Choice") -> "Choice":
        """Both, the later one last, for as long as the files are not known. A later `only` replaces what was said of
        skipping before. `FileSelectionError`: together they say too much.
        """
        before = replace(self, only=None, skip=(), take=()) if later.only is not None else self
        taken = set(later.take)
        skipped = set(later.skip)
        return Choice(
            only=later.only if later.only is not None else before.only,
            skip=tuple(term for term in before.skip if term not in taken | skipped) + later.skip,
            take=tuple(term for term in before.take if term not in taken | skipped) + later.take,
            low=before.low + later.low,
            normal=before.normal + later.normal,
            high=before.high + later.high,
        )


_FIELDS: Final = tuple(field.name for field in fields(Choice))
_NOTHING: Final = Choice()


def terms_of(words: Iterable[object]) -> tuple[Term, ...]:
    """From what people and programs write: numbers, ranges `3-7` and patterns. `FileSelectionError`.

    Who ticks a folder of 100 000 files may send that many numbers; they come to one range.
    """
    terms = [_term_of(word) for word in words]
    patterns = [term for term in terms if isinstance(term, str)]
    return (*patterns, *merged([term for term in terms if not isinstance(term, str)]))


def merged(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same numbers, ascending, in as few ranges as may be; those that end before they begin stay as they are."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if found and found[-1][0] <= found[-1][1] and found[-1][1] + 1 >= first <= last:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found


def _term_of(word: object) -> Term:
    if isinstance(word, bool) or not isinstance(word, int | str):
        raise FileSelectionError("files are named by their numbers or by patterns")
    if isinstance(word, int):
        return word, word
    if found := re.fullmatch(r"(\d{1,7})(?:-(\d{1,7}))?", word, re.ASCII):
        first = int(found[1])
        return first, int(found[2] or first)
    return word


def pack_choice(choice: Choice) -> str:
    """For a record, while the files are not known; "" for one that says nothing."""
    if choice.empty:
        return ""
    told = {name: getattr(choice, name) for name in _FIELDS}
    return json.dumps(
        {name: terms for name, terms in told.items() if terms or terms == ()}, ensure_ascii=True
    )


def unpack_choice(text: str) -> Choice:
    """The reverse; what cannot be read says nothing."""
    try:
        told: dict[str, Any] = json.loads(text) if text else {}
        terms: dict[str, Any] = {name: _terms(told[name]) for name in _FIELDS if name in told}
        return Choice(**terms)
    except (ValueError, TypeError, LookupError, RecursionError, FileSelectionError):
        return _NOTHING


def _terms(told: Any) -> tuple[Term, ...]:
    return tuple(term if isinstance(term, str) else (int(term[0]), int(term[1])) for term in told)


# -- levels of files ------------------------------------------------------------------------------------------


def pack_levels(levels: str) -> str:
    """As runs; "" when all are normal."""
    if not levels.strip(NORMAL):
        return ""
    runs = re.finditer(r"(.)\1*", levels)
    return "".join([f"{len(run[0]) if len(run[0]) > 1 else ''}{run[1]}" for run in runs])


def unpack_levels(packed: str, file_count: int) -> str:
    """The reverse; `FileSelectionError` when it does not fit."""
    if not packed:
        return NORMAL * file_count
    levels: list[str] = []
    at = total = 0
    for run in _RUN.finditer(packed):
        count = int(run[1] or 1)
        total += count
        if run.start() != at or total > file_count:
            break
        levels.append(run[2] * count)
        at = run.end()
    if at != len(packed) or total != file_count:
        raise FileSelectionError(f"a selection of other than {file_count} files")
    return "".join(levels)


def choose(levels: str, choice: Choice, names: Sequence[str | None]) -> str:
    """The levels after that choice. `names` are paths below the torrent's folder, None for pad files, whose own level
    means nothing. `FileSelectionError` for a number that no file has.
    """
    chosen = list(levels)
    if choice.only is not None:
        only = set(_matched(choice.only, names))
        for index, name in enumerate(names):
            if index not in only and name is not None:
                chosen[index] = SKIP
            elif chosen[index] == SKIP:
                chosen[index] = NORMAL
    for index in _matched(choice.skip, names):
        chosen[index] = SKIP
    for index in _matched(choice.take, names):
        if chosen[index] == SKIP:
            chosen[index] = NORMAL
    for level, terms in ((LOW, choice.low), (NORMAL, choice.normal), (HIGH, choice.high)):
        for index in _matched(terms, names):
            if chosen[index] != SKIP:
                chosen[index] = level
    for index, name in enumerate(names):
        if name is None:
            chosen[index] = NORMAL
    return "".join(chosen)


def _matched(terms: Sequence[Term], names: Sequence[str | None]) -> Iterable[int]:
    found: set[int] = set()
    patterns = [term.casefold().strip("/") for term in terms if isinstance(term, str)]
    if patterns:
        matches = _matcher(patterns)
        found.update(index for index, name in enumerate(names) if name is not None and matches(name))
    # each file once, however many ranges it lies in
    for first, last in merged([term for term in terms if not isinstance(term, str)]):
        if last >= len(names):
            raise FileSelectionError(f"there is no file {last}: the torrent has {len(names)}, counted from 0")
        found.update(range(first, last + 1))
    return found


def _matcher(patterns: Sequence[str]) -> Callable[[str], bool]:
    whole = _any_of([pattern for pattern in patterns if "/" in pattern])
    part = _any_of([pattern for pattern in patterns if "/" not in pattern])

    def matches(name: str) -> bool:
        name = name.casefold()
        if whole is not None and whole(name):
            return True
        return part is not None and any(map(part, name.split("/")))

    return matches


def _any_of(patterns: Sequence[str]) -> Callable[[str], object] | None:
    return re.compile("|".join(map(translate, patterns))).match if patterns else None


def fitting(choice: Choice, file_count: int) -> Choice:
    """The same without the numbers that no file has: of a wish that came before the files were known."""

    def fit(terms: tuple[Term, ...]) -> tuple[Term, ...]:
        return tuple(
            term if isinstance(term, str) else (term[0], min(term[1], file_count - 1))
            for term in terms
            if isinstance(term, str) or term[0] < file_count
        )

    fitted: dict[str, Any] = {
        name: fit(terms) for name in _FIELDS if (terms := getattr(choice, name)) is not None
    }
    return Choice(**fitted)


# -- what follows for pieces ----------------------------------------------------------------------------------


def wanted_pieces(levels: str, layout: Layout, pads: frozenset[int] = frozenset()) -> Bitfield | None:
    """Pieces that wanted files have bytes in; None: all of them."""
    if SKIP not in levels:
        return None
    flags = bytearray(b"0" * layout.piece_count)
    for index, level in enumerate(levels):
        if level != SKIP and index not in pads:
            pieces = layout.pieces_of_file(index)
            flags[pieces.start : pieces.stop] = b"1" * len(pieces)
    if b"0" not in flags:
        return None
    flags += b"0" * (-len(flags) % 8)
    return Bitfield.from_bytes(layout.piece_count, int(flags, 2).to_bytes(len(flags) // 8))


def piece_bands(levels: str, layout: Layout, pads: frozenset[int] = frozenset()) -> bytes | None:
    """A byte a piece, the lower the sooner (`BANDS`); None: all alike."""
    if HIGH not in levels and LOW not in levels:
        return None
    bands = bytearray(bytes([NORMAL_BAND]) * layout.piece_count)
    of_level = {
        level: [index for index, one in enumerate(levels) if one == level and index not in pads]
        for level in BANDS
    }
    # the soonest file of a piece has the last word
    for level in (LOW, NORMAL, HIGH):
        for index in of_level[level]:
            pieces = layout.pieces_of_file(index)
            bands[pieces.start : pieces.stop] = bytes([BANDS[level]]) * len(pieces)
    return bytes(bands) if len(set(bands)) > 1 else None


def skipped_files(levels: str) -> list[int]:
    """Their numbers."""
    return [index for index, level in enumerate(levels) if level == SKIP]
