"""The daemon as `control/` sees it, and the control server's life in it."""

import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from bittern.control.address import socket_to_open
from bittern.control.stream import Stream
from bittern.daemon.config import Config
from bittern.daemon.logs import get_log
from bittern.engine.session import Session
from bittern.engine.supervision import Supervisor

if TYPE_CHECKING:
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
    ) -> None:
        self._session = session
        self._supervisor = supervisor
        self._stream = stream
        self._config = config
        self.port = port
        self.version = version
        self._given_up = False

    @property
    def state_folder(self) -> str:
        return str(self._config.paths.state)

    @property
    def data_folders(self) -> tuple[str, ...]:
        paths, watches = self._config.paths, self._config.watch
        return tuple(
            dict.fromkeys([str(paths.downloads), *(str(one.downloads) for one in watches if one.downloads)])
        )

    @property
    def incomplete_folder(self) -> str:
        return str(self._config.paths.incomplete)

    def apply(self, config: Config) -> None:
        """After a reload."""
        self._config = config

    async def run(self) -> None:
        """Serves until cancelled. A bug in it is told, and it is opened again after a while: the daemon's work is not
        done through it.
        """
        pause_s = REOPEN_FIRST_S
        while not self._given_up:
            await self._supervisor.contain(
                "control", self._serve, lambda _: None, remedy="the socket is opened again later"
            )
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, REOPEN_MOST_S)

    async def _serve(self) -> None:
        path = socket_to_open(str(self._config.control.socket), self.state_folder)
        try:
            server, listening = await trio.to_thread.run_sync(self._prepare, path)
        except OSError as error:
            reason = f"{path.parent} is not there" if error.errno == errno.ENOENT else str(error)
            log.warning("control.unavailable", socket=str(path), reason=reason)
            self._given_up = True
            return
        log.info("control.ready", socket=str(path))
        try:
            await server.run([listening])
        finally:
            listening.close()
            path.unlink(missing_ok=True)

    def _prepare(self, path: Path) -> "tuple[Server, socket.socket]":
        """In a thread: what serves HTTP takes a tenth of a second to be imported, and nobody waits for it meanwhile."""
        from bittern.control.api import Api
        from bittern.control.server import Server, open_socket

        app = Api(self._session, self, self._stream).app()
        return Server(app, self._supervisor), open_socket(path)
