"""Datagrams of the DHT (BEP 5, with BEP 32, 33, 42, 43): any bytes give a message or a `ProtocolError`.

What is of no use to us is passed over; what we rely on must be there and of its kind and size.
"""

import enum
import struct
from collections.abc import Iterable
from typing import Final, NamedTuple

from bittern.errors import BencodeError, ProtocolError
from bittern.proto.bencode import Value, decode
from bittern.proto.bloom import FILTER_BYTES
from bittern.proto.compact import V4_BYTES, V6_BYTES, host4, host6, unpack_addresses
from bittern.terms import Address, NodeId

SENT_AT_MOST: Final = 1024
"""BEP 32; it fits every path whole."""

READ_AT_MOST: Final = 2048
"""Others send more than they should, but nothing that does not fit an Ethernet frame."""

TRANSACTION_AT_MOST: Final = 32
"""It is echoed: it must not be a load."""

TOKEN_AT_MOST: Final = 64
VALUES_AT_MOST: Final = 200
NODES_AT_MOST: Final = 32
REASON_AT_MOST: Final = 200
_DEPTH_AT_MOST: Final = 6
_ITEMS_AT_MOST: Final = 500
_ID_BYTES: Final = 20
_VERSION: Final = b"1:v4:bn\x00\x01"

GENERIC_ERROR: Final = 201
SERVER_ERROR: Final = 202
PROTOCOL_ERROR: Final = 203
METHOD_UNKNOWN: Final = 204


class Method(enum.Enum):
    """What is asked."""

    PING = b"ping"
    FIND_NODE = b"find_node"
    GET_PEERS = b"get_peers"
    ANNOUNCE_PEER = b"announce_peer"


class NodeInfo(NamedTuple):
    """A node that somebody told of."""

    node_id: NodeId
    address: Address


class Query(NamedTuple):
    """`target` is the info hash as well; with `implied_port` the datagram's own counts; neither `want` = the family
    it came by.
    """

    transaction: bytes
    method: Method
    sender: NodeId
    target: bytes = b""
    token: bytes = b""
    port: int = 0
    implied_port: bool = False
    seed: bool = False
    noseed: bool = False
    scrape: bool = False
    want4: bool = False
    want6: bool = False
    read_only: bool = False


class Response(NamedTuple):
    """`token` b"" = none was given; `seen_as` is where they see us (BEP 42)."""

    transaction: bytes
    sender: NodeId
    nodes4: tuple[NodeInfo, ...] = ()
    nodes6: tuple[NodeInfo, ...] = ()
    values: tuple[Address, ...] = ()
    token: bytes = b""
    seeds_filter: bytes = b""
    peers_filter: bytes = b""
    seen_as: Address | None = None


class Fault(NamedTuple):
    """They could not, or would not; `reason` is their words on one line."""

    transaction: bytes
    code: int
    reason: str
    seen_as: Address | None = None


Message = Query | Response | Fault


class BadQuery(ProtocolError):
    """A query that cannot be served, from somebody who may be told so: `code` is BEP 5's."""

    def __init__(self, reason: str, transaction: bytes, code: int) -> None:
        super().__init__(reason)
        self.transaction = transaction
        self.code = code


# -- reading -----------------------------------------------------------------------------------------------------

_KIND_MARK: Final = b"1:y1:"
"""It stands in each message: what lacks it costs a search and no parse."""

_QUERY_MARK: Final = _KIND_MARK + b"q"


def may_be_query(blob: bytes) -> bool:
    """False when it certainly is none: nobody who was not asked has anything else to say."""
    return _QUERY_MARK in blob


def parse_krpc(blob: bytes) -> Message:
    """The message, or `ProtocolError` (`BadQuery` when its sender deserves an answer)."""
    if len(blob) > READ_AT_MOST:
        raise ProtocolError(f"a DHT message of {len(blob)} bytes")
    if _KIND_MARK not in blob:
        raise ProtocolError("a DHT message that is no query, answer or error")
    try:
        told = decode(blob, max_depth=_DEPTH_AT_MOST, max_items=_ITEMS_AT_MOST)
    except BencodeError as error:
        raise ProtocolError(f"a DHT message that is not bencode: {error}") from error
    if not isinstance(told, dict):
        raise ProtocolError("a DHT message that is no dictionary")
    transaction = told.get(b"t")
    if not isinstance(transaction, bytes) or not 0 < len(transaction) <= TRANSACTION_AT_MOST:
        raise ProtocolError("a DHT message without a transaction id of reasonable length")
    match told.get(b"y"):
        case b"q":
            return _query(told, transaction)
        case b"r":
            return _response(told, transaction)
        case b"e":
            return _fault(told, transaction)
    raise ProtocolError("a DHT message that is no query, answer or error")


