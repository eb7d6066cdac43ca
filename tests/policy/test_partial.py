"""A partial's bookkeeping, by table and by random walk against a slow model."""

import random

import pytest

from bittern.errors import ProtocolError
from bittern.policy.partial import Partial
from bittern.terms import BLOCK_SIZE, PieceIndex


def granted(size_bytes: int, *, span_bytes: int | None = None) -> Partial:
    partial = Partial(PieceIndex(7), size_bytes, span_bytes=span_bytes)
    for span in range(partial.span_count):
        partial.buffers[span] = memoryview(bytearray(partial.span_range(span)[1]))
    return partial


def test_nothing_is_asked_for_without_a_buffer() -> None:
    partial = Partial(PieceIndex(0), 4 * BLOCK_SIZE)
    assert partial.take("a", 9) == []
    assert partial.next_ungranted_span() == 0
    partial.buffers[0] = memoryview(bytearray(4 * BLOCK_SIZE))
    assert partial.next_ungranted_span() is None
    assert partial.take("a", 3) == [0, 1, 2]
    assert partial.take("b", 3) == [3]
    assert (partial.missing, partial.requested) == (0, 4)


def test_spans_are_granted_in_order_and_asked_for_as_they_are() -> None:
    partial = Partial(PieceIndex(0), 5 * BLOCK_SIZE + 1, span_bytes=2 * BLOCK_SIZE)
    assert partial.span_count == 3
    assert [partial.span_range(span) for span in range(3)] == [
        (0, 2 * BLOCK_SIZE),
        (2 * BLOCK_SIZE, 2 * BLOCK_SIZE),
        (4 * BLOCK_SIZE, BLOCK_SIZE + 1),
    ]
    partial.buffers[0] = memoryview(bytearray(2 * BLOCK_SIZE))
    assert partial.take(1, 99) == [0, 1]
    assert partial.next_ungranted_span() == 1
    partial.buffers[1] = memoryview(bytearray(2 * BLOCK_SIZE))
    assert partial.take(1, 99) == [2, 3]
    assert partial.landed(0, 1)
    assert not partial.span_landed(0)
    assert partial.landed(1, 1)
    assert partial.span_landed(0)
    partial.buffers[0] = None  # handed over to the disk
    assert partial.next_ungranted_span() == 2
    assert partial.place(0, BLOCK_SIZE) is None
    for _ in range(3):
        assert not partial.all_written
        partial.span_written()
    assert partial.all_written


def test_a_block_is_placed_where_it_belongs() -> None:
    partial = granted(3 * BLOCK_SIZE + 5, span_bytes=2 * BLOCK_SIZE)
    view = partial.place(3 * BLOCK_SIZE, 5)
    assert view is not None
    view[:] = b"hello"
    second = partial.buffers[1]
    assert second is not None
    assert bytes(second[BLOCK_SIZE:]) == b"hello"
    partial.landed(3, "a")
    assert partial.place(3 * BLOCK_SIZE, 5) is None


@pytest.mark.parametrize(
    ("begin", "length"),
    [
        (1, BLOCK_SIZE),
        (BLOCK_SIZE - 1, 1),
        (0, BLOCK_SIZE - 1),
        (0, 0),
        (3 * BLOCK_SIZE, 6),
        (3 * BLOCK_SIZE, BLOCK_SIZE),
        (4 * BLOCK_SIZE, BLOCK_SIZE),
        (2**32 - BLOCK_SIZE, BLOCK_SIZE),
    ],
)
def test_what_is_no_block_of_the_piece_is_refused(begin: int, length: int) -> None:
    with pytest.raises(ProtocolError):
        granted(3 * BLOCK_SIZE + 5).place(begin, length)


