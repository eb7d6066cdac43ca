"""The commands of `bittern`. A subcommand's module is imported when it is called, so that `--version` costs nothing."""

import importlib
from typing import Final

import click

from bittern import __version__

COMMANDS: Final = {"run": "run", "check-config": "check_config", "show": "show", "hooks": "hooks"}
"""Command to module; the function in it has the module's name."""


EXAMPLE: Final = "bittern run --config /etc/bittern/bittern.toml"


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = COMMANDS.get(cmd_name)
        if module is None:
            return None
        command = getattr(importlib.import_module(f"bittern.cli.{module}"), module)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Lazy, epilog=f"Example: {EXAMPLE}", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="bittern")
def bittern() -> None:
    """An unattended watch-folder BitTorrent daemon: drop a .torrent into a folder and walk away."""
