"""The running daemon, as the commands reach it: HTTP over its control socket, by the standard library, for httpx takes
five times as long to be imported as all the rest of a command.
"""

import contextlib
import http.client
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn
from urllib.parse import urlencode

import click

from bittern.cli.configuration import DEFAULT_CONFIG, HELP, configuration
from bittern.cli.terminal import harmless
from bittern.control.address import RUN_FOLDER, SOCKET_NAME, sockets_to_try

PATIENCE_S: Final = 30.0

EX_USAGE: Final = 64
EX_NOTFOUND: Final = 66
EX_UNAVAILABLE: Final = 69
EX_IOERR: Final = 74
EX_NOPERM: Final = 77

SOCKET_HELP: Final = "The daemon's control socket, if it is not where the configuration says."

_EXITS: Final = {400: EX_USAGE, 403: EX_NOPERM, 404: EX_NOTFOUND, 409: EX_IOERR, 413: EX_USAGE, 507: EX_IOERR}


class Answer(NamedTuple):
    """What the daemon said."""

    status: int
    body: bytes

    @property
    def is_success(self) -> bool:
        """Was it done?"""
        return self.status < 300

    def json(self) -> Any:
        """`ValueError` when it is none."""
        return json.loads(self.body)


class Daemon:
    """Asks; a refusal ends the command with one line and the exit status that fits."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, method: str, path: str, *, also: tuple[int, ...] = (), **terms: Any) -> Any:
        """The answer's JSON, also of a refusal with one of those statuses. `params` are of the query, lists repeated;
        `json` or `content` is the body.
        """
        try:
            answer = self.answer(method, path, **terms)
        except PermissionError:
            fail(EX_NOPERM, f"{self._path} may not be opened by you")
        except (OSError, http.client.HTTPException) as error:
            fail(EX_UNAVAILABLE, f"bittern does not answer: {_said(error)}")
        if not answer.is_success and answer.status not in also:
            fail(_EXITS.get(answer.status, EX_UNAVAILABLE), _message(answer))
        try:
            told = answer.json()
        except ValueError:
            told = None
        if not isinstance(told, dict):
            fail(EX_UNAVAILABLE, f"what listens at {self._path} is not bittern: name another --socket")
        return told

    def answer(self, method: str, path: str, **terms: Any) -> Answer:
        """`OSError`, `HTTPException`."""
        connection = _Connection(self._path)
        try:
            response = self._begin(connection, method, path, **terms)
            return Answer(response.status, response.read())
        finally:
            connection.close()

    def _begin(
        self,
        connection: "_Connection",
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes | None = None,
    ) -> http.client.HTTPResponse:
        if params:
            path += "?" + urlencode(params, doseq=True, errors="surrogateescape")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            # who hangs up before he has heard all has said why
            connection.request(method, path, _dumps(json) if json is not None else content)
        return connection.getresponse()

    def events(self) -> Iterator[dict[str, Any]]:
        """What happens, until one stops listening or the daemon ends."""
        connection = _Connection(self._path)
        try:
            response = self._begin(connection, "GET", "/api/v1/events")
            if response.status >= 300:
                fail(EX_UNAVAILABLE, _message(Answer(response.status, response.read())))
            while line := response.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[len(b"data: ") :])
        except (OSError, http.client.HTTPException) as error:
            fail(EX_UNAVAILABLE, f"bittern has gone: {_said(error)}")
        finally:
            connection.close()
        fail(EX_UNAVAILABLE, "bittern has gone")

    def torrents(
        self, patterns: tuple[str, ...], fields: tuple[str, ...] = (), *, there: bool = True
    ) -> list[dict[str, Any]]:
        """Those that the patterns pick out, or all. Unless they must be `there` none is an answer too."""
        terms: dict[str, Any] = {"select": list(patterns)}
        if fields:
            terms["fields"] = ",".join(fields)
        told = self.ask("GET", "/api/v1/torrents", also=() if there else (404,), params=terms)
        found: list[dict[str, Any]] = told.get("torrents", [])
        return found


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("bittern", timeout=PATIENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # by way of its folder's descriptor: the kernel takes no long path
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        finally:
            os.close(folder)


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def _said(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came for {PATIENCE_S:g} s"
    return (error.strerror if isinstance(error, OSError) else "") or str(error) or "it hung up"


def with_daemon(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--config` and `--socket`, and hands the command its `daemon`."""
    command = click.option(
        "--socket",
        "socket_path",
        metavar="PATH",
        expose_value=False,
        is_eager=True,
        callback=_keep_socket,
        help=SOCKET_HELP,
    )(command)
    return click.option(
        "--config",
        "daemon",
        metavar="FILE",
        callback=_reach,
        help=HELP,
    )(command)


