"""The daemon as `control/` sees it, and the control server's life in it."""

import errno
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from bittern.control.address import socket_to_open
from bittern.control.stream import Stream
from bittern.daemon.config import Config
from bittern.daemon.logs import get_log
from bittern.daemon.scheduling import Scheduler
from bittern.daemon.secret_file import read_secret
from bittern.engine.session import Session
from bittern.engine.supervision import Supervisor

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from bittern.control.gate import Gate
    from bittern.control.server import Server


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
        self._given_up: set[str] = set()

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

    def apply(self, config: Config) -> None:
        """After a reload."""
        self._config = config

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
            # in a thread: what serves HTTP takes a tenth of a second to be imported
            await trio.to_thread.run_sync(self._open, opened)
            async with trio.open_nursery() as nursery:
                for one in opened:
                    nursery.start_soon(one.server.run, one.listening)
                await trio.sleep_forever()
        finally:
            for one in opened:
                one.close()

    def _open(self, opened: "list[_Opened]") -> None:
        """Adds what is open now, bit by bit; what cannot be opened is told once, and done without."""
        from bittern.control.api import Api
        from bittern.control.server import Server, open_socket, open_tcp

        app = Api(self._session, self, self._stream).app()
        control, web = self._config.control, self._config.web
        if control.enabled and "control" not in self._given_up:
            path = socket_to_open(str(control.socket), self.state_folder)
            try:
                opened.append(_Opened(Server(app, self._supervisor), [open_socket(path)], path))
                log.info("control.ready", socket=str(path))
            except OSError as error:
                reason = f"{path.parent} is not there" if error.errno == errno.ENOENT else str(error)
                log.warning("control.unavailable", socket=str(path), reason=reason)
                self._given_up.add("control")
        if web.enabled and "web" not in self._given_up:
            try:
                gate = self._gate(app)
                opened.append(_Opened(Server(gate, self._supervisor), open_tcp(web.listen, web.port), None))
                log.info("web.ready", addresses=list(web.listen), port=web.port, access=web.access)
            except OSError as error:
                log.warning("web.unavailable", addresses=list(web.listen), port=web.port, reason=str(error))
                self._given_up.add("web")

    def _gate(self, app: "Starlette") -> "Gate":
        """`OSError` when the password cannot be had: without it nobody is let in."""
        from bittern.control.access import is_password_hash
        from bittern.control.gate import Gate

        web, kept = self._config.web, ""
        if web.password_file:
            kept = read_secret(Path(web.password_file)).decode("ascii", "replace").strip()
            if not is_password_hash(kept):
                raise OSError(f"{web.password_file} is not what `bittern passwd` writes")
        elif web.access == "full":
            log.warning("web.open", reason="everybody on this machine may steer: set web.password_file")
        return Gate(app, access=web.access, password_hash=kept, hosts=web.hosts)


class _Opened(NamedTuple):
    server: "Server"
    listening: list[socket.socket]
    path: Path | None

    def close(self) -> None:
        for one in self.listening:
            one.close()
        if self.path is not None:
            self.path.unlink(missing_ok=True)
