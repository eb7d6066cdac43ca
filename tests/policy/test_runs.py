"""Runs: neighbours are begun together, wherever nothing speaks for another piece."""

import random

import pytest

from bittern.policy.picker import Picker
from bittern.policy.runs import LEAST_RUNS, RUN_BYTES, run_length
from bittern.proto.bitfield import Bitfield

SIZE, RUN = 64, 8


def bits(*indices: int) -> Bitfield:
    made = Bitfield(SIZE)
    for index in indices:
        made.set(index)
    return made


def picker(
    *crowd: Bitfield, have: Bitfield | None = None, seed: int = 1, bands: bytes | None = None
) -> Picker:
    made = Picker(SIZE, have or Bitfield(SIZE), random.Random(seed), bands=bands, run_length=RUN)
    for one in crowd:
        made.peer_joined(one)
    return made


def begun(it: Picker, of: Bitfield, count: int, *, random_first: bool = False) -> list[int]:
    found = [it.begin(of, random_first=random_first) for _ in range(count)]
    return [index for index in found if index is not None]


@pytest.mark.parametrize("random_first", [False, True])
def test_neighbours_are_begun_together_from_the_first_of_a_run_on(random_first: bool) -> None:
    starts = set()
    for seed in range(20):
        it = picker(Bitfield.full(SIZE), seed=seed)
        for _ in range(3):
            one = begun(it, Bitfield.full(SIZE), RUN, random_first=random_first)
            assert one == list(range(one[0], one[0] + RUN))
            starts.add(one[0])
    assert starts == set(range(0, SIZE, RUN))


def test_what_is_rarer_or_had_or_begun_is_no_part_of_a_run() -> None:
    everything = Bitfield.full(SIZE)
    for seed in range(100):
        it = picker(everything, bits(1, 2), have=bits(4), seed=seed)
        one = begun(it, everything, RUN - 3)
        if one[0] == 0:
            break
    assert one == [0, 3, 5, 6, 7]


def test_a_rare_piece_comes_before_every_run() -> None:
    it = picker(Bitfield.full(SIZE), bits(*(index for index in range(SIZE) if index != 37)))
    assert begun(it, Bitfield.full(SIZE), 1) == [37]


def test_a_peer_without_the_next_piece_of_a_run_begins_one_that_it_has_and_another_goes_on() -> None:
    everything, few = Bitfield.full(SIZE), bits(60, 61)
    it = picker(everything, few, seed=3)
    first = begun(it, everything, 1)[0]
    assert first < 56
    assert set(begun(it, few, 2)) == {60, 61}
    assert len(begun(it, everything, SIZE)) == SIZE - 3
    assert it.endgame


def test_with_bands_each_piece_is_begun_for_itself() -> None:
    """A run that was begun by those who lack what is wanted soon would use up who has it."""
    soon = range(4, 12)
    bands = bytes(0 if index in soon else 1 for index in range(SIZE))
    seed, others = Bitfield.full(SIZE), [bits(*(set(range(SIZE)) - set(soon)))] * 3
    it = picker(seed, *others, bands=bands)
    found = []
    for _ in soon:
        for other in others:
            begun(it, other, 1)
        found += begun(it, seed, 1)
    assert sorted(found) == list(soon)


@pytest.mark.parametrize("clustered", [False, True])
def test_nobody_follows_a_run_past_what_is_rarer(clustered: bool) -> None:
    """Of each ten begins nine are those of peers who have nothing rare; the seed's are for what only it has."""
    for seed in range(20):
        rng = random.Random(seed)
        groups = rng.sample(range(SIZE // RUN), SIZE // RUN // 2) if clustered else []
        some = {index for group in groups for index in range(group * RUN, group * RUN + RUN)}
        some = some or set(rng.sample(range(SIZE), SIZE // 2))
        it = picker(Bitfield.full(SIZE), bits(*some), bits(*some), seed=seed)
        for _ in range(SIZE - len(some)):
            begun(it, bits(*some), 2)
            (index,) = begun(it, Bitfield.full(SIZE), 1)
            assert index not in some


def test_a_piece_for_which_there_was_no_memory_is_the_next_of_its_run() -> None:
    everything = Bitfield.full(SIZE)
    it = picker(everything)
    one = begun(it, everything, 3)
    it.reopened(one[2])
    assert begun(it, everything, RUN - 2) == list(range(one[2], one[0] + RUN))


def test_a_piece_given_up_in_the_middle_of_a_run_is_not_lost() -> None:
    everything = Bitfield.full(SIZE)
    it = picker(everything)
    one = begun(it, everything, RUN)
    it.reopened(one[2])
    assert len(begun(it, everything, SIZE)) == SIZE - RUN + 1
    assert it.endgame


@pytest.mark.parametrize(
    ("piece_length", "piece_count", "length"),
    [
        (16 * 1024, 100_000, 64),
        (256 * 1024, 1000, 4),
        (RUN_BYTES, 1000, 1),
        (16 * RUN_BYTES, 1000, 1),
        (16 * 1024, LEAST_RUNS - 1, 1),
        (16 * 1024, LEAST_RUNS * 3, 3),
        (16 * 1024, 0, 1),
    ],
)
def test_a_run_is_as_a_mib_and_a_torrent_has_many(piece_length: int, piece_count: int, length: int) -> None:
    assert run_length(piece_length, piece_count) == length
