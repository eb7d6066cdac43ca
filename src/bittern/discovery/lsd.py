"""Local service discovery (BEP 14): neighbours on our networks are told which torrents we have, and tell us.

One announce a minute goes out for all torrents, on each interface, with as many of them in it as fit; each torrent has
its turn every five minutes at most, those that want peers first. Of what comes in only neighbours are heard, at a
bounded pace. Private torrents never come near it (BEP 27).
"""

import math
import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio

from bittern.net.interfaces import local_addresses
from bittern.net.multicast import Multicast
from bittern.net.udp import Guard
from bittern.policy.allowance import Allowance
from bittern.policy.locality import LocalAddress, Neighbourhood, neighbourhood
from bittern.policy.turns import Turns
from bittern.proto.lsd import GROUP_V4, GROUP_V6, PORT, LocalAnnounce, at_most, pack_local, parse_local
from bittern.terms import Address, InfoHash

ANNOUNCE_S: Final = 60.0
"""Between two announces of ours, whatever they are of."""

TORRENT_S: Final = 5 * 60.0
"""Between two of one torrent."""

GATHER_S: Final = 0.5
"""What is added at once goes out together."""

LOOK_S: Final = 30.0
"""Between two looks at the interfaces: they come and go."""

HEARD_PER_S: Final = 50.0
HEARD_BURST: Final = 200.0
PER_HOST_PER_S: Final = 2.0
PER_HOST_BURST: Final = 60.0
"""Some clients send a datagram for each torrent."""

HOSTS: Final = 256
FOUND_PER_S: Final = 10.0
FOUND_BURST: Final = 100.0
"""Torrents that are told of a neighbour: each may be woken by it, and dials."""

COOKIE_DIGITS: Final = 16


class Local(Protocol):
    """A torrent, as its neighbours see it."""

    @property
    def info_hash(self) -> InfoHash:
        """Which torrent."""

    @property
    def private(self) -> bool:
        """Its trackers' own (BEP 27)."""

    @property
    def wants_peers(self) -> bool:
        """Is something missing, and room for peers?"""

    def neighbour_found(self, address: Address) -> None:
        """Somebody near has it."""


def _unguarded(body: Callable[[], None], _settle: Callable[[Exception], None]) -> None:
    body()


