"""The command `files`: what a torrent consists of, and what of it is wanted."""

import json
from typing import Any

import click

from bittern.cli.completion import torrent_names
from bittern.cli.daemon import EX_NOTFOUND, Daemon, as_json_option, fail, with_daemon
from bittern.cli.terminal import print_table
from bittern.control.units import size


@click.command(epilog="Example: bittern files debian-12.iso --skip '*.nfo' --priority high 0")
@with_daemon
@click.option("--only", multiple=True, metavar="FILE", help="Fetch these and skip all others.")
@click.option("--skip", multiple=True, metavar="FILE", help="Do not fetch these.")
@click.option("--take", multiple=True, metavar="FILE", help="Fetch these after all.")
@click.option(
    "--priority",
    multiple=True,
    type=(click.Choice(("high", "normal", "low")), str),
    metavar="LEVEL FILE",
    help="Fetch these sooner (high) or later (low) than others.",
)
@click.option(
    "--sequential/--any-order", default=None, help="Fetch its pieces in their order, or the rarest first."
)
@as_json_option
@click.argument("torrent", shell_complete=torrent_names)
def files(
    daemon: Daemon,
    only: tuple[str, ...],
    skip: tuple[str, ...],
    take: tuple[str, ...],
    priority: tuple[tuple[str, str], ...],
    sequential: bool | None,
    as_json: bool,
    torrent: str,
) -> None:
    """Show a torrent's files, as they lie on disk, and how much of each is there; or choose among them first.

    A FILE is its number here, a range of numbers (3-7), or a pattern for its name or a folder's ('*.nfo', 'Sample',
    'extras/*'). Each option may be repeated. Exit status 64 when there is no such number.
    """
    found = daemon.torrents((torrent,), ("info_hash",))
    if len(found) != 1:
        fail(EX_NOTFOUND, f"{len(found)} torrents are called {torrent!r}: name one by its info hash")
    path = f"/api/v1/torrents/{found[0]['info_hash']}/files"
    wanted: dict[str, Any] = {"only": only, "skip": skip, "take": take}
    for level, file in priority:
        wanted[level] = [*wanted.get(level, ()), file]
    wanted = {key: list(value) for key, value in wanted.items() if value}
    if sequential is not None:
        wanted["sequential"] = sequential
    if wanted:
        daemon.ask("PATCH", path, json=wanted)
    rows = daemon.ask("GET", path)["files"]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    print_table(
        ("number", "done", "size", "wanted", "file"),
        (
            (
                str(one["index"]),
                f"{int(one['progress'] * 1000) / 10:.1f} %",
                size(one["length"]),
                one["priority"],
                one["path"],
            )
            for one in rows
        ),
        right=("number", "done", "size"),
    )
