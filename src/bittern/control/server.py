"""Serves the API: on a Unix socket, which whoever may open it may steer by, and on TCP. Hypercorn's door."""

import os
import socket
import stat
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ASGIFramework, ConnectionState
from starlette.types import ASGIApp, Receive, Scope, Send

from bittern.control.patient import PatientStream
from bittern.control.tls import Tls
from bittern.engine.supervision import Supervisor

SOCKET_MODE: Final = 0o660
"""The daemon's user and group."""

BACKLOG: Final = 64
HEAD_BYTES_AT_MOST: Final = 16 * 1024
HANDSHAKE_S: Final = 10.0
CONNECTIONS_AT_MOST: Final = 320
"""Of one server: more than may listen to what happens, and few of the descriptors that the engine lives on."""

AMBIGUOUS: Final = {b"content-length", b"transfer-encoding"}
"""With both a proxy before us may see another end of the request than we do, and another request behind it."""

SUN_PATH_BYTES: Final = 107
"""The kernel takes no longer path for a socket (unix(7))."""


class Occupied(OSError):
    """Somebody listens there already."""


def open_socket(path: Path) -> socket.socket:
    """A listening socket at that path, for our user and group; `OSError` when that cannot be. What a dead process
    left there is taken away, what lives is `Occupied`.
    """
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # by way of its folder's descriptor, however long the path is
        address = (
            f"/proc/self/fd/{folder}/{path.name}" if len(os.fsencode(path)) > SUN_PATH_BYTES else str(path)
        )
        _clear(path, address)
        os.fchmod(listening.fileno(), 0o600)  # nobody gets in before the mode is right, whatever the umask
        listening.bind(address)
        Path(address).chmod(SOCKET_MODE)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(folder)
    return listening


def open_tcp(addresses: Sequence[str], port: int) -> list[socket.socket]:
    """Listening sockets at all of these numeric addresses, or `OSError` and none."""
    opened: list[socket.socket] = []
    try:
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listening = socket.socket(family, socket.SOCK_STREAM)
            opened.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind((address, port))
            listening.listen(BACKLOG)
            listening.setblocking(False)
    except BaseException:
        for listening in opened:
            listening.close()
        raise
    return opened


def _clear(path: Path, address: str) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Occupied(f"{path} is there and no socket: move it away")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.settimeout(1)
        try:
            asking.connect(address)
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise Occupied(f"{path}: {error.strerror}") from error
    raise Occupied(f"{path} is another daemon's: give this one a socket of its own")


class Server:
    """One ASGI application on some sockets; a bug in it costs its request."""

    def __init__(self, app: ASGIApp, supervisor: Supervisor, tls: Tls | None = None) -> None:
        self._app = app
        self._tls = tls
        self._supervisor = supervisor
        self._open: set[PatientStream] = set()

    async def run(
        self, sockets: list[socket.socket], *, task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serves until cancelled, which no client can delay."""
        config = Config()
        config.errorlog = config.accesslog = (
            None  # failures are the supervisor's to tell, requests the clients'
        )
        config.include_server_header = False
        config.h11_max_incomplete_size = HEAD_BYTES_AT_MOST
        config.h2_max_concurrent_streams = 1  # nobody multiplies his connections
        config.ssl_handshake_timeout = HANDSHAKE_S
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in sockets]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hang_up_when_cancelled)
            await nursery.start(trio.serve_listeners, partial(self._converse, config), listeners)
            task_status.started()

    async def _converse(self, config: Config, stream: trio.SocketStream) -> None:
        if len(self._open) >= CONNECTIONS_AT_MOST:
            await trio.aclose_forcefully(stream)
            return
        patient = PatientStream(stream)
        spoken: Any = patient
        if self._tls is not None:
            spoken = trio.SSLStream(
                cast("Any", patient),  # it asks for no more than that has
                self._tls.context,
                server_side=True,
                https_compatible=True,
            )
        self._open.add(patient)
        try:
            await self._supervisor.contain(
                "connection of control",
                lambda: TCPServer(
                    ASGIWrapper(cast("ASGIFramework", self._contained)),
                    config,
                    WorkerContext(None),
                    ConnectionState({}),
                    spoken,
                ).run(),
                lambda _: None,
                remedy="the connection is closed",
            )
        finally:
            self._open.discard(patient)
            patient.hang_up()

    async def _hang_up_when_cancelled(self) -> None:
        """Hypercorn shields what it sends: whoever does not read would keep us from stopping."""
        try:
            await trio.sleep_forever()
        finally:
            for one in self._open:
                one.hang_up()

    async def _contained(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close"})  # answered with 403
            return
        if {name for name, _ in scope["headers"]} >= AMBIGUOUS:
            await send({"type": "http.response.start", "status": 400, "headers": [(b"connection", b"close")]})
            await send({"type": "http.response.body", "body": b""})
            return
        where = f"request of {scope['path']}"
        body: Callable[[], Any] = partial(self._app, scope, receive, send)
        await self._supervisor.contain(
            where, body, lambda _: None, remedy="the request is answered with an error"
        )
