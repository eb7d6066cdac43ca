"""A network of DHT nodes in virtual time: datagrams take a while, some are lost, the dead say nothing."""

import bisect
import heapq
import itertools
import random

from bittern.policy.allowance import AnswerLimits
from bittern.policy.dhtnode import DhtNode
from bittern.proto.krpc import NodeInfo
from bittern.proto.nodeid import make_node_id
from bittern.terms import Address, NodeId


class Network:
    """`now` runs from event to event; each node has an address of its own, at random in the IPv4 space."""

    def __init__(self, seed: int, *, delay_s: tuple[float, float] = (0.02, 0.2), loss: float = 0.0) -> None:
        self.rng = random.Random(seed)
        self.now = 0.0
        self.nodes: dict[Address, DhtNode] = {}
        self.dead: set[Address] = set()
        self.datagrams = 0
        self.bytes_to: dict[Address, int] = {}
        self._delay_s = delay_s
        self._loss = loss
        self._order = itertools.count()
        self._events: list[tuple[float, int, Address, bytes | None, Address | None]] = []
        """With a datagram it arrives; without one the node's time has come."""
        self._due: dict[Address, float] = {}

    def address(self) -> Address:
        while True:
            host = f"{self.rng.randrange(11, 126)}." + ".".join(
                str(self.rng.randrange(256)) for _ in range(3)
            )
            address = Address(host, self.rng.randrange(1024, 65536))
            if address not in self.nodes:
                return address

    def add(
        self, address: Address | None = None, *, node_id: NodeId | None = None, fits: bool = True
    ) -> DhtNode:
        address = address or self.address()
        rng = random.Random(self.rng.random())
        node = DhtNode(
            node_id or make_node_id(address.host if fits else None, rng),
            rng=rng,
            now=self.now,
            send=lambda datagram, to: self.send(address, datagram, to),
            limits=AnswerLimits(self.now),
        )
        self.nodes[address] = node
        return node

    def where(self, node: DhtNode) -> Address:
        return next(address for address, one in self.nodes.items() if one is node)

    def send(self, source: Address, datagram: bytes, to: Address) -> None:
        self.datagrams += 1
        self.bytes_to[to] = self.bytes_to.get(to, 0) + len(datagram)
        if to not in self.nodes or to in self.dead or self.rng.random() < self._loss:
            return
        at = self.now + self.rng.uniform(*self._delay_s)
        heapq.heappush(self._events, (at, next(self._order), to, datagram, source))

    def tick(self, address: Address) -> None:
        """Lets a node do what is due; from then on it is called when it wants to be."""
        next_at = self.nodes[address].tick(self.now)
        if next_at < self._due.get(address, float("inf")) or self._due[address] <= self.now:
            self._due[address] = next_at
            heapq.heappush(self._events, (next_at, next(self._order), address, None, None))

    def run(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            self.step()
        self.now = max(self.now, until)

    def step(self) -> None:
        at, _, to, datagram, source = heapq.heappop(self._events)
        self.now = max(self.now, at)
        if to in self.dead:
            return
        if datagram is None or source is None:
            if self._due.get(to) == at:
                self._due.pop(to)
                self.tick(to)
        else:
            self.nodes[to].receive(datagram, source, self.now)

    def fill_tables(self, *, per_bucket: int = 8) -> None:
        """As if all had been here for long: each bucket of each table full of random nodes of its range."""
        known = sorted(
            (int.from_bytes(node.own_id), address, node.own_id) for address, node in self.nodes.items()
        )
        numbers = [number for number, _, _ in known]
        for node in self.nodes.values():
            own = int.from_bytes(node.own_id)
            for depth in range(160):
                # all who share that many bits, and not one more
                shift = 159 - depth
                first = (own >> shift ^ 1) << shift
                low, high = (
                    bisect.bisect_left(numbers, first),
                    bisect.bisect_left(numbers, first + (1 << shift)),
                )
                chosen = self.rng.sample(range(low, high), min(high - low, per_bucket + 2))
                for at in chosen:
                    node.table.answered(known[at][2], known[at][1], self.now)
                near = bisect.bisect_left(numbers, own >> shift << shift)
                if bisect.bisect_left(numbers, (own >> shift) + 1 << shift) - near <= 1:
                    break

    def infos(self) -> list[NodeInfo]:
        return [NodeInfo(node.own_id, address) for address, node in self.nodes.items()]
