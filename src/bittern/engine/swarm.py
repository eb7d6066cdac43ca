"""The live half of a torrent: it exists while there are peers or work, and owns everything that only then exists.

It meets peers (dialled or arrived), keeps the roster of addresses, and passes blame and news on; what is asked of
whom while the torrent is incomplete is its `fetch`'s business.
"""

import random
from collections.abc import Awaitable, Callable, Container, Iterable
from functools import partial
from typing import Final, Protocol

import trio

from bittern.disk.buffers import PieceBuffers
from bittern.disk.disk import DiskGate
from bittern.disk.storage import Storage
from bittern.engine.connection_slots import ConnectionSlots
from bittern.engine.dialling import Dialling, Dials, SelfConnection
from bittern.engine.extensions import Extension, Extensions
from bittern.engine.fetch import Fetch
from bittern.engine.metadata_uploads import MetadataUploads
from bittern.engine.parting import LAST_WORD_S, is_done, tell_done
from bittern.engine.peer import Peer
from bittern.engine.pex import PeerExchange
from bittern.engine.supervision import Supervisor
from bittern.engine.throttle import RateLimit
from bittern.engine.torrent import State, Torrent
from bittern.engine.upload_only import UploadOnly
from bittern.engine.uploads import SendBuffers
from bittern.errors import BadBlock, HandshakeError, PeerError, TorrentError
from bittern.net.transport import PeerTransport
from bittern.policy.doubles import Double, judge
from bittern.policy.picker import Picker
from bittern.policy.roster import Roster, Source
from bittern.policy.runs import run_length
from bittern.proto.bitfield import Bitfield
from bittern.proto.handshake import Handshake, pack_handshake
from bittern.proto.layout import Layout
from bittern.proto.messages import allowed_fast_set
from bittern.terms import Address, PeerId

ALLOWED_FAST_BELOW: Final = 10
"""A newcomer with fewer pieces than this may have a few while choked (BEP 6)."""

ARRIVALS_AT_MOST: Final = 16
"""Inbound peers that may wait for their swarm to wake."""

RESTING_ADDRESSES: Final = 32
"""12 bytes each, and what trackers name to a seeding torrent: who is named again is not taken for somebody new."""

BANS_REMEMBERED: Final = 1000
"""Hosts, the longest known first to go: of one torrent, for as long as this run lasts."""

HUNGRY_BELOW_PEERS: Final = 3
INBOUND_SHARE: Final = 0.75
"""Of a torrent's places: the others are for dials, while it is incomplete and there is somebody to dial."""


class Host(Dials, Protocol):
    """What a swarm needs of its session."""

    peer_id: PeerId
    client_name: str
    rng: random.Random
    connection_slots: ConnectionSlots
    disk: DiskGate
    buffers: PieceBuffers
    supervisor: Supervisor
    send_buffers: SendBuffers

    def rate_limits(self, torrent: Torrent) -> tuple[RateLimit, RateLimit]:
        """Of that torrent: what it may receive, and what it may send."""

    @property
    def listening_port(self) -> int:
        """What others reach us on."""

    @property
    def pex(self) -> bool:
        """May peers be told of each other?"""

    @property
    def stand_at(self) -> Iterable[Address]:
        """Our addresses as others see them, as far as we know them."""

    def seen_as(self, voter: Address, host: str) -> None:
        """A peer sees us there."""

    def dht_port(self, torrent: Torrent) -> int:
        """Of our DHT node, for that torrent's peers; 0: they are told of none."""

    def dht_node(self, torrent: Torrent, address: Address) -> None:
        """One of that torrent's peers has a DHT node there."""

    def peers_at_most(self, torrent: Torrent) -> int:
        """How many that torrent may have."""

    def is_self(self, address: Address) -> bool:
        """Is that our own address?"""

    def piece_written(self, torrent: Torrent, index: int, storage: Storage, files: range) -> None:
        """A piece is verified and written."""

    def bytes_written(self, torrent: Torrent, storage: Storage, files: range) -> None:
        """Something was written that is no verified piece yet."""

    def moved_bytes(self, torrent: Torrent, *, down: int, up: int, now: float) -> None:
        """Payload went over the wire."""

    def torrent_failed(self, torrent: Torrent, error: Exception) -> None:
        """The torrent cannot go on."""

    def peer_banned(self, torrent: Torrent, host: str, piece: int) -> None:
        """Somebody sent bad data."""

    def hungry(self, torrent: Torrent) -> None:
        """The torrent needs more addresses than it has."""

    slot_asked: Callable[[], None]
    """Somebody asks for an upload slot, for the first time."""

    def slots_wanted(self) -> None:
        """An upload slot may have become free, or somebody wants one."""


