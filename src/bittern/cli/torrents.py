"""The commands that look at torrents: `list`, `info`, `files`, `peers`, `trackers`, `stats`, `log`."""

import json
import time
from typing import Any, Final

import click

from bittern.cli.completion import torrent_names
from bittern.cli.daemon import Daemon, as_json_option, with_daemon
from bittern.cli.terminal import (
    aligned,
    harmless,
    json_rows,
    print_facts,
    print_table,
    shown_tier,
    tier_facts,
)
from bittern.control.units import duration, rate, size

LIST_FIELDS: Final = (
    "info_hash",
    "name",
    "state",
    "progress",
    "size_bytes",
    "download_rate",
    "upload_rate",
    "eta_s",
    "ratio",
    "peers",
    "error",
)
HASH_SHOWN: Final = 8


@click.command("list", epilog="Example: bittern list 'debian-*'")
@with_daemon
@as_json_option
@click.option("--watch", is_flag=True, help="Keep looking, every two seconds, until interrupted.")
@click.option("--state", help="Only those in this state, such as downloading, seeding or error.")
@click.option("--label", help="Only those of this label.")
@click.argument("patterns", metavar="[TORRENT]...", nargs=-1, shell_complete=torrent_names)
def list_torrents(
    daemon: Daemon,
    as_json: bool,
    watch: bool,
    state: str | None,
    label: str | None,
    patterns: tuple[str, ...],
) -> None:
    """List torrents: all, or those whose name matches or whose info hash begins so."""

    def look(fields: tuple[str, ...]) -> list[dict[str, Any]]:
        found = daemon.torrents(patterns, fields)
        return [
            one
            for one in found
            if (state is None or one["state"] == state) and (label is None or label in one["labels"])
        ]

    if as_json:
        click.echo(json_rows(look(())))
        return
    fields = (*LIST_FIELDS, "labels")
    if watch:
        from bittern.cli.watching import watch_rows

        watch_rows(lambda: (HEADS, map(shown_row, look(fields))), right=RIGHT)
        return
    click.echo(aligned(HEADS, map(shown_row, look(fields)), right=RIGHT))


HEADS: Final = ("hash", "state", "done", "size", "down", "up", "left", "ratio", "peers", "name")
RIGHT: Final = ("done", "size", "down", "up", "left", "ratio", "peers")


def shown_row(one: dict[str, Any]) -> tuple[str, ...]:
    """As a list shows a torrent, under `HEADS`."""
    return (
        one["info_hash"][:HASH_SHOWN],
        one["state"],
        f"{int(one['progress'] * 1000) / 10:.1f} %",
        size(one["size_bytes"]),
        rate(one["download_rate"]),
        rate(one["upload_rate"]),
        duration(one["eta_s"]),
        f"{one['ratio']:.2f}" if one["ratio"] is not None else "",
        str(one["peers"] or ""),
        f"{one['name']}  ({one['error']})" if one["error"] else one["name"],
    )


@click.command(epilog="Example: bittern info debian-12.iso")
@with_daemon
@as_json_option
@click.argument("torrent", shell_complete=torrent_names)
def info(daemon: Daemon, as_json: bool, torrent: str) -> None:
    """Show one torrent: its state, sizes, rates, times and places."""
    one = _one(daemon, torrent)
    if as_json:
        click.echo(json.dumps(one, indent=2))
        return
    swarm = one["swarm_seeds"]
    print_facts(
        [
            ("name", one["name"]),
            ("info hash", one["info_hash"]),
            ("state", one["state"]),
            ("error", one["error"]),
            ("tried again in", duration(one["retry_in_s"])),
            ("done", f"{int(one['progress'] * 1000) / 10:.1f} %, {size(one['left_bytes'])} left"),
            (
                "size",
                f"{size(one['size_bytes'])} in {one['piece_count']} pieces of {size(one['piece_length'])}",
            ),
            ("down", f"{rate(one['download_rate']) or 0}, {size(one['downloaded_bytes'])} in all"),
            ("up", f"{rate(one['upload_rate']) or 0}, {size(one['uploaded_bytes'])} in all"),
            ("time left", duration(one["eta_s"])),
            ("ratio", f"{one['ratio']:.3f}" if one["ratio"] is not None else ""),
            ("peers", f"{one['peers']} connected, {one['peers_seeding']} of them seeds"),
            ("swarm", f"{swarm} seeds, {one['swarm_leechers']} leechers" if swarm is not None else ""),
            ("labels", ", ".join(one["labels"])),
            ("path", one["path"]),
            ("private", "yes" if one["private"] else ""),
            ("added", _when(one["added_at"])),
            ("completed", _when(one["completed_at"])),
            *tier_facts(one["trackers"]),
        ]
    )


