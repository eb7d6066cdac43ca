"""Strict bencode: what is right comes back as it was, what is cut says so, what is wrong is refused cheaply."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import BencodeError, BencodeTruncated
from bittern.proto.bencode import (
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_ITEMS,
    decode,
    decode_prefix,
    decode_with_span,
    encode,
)

values = st.recursive(
    st.integers(-MAX_INTEGER - 1, MAX_INTEGER) | st.binary(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.binary(max_size=6), inner, max_size=5),
    max_leaves=25,
)


@given(values)
def test_what_was_encoded_comes_back(value: Any) -> None:
    blob = encode(value)
    assert decode(blob) == value
    assert encode(decode(blob)) == blob
    assert decode_prefix(blob + b"rest") == (value, len(blob))
    assert decode(memoryview(blob)) == value


@given(values)
def test_every_truncation_says_that_it_is_one(value: Any) -> None:
    blob = encode(value)
    for length in range(len(blob)):
        with pytest.raises(BencodeTruncated):
            decode(blob[:length])


@given(st.binary(max_size=60))
def test_any_bytes_give_a_value_or_a_bencode_error(blob: bytes) -> None:
    _strict_or_refused(blob)


@given(
    st.lists(
        st.sampled_from(
            [b"d", b"l", b"e", b"i", b"-", b"0", b"1", b"9", b":", b"1:a", b"2:bb", b"0:", b"i5e", b"4:info"]
        ),
        max_size=24,
    ).map(b"".join)
)
def test_any_bencode_like_bytes_give_a_value_or_a_bencode_error(blob: bytes) -> None:
    _strict_or_refused(blob)


def _strict_or_refused(blob: bytes) -> None:
    try:
        value = decode(blob)
    except BencodeError:
        return
    again = encode(value)
    assert len(again) == len(blob), "only the order of keys may be another"
    assert decode(again) == value
    assert decode_with_span(blob)[0] == value


@given(values, st.data())
def test_mutations_are_survived(value: Any, data: st.DataObject) -> None:
    blob = bytearray(encode(value))
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] = data.draw(st.integers(0, 255))
    _strict_or_refused(bytes(blob))


@pytest.mark.parametrize(
    ("blob", "value"),
    [
        (b"i0e", 0),
        (b"i-1e", -1),
        (b"i9223372036854775807e", 2**63 - 1),
        (b"i-9223372036854775808e", -(2**63)),
        (b"0:", b""),
        (b"10:0123456789", b"0123456789"),
        (b"le", []),
        (b"de", {}),
        (b"lli1eed1:a0:ee", [[1], {b"a": b""}]),
        (b"d1:b1:x1:a1:ye", {b"b": b"x", b"a": b"y"}),
        (b"d0:i1ee", {b"": 1}),
    ],
)
def test_right_ones(blob: bytes, value: Any) -> None:
    assert decode(blob) == value


@pytest.mark.parametrize(
    "blob",
    [
        b"i01e",
        b"i-0e",
        b"i-01e",
        b"i00e",
        b"ie",
        b"i-e",
        b"i+1e",
        b"i 1e",
        b"i1 e",
        b"i1.5e",
        b"i--1e",
        b"i\xb2e",
        b"i1" + b"0" * 25 + b"e",
        b"i9223372036854775808e",
        b"i18446744073709551615e",
        b"i-9223372036854775809e",
        b"i" + b"1" * 1000,
        b"01:a",
        b"00:",
        b"-1:a",
        b"1a:x",
        b"1" * 30,
        b"1" * 30 + b":",
        b"e",
        b"x",
        b":",
        b"di1e1:ae",
        b"dle1:ae",
        b"ddei1ee",
        b"d1:ae",
        b"d1:a1:b1:a1:ce",
        b"i1ei2e",
        b"le\n",
        b"1:ab",
        b"dee",
        "i\u0661e".encode(),
    ],
)
def test_wrong_ones_are_not_merely_cut(blob: bytes) -> None:
    with pytest.raises(BencodeError) as caught:
        decode(blob)
    assert not isinstance(caught.value, BencodeTruncated)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("opening", [b"l", b"d1:a", b"ld0:"])
def test_depth_is_bounded(opening: bytes) -> None:
    with pytest.raises(BencodeError, match=f"deeper than {MAX_DEPTH}"):
        decode(opening * 1_000_000)
    assert decode(b"l" * MAX_DEPTH + b"e" * MAX_DEPTH)
    with pytest.raises(BencodeError, match="deeper"):
        decode(b"l" * (MAX_DEPTH + 1) + b"e" * (MAX_DEPTH + 1))
    with pytest.raises(BencodeError, match="deeper than 2"):
        decode(b"llleee", max_depth=2)


@pytest.mark.parametrize("one", [b"le", b"0:", b"i0e", b"l0:e"])
@pytest.mark.parametrize("at_most", [1000, pytest.param(MAX_ITEMS, marks=pytest.mark.proof)])
def test_items_are_bounded(one: bytes, at_most: int) -> None:
    with pytest.raises(BencodeError, match=f"more than {at_most} values"):
        decode(b"l" + one * (at_most + 1) + b"e", max_items=at_most)


def test_items_are_bounded_by_default() -> None:
    with pytest.raises(BencodeError, match=f"more than {MAX_ITEMS} values"):
        decode(b"l" + b"0:" * (MAX_ITEMS + 1) + b"e")


def test_items_are_bounded_where_few_may_be() -> None:
    assert decode(b"l" + b"0:" * 8 + b"e", max_items=10) == [b""] * 8
    with pytest.raises(BencodeError, match="more than 10 values"):
        decode(b"l" + b"0:" * 20 + b"e", max_items=10)


def test_keys_count_too() -> None:
    with pytest.raises(BencodeError, match="more than 10 values"):
        decode(encode({b"%d" % number: 0 for number in range(6)}), max_items=10)


def test_a_length_beyond_the_end_reserves_nothing() -> None:
    with pytest.raises(BencodeTruncated):
        decode(b"99999999999999999999:abc")


@given(st.dictionaries(st.binary(max_size=6), values, max_size=4), values)
def test_the_span_is_that_of_the_raw_value(others: dict[bytes, Any], info: Any) -> None:
    for key in (b"info", b"a", b"zzz"):
        blob = encode({**others, key: info})
        _, span = decode_with_span(blob, key)
        assert span is not None
        assert blob[span[0] : span[1]] == encode(info)


@pytest.mark.parametrize(
    ("blob", "raw"),
    [
        (b"d4:infod1:zi1e1:ai2eee", b"d1:zi1e1:ai2ee"),
        (b"d1:ad4:infoi1ee4:infold4:infoi2eeee", b"ld4:infoi2eee"),
        (b"d1:a4:info4:info3:abce", b"3:abc"),
        (b"d4:info4:info1:bi1ee", b"4:info"),
    ],
)
def test_the_span_is_of_the_top_dictionary_and_as_written(blob: bytes, raw: bytes) -> None:
    _, span = decode_with_span(blob)
    assert span is not None
    assert blob[slice(*span)] == raw


@pytest.mark.parametrize("blob", [b"de", b"d1:ad4:infoi1eee", b"l4:infoi1ee", b"4:info", b"d1:al4:infodeee"])
def test_no_span_where_the_top_dictionary_has_no_such_key(blob: bytes) -> None:
    assert decode_with_span(blob)[1] is None


@pytest.mark.parametrize("value", [None, True, "text", 1.5, {"text": 1}, [None], (1,)])
def test_what_is_no_bencode_value_is_a_bug(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


def test_keys_are_sorted_as_raw_bytes() -> None:
    assert encode({b"b": 1, b"a": 2, b"\xff": 3, b"B": 4}) == b"d1:Bi4e1:ai2e1:bi1e1:\xffi3ee"
