"""Levels of files, how they are kept, and what follows for pieces."""

import random

import pytest

from bittern.errors import FileSelectionError
from bittern.policy.selection import (
    HIGH,
    LOW,
    NORMAL,
    SKIP,
    Choice,
    choose,
    fitting,
    pack_choice,
    pack_levels,
    piece_bands,
    terms_of,
    unpack_choice,
    unpack_levels,
    wanted_pieces,
)
from bittern.proto.layout import Layout

NAMES = ["film.mkv", "Sample/sample.mkv", "film.nfo", None, "extras/a/b.mkv", "extras/c.NFO"]
ALL = NORMAL * len(NAMES)


def indices(levels: str, level: str = SKIP) -> list[int]:
    return [index for index, one in enumerate(levels) if one == level]


@pytest.mark.parametrize(
    ("choice", "skipped"),
    [
        (Choice(skip=("*.nfo",)), [2, 5]),
        (Choice(skip=("sample",)), [1]),
        (Choice(skip=("extras/*",)), [4, 5]),
        (Choice(skip=("/extras/a/*",)), [4]),
        (Choice(skip=("a",)), [4]),
        (Choice(only=("*.mkv",)), [2, 5]),
        (Choice(only=((0, 0), "c.nfo")), [1, 2, 4]),
        (Choice(only=()), [0, 1, 2, 4, 5]),
        (Choice(only=("*.mkv",), skip=("sample*",)), [1, 2, 5]),
        (Choice(skip=((0, 5),), take=((1, 2),)), [0, 4, 5]),
        (Choice(skip=("nothing like that",)), []),
    ],
)
def test_what_a_choice_skips(choice: Choice, skipped: list[int]) -> None:
    assert indices(choose(ALL, choice, NAMES)) == skipped


def test_levels_go_to_what_is_not_skipped() -> None:
    levels = choose(ALL, Choice(skip=("*.nfo",), high=((0, 5),), low=("sample",)), NAMES)
    assert indices(levels, HIGH) == [0, 1, 4]
    assert choose(levels, Choice(low=("sample",)), NAMES)[1] == LOW
    assert choose(levels, Choice(take=((2, 2),)), NAMES)[2] == NORMAL
    assert choose(levels, Choice(normal=((0, 5),)), NAMES) == choose(ALL, Choice(skip=("*.nfo",)), NAMES)


def test_only_brings_back_what_was_skipped_and_leaves_levels() -> None:
    levels = choose(ALL, Choice(skip=((0, 1),), high=((4, 4),)), NAMES)
    levels = choose(levels, Choice(only=((0, 0), (4, 4))), NAMES)
    assert (levels[0], levels[4], indices(levels)) == (NORMAL, HIGH, [1, 2, 5])