def _query(told: dict[bytes, Value], transaction: bytes) -> Query:
    asked, name = told.get(b"a"), told.get(b"q")
    if not isinstance(name, bytes) or not isinstance(asked, dict):
        raise BadQuery("a query without a name or arguments", transaction, PROTOCOL_ERROR)
    method = _METHODS.get(name)
    if method is None:
        raise BadQuery("a query that we do not know", transaction, METHOD_UNKNOWN)
    sender = asked.get(b"id")
    if not isinstance(sender, bytes) or len(sender) != _ID_BYTES:
        raise BadQuery("a query without a node id", transaction, PROTOCOL_ERROR)
    target = b""
    if method is not Method.PING:
        about = asked.get(b"target" if method is Method.FIND_NODE else b"info_hash")
        if not isinstance(about, bytes) or len(about) != _ID_BYTES:
            raise BadQuery("a query without its target", transaction, PROTOCOL_ERROR)
        target = about
    token, port, implied = b"", 0, False
    if method is Method.ANNOUNCE_PEER:
        token, port, implied = _announcement(asked, transaction)
    want = asked.get(b"want")
    wanted = want if isinstance(want, list) else ()
    return Query(
        transaction,
        method,
        NodeId(sender),
        target,
        token,
        port,
        implied,
        asked.get(b"seed") == 1,
        asked.get(b"noseed") == 1,
        asked.get(b"scrape") == 1,
        b"n4" in wanted,
        b"n6" in wanted,
        told.get(b"ro") == 1,
    )


def _announcement(asked: dict[bytes, Value], transaction: bytes) -> tuple[bytes, int, bool]:
    token, port = asked.get(b"token"), asked.get(b"port")
    if not isinstance(token, bytes) or not 0 < len(token) <= TOKEN_AT_MOST:
        raise BadQuery("an announce without a token", transaction, PROTOCOL_ERROR)
    implied = asked.get(b"implied_port", 0) != 0
    if not isinstance(port, int) or not 0 < port < 65536:
        if not implied:
            raise BadQuery("an announce without a port", transaction, PROTOCOL_ERROR)
        port = 0
    return token, port, implied


def _response(told: dict[bytes, Value], transaction: bytes) -> Response:
    answer = told.get(b"r")
    if not isinstance(answer, dict):
        raise ProtocolError("an answer without values")
    sender = answer.get(b"id")
    if not isinstance(sender, bytes) or len(sender) != _ID_BYTES:
        raise ProtocolError("an answer without a node id")
    token = answer.get(b"token")
    return Response(
        transaction,
        NodeId(sender),
        _nodes(answer.get(b"nodes"), V4_BYTES),
        _nodes(answer.get(b"nodes6"), V6_BYTES),
        _values(answer.get(b"values")),
        token if isinstance(token, bytes) and len(token) <= TOKEN_AT_MOST else b"",
        _filter(answer.get(b"BFsd")),
        _filter(answer.get(b"BFpe")),
        _seen_as(told.get(b"ip")),
    )


def _fault(told: dict[bytes, Value], transaction: bytes) -> Fault:
    match told.get(b"e"):
        case [int() as code, bytes() as words, *_]:
            text = words[: 4 * REASON_AT_MOST].decode("utf-8", "replace")
            reason = " ".join("".join(c if c.isprintable() else " " for c in text).split())
            return Fault(transaction, code, reason[:REASON_AT_MOST], _seen_as(told.get(b"ip")))
    raise ProtocolError("an error without code and reason")


