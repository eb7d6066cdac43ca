"""What a DHT node answers (BEP 5, 32, 33, 42): at most one datagram a query, no longer than it may be."""

import random
from typing import Final

from bittern.policy.allowance import AnswerLimits
from bittern.policy.peerstore import PeerStore, Tokens
from bittern.policy.routing import K, RoutingTable
from bittern.proto.compact import pack_address
from bittern.proto.krpc import PROTOCOL_ERROR, SENT_AT_MOST, Method, Query, pack_fault, pack_response
from bittern.terms import Address, InfoHash

_FILTERS_BYTES: Final = 2 * (4 + 2 + 4 + 256)
_VALUE_BYTES: Final = {6: 8, 18: 21}
"""With the length before it."""

_VALUES_MARK_BYTES: Final = 11
"""The key, and the ends of the list."""


class Answers:
    """One for each family of addresses; `tables` are those of this node and of its twin, by family (4, 6)."""

    def __init__(self, rng: random.Random, store: PeerStore, limits: AnswerLimits, now: float) -> None:
        self.store = store
        self.limits = limits
        self.tables: dict[int, RoutingTable] = {}
        self._tokens = Tokens(rng, now)

    def answer(self, query: Query, size: int, source: Address, now: float) -> bytes:
        """To a query of `size` bytes."""
        seen_as = pack_address(source)
        family = 6 if ":" in source.host else 4
        own_id = self.tables[family].own_id
        match query.method:
            case Method.PING:
                return pack_response(query.transaction, own_id, seen_as=seen_as)
            case Method.FIND_NODE:
                nodes4, nodes6 = self._nodes(query, family, now)
                return pack_response(query.transaction, own_id, seen_as=seen_as, nodes4=nodes4, nodes6=nodes6)
            case Method.GET_PEERS:
                return self._peers(query, size, source, now)
        return self._announced(query, source, now)

    def _nodes(self, query: Query, family: int, now: float) -> tuple[bytes | None, bytes | None]:
        """Of the families that are wanted; without a wish of the one it came by (BEP 32)."""
        wished = query.want4 or query.want6
        found: list[bytes | None] = []
        for this, wanted in ((4, query.want4), (6, query.want6)):
            table = self.tables.get(this)
            if table is not None and (wanted if wished else this == family):
                found.append(b"".join(one.compact for one in table.closest(query.target, K, now)))
            else:
                found.append(None)
        return found[0], found[1]

    def _peers(self, query: Query, size: int, source: Address, now: float) -> bytes:
        family = 6 if ":" in source.host else 4
        info_hash = InfoHash(query.target)
        token = b""
        if self.store.accepts(info_hash):
            token = self._tokens.make(source.host, query.target, now)
        nodes4, nodes6 = self._nodes(query, family, now)
        filters = self.store.filters(info_hash, now) if query.scrape else None

        def packed(values: list[bytes], with_filters: tuple[bytes, bytes] | None) -> bytes:
            return pack_response(
                query.transaction,
                self.tables[family].own_id,
                seen_as=pack_address(source),
                nodes4=nodes4,
                nodes6=nodes6,
                token=token,
                values=values,
                filters=with_filters,
            )

        values = self.store.peers(info_hash, SENT_AT_MOST // 8, now, noseed=query.noseed)
        if not values and filters is None:
            return packed([], None)
        plain = len(packed([], None))
        each = _VALUE_BYTES[len(values[0])] if values else 1
        wanted = plain + (_VALUES_MARK_BYTES + len(values) * each if values else 0)
        if filters is not None:
            wanted += _FILTERS_BYTES
        room = self.limits.room(source, size, min(wanted, SENT_AT_MOST), now) - plain
        if filters is not None:
            if room >= _FILTERS_BYTES:
                room -= _FILTERS_BYTES
            else:
                filters = None
        return packed(values[: max(0, (room - _VALUES_MARK_BYTES) // each)], filters)

    def _announced(self, query: Query, source: Address, now: float) -> bytes:
        if not self._tokens.good(query.token, source.host, query.target, now):
            return pack_fault(query.transaction, PROTOCOL_ERROR, b"bad token", seen_as=pack_address(source))
        # a token that came back: it is where it says
        self.limits.met(source, now)
        port = source.port if query.implied_port else query.port
        self.store.add(InfoHash(query.target), Address(source.host, port), now, seed=query.seed)
        family = 6 if ":" in source.host else 4
        return pack_response(query.transaction, self.tables[family].own_id, seen_as=pack_address(source))
