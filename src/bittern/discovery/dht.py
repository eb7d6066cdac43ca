"""The DHT for all torrents (BEP 5): a node for each family of addresses, one task, one clock.

When a torrent is looked for and announced: those that want peers first and often, the others once in half an hour,
spread over it from the start, for thousands of them share the queries that a node may send in a second. Private
torrents never come near it (BEP 27).
"""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import trio

from bittern.discovery.dht_introductions import Guard, Introductions, LooksUp
from bittern.discovery.dht_state import BYTES_AT_MOST, dump_tables, load_places, load_tables
from bittern.disk.atomic import write_atomic
from bittern.policy.dhtnode import DhtNode
from bittern.policy.search import Announcement, Search, SearchResult
from bittern.proto.compact import pack_address, unpack_addresses
from bittern.proto.datagram import Kind
from bittern.proto.krpc import NodeInfo
from bittern.proto.nodeid import make_node_id
from bittern.terms import Address, InfoHash, NodeId

WANTING_S: Final = 5 * 60.0
"""Between two searches of a torrent that wants peers."""

CONTENT_S: Final = 25 * 60.0
"""Of the others: nodes forget who was silent for 30 to 45 minutes."""

SPREAD_EACH_S: Final = 1.5
"""The first announces of the others are spread over so long for each that is there, up to `CONTENT_S`: the only one is
announced at once, of ten thousand a few a second."""

LEAST_S: Final = 60.0
JITTER: Final = 0.1
AT_ONCE: Final = 16
CONTENT_TURN: Final = 4
"""While others want peers, one start in so many is of a torrent that does not."""

SAVE_S: Final = 5 * 60.0
SAVE_SOON_S: Final = 2.0
"""After somebody new was to introduce us: of many drops at once the last is in it too."""

SLICE: Final = 500
"""Torrents looked at before others get the loop."""


@dataclass(frozen=True, slots=True)
class DhtFacts:
    """What a torrent has to tell: does it want peers, has it all, does it lack other ways to be counted."""

    wants_peers: bool
    seed: bool
    scrape: bool


class Sought(Protocol):
    """A torrent, as the DHT sees it."""

    @property
    def info_hash(self) -> InfoHash:
        """Which torrent."""

    @property
    def private(self) -> bool:
        """Its trackers' own (BEP 27)."""

    def dht_facts(self) -> DhtFacts:
        """At this moment."""

    def dht_found(self, addresses: tuple[Address, ...]) -> None:
        """Somebody announced these."""

    def dht_counted(self, seeds: int, others: int) -> None:
        """About so many are there (BEP 33)."""


class Datagrams(Protocol):
    """The UDP sockets, or a test's."""

    @property
    def port(self) -> int:
        """0 while there is none."""

    def register(self, kind: Kind, receive: Callable[[memoryview, Address], bool]) -> None:
        """Who is called with datagrams of that kind, and says whether anybody asked for them."""

    def send(self, datagram: bytes, to: Address) -> bool:
        """False: lost at once. `OSError` when it cannot be reached."""


async def _unguarded(body: Callable[[], Awaitable[None]], _where: str) -> None:
    await body()


class _Entry:
    """A torrent's place in the schedule; `hints` are the nearest nodes of the last search, packed, by family."""

    __slots__ = ("due_at", "failures", "hints", "last_at", "queued", "searches", "torrent")

    def __init__(self, torrent: Sought) -> None:
        self.torrent = torrent
        self.due_at = math.inf
        self.last_at = -math.inf
        self.queued = False
        self.failures = 0
        """Searches in a row that found nobody."""
        self.searches: dict[int, Search | None] = {}
        """Under way, by family; None until it has begun."""
        self.hints: dict[int, bytes] = {}