def test_duplicates_are_told_apart_and_rivals_named() -> None:
    partial = granted(2 * BLOCK_SIZE)
    partial.take("a", 2)
    assert not partial.ask_again("a", 0)
    assert partial.ask_again("b", 0)
    assert partial.ask_again("c", 1)
    assert partial.ask_again("d", 0)
    assert not partial.ask_again("d", 0)
    assert partial.others_requesting(0, "b") == ["a", "d"]
    assert partial.requested == 2
    assert partial.landed(0, "b")
    assert not partial.landed(0, "a")
    assert partial.contributors == {"b"}
    assert partial.others_requesting(0, "b") == []
    assert not partial.ask_again("e", 0)


def test_a_release_matters_only_when_nobody_else_was_asked() -> None:
    partial = granted(3 * BLOCK_SIZE)
    partial.take("a", 3)
    assert partial.ask_again("b", 0)
    partial.release("a", 0)
    assert partial.missing == 0
    partial.release("x", 0)
    partial.release("b", 0)
    partial.release("b", 0)
    assert partial.missing == 1
    assert partial.release_all("a") == 2
    assert (partial.missing, partial.requested) == (3, 0)
    assert partial.take("c", 9) == [0, 1, 2]


def test_a_late_block_counts_though_it_was_released() -> None:
    partial = granted(BLOCK_SIZE)
    partial.take("a", 1)
    partial.release("a", 0)
    assert partial.place(0, BLOCK_SIZE) is not None
    assert partial.landed(0, "a")
    assert partial.complete
    assert partial.take("b", 1) == []


@pytest.mark.parametrize("seed", range(20))
def test_random_walk_against_a_model(seed: int) -> None:
    rng = random.Random(seed)
    blocks = rng.choice([1, 3, 16, 70])
    span_blocks = rng.choice([1, 2, 5, blocks])
    size = (blocks - 1) * BLOCK_SIZE + rng.choice([1, 77, BLOCK_SIZE])
    partial = Partial(PieceIndex(0), size, span_bytes=span_blocks * BLOCK_SIZE)
    owed: dict[int, set[int]] = {}
    landed: dict[int, int] = {}
    for _ in range(600):
        who = rng.randrange(5)
        step = rng.randrange(6)
        missing = [block for block in range(blocks) if block not in landed and block not in owed]
        if step == 0:
            span = partial.next_ungranted_span()
            bare = [
                block // span_blocks for block in missing if partial.buffers[block // span_blocks] is None
            ]
            assert span == (bare[0] if bare else None)
            if span is not None:
                partial.buffers[span] = memoryview(bytearray(partial.span_range(span)[1]))
        elif step == 1:
            n = rng.randrange(1, 6)
            able = [block for block in missing if partial.buffers[block // span_blocks] is not None]
            taken = partial.take(who, n)
            assert taken == able[:n]
            owed.update((block, {who}) for block in taken)
        elif step == 2:
            block = rng.randrange(blocks)
            assert partial.ask_again(who, block) == (block in owed and who not in owed[block])
            if block in owed:
                owed[block].add(who)
        elif step == 3 and rng.random() < 0.5:
            block = rng.randrange(blocks)
            partial.release(who, block)
            if who in owed.get(block, ()):
                owed[block].discard(who)
                if not owed[block]:
                    del owed[block]
        elif step == 4 and rng.random() < 0.1:
            freed = [block for block, holders in owed.items() if holders == {who}]
            assert partial.release_all(who) == len(freed)
            for block in list(owed):
                owed[block].discard(who)
                if not owed[block]:
                    del owed[block]
        elif step == 5 and owed:
            block = rng.choice(list(owed))
            who = rng.choice(sorted(owed[block]))
            assert set(partial.others_requesting(block, who)) == owed[block] - {who}
            assert partial.landed(block, who) is True
            assert partial.landed(block, who) is False
            landed[block] = who
            del owed[block]
            span = range(
                block // span_blocks * span_blocks, min(blocks, (block // span_blocks + 1) * span_blocks)
            )
            assert partial.span_landed(block) == all(other in landed for other in span)
        assert partial.requested == len(owed)
        assert partial.landed_count == len(landed)
        assert partial.missing == blocks - len(owed) - len(landed)
        assert partial.complete == (len(landed) == blocks)
        assert partial.contributors == set(landed.values())
