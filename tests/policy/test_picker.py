"""The picker: tables of situations, and random walks with its invariants checked after every step."""

import random
from collections import Counter

import pytest

from bittern.policy.picker import Picker
from bittern.proto.bitfield import Bitfield
from bittern.terms import PieceIndex


def bits(size: int, *indices: int) -> Bitfield:
    made = Bitfield(size)
    for index in indices:
        made.set(index)
    return made


def picker(size: int, *crowd: Bitfield, have: Bitfield | None = None, seed: int = 1) -> Picker:
    made = Picker(size, have or Bitfield(size), random.Random(seed))
    for one in crowd:
        made.peer_joined(one)
    return made


def begin(it: Picker, of: Bitfield, **options: object) -> PieceIndex | None:
    return it.begin(of, random_first=False, **options)  # type: ignore[arg-type]  # keywords passed on


def drain(it: Picker, of: Bitfield) -> list[int]:
    begun = []
    while (index := begin(it, of)) is not None:
        begun.append(index)
    return begun


def test_the_rarest_go_first() -> None:
    seed = Bitfield.full(4)
    it = picker(4, seed, bits(4, 0, 1, 2), bits(4, 0, 1), bits(4, 0))
    assert drain(it, seed) == [3, 2, 1, 0]
    assert it.endgame
    assert it.wanted == 4


def test_availability_counts_seeds_and_others_and_ends_at_255() -> None:
    it = picker(3, Bitfield.full(3), bits(3, 0), bits(3, 0, 1))
    assert it.availability() == bytes([3, 2, 1])
    it.peer_left(bits(3, 0, 1))
    assert it.availability() == bytes([2, 1, 1])
    for _ in range(253):
        it.peer_joined(bits(3, 0))
    assert it.availability() == bytes([255, 1, 1])
    for _ in range(10):
        it.peer_joined(bits(3, 0))
    assert it.availability() == bytes([255, 1, 1])
    for _ in range(300):
        it.peer_joined(Bitfield.full(3))
    assert it.availability() == bytes([255, 255, 255])


def test_only_what_the_peer_has_and_we_lack_is_begun() -> None:
    peer = bits(6, 1, 2, 4)
    it = picker(6, peer, Bitfield.full(6), have=bits(6, 2))
    assert sorted(drain(it, peer)) == [1, 4]
    assert (it.unbegun, it.wanted) == (3, 5)


def test_ties_are_broken_evenly() -> None:
    seed = Bitfield.full(10)
    first = Counter(begin(picker(10, seed, seed=n), seed) for n in range(1000))
    assert min(first.values()) > 60
    assert len(first) == 10


def test_ties_follow_no_runs_of_begun_pieces() -> None:
    """Pieces after a gap must not be the next ones: that would make the gaps grow, and every client's alike."""
    size, after_gap = 200, 0
    for n in range(300):
        seed = Bitfield.full(size)
        it = picker(size, seed, have=bits(size, *range(50, 150)), seed=n)
        after_gap += begin(it, seed) == 150
    assert after_gap < 60  # by a plain search it would be 150


def test_random_first_ignores_rarity() -> None:
    seed = Bitfield.full(100)
    crowd = bits(100, *range(1, 100))
    chosen = {picker(100, seed, crowd, seed=n).begin(seed, random_first=True) for n in range(60)}
    assert len(chosen) > 20


def test_random_first_finds_the_only_piece() -> None:
    peer = bits(5000, 4321)
    it = picker(5000, peer)
    assert it.begin(peer, random_first=True) == 4321
    assert it.begin(peer, random_first=True) is None


def test_fast_restricts() -> None:
    peer = bits(9, 1, 2, 3)
    it = picker(9, peer, bits(9, 2))
    assert begin(it, peer, fast=set()) is None
    assert begin(it, peer, fast={2, 5}) == 2
    assert begin(it, peer, fast={2, 5}) is None
    assert begin(it, peer, fast=range(3, 9)) == 3


def test_a_suggestion_breaks_ties_and_nothing_more() -> None:
    seed = Bitfield.full(50)
    for n in range(20):
        it = picker(50, seed, bits(50, 9), seed=n)
        it.suggested(31)
        it.suggested(9)  # more common than the others
        assert begin(it, seed) == 31
        assert begin(it, seed) not in (31, 9)


