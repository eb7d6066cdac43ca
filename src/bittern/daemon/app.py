"""The daemon: puts the floors together, in the nurseries that decide who outlives whom.

    root
    ├─ signals, watchdog
    ├─ FOUNDATION   disk, flusher, hooks, datagrams: outlive the engine, so that the last pieces and states reach the
    │               disk, and `stopped` the trackers
    └─ ENGINE       listener, watcher, swarms, checker, announcer, ...: cancelled first

Shutdown is that tree read from the bottom: stop taking in, end the swarms, say goodbye to the trackers
under a deadline, drain the disk, write the last records, exit 0.
"""

import gc
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import trio

from bittern import __version__
from bittern.control.stream import Stream
from bittern.daemon.chronicle import Chronicle
from bittern.daemon.config import Config, changes, default_config, load_config
from bittern.daemon.config_rules import parse_endpoint
from bittern.daemon.controlling import Control
from bittern.daemon.hooks import HookRunner
from bittern.daemon.inheritance import inherited
from bittern.daemon.logs import get_log, setup_logs
from bittern.daemon.notify import Notifier
from bittern.daemon.scheduling import Scheduler
from bittern.daemon.signals import HEARD
from bittern.daemon.slack import Slack
from bittern.daemon.watch import Watcher
from bittern.discovery.announcer import Announcer
from bittern.discovery.dht import Dht
from bittern.discovery.families import HttpFamilies
from bittern.discovery.lsd import Lsd
from bittern.discovery.udp_trackers import UdpTrackers
from bittern.disk.buffers import PieceBuffers
from bittern.disk.disk import Disk
from bittern.disk.files import OpenFiles
from bittern.disk.places import SENTINEL
from bittern.engine.events import Event, Listening, Warned
from bittern.engine.session import Session
from bittern.engine.store import Store
from bittern.engine.supervision import Supervisor, widest
from bittern.errors import ConfigError, DaemonError
from bittern.net.dialer import Dialer
from bittern.net.http import HttpClient, trusted_authorities
from bittern.net.listener import BIND_RETRY_MOST_S, Listener
from bittern.net.names import Names
from bittern.net.scope import DialScope
from bittern.net.udp import Udp
from bittern.proto.handshake import make_peer_id

EX_CONFIG = 78
FAREWELL_S = 3.0
"""How long trackers may take to hear `stopped`; with hooks' 5 s this stays below the 10 s that a stop may
take."""

log = get_log()


def run(config_path: Path | None, log_format: str | None, early: list[int]) -> int:
    """The whole life of the daemon; gives the exit status. `early` are signals that came before it."""
    try:
        config = load_config(config_path) if config_path is not None else default_config(Path.cwd())
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 — the log is not set up yet
        return EX_CONFIG
    if config_path is None:
        drop, downloads = config.watch[0].folder, config.paths.downloads
        # Only these built-in folders are made: a configured one that is away may be a disk that is not mounted.
        try:
            if not Path(downloads).is_dir():
                Path(downloads).mkdir(parents=True)
                # whoever deleted it meant to begin anew: this is no mountpoint
                Path(downloads, SENTINEL).touch()
        except OSError as error:
            print(f"{downloads}: cannot be made ({error.strerror}); run bittern elsewhere", file=sys.stderr)  # noqa: T201 — nor here
            return EX_CONFIG
        # A program that reads JSON finds both in `daemon.ready`, and nothing but JSON on standard output.
        told_on = sys.stderr if log_format == "json" else sys.stdout
        print(f"Drop a .torrent into  {drop}\nFiles appear in       {downloads}", file=told_on, flush=True)
    setup_logs(config.log.level, log_format or config.log.format)
    _collect_less()
    status = 0
    try:
        trio.run(Daemon(config, config_path, log_format, early).main)
    except* DaemonError as group:
        log.error("daemon.refuses", reason=str(widest(group)))
        status = EX_CONFIG
    return status


