"""A whole engine in the test's process: real disk, real sockets on loopback, no tracker."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio

from bittern.discovery.announcer import Announcer
from bittern.disk.buffers import PieceBuffers
from bittern.disk.disk import Disk
from bittern.disk.files import OpenFiles
from bittern.engine.events import Crashed, Event, Sink
from bittern.engine.gathering import HELD_AT_MOST
from bittern.engine.session import Session
from bittern.engine.settings import Settings
from bittern.engine.store import Store
from bittern.engine.supervision import Supervisor
from bittern.errors import TrackerError
from bittern.net.dialer import Dialer
from bittern.net.http import HttpResponse
from bittern.net.listener import Listener
from bittern.net.names import Names
from bittern.net.scope import DialScope
from bittern.policy.add_terms import AddTerms
from bittern.proto.handshake import make_peer_id
from bittern.terms import Address
from tests.fakes.inline_disk import InlineDisk
from tests.fakes.torrents import Made

E = TypeVar("E")


class NoHttp:
    """Every tracker is down."""

    async def get(self, url: str, *, max_bytes: int, deadline_s: float) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        raise TrackerError("cannot be reached")


class Witness(Supervisor):
    """Remembers each bug, also those that are only counted, but not its traceback, which holds all it went through."""

    def __init__(self, sink: Sink, *, strict: bool) -> None:
        super().__init__(sink, strict=strict)
        self.bugs: list[Crashed] = []

    def report(self, where: str, error: BaseException, remedy: str, *, last: bool = False) -> None:
        self.bugs.append(Crashed(where=where, exception=Exception(repr(error)), remedy=remedy))
        super().report(where, error, remedy, last=last)


class Engine:
    """`events` is all that the engine told; `folder/downloads` is where data goes."""

    def __init__(
        self,
        folder: Path,
        *,
        strict: bool = True,
        dialer: Dialer | None = None,
        also: Sink | None = None,
        dht: Any = None,
        **settings: Any,
    ) -> None:
        self.folder = folder
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True, exist_ok=True)
        self.settings = Settings(
            state=str(folder / "state"),
            downloads=str(self.downloads),
            listen=("127.0.0.1",),
            port=0,
            **settings,
        )
        self.events: list[Event] = []
        self._also = also
        self.supervisor = Witness(self._tell, strict=strict)
        self.store = Store(self.settings.state)
        self.buffers = PieceBuffers(self.settings.piece_memory)
        # with a dialer of the test's own time is virtual, which a thread would not see
        self.disk = Disk(self.buffers) if dialer is None else InlineDisk(self.buffers)
        self.files = OpenFiles(self.settings.open_files)
        rng = random.Random(7)
        self.peer_id = make_peer_id(random.Random(str(folder)), "0.1.0")
        announcer = Announcer(
            NoHttp(),
            peer_id=self.peer_id,
            port=lambda: 1,
            numwant=10,
            rng=rng,
            guard=lambda body, where: self.supervisor.contain(
                where, body, lambda _: None, remedy="the tracker is asked again later"
            ),
        )
        self.session = Session(
            self.settings,
            store=self.store,
            disk=self.disk,
            buffers=self.buffers,
            files=self.files,
            announcer=announcer,
            dialer=dialer or Dialer(),
            supervisor=self.supervisor,
            sink=self._tell,
            peer_id=self.peer_id,
            client_name="bittern test",
            rng=rng,
            listening_port=lambda: self.listener.port,
            dht=dht,
            names=Names(scope=DialScope(this_host=True, own=self.settings.listen)),
        )
        self.listener = Listener(
            self.settings.listen,
            0,
            self.session.early.introduce,
            taken=lambda reason: None,
            guard=lambda body, where: self.supervisor.contain(
                where, body, lambda _: None, remedy="the connection is closed"
            ),
        )

    def _tell(self, event: Event) -> None:
        self.events.append(event)
        if self._also is not None:
            self._also(event)

    @property
    def bugs(self) -> list[Crashed]:
        """All of them, told or counted."""
        return self.supervisor.bugs

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.listener.port)

    async def add(self, made: Made, **terms: Any) -> None:
        await self.session.add(made.blob, AddTerms(str(self.downloads), **terms))

    def told(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, kind: type[E], count: int = 1, timeout_s: float = 90) -> E:
        """The `count`-th event of that kind."""
        await self.until_true(lambda: len(self.told(kind)) >= count, f"{kind.__name__}", timeout_s)
        return self.told(kind)[count - 1]

    async def until_true(self, check: Callable[[], bool], what: str, timeout_s: float = 90) -> None:
        with trio.move_on_after(timeout_s):
            while not check():
                await trio.sleep(0.005)
            return
        raise AssertionError(f"{what}: not in {timeout_s} s; the engine told {self.events}")


@asynccontextmanager
async def running(
    folder: Path,
    *,
    strict: bool = True,
    dialer: Dialer | None = None,
    also: Sink | None = None,
    dht: Any = None,
    progress: Callable[[int, int], None] = lambda done, of: None,
    others: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
    **settings: Any,
) -> AsyncIterator[Engine]:
    """Runs an engine, stops it in order, and checks that nothing was left behind. `also` hears what it tells; for the
    others see `Loading.load`.
    """
    engine = Engine(folder, strict=strict, dialer=dialer, also=also, dht=dht, **settings)
    session = engine.session
    try:
        async with trio.open_nursery() as foundation:
            await foundation.start(engine.disk.run)
            await foundation.start(session.flusher.run)
            async with trio.open_nursery() as nursery:
                for service in (
                    session.swarms.run,
                    session.lifecycle.run,
                    session.checker.run,
                    session.announcer.run,
                    session.choking.run,
                    session.heartbeat.run,
                    session.scrubber.run,
                    session.seeding.run,
                    session.guard.run,
                    session.queue.run,
                    engine.listener.run,
                ):
                    await nursery.start(service)
                await session.load(progress, others)
                yield engine
                session.lifecycle.stop()
                nursery.cancel_scope.cancel()
            await engine.disk.drain()
            session.close()
            await session.seeding.save()
            await session.flusher.flush_dirty()
            foundation.cancel_scope.cancel()
        assert engine.buffers.in_use_bytes == 0, "a piece buffer was not given back"
        assert not session.swarms.live
        assert not session.swarms.seeking
        assert session.swarms.metadata_memory.left_bytes == HELD_AT_MOST, (
            "memory for metadata was not given back"
        )
        assert session.swarms.connection_slots.taken == 0, "a connection slot was not given back"
    finally:
        engine.files.close_all()
        engine.store.close()
