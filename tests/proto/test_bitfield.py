"""Bits as a set of numbers would be, and hostile bytes refused."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import ProtocolError
from bittern.proto.bitfield import Bitfield

sizes = st.integers(0, 70)


def made(size: int, indices: set[int]) -> Bitfield:
    bits = Bitfield(size)
    for index in indices:
        bits.set(index)
    return bits


def two(data: st.DataObject) -> tuple[int, set[int], set[int]]:
    size = data.draw(st.integers(1, 70))
    some = st.sets(st.integers(0, size - 1))
    return size, data.draw(some), data.draw(some)


@given(st.data())
def test_like_a_set_of_numbers(data: st.DataObject) -> None:
    size, mine, theirs = two(data)
    bits, other = made(size, mine), made(size, theirs)
    assert len(bits) == size
    assert bits.count == len(mine)
    assert [bits[index] for index in range(size)] == [index in mine for index in range(size)]
    assert list(bits.indices()) == sorted(mine)
    assert list(bits.missing()) == sorted(set(range(size)) - mine)
    assert list(bits.and_not(other)) == sorted(mine - theirs)
    assert bits.has_any_missing_from(other) == bool(theirs - mine)
    assert bits.all == (len(mine) == size)
    assert bits.none == (not mine)
    assert (bits == other) == (mine == theirs)


@given(st.data())
def test_over_the_wire_and_back(data: st.DataObject) -> None:
    size, mine, _ = two(data)
    bits = made(size, mine)
    blob = bits.to_bytes()
    assert len(blob) == (size + 7) // 8
    again = Bitfield.from_bytes(size, blob)
    assert again == bits
    assert again.count == bits.count
    assert again.to_bytes() == blob


def test_the_first_piece_is_the_highest_bit() -> None:
    assert made(10, {0, 9}).to_bytes() == b"\x80\x40"
    assert list(Bitfield.from_bytes(10, b"\x80\x40").indices()) == [0, 9]


@given(sizes)
def test_full_and_empty(size: int) -> None:
    full = Bitfield.full(size)
    assert full.all
    assert list(full.indices()) == list(range(size))
    assert full == made(size, set(range(size)))
    assert Bitfield.from_bytes(size, full.to_bytes()) == full
    assert list(full.missing()) == []
    assert Bitfield(size).none
    assert list(Bitfield(size).missing()) == list(range(size))


def test_of_no_pieces_everything_is_there_and_nothing() -> None:
    assert Bitfield(0).all
    assert Bitfield(0).none
    assert Bitfield(0).to_bytes() == b""
    assert not Bitfield(0).has_any_missing_from(Bitfield(0))


@given(st.integers(0, 40), st.binary(max_size=8))
def test_any_bytes_are_right_or_a_protocol_error(size: int, blob: bytes) -> None:
    try:
        bits = Bitfield.from_bytes(size, blob)
    except ProtocolError:
        spare = int.from_bytes(blob[-1:]) & (1 << -size % 8) - 1
        assert len(blob) != (size + 7) // 8 or spare
        return
    assert bits.count == sum(bits[index] for index in range(size))
    assert bits.to_bytes() == blob


@pytest.mark.parametrize(
    ("size", "blob"), [(8, b""), (8, b"\0\0"), (9, b"\0"), (0, b"\0"), (9, b"\0\x01"), (1, b"\x7f")]
)
def test_wrong_lengths_and_spare_bits_are_refused(size: int, blob: bytes) -> None:
    with pytest.raises(ProtocolError):
        Bitfield.from_bytes(size, blob)


def test_set_and_clear_count_once() -> None:
    bits = Bitfield(20)
    rng, mine = random.Random(1), set()
    for _ in range(500):
        index = rng.randrange(20)
        if rng.random() < 0.5:
            bits.set(index)
            mine.add(index)
        else:
            bits.clear(index)
            mine.discard(index)
        assert bits.count == len(mine)
    assert bits == made(20, mine)


@given(st.data())
def test_many_are_set_as_one_after_the_other(data: st.DataObject) -> None:
    size, mine, more = two(data)
    more = data.draw(st.sampled_from([more, set(range(size))]))
    bits = made(size, mine)
    bits.set_all(sorted(more))
    assert bits == made(size, mine | more)
    assert bits.count == len(mine | more)
    bits.clear(0)
    assert list(bits.indices()) == sorted((mine | more) - {0})


def test_a_copy_is_another() -> None:
    bits = made(9, {1})
    copy = bits.copy()
    copy.set(2)
    assert (bits.count, copy.count) == (1, 2)
    assert not bits[2]
    assert bits != copy


def test_the_wires_buffer_may_be_used_again() -> None:
    buffer = bytearray(b"\x80")
    bits = Bitfield.from_bytes(8, bytes(buffer))
    buffer[0] = 0
    assert bits[0]
    bits.set(1)
    assert buffer == b"\0"
