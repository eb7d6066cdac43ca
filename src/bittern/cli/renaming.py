"""The command `rename`."""

import json

import click

from bittern.cli.completion import torrent_names
from bittern.cli.daemon import EX_NOTFOUND, Daemon, as_json_option, fail, with_daemon
from bittern.cli.terminal import harmless


@click.command(epilog="Example: bittern rename debian-12 debian-12/README.txt READ-ME.txt")
@with_daemon
@as_json_option
@click.argument("torrent", shell_complete=torrent_names)
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
def rename(daemon: Daemon, as_json: bool, torrent: str, old: str, new: str) -> None:
    """Give a file or folder of a torrent, or all its data, another name, on disk too.

    OLD is a path as `bittern files` shows it, or the torrent's name; NEW is a name, and no path. It goes on under the
    new name, after a restart too. Exit status 64 when there is no such file or that is no name, 74 when something else
    is called so or its files are busy.
    """
    found = daemon.torrents((torrent,), ("info_hash", "name"))
    if len(found) != 1:
        fail(EX_NOTFOUND, f"{len(found)} torrents are called {torrent!r}: name one by its info hash")
    body = {"path": old, "name": new}
    told = daemon.ask("POST", f"/api/v1/torrents/{found[0]['info_hash']}/rename", json=body)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(harmless(f"{told['info_hash'][:8]}  {told['name']}: {old} is called {new} now"))