def test_a_piece_given_up_is_picked_again_by_its_rarity() -> None:
    seed = Bitfield.full(3)
    it = picker(3, seed, bits(3, 1, 2), bits(3, 2))
    assert [begin(it, seed), begin(it, seed)] == [0, 1]
    it.reopened(0)
    it.reopened(0)
    it.reopened(2)  # never begun
    assert it.unbegun == 2
    assert drain(it, seed) == [0, 2]
    it.done(1)
    it.reopened(1)  # had
    assert it.unbegun == 0
    assert it.wanted == 2


def test_interesting_means_something_we_do_not_have() -> None:
    it = picker(4, have=bits(4, 0))
    assert not it.interesting(bits(4, 0))
    assert it.interesting(bits(4, 0, 3))
    assert begin(it, bits(4, 3)) == 3
    assert it.interesting(bits(4, 3))  # begun is not had
    it.done(3)
    assert not it.interesting(bits(4, 3))


def test_a_leecher_that_became_a_seed_leaves_the_counts_right() -> None:
    grown, other = bits(3, 0), bits(3, 2)
    it = picker(3, grown, other)
    for index in (1, 2):
        grown.set(index)
        it.peer_has(index)
    it.check([grown, other])
    it.peer_left(grown)
    it.check([other])
    it.peer_left(other)
    it.check([])


