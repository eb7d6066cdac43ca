"""All live swarms: what wakes a parked torrent, what parks it, and what they share (slots, limits, buffers)."""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, Protocol

import trio

from bittern.discovery.dht import Dht
from bittern.discovery.dht_introductions import LooksUp
from bittern.disk.buffers import PieceBuffers
from bittern.disk.disk import DiskGate
from bittern.disk.storage import Storage
from bittern.engine.connection_slots import ConnectionSlots
from bittern.engine.gathering import MetadataMemory
from bittern.engine.metadata import MetadataSwarm
from bittern.engine.metadata_peer import MetadataPeer
from bittern.engine.opening import Opened, Opener
from bittern.engine.own_addresses import OwnAddresses
from bittern.engine.parking import Parking
from bittern.engine.peer import Peer
from bittern.engine.rate_limits import RateLimits
from bittern.engine.settings import Settings
from bittern.engine.supervision import Supervisor
from bittern.engine.swarm import ARRIVALS_AT_MOST, Swarm
from bittern.engine.throttle import RateLimit
from bittern.engine.torrent import State, Torrent
from bittern.engine.uploads import SendBuffers
from bittern.engine.waking import Waking, open_files
from bittern.errors import HandshakeError, TrackerError
from bittern.net.dialer import Dialer
from bittern.net.transport import PeerTransport
from bittern.policy.pacing import RateMeter
from bittern.policy.roster import Source
from bittern.proto.handshake import Handshake, pack_handshake
from bittern.terms import Address, InfoHash, PeerId

HELD_AT_MOST: Final = 16 * 1024 * 1024
"""What all peers together may make us hold: looked at once a second, so that it needs no accounts."""

ADDRESSES_FOR_SEEDING: Final = 30
"""Of what a tracker names to a seeding torrent: most peers of a seed come by themselves."""


class SwarmsHost(Protocol):
    """What the swarms tell."""

    def piece_written(self, torrent: Torrent, index: int, storage: Storage, files: range) -> None:
        """A piece is verified and written."""

    def bytes_written(self, torrent: Torrent, storage: Storage, files: range) -> None:
        """Something was written that is no verified piece yet."""

    def torrent_failed(self, torrent: Torrent, error: Exception) -> None:
        """The torrent cannot go on."""

    def swarm_fell(self, torrent: Torrent, error: Exception) -> None:
        """A swarm ended by an error."""

    async def metadata_found(self, torrent: Torrent, info: bytes) -> None:
        """Peers have given the torrent's info dictionary, and its hash is right."""

    def peer_banned(self, torrent: Torrent, host: str, piece: int | None) -> None:
        """Somebody sent bad data."""

    def hungry(self, torrent: Torrent) -> None:
        """The torrent needs more addresses than it has."""

    def payload_moved(self, torrent: Torrent) -> None:
        """Its counters are out of date in the record."""

    def got(self, torrent: Torrent, now: float) -> None:
        """Somebody gave us something of it."""

    def uploaded(self, torrent: Torrent, now: float) -> None:
        """Somebody was given something of it."""


