"""Peer exchange's messages (BEP 11): who has come and who has gone, as compact addresses of both families."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bittern.errors import BencodeError, ProtocolError
from bittern.proto.bencode import Value, decode_prefix, encode
from bittern.proto.compact import host4, host6, pack_host
from bittern.terms import Address

TAKEN_AT_MOST: Final = 50
"""Of each of the four lists; a message that keeps to BEP 11 has no more, but for the first."""

PREFERS_ENCRYPTION: Final = 0x01
SEED: Final = 0x02
REACHABLE: Final = 0x10
"""Somebody connected to it, so it can be connected to."""

MAX_DEPTH: Final = 3
MAX_ITEMS: Final = 100


@dataclass(frozen=True, slots=True)
class PexMessage:
    """`added`: with their flags, 0 where none were told."""

    added: tuple[tuple[Address, int], ...] = ()
    dropped: tuple[Address, ...] = ()


def pack_pex(added: Mapping[Address, int], dropped: Iterable[Address]) -> bytes:
    """The payload, in the order in which they stand there."""
    told: dict[bytes, Value] = {}
    for suffix, v6 in ((b"", False), (b"6", True)):
        fresh = [address for address in added if _is_v6(address) == v6]
        if fresh:
            told[b"added" + suffix] = _packed(fresh)
            told[b"added" + suffix + b".f"] = bytes(added[address] for address in fresh)
        gone = [address for address in dropped if _is_v6(address) == v6]
        if gone:
            told[b"dropped" + suffix] = _packed(gone)
    return encode(told)


def parse_pex(payload: bytes) -> PexMessage:
    """`ProtocolError` when it is not a dictionary. Left out is what is nobody's address, or stands there twice, and
    what is of the wrong shape.
    """
    try:
        told, _ = decode_prefix(payload, max_depth=MAX_DEPTH, max_items=MAX_ITEMS)
    except BencodeError as error:
        raise ProtocolError(f"a peer exchange that is not bencode: {error}") from error
    if not isinstance(told, dict):
        raise ProtocolError("a peer exchange that is not a dictionary")
    added: dict[Address, int] = {}
    dropped: dict[Address, None] = {}
    for suffix, host_bytes in ((b"", 4), (b"6", 16)):
        flags = told.get(b"added" + suffix + b".f")
        for place, address in _listed(told.get(b"added" + suffix), host_bytes):
            known = flags[place] if isinstance(flags, bytes) and place < len(flags) else 0
            added.setdefault(address, known)
        for _, address in _listed(told.get(b"dropped" + suffix), host_bytes):
            dropped[address] = None
    return PexMessage(tuple(added.items()), tuple(dropped))


def _listed(blob: Value | None, host_bytes: int) -> Iterator[tuple[int, Address]]:
    """With their places in the list, for the flags go by these."""
    if not isinstance(blob, bytes):
        return
    shown = host4 if host_bytes == 4 else host6
    size = host_bytes + 2
    for place in range(min(len(blob) // size, TAKEN_AT_MOST)):
        at = place * size
        host = shown(blob[at : at + host_bytes])
        port = int.from_bytes(blob[at + host_bytes : at + size])
        if host and port:
            yield place, Address(host, port)


def _packed(addresses: Sequence[Address]) -> bytes:
    return b"".join(pack_host(address.host) + address.port.to_bytes(2) for address in addresses)


def _is_v6(address: Address) -> bool:
    return ":" in address.host