def _nodes(told: Value | None, address_bytes: int) -> tuple[NodeInfo, ...]:
    """20 bytes of id and the endpoint of each; what is nobody's address, or of the other family, is left out."""
    if told is None:
        return ()
    size = _ID_BYTES + address_bytes
    if not isinstance(told, bytes) or len(told) % size:
        raise ProtocolError("an answer with broken nodes")
    shown = host4 if address_bytes == V4_BYTES else host6
    listed = (
        (node_id, shown(host), port)
        for node_id, host, port in struct.iter_unpack(
            f">{_ID_BYTES}s{address_bytes - 2}sH", told[: NODES_AT_MOST * size]
        )
    )
    # an IPv4 address in IPv6's clothes has no place among nodes of IPv6
    return tuple(
        NodeInfo(NodeId(node_id), Address(host, port))
        for node_id, host, port in listed
        if host and port and (":" in host) is (address_bytes == V6_BYTES)
    )


def _values(told: Value | None) -> tuple[Address, ...]:
    """Both families may be mixed (BEP 32)."""
    if not isinstance(told, list):
        return ()
    found: list[Address] = []
    for one in told[:VALUES_AT_MOST]:
        if isinstance(one, bytes) and len(one) in (V4_BYTES, V6_BYTES):
            found += unpack_addresses(one, len(one) - 2, 1)
    return tuple(found)


def _filter(told: Value | None) -> bytes:
    return told if isinstance(told, bytes) and len(told) == FILTER_BYTES else b""


def _seen_as(told: Value | None) -> Address | None:
    if isinstance(told, bytes) and len(told) in (V4_BYTES, V6_BYTES):
        return next(iter(unpack_addresses(told, len(told) - 2, 1)), None)
    return None


_METHODS: Final = {method.value: method for method in Method}


# -- writing: by hand, for the keys are few and their order is known --------------------------------------------------


def pack_query(query: Query) -> bytes:
    """`want` and flags only where they are set."""
    parts = [b"d1:ad2:id20:", query.sender]
    match query.method:
        case Method.FIND_NODE:
            parts += [b"6:target20:", query.target, _want(query)]
        case Method.GET_PEERS:
            parts += [b"9:info_hash20:", query.target]
            parts += [b"6:noseedi1e" if query.noseed else b"", b"6:scrapei1e" if query.scrape else b""]
            parts.append(_want(query))
        case Method.ANNOUNCE_PEER:
            parts.append(b"12:implied_porti%de9:info_hash20:" % query.implied_port)
            parts += [query.target, b"4:porti%de" % query.port, b"4:seedi1e" if query.seed else b""]
            parts += [b"5:token", _string(query.token)]
    parts += [b"e1:q", _string(query.method.value), b"2:roi1e" if query.read_only else b""]
    parts += [b"1:t", _string(query.transaction), _VERSION, b"1:y1:qe"]
    return b"".join(parts)


def _want(query: Query) -> bytes:
    if not (query.want4 or query.want6):
        return b""
    return b"4:wantl%b%be" % (b"2:n4" if query.want4 else b"", b"2:n6" if query.want6 else b"")


def pack_response(
    transaction: bytes,
    sender: NodeId,
    *,
    seen_as: bytes,
    nodes4: bytes | None = None,
    nodes6: bytes | None = None,
    token: bytes = b"",
    values: Iterable[bytes] = (),
    filters: tuple[bytes, bytes] | None = None,
) -> bytes:
    """Everything compact already; `filters` are those of seeds and of peers (BEP 33)."""
    parts = [b"d2:ip", _string(seen_as), b"1:rd"]
    if filters is not None:
        parts += [b"4:BFpe256:", filters[1], b"4:BFsd256:", filters[0]]
    parts += [b"2:id20:", sender]
    if nodes4 is not None:
        parts += [b"5:nodes", _string(nodes4)]
    if nodes6 is not None:
        parts += [b"6:nodes6", _string(nodes6)]
    if token:
        parts += [b"5:token", _string(token)]
    packed = b"".join(map(_string, values))
    if packed:
        parts += [b"6:valuesl", packed, b"e"]
    parts += [b"e1:t", _string(transaction), _VERSION, b"1:y1:re"]
    return b"".join(parts)


def pack_fault(transaction: bytes, code: int, reason: bytes, *, seen_as: bytes) -> bytes:
    """Short words: it goes to strangers."""
    return b"d1:eli%de%be2:ip%b1:t%b%b1:y1:ee" % (
        code,
        _string(reason),
        _string(seen_as),
        _string(transaction),
        _VERSION,
    )


def _string(blob: bytes) -> bytes:
    return b"%d:%b" % (len(blob), blob)