class Swarms:
    """Implements what a `Swarm` needs of its session."""

    def __init__(
        self,
        host: SwarmsHost,
        settings: Settings,
        torrents: Mapping[InfoHash, Torrent],
        *,
        peer_id: PeerId,
        client_name: str,
        rng: random.Random,
        disk: DiskGate,
        buffers: PieceBuffers,
        dialer: Dialer,
        opener: Opener,
        supervisor: Supervisor,
        listening_port: Callable[[], int],
        dht: Dht | None = None,
        names: LooksUp | None = None,
    ) -> None:
        self._host = host
        self._settings = settings
        self._torrents = torrents
        self.peer_id = peer_id
        self.client_name = client_name
        self.rng = rng
        self.disk = disk
        self.buffers = buffers
        self.dialer = dialer
        self.supervisor = supervisor
        self._opener = opener
        self._dht = dht
        self._own = OwnAddresses(settings.listen, listening_port, dht)
        self._rates = RateLimits(settings)
        self.send_buffers = SendBuffers()
        self.live: dict[InfoHash, Swarm] = {}
        self.seeking: dict[InfoHash, MetadataSwarm] = {}
        """Of torrents whose info dictionary is still sought."""
        self.names = names
        self.metadata_memory = MetadataMemory()
        self.down, self.up = RateMeter(), RateMeter()
        self.parted: Callable[[Swarm], None] = lambda _: None
        """Told of each swarm that ends, while its roster is still there."""
        self.slots_news = trio.Event()
        """Set when somebody wants an upload slot or gave one back; whoever chokes makes a new one."""
        self.slot_asked: Callable[[], None] = self.slots_wanted
        """Told of each who asks for one for the first time."""
        self._waking: dict[InfoHash, Waking] = {}
        self._parking = Parking(rng)
        self.connection_slots = ConnectionSlots(self.live, at_most=settings.max_peers)
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """The nursery that all swarms live in."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                task_status.started()
                await trio.sleep_forever()
            finally:
                self._nursery = None

    def apply(self, settings: Settings) -> None:
        """New limits, from now on."""
        self._settings = settings
        self.connection_slots.at_most = settings.max_peers
        if self._rates.apply(settings):
            for torrent in self._torrents.values():
                self.limits_changed(torrent)

    def limits_changed(self, torrent: Torrent) -> None:
        """Those of that torrent, or so much in those for all that nobody may wait for the next look."""
        swarm = self.running(torrent.info_hash)
        if swarm is not None:
            swarm.limits_changed()

    # -- waking and parking ---------------------------------------------------------------------------------

    def introduce(self, handshake: Handshake, transport: PeerTransport) -> None:
        """An inbound peer: takes the transport over, or raises `HandshakeError`, also when a bug was in the way."""
        failed: list[Exception] = []
        self.supervisor.guard(
            f"introduction of {transport.remote}",
            partial(self._introduce, handshake, transport),
            failed.append,
            remedy="the connection is closed",
        )
        if failed:
            raise HandshakeError(str(failed[0])) from failed[0]

    def _introduce(self, handshake: Handshake, transport: PeerTransport) -> None:
        torrent = self._torrents.get(handshake.info_hash)
        if torrent is None or not torrent.reachable:
            raise HandshakeError("no such torrent here")
        if handshake.peer_id == self.peer_id:
            # Our own dial: it learns from the answer whom it has reached, and does not try again.
            transport.send_nowait(pack_handshake(torrent.info_hash, self.peer_id))
            raise HandshakeError("that is ourselves")
        swarm = self.running(torrent.info_hash)
        if swarm is not None:
            swarm.arrive(transport, handshake)
            return
        waking = self._wake(torrent)
        if waking is None or len(waking.arrived) >= ARRIVALS_AT_MOST:
            raise HandshakeError("no room for another peer")
        waking.arrived.append((transport, handshake))

    def addresses_found(self, torrent: Torrent, addresses: tuple[Address, ...], source: Source) -> None:
        """Somebody named peers of that torrent."""
        addresses = tuple(address for address in addresses if not self.is_self(address))
        if torrent.complete:
            addresses = addresses[:ADDRESSES_FOR_SEEDING]
        if not addresses or not torrent.reachable:
            return
        swarm = self.running(torrent.info_hash)
        if swarm is not None:
            swarm.add_addresses(addresses, source)
        elif (waking := self._wake(torrent)) is not None and len(waking.addresses) < ARRIVALS_AT_MOST:
            waking.addresses.append((addresses, source))

    def meet(self, torrent: Torrent, named: Sequence[tuple[str, int]]) -> None:
        """Peers that a link names (BEP 9, `x.pe`), by numbers or by names that are looked up first."""
        if named and self._nursery is not None and not torrent.private:
            self._nursery.start_soon(self._meet_contained, torrent, named)

    async def _meet_contained(self, torrent: Torrent, named: Sequence[tuple[str, int]]) -> None:
        await self.supervisor.contain(
            f"peers of a link to {torrent.record.name!r}",
            partial(self._meet, torrent, named),
            lambda _: None,
            remedy="they are not dialled",
        )

    async def _meet(self, torrent: Torrent, named: Sequence[tuple[str, int]]) -> None:
        for host, port in named:
            found: tuple[str, ...] = ()
            if self.names is not None:
                with suppress(TrackerError):
                    found = await self.names.lookup(host)
            # by now it may be gone, or known to be private (BEP 27)
            if self._torrents.get(torrent.info_hash) is torrent and not torrent.private:
                self.addresses_found(torrent, tuple(Address(one, port) for one in found), Source.MANUAL)

    def forget_peers(self, torrent: Torrent) -> None:
        """Whoever is connected leaves, and nobody is dialled who was known until now."""
        torrent.resting = b""
        waking = self._waking.get(torrent.info_hash)
        if waking is not None:
            waking.addresses.clear()
        swarm = self.live.get(torrent.info_hash)
        if swarm is not None:
            swarm.roster.forget_all()
            for peer in swarm.peers:
                peer.close()

    def running(self, info_hash: InfoHash) -> Swarm | MetadataSwarm | None:
        """The live half of that torrent, whichever it is; None: it is parked."""
        return self.live.get(info_hash) or self.seeking.get(info_hash)

    def wake(self, torrent: Torrent) -> None:
        """Makes a parked torrent live."""
        if self.running(torrent.info_hash) is None and torrent.reachable:
            self._wake(torrent)

    def _wake(self, torrent: Torrent) -> Waking | None:
        waking = self._waking.get(torrent.info_hash)
        self._parking.forget(torrent.info_hash)
        if waking is None and self._nursery is not None:
            waking = self._waking[torrent.info_hash] = Waking()
            self._nursery.start_soon(self._live, torrent, waking)
        return waking

    async def _live(self, torrent: Torrent, waking: Waking) -> None:
        await self.supervisor.contain(
            f"swarm {torrent.record.name!r}",
            partial(self._live_once, torrent, waking),
            lambda error: self._host.swarm_fell(torrent, error),
            remedy="the swarm is started again",
        )

    async def _live_once(self, torrent: Torrent, waking: Waking) -> None:
        info_hash = torrent.info_hash
        if torrent.record.state == "metadata":
            await self._seek_metadata(torrent, waking)
            return
        swarm = unused = None
        try:
            with waking.scope:
                opened, bands = await open_files(
                    self.disk, self._opener, torrent, for_reading=torrent.complete and bool(waking.arrived)
                )
                unused = opened.storage
                # A thread that has begun is not cancelled: without this a stopped torrent would live on.
                await trio.lowlevel.checkpoint_if_cancelled()
                swarm = Swarm(
                    self,
                    torrent,
                    layout=opened.layout,
                    storage=opened.storage,
                    piece_hashes=opened.piece_hashes,
                    metadata_bytes=opened.metadata_bytes,
                    read_metadata=partial(self._opener.metadata_piece, info_hash, opened.info_span),
                    bands=bands,
                )
                self._hand_over(waking, swarm)
                self.live[info_hash] = swarm
                unused = None
        finally:
            if unused is not None:
                unused.close()
            if self._waking.get(info_hash) is waking:
                del self._waking[info_hash]
            for transport, _ in waking.arrived:
                transport.close()
        if swarm is None:
            return
        try:
            await swarm.run()
        finally:
            if self.live.get(info_hash) is swarm:
                del self.live[info_hash]
                self._rates.forget(info_hash)
            # whoever still syncs or reads through it opens its files again
            swarm.storage.close()
            self.parted(swarm)
        if swarm.broken is not None:
            self._host.swarm_fell(torrent, swarm.broken)

    async def _seek_metadata(self, torrent: Torrent, waking: Waking) -> None:
        info_hash = torrent.info_hash
        try:
            if self._waking.get(info_hash) is not waking:
                return
            # first of all: whatever goes wrong, it may be woken again
            del self._waking[info_hash]
            swarm = MetadataSwarm(self, torrent)
            self._hand_over(waking, swarm)
        finally:
            for transport, _ in waking.arrived:
                transport.close()
        self.seeking[info_hash] = swarm
        try:
            await swarm.run()
            if swarm.found is not None:
                await self._host.metadata_found(torrent, swarm.found)
        finally:
            if self.seeking.get(info_hash) is swarm:
                del self.seeking[info_hash]
                self._rates.forget(info_hash)
        if torrent.state is State.METADATA and self.running(info_hash) is None:
            self._parking.sought(info_hash, swarm.roster.next_due_at(), trio.current_time())

    def _hand_over(self, waking: Waking, swarm: Swarm | MetadataSwarm) -> None:
        while waking.arrived:
            transport, handshake = waking.arrived.pop(0)
            self.supervisor.guard(
                f"introduction of {transport.remote}",
                partial(swarm.arrive, transport, handshake),
                lambda _: transport.close(),  # noqa: B023 — called at once or never
                remedy="the connection is closed",
            )
        for addresses, source in waking.addresses:
            swarm.add_addresses(addresses, source)

    def stop(self, torrent: Torrent) -> None:
        """Parks the torrent at once, whatever it is doing."""
        self._parking.forget(torrent.info_hash)
        # whoever wakes it again does not join one that is ending
        waking = self._waking.pop(torrent.info_hash, None)
        if waking is not None:
            waking.scope.cancel()
        swarm = self.live.pop(torrent.info_hash, None) or self.seeking.pop(torrent.info_hash, None)
        self._rates.forget(torrent.info_hash)
        if swarm is not None:
            swarm.stop()

    def park_idle(self, now: float) -> None:
        """Parks swarms that have had nothing to do for a while."""
        for swarm in list(self.live.values()):
            swarm.contained(partial(self._park_if_idle, swarm, now))

    def _park_if_idle(self, swarm: Swarm, now: float) -> None:
        if self._parking.parks(swarm, now):
            swarm.stop()

    def shed(self) -> None:
        """Lets go of those who make us hold most, until all of them together make us hold little."""
        everybody: list[Peer | MetadataPeer] = [peer for one in self.live.values() for peer in one.peers]
        everybody += [peer for one in self.seeking.values() for peer in one.peers]
        held = sorted(((peer.held_bytes, id(peer), peer) for peer in everybody), reverse=True)
        total = sum(size for size, _, _ in held)
        for size, _, peer in held:
            if total <= HELD_AT_MOST:
                return
            peer.close()
            total -= size

    def wake_due(self, now: float) -> None:
        """Wakes parked torrents that have somebody to dial again."""
        for info_hash in self._parking.take_due(now):
            torrent = self._torrents.get(info_hash)
            if torrent is not None and not torrent.complete:
                self.wake(torrent)

    def data_moved(self, torrent: Torrent, opened: Opened) -> None:
        """The torrent's files lie elsewhere now."""
        swarm = self.live.get(torrent.info_hash)
        if swarm is not None:
            before, swarm.storage = swarm.storage, opened.storage
            before.close()

    # -- what swarms share ----------------------------------------------------------------------------------

    def dht_port(self, torrent: Torrent) -> int:
        return 0 if self._dht is None or torrent.private else self._dht.udp_port

    def dht_node(self, torrent: Torrent, address: Address) -> None:
        if self._dht is not None and not torrent.private:
            self._dht.met(address)

    @property
    def pex(self) -> bool:
        return self._settings.pex

    @property
    def stand_at(self) -> list[Address]:
        return self._own.seen

    def seen_as(self, voter: Address | None, host: str) -> None:
        """By a peer, or (None) a tracker."""
        ours = self._own.seen_as(voter, host)
        if ours is not None:
            for swarm in self.live.values():
                swarm.roster.stands_at(ours)

    @property
    def listening_port(self) -> int:
        return self._own.listening_port

    def rate_limits(self, torrent: Torrent) -> tuple[RateLimit, RateLimit]:
        return self._rates.of(torrent)

    def peers_at_most(self, torrent: Torrent) -> int:
        return torrent.record.limits.max_peers or self._settings.max_peers_per_torrent

    def by_need(self) -> list[Swarm]:
        """Whoever comes first gets what is free: who has nobody, and of those who has waited longest."""
        swarms = sorted(self.live.values(), key=_need)
        self.connection_slots.lonely = sum(swarm.lonely for swarm in swarms)
        return swarms

    @property
    def peer_count(self) -> int:
        return sum(len(swarm.peers) for swarm in self.live.values()) + sum(
            len(swarm.peers) for swarm in self.seeking.values()
        )

    def is_self(self, address: Address) -> bool:
        return address in self._own

    def met_self(self, address: Address) -> None:
        self._own.met(address)

    def slots_wanted(self) -> None:
        self.slots_news.set()

    def moved_bytes(self, torrent: Torrent, *, down: int, up: int, now: float) -> None:
        record = torrent.record
        torrent.moved_at = now
        if down:
            record.downloaded_bytes += down
            self.down.add(down, now)
            self._host.got(torrent, now)
        if up:
            record.uploaded_bytes += up
            self.up.add(up, now)
            self._host.uploaded(torrent, now)
        self._host.payload_moved(torrent)

    def piece_written(self, torrent: Torrent, index: int, storage: Storage, files: range) -> None:
        self._host.piece_written(torrent, index, storage, files)

    def bytes_written(self, torrent: Torrent, storage: Storage, files: range) -> None:
        self._host.bytes_written(torrent, storage, files)

    def torrent_failed(self, torrent: Torrent, error: Exception) -> None:
        self._host.torrent_failed(torrent, error)

    def peer_banned(self, torrent: Torrent, host: str, piece: int | None) -> None:
        self._host.peer_banned(torrent, host, piece)

    def hungry(self, torrent: Torrent) -> None:
        self._host.hungry(torrent)


def _need(swarm: Swarm) -> tuple[int, float]:
    return len(swarm.peers), swarm.alone_since
