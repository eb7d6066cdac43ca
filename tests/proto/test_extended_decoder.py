"""Extension messages out of a connection of which nothing else is understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import ProtocolError
from bittern.proto import messages as m
from bittern.proto.decoder import MAX_EXTENDED_BYTES, MAX_SKIPPED_BYTES
from bittern.proto.extended_decoder import ExtendedDecoder

PARTS = st.one_of(
    st.just(m.KEEP_ALIVE),
    st.just(m.UNCHOKE),
    st.just(m.HAVE_ALL),
    st.integers(0, 1 << 31).map(m.pack_have),
    st.binary(max_size=300).map(m.pack_bitfield),
    st.binary(max_size=99).map(lambda block: m.PIECE_HEADER.pack(9 + len(block), m.PIECE_ID, 1, 0) + block),
    st.builds(m.pack_extended, st.integers(0, 255), st.binary(min_size=1, max_size=300)),
)


def expected(parts: list[bytes]) -> list[m.Extended]:
    return [m.Extended(part[5], part[6:]) for part in parts if part[4:5] == bytes([m.EXTENDED_ID])]


@given(st.lists(PARTS, max_size=12), st.data())
def test_any_cuts_give_the_same(parts: list[bytes], data: st.DataObject) -> None:
    blob = b"".join(parts)
    assert ExtendedDecoder().feed(memoryview(blob)) == expected(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(blob)), max_size=6)))
    decoder, heard = ExtendedDecoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(blob)], strict=True):
        heard += decoder.feed(memoryview(blob)[start:end])
    assert heard == expected(parts)
    assert decoder.held_bytes == 0
    single, one_by_one = ExtendedDecoder(), []
    for at in range(len(blob)):
        one_by_one += single.feed(memoryview(blob)[at : at + 1])
    assert one_by_one == expected(parts)


@given(st.binary(max_size=200))
def test_any_bytes_are_heard_or_refused(blob: bytes) -> None:
    try:
        ExtendedDecoder().feed(memoryview(blob))
    except ProtocolError:
        return


@pytest.mark.parametrize(
    ("kind", "length"),
    [
        (m.EXTENDED_ID, 1),
        (m.EXTENDED_ID, MAX_EXTENDED_BYTES + 1),
        (m.BITFIELD_ID, MAX_SKIPPED_BYTES + 1),
        (99, (1 << 32) - 1),
    ],
)
def test_lengths_that_nobody_needs(kind: int, length: int) -> None:
    with pytest.raises(ProtocolError):
        ExtendedDecoder().feed(memoryview(length.to_bytes(4) + bytes([kind])))


def test_what_is_held_is_bounded_before_it_comes() -> None:
    decoder = ExtendedDecoder()
    decoder.feed(memoryview(MAX_EXTENDED_BYTES.to_bytes(4) + bytes([m.EXTENDED_ID]) + bytes(1000)))
    assert decoder.held_bytes == 1000
    decoder = ExtendedDecoder()
    decoder.feed(memoryview(MAX_SKIPPED_BYTES.to_bytes(4) + bytes([m.BITFIELD_ID]) + bytes(100_000)))
    assert decoder.held_bytes == 0