class Lsd:
    """One for the process. All methods but `run` are synchronous."""

    def __init__(
        self,
        listen: Sequence[str],
        port: Callable[[], int],
        *,
        rng: random.Random,
        taken: Callable[[str], None],
        this_host: bool = False,
        guard: Guard = _unguarded,
        look: Callable[[], list[LocalAddress]] = local_addresses,
        group_port: int = PORT,
    ) -> None:
        """`port` is where peers reach us; `taken` is told once why we cannot listen; `look` lists our addresses."""
        self._listen = tuple(listen)
        self._port = port
        self._this_host = this_host
        self._taken = taken
        self._told = False
        self._guard = guard
        self._look = look
        self._group_port = group_port
        self._cookie = f"{rng.getrandbits(4 * COOKIE_DIGITS):0{COOKIE_DIGITS}x}".encode()
        self._torrents: dict[InfoHash, Local] = {}
        self._turns = Turns(TORRENT_S)
        self._sockets: dict[str, Multicast] = {}
        """By group."""
        self._near: dict[str, Neighbourhood] = {}
        self._last_at = -math.inf
        self._news = trio.Event()
        self._heard = Allowance(HEARD_PER_S, HEARD_BURST, 0.0)
        self._found = Allowance(FOUND_PER_S, FOUND_BURST, 0.0)
        self._hosts: OrderedDict[str, Allowance] = OrderedDict()

    # -- what torrents want ----------------------------------------------------------------------------------

    def add(self, torrent: Local) -> None:
        """Neighbours hear of it from now on; twice is once."""
        if not torrent.private and torrent.info_hash not in self._torrents:
            self._torrents[torrent.info_hash] = torrent
            self._turns.add(torrent.info_hash, trio.current_time(), wants=torrent.wants_peers)
            self._news.set()

    def remove(self, torrent: Local) -> None:
        """Ends that."""
        if self._torrents.pop(torrent.info_hash, None) is not None:
            self._turns.remove(torrent.info_hash)

    # -- the service -----------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Announces and listens until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                look_at = -math.inf
                while True:
                    self._news = trio.Event()
                    now = trio.current_time()
                    if now >= look_at:
                        self._look_around(nursery)
                        look_at = now + LOOK_S
                    due_at = self._due_at()
                    if due_at <= now:
                        self._announce(now)
                        due_at = self._due_at()
                    task_status.started()
                    task_status = trio.TASK_STATUS_IGNORED
                    with trio.move_on_at(min(due_at, look_at)):
                        await self._news.wait()
                    # not again at once, whatever is added
                    await trio.lowlevel.checkpoint()
        finally:
            for one in self._sockets.values():
                one.close()
            self._sockets.clear()

    def _look_around(self, nursery: trio.Nursery) -> None:
        try:
            found = self._look()
        except OSError:
            found = []
        for group in (GROUP_V4, GROUP_V6):
            near = neighbourhood(found, self._listen, v6=":" in group, this_host=self._this_host)
            self._near[group] = near
            if near.ways and group not in self._sockets:
                self._open(group, nursery)
            if group in self._sockets:
                self._sockets[group].join([way.index for way in near.ways])

    def _open(self, group: str, nursery: trio.Nursery) -> None:
        try:
            one = self._sockets[group] = Multicast(group, self._group_port)
        except OSError as error:
            if not self._told:
                self._told = True
                self._taken(
                    f"cannot listen for neighbours on UDP port {self._group_port}: {error.strerror or error}; "
                    "local discovery does without"
                )
            return

        def receive(datagram: memoryview, source: Address) -> bool:
            return self.receive(datagram, source, group)

        nursery.start_soon(one.run, receive, self._guard)

    def _due_at(self) -> float:
        turn_at = self._turns.due_at()
        if turn_at is None or not self._port() or not any(self._near[group].ways for group in self._sockets):
            return math.inf
        return max(turn_at + GATHER_S, self._last_at + ANNOUNCE_S)

    def _announce(self, now: float) -> None:
        self._last_at = now
        chosen = self._turns.take(at_most(self._cookie), now, self._wants)
        announce = LocalAnnounce(self._port(), tuple(chosen), self._cookie)
        for group, one in self._sockets.items():
            for way in self._near[group].ways:
                one.send(pack_local(group, announce), way)

    def _wants(self, info_hash: InfoHash) -> bool:
        return self._torrents[info_hash].wants_peers

    # -- neighbours ------------------------------------------------------------------------------------------

    def receive(self, datagram: memoryview, source: Address, group: str = GROUP_V4) -> bool:
        """From that group's socket. Only of worth when a neighbour sent it, and no more often than it needs."""
        now = trio.current_time()
        near = self._near.get(group)
        if near is None or not near.has(source.host) or not self._may_speak(source.host, now):
            return False
        heard = parse_local(bytes(datagram))
        if heard is None:
            return False
        if heard.cookie == self._cookie:
            return True
        known = [self._torrents[one] for one in heard.info_hashes if one in self._torrents]
        for torrent in known:
            if not self._found.take(now):
                break
            torrent.neighbour_found(Address(source.host, heard.port))
        return bool(known)

    def _may_speak(self, host: str, now: float) -> bool:
        mine = self._hosts.get(host)
        if mine is None:
            if len(self._hosts) >= HOSTS:
                self._hosts.popitem(last=False)
            mine = self._hosts[host] = Allowance(PER_HOST_PER_S, PER_HOST_BURST, now)
        else:
            self._hosts.move_to_end(host)
        return mine.left(now) >= 1.0 and self._heard.take(now) and mine.take(now)