def test_a_peer_with_few_common_pieces_is_served_without_a_walk() -> None:
    size = 20_000
    rng = random.Random(5)
    crowd = [bits(size, *rng.sample(range(size), size // 2)) for _ in range(6)]
    poor = bits(size, *rng.sample(range(size), 30))
    it = picker(size, *crowd, poor)
    assert sorted(drain(it, poor)) == sorted(poor.indices())


def test_rarity_is_kept_approximately_when_a_peer_has_few() -> None:
    size = 20_000
    poor = bits(size, *range(0, size, 400))
    common = bits(size, *(index for index in range(size) if index != 800))
    it = picker(size, poor, *([common] * 3))
    assert begin(it, poor) == 800


def test_more_peers_than_a_byte_counts() -> None:
    common = bits(20, *range(1, 20))
    it = picker(20, *([common] * 300))
    it.peer_joined(bits(20, 0))
    it.check([common] * 300 + [bits(20, 0)])
    assert begin(it, Bitfield.full(20)) == 0
    for _ in range(300):
        it.peer_left(common)
    it.check([bits(20, 0)])
    assert begin(it, Bitfield.full(20)) != 0


def test_a_flood_of_haves_costs_no_rebuild() -> None:
    size = 100_000
    it = picker(size)
    for index in range(size):
        it.peer_has(index)
    assert begin(it, Bitfield.full(size)) is not None


@pytest.mark.parametrize("seed", range(25))
def test_random_walk(seed: int) -> None:
    rng = random.Random(seed)
    size = rng.choice([1, 7, 8, 65, 700])
    have = bits(size, *(index for index in range(size) if rng.random() < 0.2))
    it = Picker(size, have, rng, run_length=rng.choice([1, 4, 64]))
    crowd: list[Bitfield] = []
    begun: set[int] = set()
    had = set(have.indices())
    for _ in range(250):
        step = rng.random()
        if step < 0.15:
            share = rng.choice([0, 0.02, 0.5, 0.98, 1])
            crowd.append(bits(size, *(index for index in range(size) if rng.random() < share)))
            it.peer_joined(crowd[-1])
        elif step < 0.25 and crowd:
            it.peer_left(crowd.pop(rng.randrange(len(crowd))))
        elif step < 0.5 and crowd:
            peer = rng.choice(crowd)
            index = rng.randrange(size)
            if not peer[index]:
                peer.set(index)
                it.peer_has(index)
        elif step < 0.8 and crowd:
            peer = rng.choice(crowd)
            able = {index for index in peer.indices() if index not in begun and index not in had}
            picked = it.begin(peer, random_first=rng.random() < 0.2)
            assert (picked is None) == (not able)
            if picked is not None:
                assert picked in able
                begun.add(picked)
        elif step < 0.9 and begun:
            index = begun.pop()
            it.done(index)
            had.add(index)
        elif begun:
            it.reopened(begun.pop())
        it.check(crowd)
        assert it.unbegun == size - len(begun) - len(had)
        assert it.wanted == size - len(had)


def test_what_is_not_wanted_is_never_begun_nor_of_interest() -> None:
    seed = Bitfield.full(6)
    it = Picker(6, bits(6, 1), random.Random(1), wanted=bits(6, 1, 2, 4))
    it.peer_joined(seed)
    assert it.unbegun == it.wanted == 2
    assert it.interesting(seed)
    assert not it.interesting(bits(6, 0, 3, 5))
    assert [index for index in range(6) if it.lacks(index)] == [2, 4]
    assert sorted(drain(it, seed)) == [2, 4]


def test_high_before_normal_before_low_and_rarity_within() -> None:
    size = 12
    seed = Bitfield.full(size)
    bands = bytes([2, 1, 0] * 4)
    crowd = [bits(size, *range(first, size)) for first in range(1, size)]
    it = Picker(size, Bitfield(size), random.Random(1), bands=bands)
    for one in (seed, *crowd):
        it.peer_joined(one)
    it.check([seed, *crowd])
    assert drain(it, seed) == [2, 5, 8, 11, 1, 4, 7, 10, 0, 3, 6, 9]


def test_priorities_that_come_later_count_from_then_on() -> None:
    size = 300
    seed = Bitfield.full(size)
    crowd = [seed] * 120 + [bits(size, *range(n, size)) for n in range(1, 200)]
    it = picker(size, *crowd)
    begun = [begin(it, seed) for _ in range(10)]
    it.reopened(begun[0] or 0)
    it.prioritize(bytes([0 if index >= 290 else 2 if index < 100 else 1 for index in range(size)]))
    it.check(crowd)
    assert sorted(begin(it, seed) or 0 for _ in range(10)) == list(range(290, 300))
    rest = drain(it, seed)
    assert min(rest[:190]) >= 100
    it.prioritize(None)
    it.check(crowd)


def test_a_peer_without_the_soonest_pieces_gives_the_next_ones() -> None:
    it = Picker(9, Bitfield(9), random.Random(2), bands=bytes([0, 0, 0, 1, 1, 1, 2, 2, 2]))
    peer = bits(9, 4, 7)
    it.peer_joined(peer)
    assert drain(it, peer) == [4, 7]


@pytest.mark.parametrize("seed", range(6))
def test_bands_follow_from_who_is_connected_whatever_happens(seed: int) -> None:
    rng = random.Random(seed)
    size = 200
    bands = rng.randbytes(size).translate(bytes(n % 3 for n in range(256)))
    it = Picker(size, Bitfield(size), rng, bands=bands)
    crowd: list[Bitfield] = []
    begun: list[int] = []
    for _ in range(300):
        match rng.randrange(5):
            case 0:
                one = Bitfield.full(size) if rng.random() < 0.3 else bits(size, *rng.sample(range(size), 90))
                crowd.append(one)
                it.peer_joined(one)
            case 1 if crowd:
                it.peer_left(crowd.pop(rng.randrange(len(crowd))))
            case 2 if crowd and not crowd[-1].all:
                index = next(crowd[-1].missing())
                crowd[-1].set(index)
                it.peer_has(index)
            case 3 if crowd:
                one = rng.choice(crowd)
                able = [index for index in one.indices() if index not in begun]
                it.sequential = rng.random() < 0.3
                index = begin(it, one)
                # never a later band while the peer has an open piece of a sooner one, and never none of several
                assert (index is None) == (not able)
                if index is not None:
                    assert bands[index] == min(bands[other] for other in able)
                    assert not it.sequential or index == min(n for n in able if bands[n] == bands[index])
                    begun.append(index)
            case _ if begun:
                it.reopened(begun.pop())
        it.check(crowd)


def test_in_order_means_the_first_that_the_peer_has() -> None:
    size = 2000
    it = picker(size, Bitfield.full(size), bits(size, 1500, 1999), have=bits(size, 0, 2))
    it.sequential = True
    assert it.begin(bits(size, 1500, 1999), random_first=True) == 1500
    seed = Bitfield.full(size)
    assert [it.begin(seed, random_first=True) for _ in range(4)] == [1, 3, 4, 5]
    it.reopened(1)
    assert begin(it, seed) == 1
    it.prioritize(bytes([1] * 1000 + [0] * 2 + [1] * 998))
    assert [begin(it, seed) for _ in range(3)] == [1000, 1001, 6]


def test_a_rare_piece_that_somebody_else_has_does_not_hold_up_a_band() -> None:
    size = 400
    peer = bits(size, *range(1, size))
    crowd = [bits(size, 0), *[peer] * 60]
    it = Picker(size, Bitfield(size), random.Random(1), bands=bytes([0] * 100 + [1] * 300))
    for one in crowd:
        it.peer_joined(one)
    assert sorted(begin(it, peer) or 0 for _ in range(99)) == list(range(1, 100))