def _collect_less() -> None:
    """What lives here is either gone at once, without cycles, or stays for hours (records, lists of files): looking
    for garbage after each 700 new objects would walk the latter again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class Daemon:
    """One run of the daemon."""

    def __init__(
        self, config: Config, config_path: Path | None, log_format: str | None, early: list[int]
    ) -> None:
        self._config = config
        self._path = config_path
        self._log_format = log_format
        self._early = early
        self._notifier = Notifier()
        self._stream = Stream()
        self._chronicle = Chronicle(log, self._stream.tell)
        self._slack = Slack()
        self._stopping = trio.Event()
        self._reload_wanted = trio.Event()
        self._loaded = False
        self._control: Control | None = None

    async def main(self) -> None:
        """Runs until a signal; raises `DaemonError` when it refuses to."""
        store = Store(str(self._config.paths.state))
        files = OpenFiles(self._config.limits.open_files)
        try:
            scope = DialScope(
                this_host=self._config.network.dial_scope == "this-host", own=self._config.network.listen
            )
            listen = self._config.network.listen
            trusted = trusted_authorities()
            async with (
                HttpClient(scope=scope, verify=trusted) as http,
                HttpClient(scope=scope, verify=trusted, local_address="0.0.0.0") as v4,  # noqa: S104 — from any of ours
                HttpClient(scope=scope, verify=trusted, local_address="::") as v6,
            ):
                names = Names(scope=scope)
                trackers = HttpFamilies(
                    http,
                    names,
                    v4=v4 if any(":" not in address for address in listen) else None,
                    v6=v6 if any(":" in address for address in listen) else None,
                )
                await self._run(store, files, http, trackers, names, scope)
        finally:
            files.close_all()
            store.close()
        log.info("daemon.stopped")

    async def _run(
        self,
        store: Store,
        files: OpenFiles,
        http: HttpClient,
        trackers: HttpFamilies,
        names: Names,
        scope: DialScope,
    ) -> None:
        config = self._config
        rng = random.Random(int.from_bytes(os.urandom(16)))
        peer_id = make_peer_id(rng, __version__)
        supervisor = self._supervisor = Supervisor(self._tell)
        buffers = PieceBuffers(int(config.limits.piece_memory))
        disk = Disk(buffers)
        hooks = HookRunner(config, Path(config.paths.state), http=http, supervisor=supervisor, rng=rng)
        self._hooks = hooks
        udp_port = config.engine().udp_port
        udp = Udp(
            config.network.listen,
            lambda: listener.port if udp_port is None else udp_port,
            taken=lambda reason: self._tell(Warned(what="listen.failed", detail=reason)),
            or_any=config.network.port == 0 and udp_port is None,
            scope=scope,
            guard=lambda body, settle: supervisor.guard(
                "datagrams", body, settle, remedy="the datagram is left out"
            ),
        )
        announcer = Announcer(
            trackers,
            # answers are told from forgeries by numbers that nobody can foresee
            udp=UdpTrackers(udp, names, random.SystemRandom()),
            peer_id=peer_id,
            port=lambda: listener.port,
            numwant=config.network.numwant,
            rng=rng,
            guard=lambda body, where: supervisor.contain(
                where, body, lambda _: None, remedy="the tracker is asked again later"
            ),
        )
        dht = self._dht(config, udp, names, supervisor, lambda: listener.port)
        lsd = self._lsd(config, supervisor, lambda: listener.port)
        session = Session(
            config.engine(),
            store=store,
            disk=disk,
            buffers=buffers,
            files=files,
            announcer=announcer,
            dialer=Dialer(scope=scope),
            supervisor=supervisor,
            sink=self._tell,
            peer_id=peer_id,
            client_name=f"bittern {__version__}",
            rng=rng,
            listening_port=lambda: listener.port,
            dht=dht,
            names=names,
            lsd=lsd,
        )
        listener = Listener(
            config.network.listen,
            config.network.port,
            session.early.introduce,
            taken=self._port_is_taken,
            inherited=inherited(),
            listening=self._notifier.keep,
        )
        watcher = Watcher(config, session, supervisor)
        hooks.bind(session)
        self._scheduler = Scheduler(config, session)
        session.seeding.awaits_delivery = True

        async with trio.open_nursery() as root:
            await root.start(self._heed_signals)
            root.start_soon(self._serve_reloads, session, watcher, supervisor)
            async with trio.open_nursery() as foundation:
                for service in (disk.run, session.flusher.run, hooks.run):
                    await foundation.start(service)
                async with trio.open_nursery() as engine:

                    async def serve(name: str, service: Callable[..., Awaitable[None]]) -> object:
                        return await engine.start(supervisor.serve, name, service)

                    for name, service in (
                        ("swarms", session.swarms.run),
                        ("lifecycle", session.lifecycle.run),
                        ("checker", session.checker.run),
                        ("announcer", announcer.run),
                        ("choking", session.choking.run),
                        ("heartbeat", session.heartbeat.run),
                        ("scrub", session.scrubber.run),
                        ("seeding", session.seeding.run),
                        ("guard", session.guard.run),
                        ("queue", session.queue.run),
                        ("schedule", self._scheduler.run),
                    ):
                        await serve(name, service)
                    # datagrams outlast the engine: trackers are told goodbye in them
                    engine.start_soon(
                        self._open_doors,
                        engine,
                        foundation,
                        supervisor,
                        session,
                        listener,
                        udp,
                        dht,
                        lsd,
                        watcher,
                    )
                    await self._stopping.wait()
                    self._notifier.stopping()
                    log.info("daemon.stopping")
                    session.lifecycle.stop()
                    engine.cancel_scope.cancel()
                async with trio.open_nursery() as last:
                    last.start_soon(announcer.farewell, FAREWELL_S)
                    last.start_soon(hooks.stop)
                    if dht is not None:
                        last.start_soon(dht.save)
                    await disk.drain()
                    session.close()
                    await session.seeding.save()
                    await session.flusher.flush_dirty()
                await session.flusher.flush_dirty()
                foundation.cancel_scope.cancel()
            root.cancel_scope.cancel()

    def _dht(
        self, config: Config, udp: Udp, names: Names, supervisor: Supervisor, port: Callable[[], int]
    ) -> Dht | None:
        if not config.network.dht:
            return None
        families = {6 if ":" in address else 4 for address in config.network.listen}
        routers = map(parse_endpoint, config.network.dht_bootstrap)
        return Dht(
            udp,
            names,
            families=sorted(families),
            port=port,
            routers=[router for router in routers if router is not None],
            state=Path(config.paths.state) / "dht.toml",
            rng=random.SystemRandom(),
            guard=lambda body, where: supervisor.contain(
                where, body, lambda _: None, remedy="others introduce us to the DHT"
            ),
        )

    def _lsd(self, config: Config, supervisor: Supervisor, port: Callable[[], int]) -> Lsd | None:
        if not config.network.lsd:
            return None
        return Lsd(
            config.network.listen,
            port,
            rng=random.SystemRandom(),
            taken=lambda reason: self._tell(Warned(what="lsd.failed", detail=reason)),
            this_host=config.network.dial_scope == "this-host",
            guard=lambda body, settle: supervisor.guard(
                "local discovery", body, settle, remedy="the datagram is left out"
            ),
        )

    async def _open_doors(
        self,
        engine: trio.Nursery,
        foundation: trio.Nursery,
        supervisor: Supervisor,
        session: Session,
        listener: Listener,
        udp: Udp,
        dht: Dht | None,
        lsd: Lsd | None,
        watcher: Watcher,
    ) -> None:
        """Listening and watching first, then the records; readiness is told when all of it is true."""
        self._notifier.extend_timeout(60)
        port = await engine.start(supervisor.serve, "listener", listener.run)
        self._tell(Listening(port=port, addresses=self._config.network.listen))
        await foundation.start(supervisor.serve, "datagrams", udp.run)
        if dht is not None:
            await engine.start(supervisor.serve, "dht", dht.run)
        if lsd is not None:
            await engine.start(supervisor.serve, "lsd", lsd.run)
        await engine.start(supervisor.serve, "watcher", watcher.run)
        log.info("daemon.ready", port=port, udp_port=udp.port, version=__version__, **self._folders())
        await session.load(self._loading)
        watcher.poke()
        for completed in session.undelivered():
            self._hooks.submit(completed)
        self._loaded = True
        self._notifier.ready()
        if self._config.control.enabled or self._config.web.enabled:
            self._control = Control(
                session, supervisor, self._stream, config=self._config, port=port, version=__version__
            )
            engine.start_soon(self._control.run)
        engine.start_soon(self._report_status, session)
        engine.start_soon(self._slack.run)
        engine.start_soon(self._feed_watchdog, session)

    def _port_is_taken(self, reason: str) -> None:
        """The start takes as long as that lasts: systemd must not lose its patience meanwhile."""
        self._notifier.extend_timeout(BIND_RETRY_MOST_S + 30)
        self._notifier.status(reason)
        self._tell(Warned(what="listen.failed", detail=reason))

    def _folders(self) -> dict[str, object]:
        watch = [str(one.folder) for one in self._config.watch]
        return {
            "watch": watch,
            "downloads": str(self._config.paths.downloads),
            "state": str(self._config.paths.state),
        }

    def _loading(self, done: int, of: int) -> None:
        self._notifier.extend_timeout(30)
        self._notifier.status(f"loading: {done} of {of} torrents")

    def _tell(self, event: Event) -> None:
        """The engine's sink."""
        self._chronicle.write(event)
        self._slack.noted(event)
        self._supervisor.guard(
            "hooks",
            partial(self._hooks.submit, event),
            lambda _: None,
            remedy="no hook is told of that event",
        )

    async def _report_status(self, session: Session) -> None:
        while True:
            counts = session.counts()
            self._notifier.status(
                f"{counts.torrents} torrents, {_waiting(counts.metadata)}{counts.downloading} downloading, "
                f"{counts.complete} complete, "
                f"{counts.errors} in error, "
                + (f"{counts.held} held for want of room, " if counts.held else "")
                + (f"{counts.offline} offline, " if counts.offline else "")
                + f"{counts.peers} peers, "
                f"down {counts.download_rate / 1e6:.1f} MB/s, up {counts.upload_rate / 1e6:.1f} MB/s"
            )
            await trio.sleep(10)

    async def _feed_watchdog(self, session: Session) -> None:
        """Alive means that the heartbeat was seen lately and a disk thread answers."""
        interval = self._notifier.watchdog_interval_s
        if interval is None:
            return
        while True:
            await trio.sleep(interval / 3)
            with trio.move_on_after(interval):
                await trio.to_thread.run_sync(lambda: None)
                if trio.current_time() - session.heartbeat.last_beat_at < interval:
                    self._notifier.watchdog()

    async def _heed_signals(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Never waits for anything but the next signal: whatever else hangs, a stop is heard."""
        with trio.open_signal_receiver(*HEARD) as received:
            task_status.started()
            for number in self._early:
                self._heed(number)
            async for number in received:
                self._heed(number)

    def _heed(self, number: int) -> None:
        if number == signal.SIGHUP:
            self._reload_wanted.set()
        elif self._stopping.is_set():
            log.warning("daemon.killed", reason="a second signal: not waiting for an orderly end")
            os._exit(1)
        else:
            self._stopping.set()

    async def _serve_reloads(self, session: Session, watcher: Watcher, supervisor: Supervisor) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted = trio.Event()
            await self._reload(session, watcher, supervisor)
            watcher.poke()

    async def _reload(self, session: Session, watcher: Watcher, supervisor: Supervisor) -> None:
        """Tells systemd that a reload is under way, and its end."""
        if self._loaded:
            self._notifier.reloading()
        try:
            await supervisor.contain(
                "reload of the configuration",
                partial(self._take_up, session, watcher),
                lambda error: log.error(
                    "config.rejected", path=str(self._path), faults=[f"a bug: {error!r}"]
                ),
                remedy="what was in force stays so",
            )
        finally:
            if self._loaded:
                self._notifier.ready()

    async def _take_up(self, session: Session, watcher: Watcher) -> None:
        """Prepare (may fail, touches nothing), then apply in one synchronous step."""
        if self._path is None:
            return
        try:
            config = await trio.to_thread.run_sync(load_config, self._path, abandon_on_cancel=True)
        except ConfigError as error:
            log.error("config.rejected", path=str(self._path), faults=list(error.faults))
            return
        live, restart = changes(self._config, config)
        setup_logs(config.log.level, self._log_format or config.log.format)
        self._scheduler.apply(config)
        watcher.apply(config)
        self._hooks.apply(config)
        if self._control is not None:
            self._control.apply(config)
        self._config = config
        log.info("config.reloaded", path=str(self._path), changed=live, needs_restart=restart)


def _waiting(for_metadata: int) -> str:
    return f"{for_metadata} waiting for metadata, " if for_metadata else ""
