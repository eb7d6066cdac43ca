"""Bytes to messages: the same in any cuts, straight into place, and nothing hostile is held."""

import itertools
import random
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import ProtocolError
from bittern.proto import messages as m
from bittern.proto.decoder import MAX_EXTENDED_BYTES, MAX_SKIPPED_BYTES, Decoder
from bittern.terms import BLOCK_SIZE

PIECES = 20
SKIPPED_PIECE = 13
"""The sink below has no use for blocks of this piece."""


class Sink:
    """Keeps what landed; notes the order of everything."""

    def __init__(self) -> None:
        self.log: list[object] = []
        self.under_way: dict[tuple[int, int, int], bytearray] = {}

    def place(self, index: int, begin: int, length: int) -> memoryview | None:
        if index >= PIECES:
            raise ProtocolError(f"piece {index}")
        if index == SKIPPED_PIECE:
            self.log.append(("skipped", index, begin, length))
            return None
        body = self.under_way[index, begin, length] = bytearray(length)
        return memoryview(body)

    def landed(self, index: int, begin: int, length: int) -> None:
        self.log.append(("block", index, begin, bytes(self.under_way.pop((index, begin, length)))))


def piece(index: int, begin: int, body: bytes) -> bytes:
    return m.PIECE_HEADER.pack(9 + len(body), m.PIECE_ID, index, begin) + body


def raw(length: int, kind: int, rest: bytes = b"") -> bytes:
    return struct.pack(">IB", length, kind) + rest


def decoded(cuts: Iterator[bytes] | list[bytes]) -> tuple[list[object], list[m.Message], str]:
    """What landed, what was said, and how it ended."""
    sink = Sink()
    decoder = Decoder(sink, piece_count=PIECES)
    said: list[m.Message] = []
    try:
        for cut in cuts:
            # the receive buffer is used again: nothing may still point into it
            buffer = bytearray(cut)
            said += decoder.feed(memoryview(buffer))
            buffer[:] = b"\xee" * len(buffer)
    except ProtocolError as error:
        return sink.log, said, str(error)
    return sink.log, said, ""


numbers = st.integers(0, 0xFFFFFFFF)
good = st.one_of(
    st.sampled_from(
        [m.KEEP_ALIVE, m.CHOKE, m.UNCHOKE, m.INTERESTED, m.NOT_INTERESTED, m.HAVE_ALL, m.HAVE_NONE]
    ),
    numbers.map(m.pack_have),
    numbers.map(m.pack_suggest),
    numbers.map(m.pack_allowed_fast),
    st.integers(0, 65535).map(m.pack_port),
    st.tuples(numbers, numbers, numbers).map(lambda one: m.pack_requests([one])),
    st.tuples(numbers, numbers, numbers).map(lambda one: m.pack_cancels([one])),
    st.tuples(numbers, numbers, numbers).map(lambda one: m.pack_reject(*one)),
    st.binary(min_size=3, max_size=3).map(m.pack_bitfield),
    st.tuples(st.integers(0, 255), st.binary(max_size=40)).map(lambda one: m.pack_extended(*one)),
    st.builds(piece, st.integers(0, PIECES - 1), numbers, st.binary(min_size=1, max_size=60)),
    st.tuples(st.sampled_from([10, 21, 200]), st.binary(max_size=40)).map(
        lambda one: raw(1 + len(one[1]), one[0], one[1])
    ),
)


@given(st.lists(good, max_size=12), st.randoms(use_true_random=False))
def test_any_cuts_give_the_same(messages: list[bytes], rng: random.Random) -> None:
    stream = b"".join(messages)
    whole = decoded([stream])
    assert whole[2] == ""
    assert decoded([stream[i : i + 1] for i in range(len(stream))]) == whole
    assert decoded(messages) == whole
    marks = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.randrange(8)))
    edges = [0, *marks, len(stream)]
    assert decoded([stream[a:b] for a, b in itertools.pairwise(edges)]) == whole


