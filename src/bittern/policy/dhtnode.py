"""A node of the DHT, sans I/O (BEP 5, 32, 42, 43): datagrams and the time come in, datagrams go out.

What it sends of itself is bounded: `QUERIES_PER_S`, shared by searches in the order of their urgency and by the care
of the table. What it answers is bounded by `AnswerLimits`. What it holds is bounded by the parts.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from bittern.errors import ProtocolError
from bittern.policy.allowance import Allowance, AnswerLimits
from bittern.policy.answering import Answers
from bittern.policy.lookup import Lookup
from bittern.policy.peerstore import PeerStore
from bittern.policy.routing import K, RoutingTable
from bittern.policy.search import Announcement, Search, SearchResult
from bittern.policy.standing import AddressVotes, Reachability
from bittern.policy.transactions import Pending, Transactions
from bittern.proto.compact import pack_address
from bittern.proto.krpc import (
    BadQuery,
    Fault,
    Method,
    NodeInfo,
    Query,
    Response,
    may_be_query,
    pack_fault,
    pack_query,
    parse_krpc,
)
from bittern.proto.nodeid import fits, make_node_id
from bittern.terms import Address, InfoHash, NodeId

QUERIES_PER_S: Final = 100.0
QUERIES_BURST: Final = 40.0
CARE_S: Final = 5.0
"""How often the table is looked after: then one node is pinged at most, and one bucket refreshed."""

JOIN_AGAIN_FIRST_S: Final = 15.0
JOIN_AGAIN_MOST_S: Final = 600.0
ENDPOINTS: Final = 64
"""Places that may have a node, to be greeted."""

GREETED_AT_ONCE: Final = 8
PINGED_AT_ONCE: Final = 8
"""Of unknown ones who have asked us something: two a second, when they are forged."""

NEW_ID_S: Final = 600.0


class DhtNode:
    """One for each family of addresses. `send` may be called by any method.

    Call `tick` when it is time; it tells when that is the next time.
    """

    def __init__(
        self,
        node_id: NodeId,
        *,
        rng: random.Random,
        now: float,
        send: Callable[[bytes, Address], None],
        family: int = 4,
        limits: AnswerLimits | None = None,
        queries_per_s: float = QUERIES_PER_S,
    ) -> None:
        self.family = family
        self._rng = rng
        self._send = send
        self.table = RoutingTable(node_id, now)
        self.store = PeerStore(node_id, rng)
        self.answers = Answers(rng, self.store, limits or AnswerLimits(now), now)
        self.answers.tables[family] = self.table
        self.twin: DhtNode | None = None
        self._budget = Allowance(queries_per_s, max(QUERIES_BURST * queries_per_s / QUERIES_PER_S, 8.0), now)
        self._transactions = Transactions(rng)
        self._searches: list[Search] = []
        self._endpoints: dict[Address, None] = {}
        self._probed: set[Address] = set()
        """Unknown ones who have asked us something, and are pinged."""
        self._join: Search | None = None
        self._join_at = now
        self._join_pause_s = JOIN_AGAIN_FIRST_S
        self._care_at = now
        self._votes = AddressVotes()
        self.reach = Reachability(now)
        self.external_host: str | None = None
        self._new_id_at = now - NEW_ID_S
        self.queries_sent = 0
        self.answers_sent = 0

    @property
    def own_id(self) -> NodeId:
        return self.table.own_id

    @property
    def search_count(self) -> int:
        """Searches under way, our own for the table among them."""
        return len(self._searches)

    def paired(self, other: "DhtNode") -> None:
        """The node of the other family: each tells of the other's table to those who want it (BEP 32)."""
        self.twin, other.twin = other, self
        self.answers.tables[other.family] = other.table
        other.answers.tables[self.family] = self.table

    # -- what comes in ---------------------------------------------------------------------------------------

    def receive(self, datagram: bytes, source: Address, now: float) -> bool:
        """False when nobody asked for it: queries, answered or not, and what cannot be read."""
        if may_be_query(datagram):
            if not self.answers.limits.serve(source, now):
                return False
        elif not self._may_answer(source, now):
            return False
        try:
            message = parse_krpc(datagram)
        except BadQuery as fault:
            if not self.reach.read_only:
                self.answers_sent += 1
                self._send(
                    pack_fault(fault.transaction, fault.code, b"no", seen_as=pack_address(source)), source
                )
            return False
        except ProtocolError:
            return False
        if isinstance(message, Query):
            self._queried(message, len(datagram), source, now)
            return False
        return self._answered(message, source, now)

    def _may_answer(self, source: Address, now: float) -> bool:
        """Is something to come from there? Who sends more than that is a stranger."""
        return self._transactions.awaits(source) and (
            self._transactions.heard(source) or self.answers.limits.serve(source, now)
        )

    def _queried(self, query: Query, size: int, source: Address, now: float) -> None:
        if query.sender == self.own_id:
            return
        self.reach.queried(source.host, now)
        if self.reach.read_only:
            return
        self.answers_sent += 1
        self._send(self.answers.answer(query, size, source, now), source)
        if (
            not query.read_only
            and self.table.queried(query.sender, source, now)
            and len(self._probed) < PINGED_AT_ONCE
            and self._budget.left(now) >= 1
        ):
            self._probed.add(source)
            self._query(source, NodeInfo(query.sender, source), Method.PING, None, now)

    def _answered(self, message: Response | Fault, source: Address, now: float) -> bool:
        pending = self._transactions.answered(message.transaction, source)
        if pending is None:
            return False
        self._probed.discard(source)
        if message.seen_as is not None:
            self._seen_as(source, message.seen_as.host, now)
        info = pending.info
        if isinstance(message, Fault):
            # it lives, and is of no use for this
            if info is not None and pending.search is not None:
                pending.search.lookup.failed(info)
                self._advance(pending.search, now)
            return True
        if message.sender == self.own_id:
            if info is not None:
                self._lost(pending, now)
            return True
        self.answers.limits.met(source, now)
        if info is not None and info.node_id != message.sender:
            self.table.failed(info.node_id, info.address)
        self.table.answered(message.sender, source, now)
        told = message.nodes6 if self.family == 6 else message.nodes4
        if self.twin is not None:
            self.twin.hear_of(message.nodes4 if self.family == 6 else message.nodes6)
        if info is None and pending.method is Method.FIND_NODE:
            self._greeted(told, now)
        if pending.search is not None and info is not None:
            if pending.method is pending.search.method:
                pending.search.told(message)
                pending.search.lookup.answered(info, message.sender, told, message.token)
            self._advance(pending.search, now)
        return True

    def _greeted(self, told: Sequence[NodeInfo], now: float) -> None:
        """The first that answers opens the door to all others."""
        if self._join is None and self.table.good_count(now) <= K:
            self._start_join(now, told)

    def hear_of(self, nodes: Iterable[NodeInfo]) -> None:
        """From the other family, which may know more: only of use while we know hardly anybody."""
        if len(self.table) < K:
            for _, address in nodes:
                self.greet(address)

    def _seen_as(self, voter: Address, host: str, now: float) -> None:
        if (":" in host) is not (self.family == 6):
            return
        winner = self._votes.vote(voter, host)
        if winner is not None:
            self.external(winner, now)

    def external(self, host: str, now: float) -> None:
        """Our address as others see it: an id that does not fit it is changed (BEP 42)."""
        self.external_host = host
        if fits(self.own_id, host) or now - self._new_id_at < NEW_ID_S:
            return
        self._new_id_at = now
        self.table = self.table.moved(make_node_id(host, self._rng), now)
        self.store.own_id = self.own_id
        self.answers.tables[self.family] = self.table
        if self.twin is not None:
            self.twin.answers.tables[self.family] = self.table
        self._join_at = now

    # -- what goes out ---------------------------------------------------------------------------------------

    def greet(self, address: Address) -> None:
        """There may be a node: a router, a peer's PORT, a torrent's `nodes`."""
        if len(self._endpoints) < ENDPOINTS and 0 < address.port < 65536:
            self._endpoints[address] = None

    def search(
        self,
        info_hash: InfoHash,
        now: float,
        *,
        urgent: bool,
        found: Callable[[tuple[Address, ...]], None],
        done: Callable[[SearchResult], None],
        announcement: Announcement | None = None,
        scrape: bool = False,
        hints: Iterable[NodeInfo] = (),
    ) -> Search:
        """Looks for peers of a torrent, and announces us at the nearest nodes. `hints` are those of the last time."""
        starts = [*hints, *(one.info for one in self.table.nearest(info_hash, 2 * K))]
        started = Search(
            Lookup(info_hash, self.own_id, starts, storing=announcement is not None),
            method=Method.GET_PEERS,
            urgent=urgent,
            announcement=announcement,
            scrape=scrape,
            found=found,
            done=done,
        )
        self._enter(started, now)
        return started

    def cancel(self, search: Search) -> None:
        """Nobody wants to know any more; its owner is told nothing."""
        search.cancelled = True
        if search in self._searches:
            self._searches.remove(search)

    def _start_join(self, now: float, told: Iterable[NodeInfo] = ()) -> None:
        """Looks for ourselves, so that those near us know us."""
        starts = [*told, *(one.info for one in self.table.nearest(self.own_id, 2 * K))]
        if not starts:
            return
        self._join = self._find(self.own_id, starts, self._joined)
        self._enter(self._join, now)

    def _joined(self, _: SearchResult) -> None:
        self._join = None

    def _find(
        self, target: NodeId, starts: Iterable[NodeInfo], done: Callable[[SearchResult], None]
    ) -> Search:
        return Search(
            Lookup(target, self.own_id, starts),
            method=Method.FIND_NODE,
            urgent=True,
            announcement=None,
            scrape=False,
            found=lambda _: None,
            done=done,
        )

    def _enter(self, search: Search, now: float) -> None:
        self._searches.append(search)
        self._searches.sort(key=lambda one: not one.urgent)
        self._advance(search, now)

    def _advance(self, search: Search, now: float) -> None:
        """Sends what it may now, and ends it when nothing is left."""
        if search not in self._searches:
            return
        lookup = search.lookup
        if search.stores is None:
            while True:
                chosen = lookup.ask(int(self._budget.left(now)))
                for info in chosen:
                    self._query(info.address, info, search.method, search, now)
                if not chosen:
                    break
            if not lookup.done:
                return
            search.stores = lookup.stores() if search.announcement is not None else []
        while search.stores:
            if self._budget.left(now) < 1:
                return
            info, token = search.stores.pop()
            search.stored += 1
            self._query(info.address, info, Method.ANNOUNCE_PEER, search, now, token=token)
        self._searches.remove(search)
        search.finish()

    def _query(
        self,
        address: Address,
        info: NodeInfo | None,
        method: Method,
        search: Search | None,
        now: float,
        *,
        token: bytes = b"",
    ) -> None:
        """Takes from the budget; the caller has looked whether something is left."""
        self._budget.take(now)
        transaction = self._transactions.begin(Pending(address, info, method, search, now))
        both = self.twin is not None and method is Method.FIND_NODE
        announcement = search.announcement if search is not None else None
        query = Query(
            transaction,
            method,
            self.own_id,
            search.lookup.target if search is not None else self.own_id,
            token,
            announcement.port if token and announcement is not None else 0,
            implied_port=bool(token) and announcement is not None and announcement.implied_port,
            seed=bool(token) and announcement is not None and announcement.seed,
            scrape=search is not None and search.scrape,
            want4=both,
            want6=both,
            read_only=self.reach.read_only,
        )
        self.reach.asked(address.host)
        self.queries_sent += 1
        self._send(pack_query(query), address)

    # -- time ------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> float:
        """Does what is due; gives the time at which something is due again."""
        self._give_up(now)
        if now >= self._care_at:
            self._care_at = now + CARE_S
            self._care(now)
        self._greet_some(now)
        for search in list(self._searches):
            if self._budget.left(now) < 1 and not search.lookup.done:
                break
            self._advance(search, now)
        return self._next_at(now)

    def _next_at(self, now: float) -> float:
        next_at = min(self._care_at, self._transactions.next_at())
        if self._searches or self._endpoints:
            wait_s = self._budget.wait_s(now)
            if wait_s > 0:
                next_at = min(next_at, now + max(wait_s, 0.05))
        return max(next_at, now)

    def _give_up(self, now: float) -> None:
        slow, lost = self._transactions.overdue(now)
        for pending in slow:
            if (
                pending.search is not None
                and pending.info is not None
                and pending.method is not Method.ANNOUNCE_PEER
            ):
                pending.search.lookup.slow(pending.info)
        for transaction in lost:
            pending = self._transactions.end(transaction)
            self._probed.discard(pending.address)
            self._lost(pending, now)

    def _lost(self, pending: Pending, now: float) -> None:
        if pending.info is None:
            return
        self.table.failed(pending.info.node_id, pending.info.address)
        if pending.search is not None:
            if pending.method is pending.search.method:
                pending.search.lookup.failed(pending.info)
            self._advance(pending.search, now)

    def _greet_some(self, now: float) -> None:
        greeting = self._transactions.unknown_count if self._endpoints else 0
        while self._endpoints and greeting < GREETED_AT_ONCE and self._budget.left(now) >= 1:
            address = next(iter(self._endpoints))
            del self._endpoints[address]
            greeting += 1
            self._query(address, None, Method.FIND_NODE, None, now)

    def _care(self, now: float) -> None:
        good = self.table.good_count(now)
        self.reach.judge(good, now)
        if self._join is None and now >= self._join_at and len(self.table):
            # again soon while there are few, with longer and longer pauses
            self._join_pause_s = (
                JOIN_AGAIN_FIRST_S if good > K else min(self._join_pause_s * 2, JOIN_AGAIN_MOST_S)
            )
            self._join_at = now + (JOIN_AGAIN_MOST_S if good > K else self._join_pause_s)
            self._start_join(now)
            return
        contact = self.table.to_ping(now)
        if contact is not None and self._budget.left(now) >= 1:
            self._query(contact.address, contact.info, Method.PING, None, now)
        target = self.table.to_refresh(now, self._rng)
        if target is not None and len(self.table):
            starts = [one.info for one in self.table.nearest(target, 2 * K)]
            self._enter(self._find(target, starts, lambda _: None), now)
