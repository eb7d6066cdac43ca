"""The running daemon, as the commands reach it: HTTP over its control socket. The commands' door to httpx."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from bittern.cli.configuration import DEFAULT_CONFIG, HELP, configuration
from bittern.cli.terminal import harmless
from bittern.control.address import RUN_FOLDER, SOCKET_NAME, sockets_to_try

if TYPE_CHECKING:
    import httpx

PATIENCE_S: Final = 30.0

EX_USAGE: Final = 64
EX_NOTFOUND: Final = 66
EX_UNAVAILABLE: Final = 69
EX_IOERR: Final = 74
EX_NOPERM: Final = 77

SOCKET_HELP: Final = "The daemon's control socket, if it is not where the configuration says."

_EXITS: Final = {400: EX_USAGE, 403: EX_NOPERM, 404: EX_NOTFOUND, 409: EX_IOERR, 413: EX_USAGE, 507: EX_IOERR}


class Daemon:
    """Asks; a refusal ends the command with one line and the exit status that fits."""

    def __init__(self, client: "httpx.Client") -> None:
        self._client = client

    def ask(self, method: str, path: str, **terms: Any) -> Any:
        """The answer's JSON."""
        import httpx

        try:
            response = self._client.request(method, path, **terms)
        except httpx.HTTPError as error:
            fail(EX_UNAVAILABLE, f"bittern does not answer: {error}")
        if not response.is_success:
            fail(_EXITS.get(response.status_code, EX_UNAVAILABLE), _message(response))
        return response.json()

    def events(self) -> Iterator[dict[str, Any]]:
        """What happens, until one stops listening or the daemon ends."""
        import httpx

        try:
            with self._client.stream("GET", "/api/v1/events", timeout=httpx.Timeout(PATIENCE_S)) as response:
                if not response.is_success:
                    response.read()
                    fail(EX_UNAVAILABLE, _message(response))
                for line in response.iter_lines():
                    if line.startswith("data: "):
                        yield json.loads(line[len("data: ") :])
        except httpx.HTTPError as error:
            fail(EX_UNAVAILABLE, f"bittern has gone: {error}")

    def torrents(self, patterns: tuple[str, ...], fields: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """Those that the patterns pick out, or all."""
        terms: dict[str, Any] = {"select": list(patterns)}
        if fields:
            terms["fields"] = ",".join(fields)
        found: list[dict[str, Any]] = self.ask("GET", "/api/v1/torrents", params=terms)["torrents"]
        return found


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
    import httpx

    named, config = ctx.meta.get("bittern.socket"), ctx.meta.get("bittern.config")
    if named is not None:
        return Daemon(_client(ctx, Path(named)))
    sockets, state = _places(config)
    barred = False
    for path in sockets:
        client = _client(ctx, path)
        try:
            answer = client.get("/api/v1/session")
            if answer.is_success and (state is None or answer.json()["state_folder"] == state):
                return Daemon(client)
        except httpx.ConnectError as error:
            barred = barred or isinstance(error.__context__, PermissionError) or "ermission" in str(error)
        except (httpx.HTTPError, ValueError, KeyError):
            pass
        client.close()
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
    loaded = configuration(config)
    state = str(loaded.paths.state)
    found = sockets_to_try(str(loaded.control.socket), state)
    if config is None and not os.path.exists(DEFAULT_CONFIG) and not os.path.exists(found[0]):  # noqa: PTH110 — as above
        return found, None  # none of `bittern run` in this folder: that of the machine, if there is one
    return found, state


def _client(ctx: click.Context, path: Path) -> "httpx.Client":
    """Closed with the command: the next one may run in this very process."""
    import httpx

    client = httpx.Client(
        transport=httpx.HTTPTransport(uds=str(path)), base_url="http://bittern", timeout=PATIENCE_S
    )
    # the next line at a prompt uses it too
    ctx.find_root().call_on_close(client.close)
    return client


def _message(response: "httpx.Response") -> str:
    try:
        message: str = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"bittern answered with status {response.status_code}"
    return message