@given(st.binary(max_size=200), st.randoms(use_true_random=False))
def test_any_bytes_give_messages_or_a_protocol_error(stream: bytes, rng: random.Random) -> None:
    whole = decoded([stream])
    marks = sorted(rng.randrange(len(stream) + 1) for _ in range(rng.randrange(5)))
    edges = [0, *marks, len(stream)]
    blocks, said, fault = decoded([stream[a:b] for a, b in itertools.pairwise(edges)])
    # What stands before a fault may be lost with the connection, and a fault is seen early or late.
    if fault or whole[2]:
        shorter = min(len(said), len(whole[1]))
        assert said[:shorter] == whole[1][:shorter]
    else:
        assert (blocks, said) == whole[:2]


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 21), st.binary(max_size=40)), max_size=8))
def test_nearly_right_messages_give_messages_or_a_protocol_error(parts: list[tuple[int, int, bytes]]) -> None:
    stream = b"".join(raw(length, kind, rest) for length, kind, rest in parts)
    decoded([stream])
    decoded([stream[i : i + 1] for i in range(len(stream))])


def test_every_message_comes_back_as_its_value() -> None:
    stream = (
        m.CHOKE + m.UNCHOKE + m.INTERESTED + m.NOT_INTERESTED + m.KEEP_ALIVE + m.pack_have(7)
        + m.pack_bitfield(b"\x80\x00\x10") + m.pack_requests([(1, 2, 3), (4, 5, 6)]) + m.pack_cancels([(7, 8, 9)])
        + m.pack_port(6881) + m.pack_suggest(3) + m.HAVE_ALL + m.HAVE_NONE + m.pack_reject(10, 11, 12)
        + m.pack_allowed_fast(13) + m.pack_extended(0, b"de") + m.pack_extended(5, b"")
    )  # fmt: skip
    assert decoded([stream])[1] == [
        m.Choke(),
        m.Unchoke(),
        m.Interested(),
        m.NotInterested(),
        m.Have(7),
        m.BitfieldMessage(b"\x80\x00\x10"),
        m.Request(1, 2, 3),
        m.Request(4, 5, 6),
        m.Cancel(7, 8, 9),
        m.Port(6881),
        m.Suggest(3),
        m.HaveAll(),
        m.HaveNone(),
        m.Reject(10, 11, 12),
        m.AllowedFast(13),
        m.Extended(0, b"de"),
        m.Extended(5, b""),
    ]
    kinds = [type(one) for one in decoded([stream])[1]]
    assert kinds[0] is m.Choke
    assert kinds[6] is m.Request, "equal tuples of other types are not what was sent"
    assert kinds[8] is m.Cancel


def test_full_blocks_land_in_order_between_messages() -> None:
    bodies = [random.Random(k).randbytes(BLOCK_SIZE) for k in range(3)]
    stream = (
        piece(1, 0, bodies[0]) + m.pack_have(2) + piece(1, BLOCK_SIZE, bodies[1]) + piece(13, 0, bodies[2])
        + piece(2, 0, bodies[2]) + m.CHOKE
    )  # fmt: skip
    for size in (len(stream), BLOCK_SIZE, 16_397, 1000):
        log, said, fault = decoded([stream[at : at + size] for at in range(0, len(stream), size)])
        assert fault == ""
        assert said == [m.Have(2), m.Choke()]
        assert log == [
            ("block", 1, 0, bodies[0]),
            ("block", 1, BLOCK_SIZE, bodies[1]),
            ("skipped", 13, 0, BLOCK_SIZE),
            ("block", 2, 0, bodies[2]),
        ]


def test_a_diverted_block_is_read_over() -> None:
    sink = Sink()
    decoder = Decoder(sink, piece_count=PIECES)
    stream = piece(1, 0, b"x" * 100) + m.pack_have(5)
    decoder.feed(memoryview(stream[:50]))
    written = bytes(sink.under_way[1, 0, 100])
    decoder.divert()
    assert decoder.feed(memoryview(stream[50:])) == [m.Have(5)]
    assert sink.log == [], "it never landed"
    assert bytes(sink.under_way[1, 0, 100]) == written, "nor was its place touched again"