class Dht:
    """One for the process. All methods but `run` and `save` are synchronous."""

    def __init__(
        self,
        udp: Datagrams,
        names: LooksUp,
        *,
        families: Sequence[int],
        port: Callable[[], int],
        routers: Sequence[tuple[str, int]],
        state: Path,
        rng: random.Random,
        guard: Guard = _unguarded,
    ) -> None:
        """`port` is where peers reach us; `state` the file that survives; `rng` one that nobody can foresee."""
        self._udp = udp
        self._families = tuple(families)
        self._port = port
        self._state = state
        self._rng = rng
        self.nodes: dict[int, DhtNode] = {}
        self._introductions = Introductions(
            names, routers=routers, nodes=self.nodes, greet=self.met, guard=guard
        )
        self._entries: dict[InfoHash, _Entry] = {}
        self._later: list[tuple[float, int, InfoHash]] = []
        self._order = itertools.count()
        self._wanting: deque[InfoHash] = deque()
        self._content: deque[InfoHash] = deque()
        self._busy = 0
        self._turn = 0
        self._saving = trio.Lock()
        """Of two at once the older table could be the one that stays."""
        self._news = trio.Event()
        udp.register(Kind.DHT, self.receive)

    # -- what torrents want ----------------------------------------------------------------------------------

    @property
    def udp_port(self) -> int:
        """What peers are told (BEP 5, PORT); 0 for nothing: there is no node yet, or nobody reaches it."""
        node = self.nodes.get(4) or self.nodes.get(6)
        return 0 if node is None or node.reach.read_only else self._udp.port

    @property
    def external_hosts(self) -> list[str]:
        """Where other nodes see us, as far as they agree (BEP 42)."""
        return [node.external_host for node in self.nodes.values() if node.external_host is not None]

    def located(self, host: str) -> None:
        """Peers and trackers see us there."""
        node = self.nodes.get(6 if ":" in host else 4)
        if node is not None:
            node.external(host, trio.current_time())
            self._news.set()

    def add(self, torrent: Sought) -> None:
        """Looks for it and announces it from now on; twice is once."""
        if torrent.private or torrent.info_hash in self._entries:
            return
        spread_s = min(SPREAD_EACH_S * len(self._entries), CONTENT_S)
        if torrent.dht_facts().wants_peers:
            spread_s = 0.0
        entry = self._entries[torrent.info_hash] = _Entry(torrent)
        now = trio.current_time()
        self._put_off(entry, now + self._rng.uniform(0.0, spread_s))

    def remove(self, torrent: Sought) -> None:
        """Ends that; nodes forget us by themselves."""
        entry = self._entries.pop(torrent.info_hash, None)
        if entry is not None:
            for family, search in entry.searches.items():
                self._busy -= 1
                if search is not None:
                    self.nodes[family].cancel(search)
            entry.searches.clear()

    def need_peers(self, torrent: Sought) -> None:
        """It could use more peers than it knows."""
        entry = self._entries.get(torrent.info_hash)
        if entry is not None and not entry.queued and not entry.searches:
            soon = max(trio.current_time(), entry.last_at + LEAST_S)
            if soon < entry.due_at:
                self._put_off(entry, soon)

    def introduced(self, places: Iterable[tuple[str, int]]) -> None:
        """A torrent's `nodes`."""
        self._introductions.add(places)

    def met(self, address: Address) -> None:
        """A peer told the port of its node (BEP 5, PORT)."""
        node = self.nodes.get(6 if ":" in address.host else 4)
        if node is not None:
            node.greet(address)
            self._news.set()

    def _put_off(self, entry: _Entry, due_at: float) -> None:
        entry.due_at = due_at
        heapq.heappush(self._later, (due_at, next(self._order), entry.torrent.info_hash))
        self._news.set()

    # -- datagrams -------------------------------------------------------------------------------------------

    def receive(self, datagram: memoryview, source: Address) -> bool:
        """From the UDP sockets."""
        node = self.nodes.get(6 if ":" in source.host else 4)
        if node is None:
            return False
        asked_for = node.receive(bytes(datagram), source, trio.current_time())
        if asked_for and self._busy < AT_ONCE and (self._wanting or self._content):
            # the first who answers is whom they were waiting for
            self._news.set()
        return asked_for

    def _send(self, datagram: bytes, to: Address) -> None:
        try:
            self._udp.send(datagram, to)
        except OSError:
            # it does not answer, then
            pass

    # -- the service -----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Searches until cancelled."""
        if not self.nodes:
            await self._wake_up()
        self._start_over()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._introductions.run)
            nursery.start_soon(self._save_often)
            task_status.started()
            while True:
                self._news = trio.Event()
                now = trio.current_time()
                wake_at = min(node.tick(now) for node in self.nodes.values())
                self._start_due(now)
                if self._later:
                    wake_at = min(wake_at, self._later[0][0])
                with trio.move_on_at(wake_at):
                    await self._news.wait()
                # not again at once, whatever they say
                await trio.lowlevel.checkpoint()

    def _start_over(self) -> None:
        """After a fall nothing is under way."""
        self._later.clear()
        self._wanting.clear()
        self._content.clear()
        self._busy = 0
        for entry in self._entries.values():
            for family, search in entry.searches.items():
                if search is not None:
                    self.nodes[family].cancel(search)
            entry.searches.clear()
            entry.queued = False
            self._put_off(entry, min(entry.due_at, trio.current_time() + CONTENT_S))

    async def _wake_up(self) -> None:
        try:
            blob = await trio.to_thread.run_sync(self._read, abandon_on_cancel=True)
            saved = load_tables(blob)
            self._introductions.remembered(load_places(blob))
        except (OSError, ValueError):
            # no file, or none of ours: others introduce us
            saved = {}
        now = trio.current_time()
        for family in self._families:
            before = saved.get(family)
            node_id = before.node_id if before is not None else make_node_id(None, self._rng)
            node = DhtNode(node_id, rng=self._rng, now=now, send=self._send, family=family)
            node.table.remembered(before.nodes if before is not None else (), now)
            self.nodes[family] = node
        if 4 in self.nodes and 6 in self.nodes:
            self.nodes[4].paired(self.nodes[6])

    def _read(self) -> bytes:
        with self._state.open("rb") as file:
            return file.read(BYTES_AT_MOST + 1)

    async def _save_often(self) -> None:
        while True:
            news = self._introductions.news = trio.Event()
            with trio.move_on_after(SAVE_S):
                await news.wait()
                await trio.sleep(SAVE_SOON_S)
            await self.save()

    async def save(self) -> None:
        """Keeps who is in the tables, if anybody is; a disk that refuses costs nothing but a slower start."""
        async with self._saving:
            places = self._introductions.places
            if places or any(len(node.table) for node in self.nodes.values()):
                blob = dump_tables(self.nodes, places)
                try:
                    await trio.to_thread.run_sync(write_atomic, self._state, blob)
                except OSError:
                    pass

    # -- searches --------------------------------------------------------------------------------------------

    def _start_due(self, now: float) -> None:
        """Those that want peers go first; of the others a few go on in any case."""
        looked_at = 0
        while self._later and self._later[0][0] <= now and looked_at < SLICE:
            _, _, info_hash = heapq.heappop(self._later)
            entry = self._entries.get(info_hash)
            if entry is not None and not entry.queued and not entry.searches and entry.due_at <= now:
                looked_at += 1
                entry.queued = True
                (self._wanting if entry.torrent.dht_facts().wants_peers else self._content).append(info_hash)
        ready = [family for family, node in self.nodes.items() if len(node.table)]
        while ready and self._busy < AT_ONCE:
            self._turn += 1
            queue = self._wanting or self._content
            if self._content and self._turn % CONTENT_TURN == 0:
                queue = self._content
            if not queue:
                return
            info_hash = queue.popleft()
            entry = self._entries.get(info_hash)
            if entry is not None and entry.queued:
                entry.queued = False
                self._start(entry, ready, now)

    def _start(self, entry: _Entry, families: Sequence[int], now: float) -> None:
        facts = entry.torrent.dht_facts()
        entry.last_at = now
        entry.searches = dict.fromkeys(families)
        self._busy += len(families)
        port = self._port()
        announcement = None
        if port:
            announcement = Announcement(port=port, implied_port=port == self._udp.port, seed=facts.seed)
        for family in families:
            search = self.nodes[family].search(
                entry.torrent.info_hash,
                now,
                urgent=facts.wants_peers,
                announcement=announcement,
                scrape=facts.scrape,
                hints=_unpack(entry.hints.get(family, b""), family),
                found=entry.torrent.dht_found,
                done=partial(self._done, entry, family),
            )
            if family in entry.searches:
                entry.searches[family] = search

    def _done(self, entry: _Entry, family: int, result: SearchResult) -> None:
        if family not in entry.searches:
            return
        del entry.searches[family]
        self._busy -= 1
        entry.hints[family] = b"".join(one.node_id + pack_address(one.address) for one in result.nearest)
        if result.seeds is not None and result.others is not None:
            entry.torrent.dht_counted(round(result.seeds), round(result.others))
        entry.failures = 0 if result.peers else min(entry.failures + 1, 8)
        if not entry.searches:
            pause_s = CONTENT_S
            if not result.nearest:
                # nobody answered: the network, or we, are just coming up
                pause_s = LEAST_S
            elif entry.torrent.dht_facts().wants_peers:
                # whoever announced it last may have done so a moment after we asked
                pause_s = min(LEAST_S * 2 ** (entry.failures - 1), WANTING_S) if entry.failures else WANTING_S
            self._put_off(entry, trio.current_time() + pause_s * self._rng.uniform(1 - JITTER, 1 + JITTER))
        self._news.set()


def _unpack(packed: bytes, family: int) -> list[NodeInfo]:
    """What `_done` packed."""
    size = 20 + (6 if family == 4 else 18)
    return [
        NodeInfo(NodeId(packed[at : at + 20]), address)
        for at in range(0, len(packed), size)
        for address in unpack_addresses(packed[at + 20 : at + size], size - 22, 1)
    ]
