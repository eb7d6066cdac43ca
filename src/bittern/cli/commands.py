"""The commands of `bittern`. A subcommand's module is imported when it is called, so that `--version` costs nothing."""

import importlib
from typing import Final

import click

from bittern import __version__

COMMANDS: Final = {
    "run": "run:run",
    "check-config": "check_config:check_config",
    "list": "torrents:list_torrents",
    "info": "torrents:info",
    "files": "files:files",
    "peers": "torrents:peers",
    "trackers": "torrents:trackers",
    "stats": "torrents:stats",
    "log": "torrents:log",
    "add": "steering:add",
    "remove": "steering:remove",
    "pause": "steering:pause",
    "resume": "steering:resume",
    "move": "steering:move",
    "limit": "limiting:limit",
    "label": "labelling:label",
    "rename": "renaming:rename",
    "explain": "limiting:explain",
    "top": "top:top",
    "recheck": "steering:recheck",
    "reannounce": "steering:reannounce",
    "show": "show:show",
    "plan": "plan:plan",
    "create": "create:create",
    "verify": "verify:verify",
    "hooks": "hooks:hooks",
    "passwd": "passwd:passwd",
    "shell": "shell:shell",
    "completion": "completion:completion",
    "help": "help:show_help",
}
"""Command to module and function."""

ALIASES: Final = {
    "download": "add",
    "check": "recheck",
    "stop": "pause",
    "start": "resume",
    "h": "help",
    "l": "list",
    "s": "show",
}
"""The words of etorrent's and ElixirTorrent's consoles."""


EXAMPLE: Final = "bittern run --config /etc/bittern/bittern.toml"


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(f"bittern.cli.{module}"), function)
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_Lazy, epilog=f"Example: {EXAMPLE}", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="bittern")
def bittern() -> None:
    """An unattended watch-folder BitTorrent daemon: drop a .torrent into a folder and walk away."""