class Swarm:
    """Peers, roster and storage of one live torrent. Owned by its own task in the session's swarm nursery."""

    def __init__(
        self,
        host: Host,
        torrent: Torrent,
        *,
        layout: Layout,
        storage: Storage,
        piece_hashes: bytes,
        metadata_bytes: int,
        read_metadata: Callable[[int], bytes],
        bands: bytes | None = None,
    ) -> None:
        """`bands`: how soon each piece is wanted (`policy.selection`)."""
        self._host = host
        self.torrent = torrent
        self.layout = layout
        self.storage = storage
        self.disk = host.disk
        self.download_throttle, self.upload_throttle = host.rate_limits(torrent)
        self.send_buffers = host.send_buffers
        self.client_name = host.client_name
        self.metadata_bytes: int | None = metadata_bytes
        self.read_metadata = read_metadata
        spoken: list[Extension] = [UploadOnly()]
        if not torrent.private:
            spoken.append(MetadataUploads(self))
            if host.pex:
                spoken.append(PeerExchange(self))
        self.extensions = Extensions(self, spoken, host.seen_as, upload_only=lambda: torrent.complete)
        self.peers: set[Peer] = set()
        self.roster = Roster(host.rng)
        for ours in host.stand_at:
            self.roster.stands_at(ours)
        self.fetch: Fetch | None = None
        self.wasted_bytes = 0
        self.all_useful_until = 0.0
        """No peer has to be looked for before that could give way."""
        self._part_at: float | None = None
        """When seeds that did not leave us by themselves are left."""
        self.alone_since = trio.current_time()
        """Since when it has had no peer, if it has none."""
        self._dialling = Dialling(host, self, torrent.info_hash)
        self._useful = False
        self._arrived: list[tuple[PeerTransport, Handshake]] = []
        self._work = trio.Event()
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._idle_since = trio.current_time()
        self.broken: Exception | None = None
        """What a part of it raised in somebody else's task: reported already, and the reason of its end."""
        if torrent.have is not None and not torrent.complete:
            run = run_length(layout.piece_length, layout.piece_count)
            picker = Picker(
                layout.piece_count, torrent.have, host.rng, wanted=torrent.wanted, bands=bands, run_length=run
            )
            picker.sequential = torrent.record.sequential
            self.fetch = Fetch(self, torrent.have, piece_hashes, host.buffers, picker)
        for host_name in torrent.banned or ():
            self.roster.ban(host_name)
        self.roster.wake(torrent.resting, wanting=self.fetch is not None)

    # -- life -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Lives until `stop` or a failure (raised, or `broken`); every buffer, request and connection is given back at
        the end.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    self._nursery = nursery
                    try:
                        self._admit_arrived()
                        self.dial_due()
                        while True:
                            await self._work.wait()
                            self._work = trio.Event()
                            self._settle()
                    finally:
                        # from here on whoever arrives is turned away, by whatever it ends
                        self._scope.cancel()
        finally:
            self._nursery = None
            for transport, _ in self._arrived:
                transport.close()
            if self.fetch is not None:
                self.fetch.close()
            self.torrent.resting = self.roster.rest(RESTING_ADDRESSES)

    def stop(self) -> None:
        """Ends the swarm; its torrent lives on."""
        self._scope.cancel()

    def work(self) -> None:
        """There is something to settle."""
        self._work.set()

    def in_background(self, body: Callable[[], Awaitable[None]]) -> None:
        """Runs it beside the peers; it ends with the swarm."""
        if self._nursery is not None:
            self._nursery.start_soon(body)

    def contained(self, body: Callable[[], None]) -> None:
        """Runs our work in somebody else's task: an error there is this swarm's end, not theirs."""
        self._host.supervisor.guard(
            f"swarm {self.torrent.record.name!r}",
            body,
            self._break,
            remedy="the swarm is started again",
            told=self.broken is not None,
        )

    def _break(self, error: Exception) -> None:
        self.broken = error
        self._scope.cancel()

    def _settle(self) -> None:
        fetch = self.fetch
        if fetch is None:
            return
        fetch.settle()
        if self.torrent.complete:
            self.fetch = None
            fetch.close()
            for peer in self.peers:
                peer.requests.end()
                peer.set_interested(False)
                peer.flush()
            tell_done(
                self.peers,
                self.layout.piece_count,
                whole=self.torrent.whole,
                greeting=self.extensions.greeting,
            )
            self._part_at = trio.current_time() + LAST_WORD_S

    def idle_since(self) -> float | None:
        """Since when there has been nothing to do; None while there is."""
        if (
            self.peers
            or self._dialling.under_way
            or self._arrived
            or (self.fetch is not None and self.fetch.busy)
        ):
            self._idle_since = trio.current_time()
            return None
        return self._idle_since

    @property
    def dialled_in_vain(self) -> bool:
        """Did it dial in this life, and nothing useful came, from whomever, nor is soon to?"""
        return self._dialling.in_vain and not self._useful

    @property
    def wants_peers(self) -> bool:
        return self.places > 0

    @property
    def places(self) -> int:
        """How many more peers it may have, those that are being dialled counted as some."""
        return self.peers_at_most - len(self.peers) - self._dialling.under_way

    @property
    def peers_at_most(self) -> int:
        """How many it may have."""
        return self._host.peers_at_most(self.torrent)

    @property
    def lonely(self) -> bool:
        """Is something missing, and nobody here or on the way to bring it?"""
        return self.fetch is not None and not self.peers and not self._dialling.under_way

    @property
    def listening_port(self) -> int:
        return self._host.listening_port

    @property
    def dht_port(self) -> int:
        return self._host.dht_port(self.torrent)

    def dht_node(self, address: Address) -> None:
        self._host.dht_node(self.torrent, address)

    def now(self) -> float:
        return trio.current_time()

    # -- peers coming and going -----------------------------------------------------------------------------

    def arrive(self, transport: PeerTransport, handshake: Handshake) -> None:
        """An inbound peer: takes the transport over, or raises `HandshakeError` when it cannot stay."""
        if self._scope.cancel_called:  # its last tasks may be gone, and nobody would serve the newcomer
            raise HandshakeError("its swarm is about to end")
        if len(self._arrived) >= ARRIVALS_AT_MOST:
            raise HandshakeError("no room for another peer")
        if self._nursery is None:
            self._arrived.append((transport, handshake))
        else:
            self._start_inbound(transport, handshake)

    def _admit_arrived(self) -> None:
        while self._arrived:
            transport, handshake = self._arrived.pop(0)
            self._host.supervisor.guard(
                f"introduction of {transport.remote}",
                partial(self._start_inbound, transport, handshake),
                lambda _: transport.close(),  # noqa: B023 — called at once or never
                remedy="the connection is closed",
            )

    def _start_inbound(self, transport: PeerTransport, handshake: Handshake) -> None:
        if self.roster.banned(transport.remote.host):
            raise HandshakeError("banned")
        self._refuse_double(handshake, transport.remote, outbound=False)
        if self._keeps_room_for_dials():
            raise HandshakeError("no room for another peer")
        host = transport.remote.host
        slots = self._host.connection_slots
        if not (self.wants_peers and slots.take()) and not slots.take_over(self, host):
            raise HandshakeError("no room for another peer")
        try:
            self._start(transport, handshake, outbound=False)
        except BaseException:
            slots.give_back()
            raise

    def _keeps_room_for_dials(self) -> bool:
        """Whoever knocks may be anybody: those whom a tracker named are to find a place too, when we need them."""
        share = self.peers_at_most * INBOUND_SHARE
        return (
            self.fetch is not None
            and len(self.peers) + self._dialling.under_way >= share
            and self.roster.anybody_due(trio.current_time())
        )

    def _start(self, transport: PeerTransport, handshake: Handshake, *, outbound: bool) -> None:
        """Takes over the transport and a connection slot."""
        assert self._nursery is not None
        peer = Peer(self, transport, handshake, outbound=outbound)
        # Before anybody can find it among the peers: the greeting comes first, and it tells what we have now.
        have = None if self.torrent.whole else self.torrent.have or Bitfield(self.layout.piece_count)
        hello = b"" if outbound else self.hello()
        peer.greet(have, self._fast_offer(peer), hello)
        self.peers.add(peer)
        self._nursery.start_soon(self._serve, peer)

    def hello(self) -> bytes:
        return pack_handshake(self.torrent.info_hash, self._host.peer_id, dht=self.dht_port > 0)

    def _refuse_double(self, handshake: Handshake, remote: Address, *, outbound: bool) -> None:
        """Raises `HandshakeError` when the newcomer's id is connected already, and that connection is to stay alone."""
        if handshake.peer_id == self._host.peer_id:
            raise SelfConnection("that is ourselves")
        replaced = []
        for other in self.peers:
            if other.id != handshake.peer_id:
                continue
            verdict = judge(
                outbound=outbound,
                other_outbound=other.outbound,
                same_host=other.address.host == remote.host,
                ours_is_greater=self._host.peer_id > other.id,
                other_useful=other.useful,
                other_age_s=trio.current_time() - other.joined_at,
            )
            if verdict is Double.REFUSE:
                raise HandshakeError("already connected")
            if verdict is Double.REPLACE:
                replaced.append(other)
        for other in replaced:
            other.close()

    @property
    def public(self) -> bool:
        return not self.torrent.private

    def reaches(self, host: str) -> bool:
        return self._host.dialer.reaches(host)

    def add_addresses(self, addresses: Iterable[Address], source: Source, told_by: str = "") -> None:
        """Addresses that may be peers; `told_by`: who answers for them where a peer named them."""
        for address in addresses:
            if not self._host.is_self(address) and self.roster.add(address, source, told_by):
                self.torrent.hopes()
        self.dial_due()

    def dial_due(self) -> None:
        """Dials whom the roster finds due, as far as there is room."""
        if self._nursery is None or self._scope.cancel_called:
            return
        self._dialling.dial_due(self._nursery)

    def makes_room(self, now: float) -> bool:
        """Takes the slot of somebody who has to leave, if there is somebody to be dialled for it."""
        wanted = self.fetch is not None and self.roster.anybody_due(now)
        return wanted and self._host.connection_slots.take_over(self, "")

    def reached(self, transport: PeerTransport, handshake: Handshake, address: Address) -> None:
        """Whom we dialled: takes the transport and the slot over, or raises `HandshakeError`."""
        self._refuse_double(handshake, address, outbound=True)
        self.roster.connected(address, trio.current_time())
        self._start(transport, handshake, outbound=True)

    async def _serve(self, peer: Peer) -> None:
        try:
            await self._host.supervisor.contain(
                f"peer {peer.address}",
                peer.run,
                partial(self._peer_failed, peer),
                remedy="the connection is closed",
            )
        finally:
            self._forget(peer)

    def _peer_failed(self, peer: Peer, error: Exception) -> None:
        if isinstance(error, BadBlock):
            self._ban(peer.address.host, error.piece)
        # While files are being moved a read may miss them: the peer comes back, the torrent is fine.
        if isinstance(error, TorrentError) and self.torrent.state is not State.MOVING:
            self.fail(error)

    def _forget(self, peer: Peer) -> None:
        now = trio.current_time()
        peer.transport.close()
        self.peers.discard(peer)
        self.extensions.left(peer)
        self._host.connection_slots.give_back()
        if peer.useful:
            self._useful = True
            self.torrent.hopes()
        if self.fetch is not None:
            self.fetch.peer_left(peer)
        useless = self.torrent.complete and is_done(peer)
        if peer.outbound:
            if useless:
                self.roster.useless(peer.address, now)
            else:
                self.roster.left(peer.address, now, useful=peer.useful)
        elif self.public and peer.listens_on is not None and not (useless and self.torrent.whole):
            # of a private torrent its trackers alone say who is to be dialled (BEP 27)
            new = self.roster.add(peer.listens_on, Source.INCOMING)
            if new and useless:
                # until other files are wanted
                self.roster.useless(peer.listens_on, now)
        self._idle_since = now
        if not self.peers:
            self.alone_since = now
        if not peer.am_choking:
            self._host.slots_wanted()

    def limits_changed(self) -> None:
        """Its rates or its room: who is too many leaves, who may be asked for more is."""
        self.download_throttle, self.upload_throttle = self._host.rate_limits(self.torrent)
        now = trio.current_time()
        staying = sorted(self.peers, key=lambda peer: (peer.useful, peer.down.rate(now) + peer.up.rate(now)))
        for peer in staying[: max(0, len(staying) - self.peers_at_most)]:
            peer.close()
        for peer in self.peers:
            peer.pipeline.set_limit(self.download_throttle.rate_per_s)
            if self.upload_throttle.stopped:
                peer.set_choking(True, now)
        if self.fetch is not None:
            self.fetch.refill_all()
        self.slots_wanted()

    def fail(self, error: Exception) -> None:
        """The torrent cannot go on."""
        self._host.torrent_failed(self.torrent, error)

    # -- what peers tell and are told -----------------------------------------------------------------------

    def met_done(self, peer: Peer) -> None:
        """The peer has everything, or all that it wants."""
        self._part_if_done(peer)

    def _part_if_done(self, peer: Peer) -> None:
        """Two that want nothing have nothing to say to each other."""
        if self.torrent.complete and is_done(peer):
            peer.close()

    def prioritize(self, bands: bytes | None) -> None:
        """Pieces are wanted sooner or later than before (`policy.selection`)."""
        if self.fetch is not None:
            self.fetch.picker.prioritize(bands)

    def set_sequential(self, sequential: bool) -> None:
        """Whether pieces are fetched in their order."""
        if self.fetch is not None:
            self.fetch.picker.sequential = sequential

    def slots_wanted(self) -> None:
        self._host.slots_wanted()

    def slot_asked(self) -> None:
        self._host.slot_asked()

    def serves(self, index: int) -> bool:
        """Do we have that piece, verified and written?"""
        have = self.torrent.have
        return self.torrent.whole if have is None else have[index]

    def fast_for(self, peer: Peer) -> Container[int]:
        """Pieces that the peer may have while it is choked (BEP 6)."""
        if not peer.fast or peer.bits.count >= ALLOWED_FAST_BELOW:
            return ()
        return self._fast_offer(peer)

    def _fast_offer(self, peer: Peer) -> list[int]:
        if not peer.fast or self.upload_throttle.stopped:
            return []
        offer = allowed_fast_set(self.torrent.info_hash, peer.address.host, self.layout.piece_count)
        return [index for index in offer if self.serves(index)]

    def received(self, payload_bytes: int, now: float) -> None:
        self._host.moved_bytes(self.torrent, down=payload_bytes, up=0, now=now)

    def sent(self, payload_bytes: int, now: float) -> None:
        self._host.moved_bytes(self.torrent, down=0, up=payload_bytes, now=now)

    def wasted(self, payload_bytes: int) -> None:
        self.wasted_bytes += payload_bytes

    # -- what fetching tells --------------------------------------------------------------------------------

    def piece_written(self, index: int, storage: Storage) -> None:
        self._host.piece_written(self.torrent, index, storage, self.layout.files_of_piece(index))

    def span_written(self, index: int, storage: Storage) -> None:
        self._host.bytes_written(self.torrent, storage, self.layout.files_of_piece(index))

    def piece_poisoned(self, index: int, contributors: set[Peer]) -> None:
        """Nobody else may be hurt by bad data: its only contributor is banned, several are watched one by one."""
        self.torrent.record.corrupt_bytes += self.storage.layout.piece_size(index)
        if len(contributors) > 1:
            for peer in contributors:
                self.roster.parole(peer.address)
            return
        for peer in contributors:
            self._ban(peer.address.host, index)

    def _ban(self, host: str, index: int) -> None:
        self.roster.ban(host)
        banned = self.torrent.banned = self.torrent.banned or {}
        banned[host] = None
        if len(banned) > BANS_REMEMBERED:
            del banned[next(iter(banned))]
        self._host.peer_banned(self.torrent, host, index)
        for other in self.peers:
            if other.address.host == host:
                other.close()

    # -- once a second --------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Timeouts of the peers, dials that have become due."""
        if self._part_at is not None and now >= self._part_at:
            self._part_at = None
            for peer in self.peers:
                self._part_if_done(peer)
        for peer in list(self.peers):
            try:
                peer.tick(now)
            except PeerError:
                peer.close()
        self.extensions.tick(now)
        if self.fetch is not None:
            self.fetch.refill_all()
            self.fetch.give_up_stalled(now)
            few = len(self.peers) < HUNGRY_BELOW_PEERS and not self._dialling.under_way
            if few and not self.roster.anybody_due(now):
                self._host.hungry(self.torrent)
        self.dial_due()
