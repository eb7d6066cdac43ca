"""The live half of a torrent that came by a magnet link: it meets peers, of whom `Gathering` asks the info dictionary.

It lives while there is somebody to ask or to dial, and ends with the dictionary `found`, its hash verified. Then the
torrent goes the way of all others, and its swarm dials those again who were met here.
"""

import random
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Final, Protocol

import trio

from bittern.discovery.dht_introductions import LooksUp
from bittern.disk.disk import DiskGate
from bittern.engine.calling import call
from bittern.engine.connection_slots import ConnectionSlots
from bittern.engine.dialling import SelfConnection
from bittern.engine.extensions import Extension, Extensions
from bittern.engine.gathering import Gathering, MetadataMemory
from bittern.engine.metadata_peer import MetadataPeer
from bittern.engine.pex import PeerExchange
from bittern.engine.supervision import Supervisor
from bittern.engine.swarm import (
    ARRIVALS_AT_MOST,
    BANS_REMEMBERED,
    HUNGRY_BELOW_PEERS,
    RESTING_ADDRESSES,
)
from bittern.engine.throttle import RateLimit
from bittern.engine.torrent import Torrent
from bittern.errors import HandshakeError, MagnetError, PeerError, TrackerError
from bittern.net.dialer import Dialer
from bittern.net.transport import PeerTransport
from bittern.policy.roster import Roster, Source
from bittern.policy.routing import place_of
from bittern.proto.handshake import Handshake, pack_handshake
from bittern.proto.magnet import parse_magnet
from bittern.terms import Address, PeerId

PEERS_AT_MOST: Final = 20
"""Of one torrent: the whole of the largest metadata comes from a few in seconds."""

WITHOUT_METADATA_S: Final = 30.0
"""Who has not said in this time that it has the metadata makes room: it seeks it as well, or does not know of it."""

WITNESSES: Final = 2
"""Hosts that must say so before a torrent counts as public whose metadata nobody has seen: one alone may be there to
hear who is in a private one."""

BEAT_S: Final = 1.0
LINGER_S: Final = 3.0


class Host(Protocol):
    """What it needs of its session."""

    peer_id: PeerId
    client_name: str
    rng: random.Random
    disk: DiskGate
    connection_slots: ConnectionSlots
    dialer: Dialer
    supervisor: Supervisor
    names: LooksUp | None
    metadata_memory: MetadataMemory

    @property
    def listening_port(self) -> int:
        """What others reach us on."""

    def rate_limits(self, torrent: Torrent) -> tuple[RateLimit, RateLimit]:
        """Of that torrent: what it may receive, and what it may send."""

    def peers_at_most(self, torrent: Torrent) -> int:
        """How many that torrent may have."""

    @property
    def pex(self) -> bool:
        """May peers be told of each other?"""

    def dht_port(self, torrent: Torrent) -> int:
        """Of our DHT node."""

    @property
    def stand_at(self) -> Iterable[Address]:
        """Our addresses as others see them, as far as we know them."""

    def seen_as(self, voter: Address, host: str) -> None:
        """A peer sees us there."""

    def is_self(self, address: Address) -> bool:
        """Is that our own address?"""

    def met_self(self, address: Address) -> None:
        """That address turned out to be ours."""

    def peer_banned(self, torrent: Torrent, host: str, piece: int | None) -> None:
        """Somebody sent bad data."""

    def hungry(self, torrent: Torrent) -> None:
        """The torrent needs more addresses than it has."""


