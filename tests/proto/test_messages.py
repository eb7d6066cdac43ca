"""What we send, byte for byte; the canonical allowed-fast set."""

import pytest

from bittern.proto import messages as m
from bittern.terms import InfoHash


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (m.KEEP_ALIVE, "00000000"),
        (m.CHOKE, "0000000100"),
        (m.UNCHOKE, "0000000101"),
        (m.INTERESTED, "0000000102"),
        (m.NOT_INTERESTED, "0000000103"),
        (m.pack_have(0x01020304), "000000050401020304"),
        (m.pack_bitfield(b"\x80\x01"), "00000003058001"),
        (m.pack_requests([(1, 2, 3)]), "0000000d06000000010000000200000003"),
        (m.pack_requests([]), ""),
        (
            m.pack_requests([(1, 2, 3), (4, 5, 6)]),
            "0000000d060000000100000002000000030000000d06000000040000000500000006",
        ),
        (m.pack_cancels([(1, 2, 3)]), "0000000d08000000010000000200000003"),
        (m.pack_port(6881), "00000003091ae1"),
        (m.pack_suggest(7), "000000050d00000007"),
        (m.HAVE_ALL, "000000010e"),
        (m.HAVE_NONE, "000000010f"),
        (m.pack_reject(1, 2, 3), "0000000d10000000010000000200000003"),
        (m.pack_allowed_fast(7), "000000051100000007"),
        (m.pack_extended(3, b"de"), "0000000414036465"),
    ],
)
def test_packed_as_the_beps_say(packed: bytes, expected: str) -> None:
    assert packed.hex() == expected


def test_piece_header_goes_where_it_is_told() -> None:
    buffer = bytearray(b"\xff" * 20)
    m.pack_piece_header_into(memoryview(buffer), 4, 1, 0x4000, 0x4000)
    assert buffer.hex() == "ffffffff" + "00004009" + "07" + "00000001" + "00004000" + "ffffff"
    assert m.PIECE_HEADER_BYTES == 13


def test_allowed_fast_set_is_bep_6s_example() -> None:
    info_hash = InfoHash(b"\xaa" * 20)
    nine = (1059, 431, 808, 1217, 287, 376, 1188, 353, 508)
    assert m.allowed_fast_set(info_hash, "80.4.4.200", 1313, 7) == nine[:7]
    assert m.allowed_fast_set(info_hash, "80.4.4.200", 1313, 9) == nine
    assert m.allowed_fast_set(info_hash, "80.4.4.7", 1313, 9) == nine, "the host part does not count"


def test_allowed_fast_set_of_few_pieces_is_all_of_them() -> None:
    info_hash = InfoHash(bytes(range(20)))
    assert sorted(m.allowed_fast_set(info_hash, "192.0.2.1", 3)) == [0, 1, 2]
    assert m.allowed_fast_set(info_hash, "192.0.2.1", 0) == ()


def test_no_allowed_fast_set_over_ipv6() -> None:
    assert m.allowed_fast_set(InfoHash(bytes(20)), "2001:db8::1", 100) == ()
