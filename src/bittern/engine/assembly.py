"""Puts an engine together for given settings, and knows in which order its parts begin and end.

    FOUNDATION   disk, flusher, datagrams: outlive the rest, so that the last pieces and states reach the disk, and
                 `stopped` the trackers
    above it     swarms, checker, announcer, listener, ...: cancelled first

Whoever runs it owns both nurseries: `lay` the foundation, `start` what stands on it, `listen`, let the session load. To
end it: `session.lifecycle.stop()`, cancel the upper nursery, `take_leave`, cancel the foundation.
"""

import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import trio

from bittern import __version__
from bittern.discovery.announcer import Announcer
from bittern.discovery.dht import Dht
from bittern.discovery.families import HttpFamilies
from bittern.discovery.lsd import Lsd
from bittern.discovery.udp_trackers import UdpTrackers
from bittern.disk.buffers import PieceBuffers
from bittern.disk.disk import Disk
from bittern.disk.files import OpenFiles
from bittern.engine.events import Listening, Sink, Warned
from bittern.engine.session import Session
from bittern.engine.settings import Settings
from bittern.engine.store import Store
from bittern.engine.supervision import Supervisor
from bittern.net.dialer import Dialer
from bittern.net.http import HttpClient
from bittern.net.listener import Listener
from bittern.net.names import Names
from bittern.net.scope import DialScope
from bittern.net.udp import Udp
from bittern.proto.endpoint import parse_endpoint
from bittern.proto.handshake import make_peer_id

