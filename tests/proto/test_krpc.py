"""DHT messages: the BEP's own examples, there and back, and whatever else arrives."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bittern.errors import ProtocolError
from bittern.proto import krpc
from bittern.proto.bencode import Value, decode, encode
from bittern.proto.compact import pack_address
from bittern.proto.krpc import (
    METHOD_UNKNOWN,
    PROTOCOL_ERROR,
    READ_AT_MOST,
    SENT_AT_MOST,
    VALUES_AT_MOST,
    BadQuery,
    Fault,
    Method,
    NodeInfo,
    Query,
    Response,
    may_be_query,
    pack_fault,
    pack_query,
    pack_response,
    parse_krpc,
)
from bittern.terms import Address, NodeId

A = NodeId(b"abcdefghij0123456789")
B = NodeId(b"mnopqrstuvwxyz123456")
HERE = Address("192.0.2.7", 6881)

EXAMPLES = [
    (b"d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe", Query(b"aa", Method.PING, A)),
    (b"d1:rd2:id20:mnopqrstuvwxyz123456e1:t2:aa1:y1:re", Response(b"aa", B)),
    (
        b"d1:ad2:id20:abcdefghij01234567896:target20:mnopqrstuvwxyz123456e1:q9:find_node1:t2:aa1:y1:qe",
        Query(b"aa", Method.FIND_NODE, A, B),
    ),
    (
        b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe",
        Query(b"aa", Method.GET_PEERS, A, B),
    ),
    (
        b"d1:rd2:id20:abcdefghij01234567895:token8:aoeusnth6:valuesl6:axje.u6:idhtnmee1:t2:aa1:y1:re",
        Response(
            b"aa",
            A,
            values=(Address("97.120.106.101", 0x2E75), Address("105.100.104.116", 0x6E6D)),
            token=b"aoeusnth",
        ),
    ),
    (
        (
            b"d1:ad2:id20:abcdefghij012345678912:implied_porti1e9:info_hash20:mnopqrstuvwxyz1234564:porti6881e"
            b"5:token8:aoeusnthe1:q13:announce_peer1:t2:aa1:y1:qe"
        ),
        Query(b"aa", Method.ANNOUNCE_PEER, A, B, b"aoeusnth", 6881, implied_port=True),
    ),
    (b"d1:eli201e23:A Generic Error Ocurrede1:t2:aa1:y1:ee", Fault(b"aa", 201, "A Generic Error Ocurred")),
]


@pytest.mark.parametrize(("blob", "wanted"), EXAMPLES)
def test_the_examples_of_the_standard(blob: bytes, wanted: object) -> None:
    assert parse_krpc(blob) == wanted


ids = st.binary(min_size=20, max_size=20).map(NodeId)
flags = st.booleans()
hosts4 = st.tuples(st.integers(1, 223), *[st.integers(0, 255)] * 3).map(lambda n: ".".join(map(str, n)))
hosts6 = st.integers(1, (1 << 61) - 1).map(lambda n: Address(f"2001:db8::{n & 0xFFFF:x}", 1 + n % 65535))
addresses4 = st.builds(Address, hosts4, st.integers(1, 65535))
transactions = st.binary(min_size=1, max_size=32)


@st.composite
def queries(draw: st.DrawFn) -> Query:
    method = draw(st.sampled_from(Method))
    wants = method in (Method.FIND_NODE, Method.GET_PEERS)
    scrapes, announces = method is Method.GET_PEERS, method is Method.ANNOUNCE_PEER
    return Query(
        draw(transactions),
        method,
        draw(ids),
        b"" if method is Method.PING else draw(ids),
        draw(st.binary(min_size=1, max_size=64)) if announces else b"",
        draw(st.integers(1, 65535)) if announces else 0,
        announces and draw(flags),
        announces and draw(flags),
        scrapes and draw(flags),
        scrapes and draw(flags),
        wants and draw(flags),
        wants and draw(flags),
        draw(flags),
    )


@given(queries())
def test_a_query_goes_there_and_back_in_canonical_form(query: Query) -> None:
    blob = pack_query(query)
    assert parse_krpc(blob) == query
    assert encode(decode(blob)) == blob


@given(transactions, ids, addresses4, st.lists(st.builds(NodeInfo, ids, addresses4), max_size=8))
def test_an_answer_goes_there_and_back_in_canonical_form(
    transaction: bytes, sender: NodeId, seen_as: Address, nodes: list[NodeInfo]
) -> None:
    blob = pack_response(
        transaction,
        sender,
        seen_as=pack_address(seen_as),
        nodes4=b"".join(one.node_id + pack_address(one.address) for one in nodes),
        nodes6=A + pack_address(Address("2001:db8::1", 2)),
        token=b"token",
        values=[pack_address(one.address) for one in nodes],
        filters=(b"s" * 256, b"p" * 256),
    )
    assert encode(decode(blob)) == blob
    assert parse_krpc(blob) == Response(
        transaction,
        sender,
        tuple(nodes),
        (NodeInfo(A, Address("2001:db8::1", 2)),),
        tuple(one.address for one in nodes),
        b"token",
        b"s" * 256,
        b"p" * 256,
        seen_as,
    )


def test_an_error_goes_there_and_back() -> None:
    blob = pack_fault(b"t", METHOD_UNKNOWN, b"unknown", seen_as=pack_address(HERE))
    assert encode(decode(blob)) == blob
    assert parse_krpc(blob) == Fault(b"t", METHOD_UNKNOWN, "unknown", HERE)


def told(**changes: Value) -> bytes:
    made: dict[bytes, Value] = {b"t": b"aa", b"y": b"q", b"q": b"get_peers"}
    made[b"a"] = {b"id": A, b"info_hash": B}
    return encode(made | {key.encode(): value for key, value in changes.items()})


@pytest.mark.parametrize(
    ("blob", "code"),
    [
        (told(q=b"vote"), METHOD_UNKNOWN),
        (told(q=7), PROTOCOL_ERROR),
        (told(a=[]), PROTOCOL_ERROR),
        (told(a={b"id": b"short", b"info_hash": B}), PROTOCOL_ERROR),
        (told(a={b"id": A, b"info_hash": b"short"}), PROTOCOL_ERROR),
        (told(q=b"find_node"), PROTOCOL_ERROR),
        (told(q=b"announce_peer"), PROTOCOL_ERROR),
        (told(q=b"announce_peer", a={b"id": A, b"info_hash": B, b"token": b"x", b"port": 0}), PROTOCOL_ERROR),
        (
            told(q=b"announce_peer", a={b"id": A, b"info_hash": B, b"token": b"x", b"port": 65536}),
            PROTOCOL_ERROR,
        ),
        (
            told(q=b"announce_peer", a={b"id": A, b"info_hash": B, b"token": b"x" * 65, b"port": 1}),
            PROTOCOL_ERROR,
        ),
    ],
)
def test_a_query_that_cannot_be_served_says_which(blob: bytes, code: int) -> None:
    with pytest.raises(BadQuery) as caught:
        parse_krpc(blob)
    assert (caught.value.transaction, caught.value.code) == (b"aa", code)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"d",
        b"le",
        b"i1e",
        told(t=b""),
        told(t=b"x" * 33),
        told(t=7),
        told(y=b"x"),
        told(y=b"r"),
        told(y=b"r", r={b"id": b"short"}),
        told(y=b"r", r={b"id": A, b"nodes": bytes(25)}),
        told(y=b"r", r={b"id": A, b"nodes6": bytes(37)}),
        told(y=b"r", r={b"id": A, b"nodes": 7}),
        told(y=b"e", e=b"no"),
        told(y=b"e", e=[b"no", 201]),
        b"d" + b"1:a" + b"l" * 5000,
        b"l" * 100 + b"e" * 100,
        told(a={b"id": A, b"info_hash": B, b"want": [b"x"] * 600}),
        told(v=bytes(READ_AT_MOST)),
    ],
)
def test_what_is_no_message_is_refused(blob: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_krpc(blob)
    assert not isinstance(caught.value, BadQuery)


def test_what_is_of_no_use_is_passed_over() -> None:
    odd = {
        b"id": A,
        b"token": b"x" * 65,
        b"values": [b"short", 7, pack_address(HERE), pack_address(Address("2001:db8::1", 5)), bytes(6)],
        b"nodes": A + bytes(6) + B + pack_address(HERE),
        b"BFsd": bytes(255),
        b"BFpe": 1,
        b"samples": [],
    }
    assert parse_krpc(told(y=b"r", r=odd, ip=b"odd")) == Response(
        b"aa",
        A,
        nodes4=(NodeInfo(B, HERE),),
        values=(HERE, Address("2001:db8::1", 5)),
    )


def test_an_ipv4_address_in_ipv6s_clothes_is_no_node_of_ipv6() -> None:
    dressed = bytes(10) + b"\xff\xff" + pack_address(HERE)
    other = Address("2001:db8::1", 5)
    answer = parse_krpc(told(y=b"r", r={b"id": A, b"nodes6": A + dressed + B + pack_address(other)}))
    assert isinstance(answer, Response)
    assert answer.nodes6 == (NodeInfo(B, other),)


def test_a_bomb_without_a_kind_is_not_even_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(krpc, "decode", None)
    with pytest.raises(ProtocolError, match="no query, answer or error"):
        parse_krpc(b"d" + b"".join(b"4:%04d0:" % number for number in range(150)) + b"e")


@pytest.mark.parametrize(("blob", "message"), EXAMPLES)
def test_only_a_query_may_be_one(blob: bytes, message: object) -> None:
    assert may_be_query(blob) is isinstance(message, Query)


def test_want_may_name_what_nobody_knows_yet() -> None:
    query = parse_krpc(told(a={b"id": A, b"info_hash": B, b"want": [b"n6", b"n8", 4]}))
    assert isinstance(query, Query)
    assert (query.want4, query.want6) == (False, True)


def test_more_values_than_anybody_needs_are_cut() -> None:
    blob = told(y=b"r", r={b"id": A, b"values": [pack_address(HERE)] * (VALUES_AT_MOST + 20)})
    answer = parse_krpc(blob)
    assert isinstance(answer, Response)
    assert len(answer.values) == VALUES_AT_MOST


def test_full_answers_stay_below_the_size_limit() -> None:
    blob = pack_response(
        b"t" * 32,
        A,
        seen_as=bytes(18),
        nodes4=bytes(8 * 26),
        token=bytes(8),
        filters=(bytes(256), bytes(256)),
    )
    assert len(blob) < SENT_AT_MOST


@given(st.binary(max_size=300))
def test_any_bytes_give_a_message_or_a_refusal(blob: bytes) -> None:
    try:
        parse_krpc(blob)
    except ProtocolError:
        pass


def test_any_change_of_a_message_gives_a_message_or_a_refusal() -> None:
    rng = random.Random(4)
    for blob, _ in EXAMPLES:
        for _ in range(300):
            made = bytearray(blob)
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(made))
                match rng.randrange(3):
                    case 0:
                        made[at] = rng.randrange(256)
                    case 1:
                        del made[at : at + rng.randrange(1, 9)]
                    case _:
                        made[at:at] = rng.choice([b"d", b"l", b"e", b"i-1e", b"0:", b"99999:"])
            try:
                parse_krpc(bytes(made))
            except ProtocolError:
                pass
