"""The commands that change something: `add`, `remove`, `pause`, `resume`, `move`, `recheck`, `reannounce`."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from bittern.cli.completion import torrent_names
from bittern.cli.daemon import EX_IOERR, EX_USAGE, Daemon, as_json_option, fail, with_daemon
from bittern.cli.fetching import FetchFailed, fetch, is_url
from bittern.cli.terminal import harmless
from bittern.policy.labels import as_text, labels_in

SAID = {"added": "added", "known": "is there already", "merged": "is there already, and has new trackers now"}


@click.command(epilog="Example: bittern add debian-12.torrent")
@with_daemon
@click.option(
    "--downloads", metavar="FOLDER", help="Where its files go: a folder of the configuration, or one in it."
)
@click.option(
    "--label", multiple=True, help="A word of your own, which hooks are told; as often as you like."
)
@click.option(
    "--only", multiple=True, metavar="FILE", help="Fetch only these of its files: see `bittern files`."
)
@click.option("--skip", multiple=True, metavar="FILE", help="Do not fetch these of its files.")
@click.option("--sequential", is_flag=True, help="Fetch its pieces in their order.")
@click.option("--wait", is_flag=True, help="Return when all of them are complete.")
@as_json_option
@click.argument("files", metavar="FILE|MAGNET|URL...", nargs=-1, required=True)
def add(
    daemon: Daemon,
    downloads: str | None,
    label: tuple[str, ...],
    only: tuple[str, ...],
    skip: tuple[str, ...],
    sequential: bool,
    wait: bool,
    as_json: bool,
    files: tuple[str, ...],
) -> None:
    """Add torrents from .torrent files, which stay where they are, by magnet links, or from the web.

    A URL (http, https) is fetched by this command, not by the daemon. Exit status 64 when something is no torrent, 74
    when it cannot be read or fetched; the others are added all the same. With --wait also 74 when one fails or is
    paused, 66 when one is removed meanwhile.
    """
    params: dict[str, Any] = {"downloads": str(Path(downloads).absolute())} if downloads else {}
    # an empty one says: none
    labels = labels_in(as_text(label)) or [""] * bool(label)
    several = {"label": labels, "only": only, "skip": skip}
    params |= {key: list(value) for key, value in several.items() if value}
    if sequential:
        params["sequential"] = "true"
    failed = 0
    added: list[dict[str, Any]] = []
    for file in files:
        try:
            blob = _wanted(file)
        except FetchFailed as error:
            click.echo(harmless(f"{_named(file)}: {error}"), err=True)
            failed = error.status
            continue
        try:
            told = daemon.ask("POST", "/api/v1/torrents", params=params, content=blob)
        except SystemExit as refused:
            if refused.code != EX_USAGE:
                raise
            failed = EX_USAGE
            continue
        added.append(told)
        if not as_json:
            click.echo(harmless(f"{told['info_hash'][:8]}  {told['name']}: {SAID[told['result']]}"))
    if as_json:
        click.echo(json.dumps(added, indent=2))
    if wait:
        from bittern.cli.waiting import wait_complete

        failed = wait_complete(daemon, added, shown=not as_json) or failed
    if failed:
        raise SystemExit(failed)


def _named(file: str) -> str:
    """For what is printed, which may land in a log: of a URL the host, for the rest may be a password or passkey."""
    if not is_url(file):
        return file
    from bittern.net.http import shown

    return shown(file)


def _wanted(file: str) -> bytes:
    if file.lower().startswith("magnet:"):
        return os.fsencode(file)
    if is_url(file):
        return fetch(file)
    from bittern.proto.metainfo import MAX_METAINFO_BYTES

    try:
        with Path(file).open("rb") as opened:
            blob = opened.read(MAX_METAINFO_BYTES + 1)
    except OSError as error:
        raise FetchFailed(EX_IOERR, f"cannot be read ({error.strerror})") from error
    if len(blob) > MAX_METAINFO_BYTES:
        raise FetchFailed(EX_USAGE, "is longer than any .torrent")
    return blob


@click.command(epilog="Example: bittern remove 'debian-11*'")
@with_daemon
@click.option(
    "--data", is_flag=True, help="Delete their files too: those that bittern made, and folders left empty."
)
@as_json_option
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True, shell_complete=torrent_names)
def remove(daemon: Daemon, as_json: bool, data: bool, patterns: tuple[str, ...]) -> None:
    """Stop torrents and forget them; their files stay, unless --data is given."""
    _each(
        daemon,
        as_json,
        patterns,
        "DELETE",
        "?data=true" * data,
        "removed with its files" if data else "removed",
    )


@click.command(epilog="Example: bittern recheck debian-12.iso")
@with_daemon
@as_json_option
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True, shell_complete=torrent_names)
def recheck(daemon: Daemon, as_json: bool, patterns: tuple[str, ...]) -> None:
    """Hash all data of torrents again; peers wait until it is done."""
    _each(daemon, as_json, patterns, "POST", "/recheck", "is checked again")


@click.command(epilog="Example: bittern reannounce debian-12.iso")
@with_daemon
@as_json_option
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True, shell_complete=torrent_names)
def reannounce(daemon: Daemon, as_json: bool, patterns: tuple[str, ...]) -> None:
    """Ask trackers and the DHT for more peers, as soon as they allow."""
    _each(daemon, as_json, patterns, "POST", "/reannounce", "asks for peers")


@click.command(epilog="Example: bittern pause '*'")
@with_daemon
@as_json_option
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True, shell_complete=torrent_names)
def pause(daemon: Daemon, as_json: bool, patterns: tuple[str, ...]) -> None:
    """Stop torrents until they are resumed, also over restarts."""
    _each(daemon, as_json, patterns, "POST", "/pause", "is paused")


@click.command(epilog="Example: bittern resume '*'")
@with_daemon
@as_json_option
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True, shell_complete=torrent_names)
def resume(daemon: Daemon, as_json: bool, patterns: tuple[str, ...]) -> None:
    """Let paused torrents go on."""
    _each(daemon, as_json, patterns, "POST", "/resume", "goes on")


@click.command(epilog="Example: bittern move 'debian-*' /mnt/archive")
@with_daemon
@click.option(
    "--look", is_flag=True, help="Their files lie there already: they are only looked for, and hashed."
)
@as_json_option
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True, shell_complete=torrent_names)
@click.argument("folder", metavar="FOLDER")
def move(daemon: Daemon, as_json: bool, look: bool, patterns: tuple[str, ...], folder: str) -> None:
    """Move the files of torrents to another folder of the configuration, or one in it.

    Also between disks, while peers are served. It goes on after a restart; `bittern log` tells when it is done. Moving
    a torrent to where it lies calls a move off.
    """
    where = quote(str(Path(folder).absolute()), safe="/")
    _each(
        daemon,
        as_json,
        patterns,
        "POST",
        f"/move?folder={where}" + "&look=true" * look,
        "is looked for there" if look else "is moved",
    )


def _each(
    daemon: Daemon, as_json: bool, patterns: tuple[str, ...], method: str, action: str, said: str
) -> None:
    found = daemon.torrents(patterns, ("info_hash", "name"))
    if not found:
        fail(EX_USAGE, "no torrent is meant")
    for one in found:
        daemon.ask(method, f"/api/v1/torrents/{one['info_hash']}{action}")
        if not as_json:
            click.echo(harmless(f"{one['info_hash'][:8]}  {one['name']}: {said}"))
    if as_json:
        click.echo(json.dumps(found, indent=2))
