"""The daemon: puts the floors together, in the nurseries that decide who outlives whom.

    root
    ├─ signals, watchdog
    ├─ FOUNDATION   the engine's (disk, flusher, datagrams), and the hooks
    └─ ABOVE        the rest of the engine, the watcher, the control server: cancelled first

Shutdown is that tree read from the bottom: stop taking in, end the swarms, say goodbye to the trackers
under a deadline, drain the disk, write the last records, exit 0.
"""

import gc
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from bittern import __version__
from bittern.control.stream import Stream
from bittern.daemon.chronicle import Chronicle
from bittern.daemon.config import Config, changes, default_config, load_config
from bittern.daemon.config_rules import remarks
from bittern.daemon.descendants import adopt_orphans
from bittern.daemon.hooks import HookRunner
from bittern.daemon.inheritance import inherited
from bittern.daemon.logs import get_log, held, setup_logs
from bittern.daemon.notify import Notifier
from bittern.daemon.overrides import Overrides
from bittern.daemon.pulse import DISK_S, NETWORK_S, WATCHER_S, Pulse, Station
from bittern.daemon.scheduling import Scheduler
from bittern.daemon.signals import HEARD
from bittern.daemon.slack import Slack, keep_one_heap
from bittern.disk.places import SENTINEL
from bittern.engine.assembly import Engine, assembled
from bittern.engine.beats import next_beat
from bittern.engine.events import Added, Arrived, Completed, Event, Warned
from bittern.engine.session import Session
from bittern.engine.supervision import Supervisor, widest
from bittern.errors import ConfigError, DaemonError
from bittern.net.listener import BIND_RETRY_MOST_S

if TYPE_CHECKING:
    from bittern.daemon.controlling import Control
    from bittern.daemon.receipts import Receipts
    from bittern.daemon.watch import Watcher

EX_CONFIG = 78

FIRST_SERVED = 256
"""Records that are read before anything else begins: some hundredths of a second, in which those are let in who waited
through the start.
"""

FAILING_SHOWN = 5
"""Services in one line for systemd; each watched folder is one."""

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
    keep_one_heap()
    status = 0
    try:
        with held() as tell:
            main = Daemon(config, config_path, log_format, early).main
            trio.run(main, instruments=[_TellsEachTurn(tell)])
    except* DaemonError as group:
        log.error("daemon.refuses", reason=str(widest(group)))
        status = EX_CONFIG
    return status