class MetadataSwarm:
    """Peers, roster and drafts of one torrent. Owned by its own task in the session's swarm nursery."""

    def __init__(self, host: Host, torrent: Torrent) -> None:
        self._host = host
        self.torrent = torrent
        self.client_name = host.client_name
        self.download_throttle, _ = host.rate_limits(torrent)
        self.metadata_bytes: int | None = None
        self._gathering = Gathering(self, torrent.info_hash, memory=host.metadata_memory, disk=host.disk)
        spoken: list[Extension] = [self._gathering]
        if host.pex:
            spoken.append(PeerExchange(self))
        self.extensions = Extensions(self, spoken, host.seen_as)
        self._speaking: set[Address | str] = set()
        """Where those are who say that they have the metadata, and that they speak of peers."""
        self.peers: set[MetadataPeer] = set()
        self.roster = Roster(host.rng)
        self.found: bytes | None = None
        self._dialing = 0
        self._looking_up = False
        self._arrived: list[tuple[PeerTransport, Handshake]] = []
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._busy_at = trio.current_time()
        for host_name in torrent.banned or ():
            self.roster.ban(host_name)
        for ours in host.stand_at:
            self.roster.stands_at(ours)
        self.roster.wake(torrent.resting)

    # -- life -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Lives until the metadata is `found`, there is nobody to turn to, or `stop`."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    while self._arrived:
                        self._admit(*self._arrived.pop(0))
                    nursery.start_soon(self._meet_named)
                    while not self._idle(trio.current_time()):
                        self._tick(trio.current_time())
                        await trio.sleep(BEAT_S)
                    self.stop()
        finally:
            self._nursery = None
            for transport, _ in self._arrived:
                transport.close()
            self._gathering.close()
            # whoever belongs to a private torrent is named by its trackers
            self.torrent.resting = b"" if self.torrent.private else self.roster.rest(RESTING_ADDRESSES)

    def stop(self) -> None:
        """Ends it; its torrent lives on."""
        self._scope.cancel()

    def _idle(self, now: float) -> bool:
        due_at = self.roster.next_due_at()
        if self.peers or self._dialing or self._looking_up or (due_at is not None and due_at <= now):
            self._busy_at = now
        return now - self._busy_at >= LINGER_S

    @property
    def listening_port(self) -> int:
        return self._host.listening_port

    @property
    def public(self) -> bool:
        """Do those with the metadata speak of peers, which nobody does in a private torrent (BEP 27)?"""
        return len(self._speaking) >= WITNESSES

    def speaks_of_peers(self, address: Address) -> None:
        """Somebody there says so."""
        if not self.public:
            self._speaking.add(place_of(address))

    @property
    def wants_peers(self) -> bool:
        return len(self.peers) + self._dialing < min(PEERS_AT_MOST, self._host.peers_at_most(self.torrent))

    # -- peers coming and going -----------------------------------------------------------------------------

    async def _meet_named(self) -> None:
        """Those whom the link names (BEP 9, `x.pe`)."""
        try:
            named = parse_magnet(self.torrent.record.magnet).peers
        except MagnetError:
            # an older or a newer one could read it
            return
        self._looking_up = True
        for host_name, port in named:
            found: tuple[str, ...] = ()
            if self._host.names is not None:
                try:
                    found = await self._host.names.lookup(host_name)
                except TrackerError:
                    continue
            self.add_addresses((Address(one, port) for one in found), Source.MANUAL)
        self._looking_up = False

    def reaches(self, host: str) -> bool:
        return self._host.dialer.reaches(host)

    def add_addresses(self, addresses: Iterable[Address], source: Source, told_by: str = "") -> None:
        """Addresses that may be peers; `told_by`: who answers for them where a peer named them."""
        for address in addresses:
            if not self._host.is_self(address):
                self.roster.add(address, source, told_by)
        self._dial_due()

    def arrive(self, transport: PeerTransport, handshake: Handshake) -> None:
        """An inbound peer: takes the transport over, or raises `HandshakeError` when it cannot stay."""
        if self._scope.cancel_called:
            raise HandshakeError("its swarm is about to end")
        if self._nursery is not None:
            self._start_inbound(transport, handshake)
        elif len(self._arrived) < ARRIVALS_AT_MOST:
            self._arrived.append((transport, handshake))
        else:
            raise HandshakeError("no room for another peer")

    def _admit(self, transport: PeerTransport, handshake: Handshake) -> None:
        self._host.supervisor.guard(
            f"introduction of {transport.remote}",
            partial(self._start_inbound, transport, handshake),
            lambda _: transport.close(),
            remedy="the connection is closed",
        )

    def _start_inbound(self, transport: PeerTransport, handshake: Handshake) -> None:
        host = transport.remote.host
        if self.roster.banned(host):
            raise HandshakeError("banned")
        self._refuse_double(handshake)
        if not self.wants_peers or not self._slot(host):
            raise HandshakeError("no room for another peer")
        self._start(transport, handshake, outbound=False)

    def _slot(self, host: str = "") -> bool:
        slots = self._host.connection_slots
        return slots.take() or slots.take_over_any(lonely=not self.peers and not self._dialing, host=host)

    def _refuse_double(self, handshake: Handshake) -> None:
        if handshake.peer_id == self._host.peer_id:
            raise SelfConnection("that is ourselves")
        if any(handshake.peer_id == peer.id for peer in self.peers):
            raise HandshakeError("already connected")

    def _start(self, transport: PeerTransport, handshake: Handshake, *, outbound: bool) -> None:
        """Takes over the transport and a connection slot."""
        assert self._nursery is not None
        peer = MetadataPeer(self, transport, handshake, outbound=outbound)
        self.peers.add(peer)
        self._nursery.start_soon(self._serve, peer)
        peer.greet(b"" if outbound else self._hello())

    def _hello(self) -> bytes:
        return pack_handshake(
            self.torrent.info_hash, self._host.peer_id, dht=self._host.dht_port(self.torrent) > 0
        )

    def _dial_due(self) -> None:
        if self._nursery is None or self._scope.cancel_called:
            return
        now = trio.current_time()
        dials_before = self._dialing
        while (
            self._dialing - dials_before < self._host.connection_slots.dials_at_once
            and self.wants_peers
            and self.roster.anybody_due(now)
            and self._slot()
        ):
            [address] = self.roster.due(now, 1)
            self._dialing += 1
            self._nursery.start_soon(self._dial, address)

    async def _dial(self, address: Address) -> None:
        await self._host.supervisor.contain(
            f"dial of {address}",
            partial(self._dial_once, address),
            lambda _: self.roster.failed(address, trio.current_time()),
            remedy="it is dialled again later",
        )

    async def _dial_once(self, address: Address) -> None:
        """One outbound connection up to its handshake; holds a connection slot, which the peer takes over."""
        transport: PeerTransport | None = None
        try:
            transport, handshake = await call(
                self._host.dialer, address, self._hello(), self.torrent.info_hash
            )
            self._refuse_double(handshake)
            self.roster.connected(address, trio.current_time())
            self._start(transport, handshake, outbound=True)
            transport = None
        except SelfConnection:
            self._host.met_self(address)
            self.roster.useless(address, trio.current_time())
            self._host.connection_slots.give_back()
        except (OSError, PeerError, trio.TooSlowError):
            self.roster.failed(address, trio.current_time())
            self._host.connection_slots.give_back()
        except BaseException:
            self._host.connection_slots.give_back()
            raise
        finally:
            self._dialing -= 1
            if transport is not None:
                transport.close()

    async def _serve(self, peer: MetadataPeer) -> None:
        try:
            await self._host.supervisor.contain(
                f"peer {peer.address}", peer.run, lambda _: None, remedy="the connection is closed"
            )
        finally:
            self._forget(peer)

    def _forget(self, peer: MetadataPeer) -> None:
        now = trio.current_time()
        peer.transport.close()
        self.peers.discard(peer)
        self.extensions.left(peer)
        self._host.connection_slots.give_back()
        if peer.listens_on is not None and self.found is not None:
            self.roster.add(peer.listens_on, Source.INCOMING)
            self.roster.parted(peer.listens_on, now)
        elif peer.outbound:
            self.roster.left(peer.address, now, useful=peer.useful)

    def limits_changed(self) -> None:
        """Its rates."""
        self.download_throttle, _ = self._host.rate_limits(self.torrent)

    # -- the dictionary -------------------------------------------------------------------------------------

    def start(self, task: Callable[[], Awaitable[None]]) -> None:
        """Among its own, while it lives."""
        if self._nursery is not None:
            self._nursery.start_soon(task)

    def has_found(self, info: bytes) -> None:
        """This is the info dictionary: there is nothing more to seek."""
        self.found = info
        self.stop()

    def lied(self, host: str) -> None:
        """Somebody there sent a dictionary that is wrong."""
        self.roster.ban(host)
        banned = self.torrent.banned = self.torrent.banned or {}
        banned[host] = None
        if len(banned) > BANS_REMEMBERED:
            del banned[next(iter(banned))]
        self._host.peer_banned(self.torrent, host, None)
        for peer in self.peers:
            if peer.address.host == host:
                peer.close()

    def _tick(self, now: float) -> None:
        for peer in self.peers:
            if not peer.offers and now - peer.joined_at > WITHOUT_METADATA_S:
                peer.close()
        self.extensions.tick(now)
        if len(self.peers) < HUNGRY_BELOW_PEERS and not self._dialing:
            self._host.hungry(self.torrent)
        self._dial_due()
