"""The commands that change something: `add`, `remove`, `pause`, `resume`, `move`, `recheck`, `reannounce`."""

from pathlib import Path
from urllib.parse import quote

import click

from bittern.cli.daemon import EX_IOERR, EX_USAGE, Daemon, fail, with_daemon
from bittern.cli.terminal import harmless

SAID = {"added": "added", "known": "is there already", "merged": "is there already, and has new trackers now"}


@click.command(epilog="Example: bittern add debian-12.torrent")
@with_daemon
@click.option(
    "--downloads", metavar="FOLDER", help="Where its files go: a folder of the configuration, or one in it."
)
@click.option("--label", help="A word of your own, which hooks are told.")
@click.argument("files", metavar="FILE|MAGNET...", nargs=-1, required=True)
def add(daemon: Daemon, downloads: str | None, label: str | None, files: tuple[str, ...]) -> None:
    """Add torrents from .torrent files, which stay where they are, or by magnet links.

    Exit status 64 when a file is no torrent, 74 when it cannot be read; the others are added all the same.
    """
    terms = {"downloads": str(Path(downloads).absolute()) if downloads else None, "label": label}
    params = {key: value for key, value in terms.items() if value is not None}
    failed = 0
    for file in files:
        try:
            blob = file.encode() if file.lower().startswith("magnet:") else Path(file).read_bytes()
        except OSError as error:
            click.echo(harmless(f"{file}: cannot be read ({error.strerror})"), err=True)
            failed = EX_IOERR
            continue
        try:
            told = daemon.ask("POST", "/api/v1/torrents", params=params, content=blob)
        except SystemExit as refused:
            if refused.code != EX_USAGE:
                raise
            failed = EX_USAGE
            continue
        click.echo(harmless(f"{told['info_hash'][:8]}  {told['name']}: {SAID[told['result']]}"))
    if failed:
        raise SystemExit(failed)


@click.command(epilog="Example: bittern remove 'debian-11*'")
@with_daemon
@click.option(
    "--data", is_flag=True, help="Delete their files too: those that bittern made, and folders left empty."
)
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True)
def remove(daemon: Daemon, data: bool, patterns: tuple[str, ...]) -> None:
    """Stop torrents and forget them; their files stay, unless --data is given."""
    _each(daemon, patterns, "DELETE", "?data=true" * data, "removed with its files" if data else "removed")


@click.command(epilog="Example: bittern recheck debian-12.iso")
@with_daemon
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True)
def recheck(daemon: Daemon, patterns: tuple[str, ...]) -> None:
    """Hash all data of torrents again; peers wait until it is done."""
    _each(daemon, patterns, "POST", "/recheck", "is checked again")


@click.command(epilog="Example: bittern reannounce debian-12.iso")
@with_daemon
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True)
def reannounce(daemon: Daemon, patterns: tuple[str, ...]) -> None:
    """Ask trackers and the DHT for more peers, as soon as they allow."""
    _each(daemon, patterns, "POST", "/reannounce", "asks for peers")


@click.command(epilog="Example: bittern pause '*'")
@with_daemon
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True)
def pause(daemon: Daemon, patterns: tuple[str, ...]) -> None:
    """Stop torrents until they are resumed, also over restarts."""
    _each(daemon, patterns, "POST", "/pause", "is paused")


@click.command(epilog="Example: bittern resume '*'")
@with_daemon
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True)
def resume(daemon: Daemon, patterns: tuple[str, ...]) -> None:
    """Let paused torrents go on."""
    _each(daemon, patterns, "POST", "/resume", "goes on")


@click.command(epilog="Example: bittern move 'debian-*' /mnt/archive")
@with_daemon
@click.option(
    "--look", is_flag=True, help="Their files lie there already: they are only looked for, and hashed."
)
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True)
@click.argument("folder", metavar="FOLDER")
def move(daemon: Daemon, look: bool, patterns: tuple[str, ...], folder: str) -> None:
    """Move the files of torrents to another folder of the configuration, or one in it.

    Also between disks, while peers are served. It goes on after a restart; `bittern log` tells when it is done. Moving
    a torrent to where it lies calls a move off.
    """
    where = quote(str(Path(folder).absolute()), safe="/")
    _each(
        daemon,
        patterns,
        "POST",
        f"/move?folder={where}" + "&look=true" * look,
        "is looked for there" if look else "is moved",
    )


def _each(daemon: Daemon, patterns: tuple[str, ...], method: str, action: str, said: str) -> None:
    found = daemon.torrents(patterns, ("info_hash", "name"))
    if not found:
        fail(EX_USAGE, "no torrent is meant")
    for one in found:
        daemon.ask(method, f"/api/v1/torrents/{one['info_hash']}{action}")
        click.echo(harmless(f"{one['info_hash'][:8]}  {one['name']}: {said}"))
