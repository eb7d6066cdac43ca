"""Pieces, blocks and files against a byte-by-byte model."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.proto.layout import FileSlice, Layout
from bittern.terms import BLOCK_SIZE


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    lengths = draw(st.lists(st.sampled_from([0, 0, 1, 2, 3, 7, 20]) | st.integers(0, 30), max_size=12))
    return Layout(draw(st.integers(1, 25)), sum(lengths), tuple(lengths))


def owners(layout: Layout) -> list[tuple[int, int]]:
    """Which byte of which file each byte of the torrent is."""
    return [(number, at) for number, length in enumerate(layout.lengths) for at in range(length)]


@given(layouts(), st.data())
def test_slices_are_the_bytes_asked_for(layout: Layout, data: st.DataObject) -> None:
    model = owners(layout)
    offset = data.draw(st.integers(0, layout.total_bytes))
    length = data.draw(st.integers(0, layout.total_bytes - offset))
    slices = layout.slices(offset, length)
    assert [
        (one.file_index, at) for one in slices for at in range(one.offset, one.offset + one.length)
    ] == model[offset : offset + length]
    assert all(one.length > 0 for one in slices)
    assert len({one.file_index for one in slices}) == len(slices), "one slice a file"


@given(layouts())
def test_pieces_cover_everything_once(layout: Layout) -> None:
    at = 0
    for index in range(layout.piece_count):
        assert layout.piece_offset(index) == at
        assert 0 < layout.piece_size(index) <= layout.piece_length
        at += layout.piece_size(index)
    assert at == layout.total_bytes
    assert all(
        layout.piece_size(index) == layout.piece_length for index in range(max(0, layout.piece_count - 1))
    )


@given(layouts(), st.data())
def test_bytes_of_pieces_are_those_of_each(layout: Layout, data: st.DataObject) -> None:
    pieces = sorted(data.draw(st.sets(st.integers(0, layout.piece_count - 1))) if layout.piece_count else ())
    assert layout.bytes_of(pieces) == sum(map(layout.piece_size, pieces))


@given(layouts(), st.integers(0, 40), st.integers(0, 40), st.integers(1, 40))
def test_a_part_of_a_piece_lies_within_it(layout: Layout, index: int, begin: int, length: int) -> None:
    within = index < layout.piece_count and begin + length <= layout.piece_size(index)
    assert layout.holds(index, begin, length) == within


@given(layouts())
def test_files_and_pieces_agree(layout: Layout) -> None:
    model = owners(layout)
    for index in range(layout.piece_count):
        begin = layout.piece_offset(index)
        mine = [number for number, _ in model[begin : begin + layout.piece_size(index)]]
        assert layout.files_of_piece(index) == range(mine[0], mine[-1] + 1)
    for number, length in enumerate(layout.lengths):
        assert layout.file_offset(number) == sum(layout.lengths[:number])
        pieces = {at // layout.piece_length for at, (owner, _) in enumerate(model) if owner == number}
        assert set(layout.pieces_of_file(number)) == pieces
        assert bool(length) == bool(pieces)


@pytest.mark.parametrize(
    ("size", "blocks"),
    [(1, 1), (BLOCK_SIZE, 1), (BLOCK_SIZE + 1, 2), (2 * BLOCK_SIZE, 2), (4 * BLOCK_SIZE - 1, 4)],
)
def test_blocks_of_the_last_piece(size: int, blocks: int) -> None:
    layout = Layout(4 * BLOCK_SIZE, 4 * BLOCK_SIZE + size, (4 * BLOCK_SIZE + size,))
    assert [layout.block_count(index) for index in range(layout.piece_count)] == [4, blocks]


def test_empty_files_are_passed_over() -> None:
    layout = Layout(4, 8, (0, 3, 0, 0, 5, 0))
    assert layout.slices(0, 8) == [FileSlice(1, 0, 3), FileSlice(4, 0, 5)]
    assert layout.slices(3, 1) == [FileSlice(4, 0, 1)]
    assert layout.slices(8, 0) == []
    assert layout.files_of_piece(0) == range(1, 5)


def test_nothing_at_all() -> None:
    layout = Layout(16384, 0, (0, 0))
    assert layout.piece_count == 0
    assert layout.slices(0, 0) == []
    assert layout.pieces_of_file(1) == range(0)


def test_lengths_must_add_up() -> None:
    with pytest.raises(ValueError, match="add up"):
        Layout(4, 8, (3, 4))
