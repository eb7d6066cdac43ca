"""`bittern run`: the daemon, in the foreground."""

import sys
from pathlib import Path

import click


@click.command(epilog="Example: bittern run --config /etc/bittern/bittern.toml")
@click.option(
    "--config",
    "config",
    type=click.Path(path_type=Path),
    help="The TOML file. Without it: folders below ./var.",
)
@click.option(
    "--log-format", type=click.Choice(["auto", "console", "json"]), help="Instead of the file's log.format."
)
@click.pass_obj
def run(early: list[int] | None, config: Path | None, log_format: str | None) -> None:
    """Run the daemon until SIGTERM or SIGINT; SIGHUP reloads the configuration.

    Exit status 0 after an orderly stop, 78 when the configuration or the state folder cannot be used.
    """
    from bittern.daemon import app

    sys.exit(app.run(config, log_format, [] if early is None else early))