def test_divert_between_blocks_does_nothing() -> None:
    sink = Sink()
    decoder = Decoder(sink, piece_count=PIECES)
    decoder.feed(memoryview(piece(1, 0, b"abc")))
    decoder.divert()
    decoder.feed(memoryview(piece(1, 3, b"def")))
    assert sink.log == [("block", 1, 0, b"abc"), ("block", 1, 3, b"def")]


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(raw(2, m.CHOKE_ID), id="choke with a body"),
        pytest.param(raw(4, m.HAVE_ID), id="short have"),
        pytest.param(raw(6, m.HAVE_ID), id="long have"),
        pytest.param(raw(3, m.BITFIELD_ID), id="short bitfield"),
        pytest.param(raw(0xFFFFFFFF, m.BITFIELD_ID), id="endless bitfield"),
        pytest.param(raw(12, m.REQUEST_ID), id="short request"),
        pytest.param(raw(17, m.REQUEST_ID), id="64-bit request"),
        pytest.param(raw(9, m.PIECE_ID), id="empty block"),
        pytest.param(raw(8, m.PIECE_ID), id="cut block header"),
        pytest.param(raw(10 + BLOCK_SIZE, m.PIECE_ID), id="block too long"),
        pytest.param(raw(0xFFFFFFFF, m.PIECE_ID), id="endless block"),
        pytest.param(raw(2, m.PORT_ID), id="short port"),
        pytest.param(raw(1, m.EXTENDED_ID), id="extended without number"),
        pytest.param(raw(MAX_EXTENDED_BYTES + 1, m.EXTENDED_ID), id="extended too long"),
        pytest.param(raw(MAX_SKIPPED_BYTES + 1, 99), id="unknown too long"),
        pytest.param(raw(0x13426974, 0x54), id="a handshake in the stream"),
    ],
)
def test_hostile_lengths_are_refused_before_their_body(start: bytes) -> None:
    stream = m.pack_have(1) + start + bytes(8)
    for cuts in ([stream], [stream[i : i + 1] for i in range(len(stream))]):
        _, said, fault = decoded(cuts)
        assert "length" in fault or "block of" in fault
        assert len(said) <= 1


def test_the_sinks_refusal_ends_the_stream() -> None:
    assert decoded([piece(PIECES, 0, b"abc")])[2] == f"piece {PIECES}"
    stream = piece(PIECES, 0, b"abc")
    assert decoded([stream[i : i + 1] for i in range(len(stream))])[2] == f"piece {PIECES}"


def test_long_unknown_messages_are_not_kept() -> None:
    sink = Sink()
    decoder = Decoder(sink, piece_count=PIECES)
    decoder.feed(memoryview(raw(MAX_SKIPPED_BYTES, 99)))
    rest = memoryview(bytes(10_000))
    for _ in range((MAX_SKIPPED_BYTES - 1) // 10_000):
        decoder.feed(rest)
    held = sum(len(part) for part in (decoder._header, decoder._partial or b""))
    assert held == 0
    assert decoder.feed(memoryview(bytes((MAX_SKIPPED_BYTES - 1) % 10_000) + m.CHOKE)) == [m.Choke()]


def test_bitfield_length_follows_the_piece_count() -> None:
    for count, size in ((1, 1), (8, 1), (9, 2), (16, 2), (17, 3)):
        decoder = Decoder(Sink(), piece_count=count)
        assert decoder.feed(memoryview(m.pack_bitfield(bytes(size)))) == [m.BitfieldMessage(bytes(size))]
        with pytest.raises(ProtocolError):
            Decoder(Sink(), piece_count=count).feed(memoryview(m.pack_bitfield(bytes(size + 1))))