@click.command(epilog="Example: bittern peers debian-12.iso")
@with_daemon
@as_json_option
@click.argument("torrent", shell_complete=torrent_names)
def peers(daemon: Daemon, as_json: bool, torrent: str) -> None:
    """Show who is connected for a torrent, the busiest first.

    The signs: D d we want (and are served), U u they want (and are served): the small letter waits; > we dialled.
    """
    found = _of(daemon, torrent, "peers")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    print_table(
        ("address", "signs", "has", "down", "up", "client"),
        (
            (
                f"[{one['address']}]:{one['port']}"
                if ":" in one["address"]
                else f"{one['address']}:{one['port']}",
                _signs(one),
                f"{int(one['progress'] * 1000) / 10:.1f} %",
                rate(one["download_rate"]),
                rate(one["upload_rate"]),
                one["client"],
            )
            for one in found
        ),
        right=("has", "down", "up"),
    )


def _signs(one: dict[str, Any]) -> str:
    down = ("d" if one["they_choke"] else "D") if one["we_want"] else ""
    up = ("u" if one["we_choke"] else "U") if one["they_want"] else ""
    return down + up + (">" if one["direction"] == "out" else "")


@click.command(epilog="Example: bittern trackers debian-12.iso --add udp://tracker.example.org:6969")
@with_daemon
@click.option("--add", multiple=True, metavar="URL", help="One more, in a tier of its own.")
@click.option("--remove", multiple=True, metavar="URL", help="One that it has is to be its tracker no more.")
@as_json_option
@click.argument("torrent", shell_complete=torrent_names)
def trackers(
    daemon: Daemon, as_json: bool, add: tuple[str, ...], remove: tuple[str, ...], torrent: str
) -> None:
    """Show a torrent's trackers: when each answered, and when it is asked next. Or change them.

    What is changed holds over restarts, and no drop of the same torrent adds trackers from then on. Exit status 64 for
    what is no tracker.
    """
    changes = {key: list(urls) for key, urls in (("add", add), ("remove", remove)) if urls}
    if changes:
        found = daemon.torrents((torrent,), ("info_hash",))
        daemon.ask("PATCH", f"/api/v1/torrents/{_single(found, torrent)}/trackers", json=changes)
    found = _of(daemon, torrent, "trackers")
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    print_table(
        ("tier", "answered", "next", "failures", "tracker"),
        (
            (
                shown_tier(one["tier"]),
                f"{duration(one['answered_s_ago'])} ago" if one["answered_s_ago"] is not None else "not yet",
                f"in {duration(one['next_in_s'])}" if one["next_in_s"] is not None else "",
                str(one["failures"] or ""),
                one["url"],
            )
            for one in found
        ),
        right=("tier", "failures"),
    )


@click.command(epilog="Example: bittern stats")
@with_daemon
@as_json_option
def stats(daemon: Daemon, as_json: bool) -> None:
    """Show the daemon: how many torrents in which state, and how fast they go."""
    told = daemon.ask("GET", "/api/v1/session")
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    states = f"{told['downloading']} downloading, {told['complete']} complete, {told['errors']} in error"
    print_facts(
        [
            ("version", told["version"]),
            ("torrents", f"{told['torrents']}: {states}"),
            ("peers", str(told["peers"])),
            ("down", rate(told["download_rate"]) or "0"),
            ("up", rate(told["upload_rate"]) or "0"),
            ("port", str(told["port"])),
            ("downloads", told["downloads"]),
            ("state folder", told["state_folder"]),
            ("set since", "\n".join(f"{key} = {told['limits'][key]}" for key in told["overrides"])),
        ]
    )


@click.command(epilog="Example: bittern log --json")
@with_daemon
@as_json_option
def log(daemon: Daemon, as_json: bool) -> None:
    """Print what happens, as it happens, until interrupted."""
    for event in daemon.events():
        if as_json:
            click.echo(json.dumps(event))
            continue
        told = dict(event)
        at = time.strftime("%H:%M:%S", time.localtime(told.pop("at", None)))
        level, name = told.pop("level", "info"), told.pop("event")
        rest = "  ".join(f"{key}={harmless(str(value))}" for key, value in told.items())
        click.echo(f"{at}  {level:7}  {name}  {rest}")


def _one(daemon: Daemon, pattern: str) -> dict[str, Any]:
    found = daemon.torrents((pattern,), ("info_hash",))
    return dict(daemon.ask("GET", f"/api/v1/torrents/{_single(found, pattern)}"))


def _of(daemon: Daemon, pattern: str, what: str) -> list[dict[str, Any]]:
    found = daemon.torrents((pattern,), ("info_hash",))
    answer = daemon.ask("GET", f"/api/v1/torrents/{_single(found, pattern)}/{what}")
    return list(answer[what])


def _single(found: list[dict[str, Any]], pattern: str) -> str:
    if len(found) != 1:
        from bittern.cli.daemon import EX_NOTFOUND, fail

        fail(EX_NOTFOUND, f"{len(found)} torrents are called {pattern!r}: name one by its info hash")
    return str(found[0]["info_hash"])


def _when(wall: float | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall)) if wall is not None else ""