def fail(status: int, sentence: str) -> NoReturn:
    """One line, and the end."""
    click.echo(harmless(sentence), err=True)
    sys.exit(status)


def which_daemon(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the same options, and asks nobody: for a command that has others run."""
    command = click.option(
        "--socket", metavar="PATH", expose_value=False, is_eager=True, callback=_keep_socket, help=SOCKET_HELP
    )(command)
    return click.option(
        "--config", metavar="FILE", expose_value=False, is_eager=True, callback=_keep_config, help=HELP
    )(command)


def as_json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")(command)


def _keep_socket(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta["bittern.socket"] = value
        ctx.meta.pop("bittern.daemon", None)


def _keep_config(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.meta["bittern.config"] = value
        ctx.meta.pop("bittern.daemon", None)


def _reach(ctx: click.Context, param: click.Parameter, config: str | None) -> Daemon | None:
    _keep_config(ctx, param, config)
    return None if ctx.resilient_parsing else reached(ctx)


def reached(ctx: click.Context) -> Daemon:
    """The daemon that is meant there; of the commands of one prompt it is asked for once."""
    known = ctx.meta.get("bittern.daemon")
    if not isinstance(known, Daemon):
        known = ctx.meta["bittern.daemon"] = _reached(ctx)
    return known


def _reached(ctx: click.Context) -> Daemon:
    named, config = ctx.meta.get("bittern.socket"), ctx.meta.get("bittern.config")
    if named is not None:
        return Daemon(Path(named))
    sockets, state = _places(config)
    barred = False
    for path in sockets:
        daemon = Daemon(path)
        try:
            answer = daemon.answer("GET", "/api/v1/session")
            if answer.is_success and (state is None or answer.json()["state_folder"] == state):
                return daemon
        except PermissionError:
            barred = True
        except (OSError, http.client.HTTPException, ValueError, KeyError):
            pass
    where = " or ".join(map(str, sockets))
    if barred:
        fail(
            EX_NOPERM,
            f"{where} may not be opened by you: be root, or of the group of the user that bittern runs as",
        )
    fail(
        EX_UNAVAILABLE,
        f"bittern does not run, or listens elsewhere than at {where}; start it, or name --socket",
    )


def _places(config: str | None) -> tuple[list[Path], str | None]:
    """Where the daemon may listen, and whose records it keeps if that is known."""
    if config is None and os.path.exists(DEFAULT_CONFIG) and not os.access(DEFAULT_CONFIG, os.R_OK):  # noqa: PTH110 — False where one may not look
        return [RUN_FOLDER / SOCKET_NAME], None  # who may not read the file may still be of the group
    loaded = configuration(config, places=True)
    state = str(loaded.paths.state)
    found = sockets_to_try(str(loaded.control.socket), state)
    if config is None and not os.path.exists(DEFAULT_CONFIG) and not os.path.exists(found[0]):  # noqa: PTH110 — as above
        return found, None  # none of `bittern run` in this folder: that of the machine, if there is one
    return found, state


def _message(response: Answer) -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"bittern answered with status {response.status}"
