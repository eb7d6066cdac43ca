"""The daemon as `control/` sees it, and the control server's life in it."""

import errno
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from bittern.control.address import socket_to_open
from bittern.control.ports import Deliveries
from bittern.control.stream import Stream
from bittern.daemon.config import Config
from bittern.daemon.logs import get_log
from bittern.daemon.outcomes import Outcomes
from bittern.daemon.scheduling import Scheduler
from bittern.daemon.secret_file import read_secret
from bittern.daemon.spool import Spool
from bittern.engine.session import Session
from bittern.engine.supervision import Supervisor

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from bittern.control.gate import Gate
    from bittern.control.server import Server
    from bittern.control.tls import Tls


REOPEN_FIRST_S: Final = 1.0
REOPEN_MOST_S: Final = 300.0

log = get_log()


class Control:
    """Implements `control.ports.Daemon`."""

    def __init__(
        self,
        session: Session,
        supervisor: Supervisor,
        stream: Stream,
        *,
        config: Config,
        port: int,
        version: str,
        scheduler: Scheduler,
    ) -> None:
        self._session = session
        self._supervisor = supervisor
        self._stream = stream
        self._config = config
        self.port = port
        self.version = version
        self._scheduler = scheduler
        self._outcomes = Outcomes(Spool.below(Path(config.paths.state)))
        self._given_up: set[str] = set()
        self._reloaded = trio.Event()
        """Set by the next reload."""

    @property
    def state_folder(self) -> str:
        return str(self._config.paths.state)

    @property
    def data_folders(self) -> tuple[str, ...]:
        archives = (str(one.folder) for one in self._config.seed if one.folder)
        return tuple(dict.fromkeys([*self._config.data_folders(), *archives]))

    @property
    def incomplete_folder(self) -> str:
        return str(self._config.paths.incomplete)

    def limits(self) -> Mapping[str, Any]:
        return self._scheduler.limits()

    def overrides(self) -> Mapping[str, Any]:
        return self._scheduler.overrides

    async def set_limits(self, changes: Mapping[str, Any]) -> None:
        await self._scheduler.set_limits(changes)

    async def deliveries(self, state: str | None, at_most: int) -> Deliveries:
        return await self._outcomes.newest(state, at_most)

    async def replay(self, delivery_id: str) -> bool | None:
        return await self._outcomes.replay(delivery_id)

    def apply(self, config: Config) -> None:
        """After a reload. Certificates are read again: they may be renewed ones. And what could not be opened is tried
        once more: it may have been mended.
        """
        self._config = config
        done, self._reloaded = self._reloaded, trio.Event()
        done.set()

    async def run(self) -> None:
        """Serves until cancelled. A bug in it is told, and it is opened again after a while: the daemon's work is not
        done through it.
        """
        pause_s = REOPEN_FIRST_S
        while True:
            await self._supervisor.contain(
                "control", self._serve, lambda _: None, remedy="the sockets are opened again later"
            )
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, REOPEN_MOST_S)

    async def _serve(self) -> None:
        opened: list[_Opened] = []
        try:
            wanted = frozenset({"control", "web"}) - self._given_up
            async with trio.open_nursery() as nursery:
                while True:
                    reloaded, before = self._reloaded, len(opened)
                    # in a thread: what serves HTTP takes a tenth of a second to be imported
                    await trio.to_thread.run_sync(self._open, opened, wanted)
                    for one in opened[before:]:
                        nursery.start_soon(one.server.run, one.listening)
                        if one.tls is not None:
                            nursery.start_soon(self._renew, one.tls, reloaded)
                    await reloaded.wait()
                    wanted = frozenset(self._given_up)
                    self._given_up.clear()
        finally:
            for one in opened:
                one.close()

    async def _renew(self, tls: "Tls", reloaded: trio.Event) -> None:
        """`reloaded`: by the first reload since before it was read; that may have come while it was."""
        while True:
            await reloaded.wait()
            reloaded = self._reloaded
            try:
                await trio.to_thread.run_sync(tls.renew, abandon_on_cancel=True)
                log.info("web.certificate_renewed", certificate=str(self._config.web.tls_certificate))
            except OSError as error:
                log.warning("web.certificate_kept", reason=str(error), remedy="the one in use stays so")

    def _open(self, opened: "list[_Opened]", wanted: frozenset[str]) -> None:
        """Adds what is open now, bit by bit; what cannot be opened is told, and done without until a reload."""
        from bittern.control.api import Api
        from bittern.control.server import Server, open_socket, open_tcp

        if not wanted:
            return
        app = Api(self._session, self, self._stream).app()
        control, web = self._config.control, self._config.web
        if control.enabled and "control" in wanted:
            path = socket_to_open(str(control.socket), self.state_folder)
            try:
                opened.append(_Opened(Server(app, self._supervisor), [open_socket(path)], path, None))
                log.info("control.ready", socket=str(path))
            except OSError as error:
                reason = f"{path.parent} is not there" if error.errno == errno.ENOENT else str(error)
                log.warning("control.unavailable", socket=str(path), reason=reason)
                self._given_up.add("control")
        if web.enabled and "web" in wanted:
            try:
                gate, tls = self._gate(app), self._tls()
                server = Server(gate, self._supervisor, tls)
                opened.append(_Opened(server, open_tcp(web.listen, web.port), None, tls))
                log.info(
                    "web.ready",
                    addresses=list(web.listen),
                    port=web.port,
                    access=web.access,
                    tls=tls is not None,
                )
            except OSError as error:
                log.warning("web.unavailable", addresses=list(web.listen), port=web.port, reason=str(error))
                self._given_up.add("web")

    def _tls(self) -> "Tls | None":
        """`OSError` when it cannot be had: nobody is let in without it."""
        from bittern.control.tls import Tls

        web = self._config.web
        if not web.tls_certificate:
            return None
        client_ca = Path(web.tls_client_ca) if web.tls_client_ca else None
        return Tls(Path(web.tls_certificate), Path(web.tls_key), client_ca)

    def _gate(self, app: "Starlette") -> "Gate":
        """`OSError` when the password cannot be had: without it nobody is let in."""
        from bittern.control.access import is_password_hash
        from bittern.control.gate import Gate

        web, kept = self._config.web, ""
        if web.password_file:
            kept = read_secret(Path(web.password_file)).decode("ascii", "replace").strip()
            if not is_password_hash(kept):
                raise OSError(f"{web.password_file} is not what `bittern passwd` writes")
        elif web.access == "full" and not web.tls_client_ca:
            log.warning("web.open", reason="everybody on this machine may steer: set web.password_file")
        return Gate(app, access=web.access, password_hash=kept, hosts=web.hosts)


class _Opened(NamedTuple):
    server: "Server"
    listening: list[socket.socket]
    path: Path | None
    tls: "Tls | None"

    def close(self) -> None:
        for one in self.listening:
            one.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
