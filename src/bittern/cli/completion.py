"""What the shell's Tab key offers: `bittern completion`, and the names of torrents."""

from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem, get_completion_class

SHELLS: Final = ("bash", "zsh", "fish")
OFFERED_AT_MOST: Final = 200

_PLACES: Final = {
    "bash": "bittern completion bash >~/.local/share/bash-completion/completions/bittern",
    "zsh": "bittern completion zsh >~/.zfunc/_bittern",
    "fish": "bittern completion fish >~/.config/fish/completions/bittern.fish",
}


@click.command(epilog=f"Example: {_PLACES['bash']}")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes the Tab key complete commands, options and names of torrents in that SHELL."""
    from bittern.cli.commands import bittern

    made = get_completion_class(shell)
    assert made is not None
    click.echo(made(bittern, {}, "bittern", "_BITTERN_COMPLETE").source())


def torrent_names(ctx: click.Context, _param: click.Parameter, beginning: str) -> list[CompletionItem]:
    """Names of the running daemon's torrents, or their info hashes; nothing if it does not answer."""
    from bittern.cli.daemon import reached

    try:
        found = reached(ctx).torrents((), ("info_hash", "name"))
    except SystemExit:
        return []
    offered = [
        CompletionItem(one["name"], help=one["info_hash"][:8])
        for one in found
        if one["name"].startswith(beginning) and one["name"].isprintable()
    ]
    if not offered and beginning:
        offered = [
            CompletionItem(one["info_hash"], help=one["name"])
            for one in found
            if one["info_hash"].startswith(beginning.lower())
        ]
    return offered[:OFFERED_AT_MOST]


def file_names(beginning: str) -> list[str]:
    """Paths that begin so, folders with a slash behind them; for the prompt of `bittern shell`."""
    folder, slash, start = beginning.rpartition("/")
    at = Path(folder or slash or ".").expanduser()
    try:
        found = sorted(one for one in at.iterdir() if one.name.startswith(start))[:OFFERED_AT_MOST]
        return [f"{folder}{slash}{one.name}{'/' if one.is_dir() else ''}" for one in found]
    except OSError:
        return []
