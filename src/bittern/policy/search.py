"""A search in the DHT under way: a lookup, what it is for, and what has come of it so far (BEP 5, 33).

Invariants: each peer is told of once, and of at most `PEERS_AT_MOST`; `done` is told exactly once, and one that was
cancelled tells nothing more. Whoever owns it sends its queries.
"""

from collections.abc import Callable
from typing import Final

from bittern.policy.lookup import Lookup
from bittern.proto.bloom import BloomFilter
from bittern.proto.compact import pack_host
from bittern.proto.krpc import Method, NodeInfo, Response
from bittern.terms import Address
from bittern.values import Struct

PEERS_AT_MOST: Final = 1000
"""Of one search."""


class SearchResult(Struct, frozen=True, kw_only=True):
    """What came of a search; `seeds` and `others` are estimates of a scrape, None without one."""

    nearest: tuple[NodeInfo, ...]
    peers: int
    stored: int
    asked: int
    hops: int
    seeds: float | None = None
    others: float | None = None


class Announcement(Struct, frozen=True, kw_only=True):
    """What is left at the nearest nodes: our port, or the one that they see (`implied_port`)."""

    port: int
    implied_port: bool
    seed: bool


class Search:
    """A lookup under way, with what it is for. `urgent` ones go first."""

    __slots__ = (
        "_done",
        "_found",
        "_legacy",
        "_others",
        "_peers",
        "_seeds",
        "announcement",
        "cancelled",
        "lookup",
        "method",
        "scrape",
        "stored",
        "stores",
        "urgent",
    )

    def __init__(
        self,
        lookup: Lookup,
        *,
        method: Method,
        urgent: bool,
        announcement: Announcement | None,
        scrape: bool,
        found: Callable[[tuple[Address, ...]], None],
        done: Callable[[SearchResult], None],
    ) -> None:
        self.lookup = lookup
        self.method = method
        self.urgent = urgent
        self.announcement = announcement
        self.scrape = scrape
        self.stores: list[tuple[NodeInfo, bytes]] | None = None
        """Who is still to hear the announcement; None during the search."""
        self.stored = 0
        self.cancelled = False
        self._found = found
        self._done = done
        self._peers: set[Address] = set()
        self._legacy: set[str] = set()
        self._seeds: BloomFilter | None = None
        self._others: BloomFilter | None = None

    def told(self, response: Response) -> None:
        """Peers, and who is counted. What comes when the search has ended is of use still."""
        if self.cancelled:
            return
        fresh = tuple(dict.fromkeys(one for one in response.values if one not in self._peers))
        fresh = fresh[: PEERS_AT_MOST - len(self._peers)]
        if fresh:
            self._peers.update(fresh)
            self._found(fresh)
        if self.scrape:
            if response.seeds_filter and response.peers_filter:
                self._seeds = _united(self._seeds, response.seeds_filter)
                self._others = _united(self._others, response.peers_filter)
            else:
                self._legacy.update(address.host for address in fresh)

    def finish(self) -> None:
        """Tells its owner."""
        seeds, others = self._seeds, self._others
        if self.scrape and self._legacy:
            # whom a node of the old kind knows is no seed that others know as one (BEP 33)
            others = others or BloomFilter()
            for host in map(pack_host, self._legacy):
                if seeds is None or host not in seeds:
                    others.add(host)
        self._done(
            SearchResult(
                nearest=tuple(self.lookup.nearest()),
                peers=len(self._peers),
                stored=self.stored,
                asked=self.lookup.asked,
                hops=self.lookup.hops,
                seeds=None if seeds is None else seeds.estimate(),
                others=None if others is None else others.estimate(),
            )
        )


def _united(held: BloomFilter | None, packed: bytes) -> BloomFilter:
    fresh = BloomFilter(packed)
    if held is not None:
        fresh.unite(held)
    return fresh
