"""Whose datagram is this: one answer for every first byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.proto.datagram import Kind, kind_of

UTP_FIRST = {0x01, 0x11, 0x21, 0x31, 0x41}


@pytest.mark.parametrize(
    ("datagram", "kind"),
    [
        (b"d1:ad2:id20:", Kind.DHT),
        (b"\x41\x00\x12\x34" + bytes(16), Kind.UTP),
        (b"\x01\x02" + bytes(18), Kind.UTP),
        (b"\x51\x00", Kind.TRACKER),
        (b"\x00\x00\x00\x01" + bytes(16), Kind.TRACKER),
        (b"l4:spame", Kind.TRACKER),
        (b"\xff" * 1500, Kind.TRACKER),
        (b"", None),
    ],
)
def test_kinds(datagram: bytes, kind: Kind | None) -> None:
    assert kind_of(datagram) is kind
    assert kind_of(memoryview(datagram)) is kind


@given(st.binary(min_size=1, max_size=64))
def test_the_first_byte_decides(datagram: bytes) -> None:
    kind = kind_of(datagram)
    assert (kind is Kind.DHT) == (datagram[:1] == b"d")
    assert (kind is Kind.UTP) == (datagram[0] in UTP_FIRST)
