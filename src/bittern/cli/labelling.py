"""The command about words of one's own on torrents: `label`."""

import json

import click

from bittern.cli.completion import torrent_names
from bittern.cli.daemon import EX_USAGE, Daemon, as_json_option, fail, with_daemon
from bittern.cli.terminal import harmless
from bittern.policy.labels import as_text, labels_in


@click.command(epilog="Example: bittern label 'debian-*' --add linux --remove new")
@with_daemon
@click.option(
    "--set", "only", metavar="LABEL", multiple=True, help="This, and what else is said, and no other."
)
@click.option("--add", "more", metavar="LABEL", multiple=True, help="This one too.")
@click.option("--remove", "less", metavar="LABEL", multiple=True, help="Not this one.")
@click.option("--none", "bare", is_flag=True, help="None of those it has.")
@as_json_option
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True, shell_complete=torrent_names)
def label(
    daemon: Daemon,
    only: tuple[str, ...],
    more: tuple[str, ...],
    less: tuple[str, ...],
    bare: bool,
    as_json: bool,
    patterns: tuple[str, ...],
) -> None:
    """Give torrents labels, or take some away, or show them. Hooks and seed rules may be for those of a label.

    Exit status 64 when something can be no label.
    """
    told = []
    found = daemon.torrents(patterns, ("info_hash", "name", "labels"))
    if not found:
        fail(EX_USAGE, "no torrent is meant")
    for before in found:
        one = before
        if only or more or less or bare:
            kept = () if only or bare else tuple(before["labels"])
            gone = labels_in(as_text(less))
            wanted = [word for word in labels_in(as_text((*only, *kept, *more))) if word not in gone]
            one = daemon.ask("PUT", f"/api/v1/torrents/{before['info_hash']}/labels", json=wanted)
        told.append(one)
        if not as_json:
            said = ", ".join(one["labels"]) or "no label"
            click.echo(harmless(f"{one['info_hash'][:8]}  {one['name']}: {said}"))
    if as_json:
        click.echo(json.dumps(told, indent=2))
