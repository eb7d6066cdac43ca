"""`top`: who moves most, live."""

import json
from typing import Any

import click

from bittern.cli.completion import torrent_names
from bittern.cli.daemon import Daemon, with_daemon
from bittern.cli.torrents import HEADS, LIST_FIELDS, RIGHT, shown_row


@click.command(epilog="Example: bittern top")
@with_daemon
@click.option("--json", "as_json", is_flag=True, help="One look as JSON, for programs.")
@click.argument("patterns", metavar="[TORRENT]...", nargs=-1, shell_complete=torrent_names)
def top(daemon: Daemon, as_json: bool, patterns: tuple[str, ...]) -> None:
    """Watch the torrents that move something, the fastest first, until interrupted."""

    def look() -> list[dict[str, Any]]:
        found = [
            one
            for one in daemon.torrents(patterns, LIST_FIELDS)
            if one["download_rate"] or one["upload_rate"] or one["peers"]
        ]
        return sorted(found, key=lambda one: -(one["download_rate"] + one["upload_rate"]))

    if as_json:
        click.echo(json.dumps(look(), indent=2))
        return
    from bittern.cli.watching import watch_rows

    watch_rows(lambda: (HEADS, map(shown_row, look())), right=RIGHT)