class _TellsEachTurn(trio.abc.Instrument):
    """What happened in a turn of the loop is in the log before the loop waits."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell = tell

    def before_io_wait(self, timeout: float) -> None:
        self._tell()


def _collect_less() -> None:
    """What lives here is either gone at once, without cycles, or stays for hours (records, lists of files): looking
    for garbage after each 700 new objects would walk the latter again and again. (Until here it was not looked for.)
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


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
        self._chronicle = Chronicle(log.bind(), self._stream.tell)
        self._slack = Slack()
        self._stopping = trio.Event()
        self._reload_wanted = trio.Event()
        self._known = 0
        """Torrents, as far as records are read."""
        self._first_served = trio.Event()
        """Peers that came before anything was known have what they came for."""
        self._ready = trio.Event()
        self._loaded = False
        self._control: Control | None = None
        self._receipts: Receipts | None = None
        self._watcher: Watcher | None = None

    async def main(self) -> None:
        """Runs until a signal; raises `DaemonError` when it refuses to."""
        async with assembled(
            self._config.engine(),
            self._tell,
            taken=self._port_is_taken,
            inherited=inherited,
            listening=self._notifier.keep,
        ) as engine:
            await self._run(engine)
        log.info("daemon.stopped")

    async def _run(self, engine: Engine) -> None:
        config, session, supervisor = self._config, engine.session, engine.supervisor
        self._supervisor = supervisor
        adopt_orphans()
        hooks = HookRunner(
            config, Path(config.paths.state), http=engine.http, supervisor=supervisor, rng=engine.rng
        )
        self._hooks = hooks
        hooks.bind(session)
        _remark(config)
        overrides = Overrides(Path(config.paths.state))
        unfit = overrides.load(config.engine())
        if unfit:
            log.warning("overrides.unfit", error=unfit)
        self._scheduler = Scheduler(config, session, overrides)
        if overrides.values:
            session.apply(self._scheduler.settings())
            log.info("overrides.loaded", **overrides.values)
        session.seeding.awaits_delivery = True
        session.lifecycle.asked_for = self._asked_for

        async with trio.open_nursery() as root:
            await root.start(self._heed_signals)
            root.start_soon(self._serve_reloads, supervisor)
            async with trio.open_nursery() as foundation:
                await engine.lay(foundation)
                await foundation.start(hooks.run)
                async with trio.open_nursery() as above:
                    await engine.start(above)
                    serve = partial(supervisor.serve, dispensable=True)
                    await above.start(serve, "schedule", self._scheduler.run)
                    above.start_soon(self._open_doors, above, foundation, engine)
                    await self._stopping.wait()
                    self._notifier.stopping()
                    log.info("daemon.stopping")
                    session.lifecycle.stop()
                    above.cancel_scope.cancel()
                await engine.take_leave(hooks.stop)
                foundation.cancel_scope.cancel()
            root.cancel_scope.cancel()

    async def _open_doors(self, above: trio.Nursery, foundation: trio.Nursery, engine: Engine) -> None:
        """Listening first, then the records; readiness is told when all of it is true."""
        session = engine.session
        self._notifier.extend_timeout(60)
        await engine.listen(above, foundation)
        async with trio.open_nursery() as opening:
            opening.start_soon(self._watch_folders, above, engine)
            await session.load(self._loading, self._ready.wait)
        assert self._watcher is not None
        assert self._receipts is not None
        self._watcher.poke()
        for event in session.undelivered():
            self._hooks.submit(event)
        await above.start(partial(engine.supervisor.serve, dispensable=True), "receipts", self._receipts.run)
        self._loaded = True
        self._notifier.ready()
        if self._config.control.enabled or self._config.web.enabled:
            from bittern.daemon.controlling import Control

            self._control = Control(
                session,
                engine.supervisor,
                self._stream,
                config=self._config,
                port=engine.port,
                version=__version__,
                scheduler=self._scheduler,
            )
            above.start_soon(self._control.run)
        above.start_soon(self._report_status, session)
        above.start_soon(self._slack.run)
        above.start_soon(self._feed_watchdog, engine, self._watcher)

    async def _watch_folders(self, above: trio.Nursery, engine: Engine) -> None:
        """While records are read: to import it takes a tenth of the start, and a folder may hang."""
        await self._first_served.wait()
        from bittern.daemon.receipts import Receipts
        from bittern.daemon.watch import Watcher

        session, supervisor = engine.session, engine.supervisor
        receipts = self._receipts = Receipts(self._config, session, supervisor)
        session.heard = receipts.changed
        watcher = self._watcher = Watcher(
            self._config,
            session,
            supervisor,
            tell_hooks=self._hooks.refused,
            receipts=receipts,
            chronicle=self._chronicle,
        )
        await above.start(partial(supervisor.serve, dispensable=True), "watcher", watcher.run)
        log.info(
            "daemon.ready",
            port=engine.port,
            udp_port=engine.udp.port,
            version=__version__,
            **self._folders(),
        )
        self._ready.set()

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
        if done >= FIRST_SERVED or done == self._known:
            # whoever waited for a torrent was let in after one of the slices before; or that was all
            self._first_served.set()
        self._known = done
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
        if self._receipts is not None:
            self._receipts.noted(event)

    def _asked_for(self, event: Added | Arrived | Completed) -> bool:
        """As the hooks say; a bug of theirs is not the torrent's, whose record then keeps the event."""
        asked = True

        def ask() -> None:
            nonlocal asked
            asked = self._hooks.asks_for(event)

        self._supervisor.guard("hooks", ask, lambda _: None, remedy="it stays on record until hooks have it")
        return asked

    async def _report_status(self, session: Session) -> None:
        while True:
            counts = session.counts()
            failing = _in_short(sorted(self._supervisor.resting))
            self._notifier.status(
                f"{counts.torrents} torrents, {_waiting(counts.metadata)}{counts.downloading} downloading, "
                f"{counts.complete} complete, "
                f"{counts.errors} in error, "
                + (f"{counts.held} held for want of room, " if counts.held else "")
                + (f"{counts.offline} offline, " if counts.offline else "")
                + f"{counts.peers} peers, "
                f"down {counts.download_rate / 1e6:.1f} MB/s, up {counts.upload_rate / 1e6:.1f} MB/s"
                + (f"; failing: {failing}" if failing else "")
            )
            await next_beat(10)

    async def _feed_watchdog(self, engine: Engine, watcher: "Watcher") -> None:
        """While the engine beats, and beats come back from watcher, disk and network."""
        interval = self._notifier.watchdog_interval_s
        if interval is None:
            return
        pulse = Pulse(
            [
                Station("watcher", watcher.pulse, WATCHER_S),
                Station("disk", engine.pass_disk, DISK_S),
                Station("network", engine.pass_network, NETWORK_S),
            ]
        )
        told = False
        async with trio.open_nursery() as nursery:
            await nursery.start(pulse.run)
            while True:
                stuck = pulse.stuck()
                if trio.current_time() - engine.session.heartbeat.last_beat_at >= interval:
                    stuck.append("engine")
                if not stuck:
                    self._notifier.watchdog()
                elif not told:
                    log.error("daemon.stuck", where=stuck, remedy="systemd starts it again")
                told = bool(stuck)
                await next_beat(interval / 3)

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

    async def _serve_reloads(self, supervisor: Supervisor) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted = trio.Event()
            await self._reload(supervisor)
            if self._watcher is not None:
                self._watcher.poke()

    async def _reload(self, supervisor: Supervisor) -> None:
        """Tells systemd that a reload is under way, and its end."""
        if self._loaded:
            self._notifier.reloading()
        try:
            await supervisor.contain(
                "reload of the configuration",
                self._take_up,
                lambda error: log.error(
                    "config.rejected", path=str(self._path), faults=[f"a bug: {error!r}"]
                ),
                remedy="what was in force stays so",
            )
        finally:
            if self._loaded:
                self._notifier.ready()

    async def _take_up(self) -> None:
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
        self._chronicle.log = log.bind()
        self._scheduler.apply(config)
        if self._watcher is not None:
            self._watcher.apply(config)
        self._hooks.apply(config)
        if self._receipts is not None:
            self._receipts.apply(config)
        if self._control is not None:
            self._control.apply(config)
        self._config = config
        log.info("config.reloaded", path=str(self._path), changed=live, needs_restart=restart)
        _remark(config)


def _remark(config: Config) -> None:
    for remark in remarks(config):
        log.info("config.remark", remark=remark)


def _in_short(names: list[str]) -> str:
    more = len(names) - FAILING_SHOWN
    return ", ".join(names[:FAILING_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _waiting(for_metadata: int) -> str:
    return f"{for_metadata} waiting for metadata, " if for_metadata else ""