FAREWELL_S: Final = 3.0
"""How long trackers may take to hear `stopped`; with hooks' 5 s this stays below the 10 s that a stop may
take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carriers:
    """What carries its questions to others over HTTP, and how far."""

    scope: DialScope
    http: HttpClient
    trackers: HttpFamilies
    names: Names


@asynccontextmanager
async def carriers(settings: Settings) -> AsyncIterator[Carriers]:
    """Open until left."""
    scope = DialScope(this_host=settings.dial_scope == "this-host", own=settings.listen)
    names = Names(scope=scope)
    client = partial(HttpClient, scope=scope)
    tracking = partial(client, names=names, wary=True)
    async with (
        client() as http,
        tracking() as either,
        tracking(local_address="0.0.0.0") as v4,  # noqa: S104 — from any of ours
        tracking(local_address="::") as v6,
    ):
        trackers = HttpFamilies(
            either,
            names,
            v4=v4 if any(":" not in address for address in settings.listen) else None,
            v6=v6 if any(":" in address for address in settings.listen) else None,
        )
        yield Carriers(scope=scope, http=http, trackers=trackers, names=names)


@asynccontextmanager
async def assembled(
    settings: Settings,
    sink: Sink,
    *,
    taken: Callable[[str], None] | None = None,
    inherited: Callable[[], Sequence[socket.socket]] = tuple,
    listening: Callable[[Sequence[socket.socket]], None] = lambda _: None,
) -> AsyncIterator["Engine"]:
    """An engine none of whose parts runs yet; `StateError` when its state folder cannot be used.

    `taken` is told why it cannot listen (else the sink is); `inherited` sockets listen already, and `listening` is told
    of all that do.
    """
    store = Store(settings.state)
    files = OpenFiles(settings.open_files)
    try:
        async with carriers(settings) as carried:
            yield Engine(
                settings,
                sink,
                carried,
                store=store,
                files=files,
                taken=taken,
                inherited=inherited(),
                listening=listening,
            )
    finally:
        files.close_all()
        store.close()


class Engine:
    """All parts of it."""

    def __init__(
        self,
        settings: Settings,
        sink: Sink,
        carried: Carriers,
        *,
        store: Store,
        files: OpenFiles,
        taken: Callable[[str], None] | None,
        inherited: Sequence[socket.socket],
        listening: Callable[[Sequence[socket.socket]], None],
    ) -> None:
        self._settings = settings
        self._sink = sink
        self.http = carried.http
        self.rng = random.Random(int.from_bytes(os.urandom(16)))
        self.supervisor = supervisor = Supervisor(sink)
        peer_id = make_peer_id(self.rng, __version__)
        buffers = PieceBuffers(settings.piece_memory)
        self._disk = Disk(buffers)
        self.udp = Udp(
            settings.listen,
            lambda: self.port if settings.udp_port is None else settings.udp_port,
            taken=lambda reason: sink(Warned(what="listen.failed", detail=reason)),
            or_any=settings.port == 0 and settings.udp_port is None,
            scope=carried.scope,
            guard=lambda body, settle: supervisor.guard(
                "datagrams", body, settle, remedy="the datagram is left out"
            ),
        )
        self._announcer = Announcer(
            carried.trackers,
            # answers are told from forgeries by numbers that nobody can foresee
            udp=UdpTrackers(self.udp, carried.names, random.SystemRandom()),
            peer_id=peer_id,
            port=lambda: self.port,
            numwant=settings.numwant,
            rng=self.rng,
            guard=lambda body, where: supervisor.contain(
                where, body, lambda _: None, remedy="the tracker is asked again later"
            ),
        )
        self._dht = self._make_dht(carried.names) if settings.dht else None
        self._lsd = self._make_lsd() if settings.lsd else None
        self.session = Session(
            settings,
            store=store,
            disk=self._disk,
            buffers=buffers,
            files=files,
            announcer=self._announcer,
            dialer=Dialer(scope=carried.scope),
            supervisor=supervisor,
            sink=sink,
            peer_id=peer_id,
            client_name=f"bittern {__version__}",
            rng=self.rng,
            listening_port=lambda: self.port,
            dht=self._dht,
            names=carried.names,
            lsd=self._lsd,
        )
        self._listener = Listener(
            settings.listen,
            settings.port,
            self.session.early.introduce,
            taken=taken or (lambda reason: sink(Warned(what="listen.failed", detail=reason))),
            inherited=inherited,
            listening=listening,
            guard=lambda body, where: supervisor.contain(
                where, body, lambda _: None, remedy="the connection is closed"
            ),
        )

    @property
    def port(self) -> int:
        """Where peers reach us; 0 before we listen."""
        return self._listener.port

    def _make_dht(self, names: Names) -> Dht:
        settings, supervisor = self._settings, self.supervisor
        families = {6 if ":" in address else 4 for address in settings.listen}
        routers = map(parse_endpoint, settings.dht_bootstrap)
        return Dht(
            self.udp,
            names,
            families=sorted(families),
            port=lambda: self.port,
            routers=[router for router in routers if router is not None],
            state=Path(settings.state) / "dht.toml",
            rng=random.SystemRandom(),
            guard=lambda body, where: supervisor.contain(
                where, body, lambda _: None, remedy="others introduce us to the DHT"
            ),
        )

    def _make_lsd(self) -> Lsd:
        settings, sink, supervisor = self._settings, self._sink, self.supervisor
        return Lsd(
            settings.listen,
            lambda: self.port,
            rng=random.SystemRandom(),
            taken=lambda reason: sink(Warned(what="lsd.failed", detail=reason)),
            this_host=settings.dial_scope == "this-host",
            guard=lambda body, settle: supervisor.guard(
                "local discovery", body, settle, remedy="the datagram is left out"
            ),
        )

    async def lay(self, foundation: trio.Nursery) -> None:
        """The foundation, but for datagrams."""
        await foundation.start(self._disk.run)
        await foundation.start(self.session.flusher.run)

    async def start(self, nursery: trio.Nursery) -> None:
        """What stands on it, but for what others reach us by."""
        session = self.session
        services: tuple[tuple[str, Callable[..., Awaitable[None]]], ...] = (
            ("swarms", session.swarms.run),
            ("lifecycle", session.lifecycle.run),
            ("checker", session.checker.run),
            ("announcer", self._announcer.run),
            ("choking", session.choking.run),
            ("heartbeat", session.heartbeat.run),
            ("scrub", session.scrubber.run),
            ("seeding", session.seeding.run),
            ("guard", session.guard.run),
            ("queue", session.queue.run),
        )
        for name, service in services:
            serve = partial(self.supervisor.serve, dispensable=name == "scrub")
            await nursery.start(serve, name, service)

    async def listen(self, nursery: trio.Nursery, foundation: trio.Nursery) -> None:
        """Peers, nodes and neighbours reach us when it returns, which waits as long as our port is taken."""
        serve = self.supervisor.serve
        await nursery.start(serve, "listener", self._listener.run)
        self._sink(Listening(port=self.port, addresses=self._settings.listen))
        # datagrams outlast the engine: trackers are told goodbye in them
        await foundation.start(serve, "datagrams", self.udp.run)
        if self._dht is not None:
            await nursery.start(partial(serve, dispensable=True), "dht", self._dht.run)
        if self._lsd is not None:
            await nursery.start(partial(serve, dispensable=True), "lsd", self._lsd.run)

    async def pass_disk(self) -> None:
        """Returns when the disk's threads come back."""
        await self._disk.pulse()

    async def pass_network(self) -> None:
        """Returns when the listening socket has answered us."""
        await self._listener.knock()

    async def take_leave(self, *others: Callable[[], Awaitable[None]]) -> None:
        """When nothing is taken in any more: trackers are told, and all is written. `others` take theirs meanwhile."""
        session = self.session
        async with trio.open_nursery() as last:
            last.start_soon(self._announcer.farewell, FAREWELL_S)
            for other in others:
                last.start_soon(other)
            if self._dht is not None:
                last.start_soon(self._dht.save)
            await self._disk.drain()
            session.close()
            await session.seeding.save()
            await session.flusher.flush_dirty()
        await session.flusher.flush_dirty()
        self.supervisor.tell_rest()
