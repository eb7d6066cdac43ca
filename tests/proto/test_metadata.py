"""ut_metadata messages, from anybody."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import ProtocolError
from bittern.proto.metadata import (
    MAX_METADATA_BYTES,
    METADATA_PIECE_BYTES,
    MetadataPiece,
    MetadataReject,
    MetadataRequest,
    pack_metadata_piece,
    pack_metadata_reject,
    pack_metadata_request,
    parse_metadata_message,
    piece_bytes,
    piece_count,
)


def test_packed_as_bep_9_says() -> None:
    assert pack_metadata_request(0) == b"d8:msg_typei0e5:piecei0ee"
    assert pack_metadata_piece(0, 3425, b"xx") == b"d8:msg_typei1e5:piecei0e10:total_sizei3425eexx"
    assert pack_metadata_reject(0) == b"d8:msg_typei2e5:piecei0ee"


@given(piece=st.integers(0, 1000), total=st.integers(1, MAX_METADATA_BYTES), body=st.binary(max_size=99))
def test_comes_back(piece: int, total: int, body: bytes) -> None:
    assert parse_metadata_message(pack_metadata_request(piece)) == MetadataRequest(piece)
    assert parse_metadata_message(pack_metadata_reject(piece)) == MetadataReject(piece)
    packed = pack_metadata_piece(piece, total, body)
    assert parse_metadata_message(packed) == MetadataPiece(piece, total, body)


def test_a_kind_that_came_later_is_ignored() -> None:
    assert parse_metadata_message(b"d8:msg_typei3ee") is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"le",
        b"de",
        b"d8:msg_type1:0e",
        b"d8:msg_typei0ee",
        b"d8:msg_typei0e5:piecei-1ee",
        b"d8:msg_typei1e5:piecei4096ee",
        b"d8:msg_typei1e5:piecei0ee" + bytes(METADATA_PIECE_BYTES + 1),
        b"d1:a" + b"l" * 500 + b"e" * 501,
        b"d1:al" + b"i1e" * 500 + b"ee",
    ],
)
def test_what_is_none_is_refused(payload: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse_metadata_message(payload)


@given(st.binary())
def test_any_bytes_are_a_message_or_refused(payload: bytes) -> None:
    for one in (payload, b"d8:msg_typei1e5:piecei0e" + payload):
        with suppress(ProtocolError):
            parse_metadata_message(one)


@given(st.integers(1, 5 * METADATA_PIECE_BYTES))
def test_pieces_make_up_the_whole(total: int) -> None:
    sizes = [piece_bytes(n, total) for n in range(piece_count(total))]
    assert sum(sizes) == total
    assert all(size == METADATA_PIECE_BYTES for size in sizes[:-1])
    assert 0 < sizes[-1] <= METADATA_PIECE_BYTES