@pytest.mark.parametrize("terms", [((6, 6),), ((0, 6),)])
def test_a_number_that_no_file_has_is_refused(terms: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(FileSelectionError, match="no file 6: the torrent has 6"):
        choose(ALL, Choice(skip=terms), NAMES)
    assert indices(choose(ALL, fitting(Choice(skip=terms), 6), NAMES)) in ([], [0, 1, 2, 4, 5])


@pytest.mark.parametrize(
    "bad",
    [
        {"skip": ("",)},
        {"only": ("x" * 1025,)},
        {"skip": ((2, 1),)},
        {"skip": ("a",) * 201},
        {"high": ((0, 0),) * 10_001},
    ],
)
def test_wishes_are_bounded(bad: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(FileSelectionError):
        Choice(**bad)  # type: ignore[arg-type]  # what comes from outside


def test_what_people_write() -> None:
    assert terms_of([3, "4", "5-7", "*.nfo", "8-x"]) == ("*.nfo", "8-x", (3, 7))
    for bad in (True, 1.5, None, [1]):
        with pytest.raises(FileSelectionError):
            terms_of([bad])


def test_a_hostile_name_takes_no_time() -> None:
    names = ["a" * 250 + "b"] * 200
    assert choose(NORMAL * 200, Choice(skip=("*a" * 60 + "c",)), names) == NORMAL * 200


@pytest.mark.parametrize(
    "choice",
    [Choice(), Choice(only=()), Choice(only=("ä*", (1, 4)), high=((0, 0),), take=("x",))],
)
def test_a_wish_survives_being_kept(choice: Choice) -> None:
    assert unpack_choice(pack_choice(choice)) == choice


@pytest.mark.parametrize(
    "text", ["{", "[]", "[" * 10_000, '{"only": 3}', '{"skip": [[5, 1]]}', '{"only": [[1]]}', "7"]
)
def test_a_wish_that_cannot_be_read_says_nothing(text: str) -> None:
    assert unpack_choice(text).empty


def test_a_later_wish_comes_last() -> None:
    both = Choice(skip=("*.nfo",), high=((0, 0),)).then(Choice(take=("*.nfo",), skip=((1, 1),)))
    assert indices(choose(ALL, both, NAMES)) == [1]
    same = Choice(skip=("*.nfo",), take=("a",))
    assert same.then(same) == same
    only = Choice(skip=((0, 0),)).then(Choice(only=((0, 0),)))
    assert indices(choose(ALL, only, NAMES)) == [1, 2, 4, 5]


def test_levels_are_kept_as_runs() -> None:
    assert pack_levels(NORMAL * 100_000) == ""
    assert pack_levels("nnn-hhl") == "3n-2hl"
    assert len(pack_levels("n-" * 50_000)) == 100_000
    rng = random.Random(3)
    for _ in range(200):
        levels = "".join(rng.choices("nnnn-hl", k=rng.randrange(1, 60)))
        assert unpack_levels(pack_levels(levels), len(levels)) == levels


@pytest.mark.parametrize("packed", ["2n", "4n", "3x", "n3", "9999999n", "3n ", "99999999n", "-n-n"])
def test_runs_that_do_not_fit_are_refused(packed: str) -> None:
    with pytest.raises(FileSelectionError):
        unpack_levels(packed, 3)


def test_wanted_pieces_and_bands_are_what_each_file_asks_for() -> None:
    rng = random.Random(5)
    for _ in range(300):
        lengths = tuple(rng.choice([0, 1, 7, 10, 25, 40]) for _ in range(rng.randrange(1, 9)))
        if not sum(lengths):
            continue
        layout = Layout(10, sum(lengths), lengths)
        pads = frozenset(index for index in range(len(lengths)) if rng.random() < 0.15)
        levels = "".join(NORMAL if index in pads else rng.choice("nn--hl") for index in range(len(lengths)))
        of_piece: dict[int, list[str]] = {piece: [] for piece in range(layout.piece_count)}
        for index, level in enumerate(levels):
            if index not in pads:
                for piece in layout.pieces_of_file(index):
                    of_piece[piece].append(level)
        wanted = wanted_pieces(levels, layout, pads)
        expected = [any(level != SKIP for level in of_piece[piece]) for piece in of_piece]
        if wanted is None:
            assert all(expected) or SKIP not in levels
        else:
            assert [wanted[piece] for piece in of_piece] == expected
        bands = piece_bands(levels, layout, pads)
        soonest = [
            min(("hnl".index(one) for one in of_piece[piece] if one != SKIP), default=1) for piece in of_piece
        ]
        if bands is None:
            assert len(set(soonest)) == 1 or not set(levels) & {HIGH, LOW}
        else:
            assert list(bands) == soonest


def test_many_numbers_come_to_few_ranges() -> None:
    numbers = [*range(99_999, 50_000, -1), *range(50_000)]
    assert terms_of([*numbers, "7-9", "*.nfo"]) == ("*.nfo", (0, 49_999), (50_001, 99_999))
    # a client that unticks every second file of a folder says no more than it has to, and is heard
    assert len(terms_of([*range(0, 9_000, 2), *range(0, 9_000, 2)])) == 4_500
    for bad in ([-1, 0], ["5-3", 4], [0, 1, "9-7"]):
        with pytest.raises(FileSelectionError):
            Choice(skip=terms_of(bad))


def test_ranges_within_each_other_name_each_file_once() -> None:
    chosen = choose(NORMAL * 10, Choice(skip=((0, 9), (2, 3), (9, 9)), take=((4, 4), (4, 5))), ["x"] * 10)
    assert chosen == "----nn----"


def test_patterns_are_bounded_together() -> None:
    with pytest.raises(FileSelectionError, match="8192"):
        Choice(skip=("*?" * 500,) * 5, take=("*?" * 500,) * 5)
