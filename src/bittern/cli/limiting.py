"""The commands about what holds for single torrents: `limit` and `explain`."""

import json
import math
import re
from typing import Any, Final

import click

from bittern.cli.completion import torrent_names
from bittern.cli.daemon import EX_USAGE, Daemon, fail, with_daemon
from bittern.cli.terminal import harmless, print_facts
from bittern.control.units import duration, size

PRIORITIES: Final = {"low": -1, "normal": 0, "high": 1}
MODES: Final = ("rules", "never")


@click.command(epilog="Example: bittern limit debian-12.iso --down 1M --up 500K --ratio 2")
@with_daemon
@click.option(
    "--down", metavar="RATE", help='Bytes a second, such as 500K or "1 MB/s"; 0 stops, none lifts it.'
)
@click.option("--up", metavar="RATE", help="The same of what others are given.")
@click.option(
    "--peers", metavar="N", type=click.IntRange(0, 65535), help="At most so many; 0 as any torrent."
)
@click.option(
    "--ratio", metavar="R", help="Stopped once it is reached; never: by no ratio; rules: as the rules say."
)
@click.option(
    "--idle", metavar="TIME", help="Stopped once nobody asked for so long, such as 3h; never; rules."
)
@click.option("--priority", type=click.Choice(tuple(PRIORITIES)), help="Whose turn comes more often.")
@click.option("--heed/--ignore", default=None, help="Do the limits for all hold for it too?")
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True, shell_complete=torrent_names)
def limit(
    daemon: Daemon,
    as_json: bool,
    patterns: tuple[str, ...],
    **wanted: Any,
) -> None:
    """Set limits of single torrents, beside those for all, or show them.

    They hold at once and over restarts. Exit status 64 when a value cannot be.
    """
    changes = _changes(**wanted)
    told = []
    found = daemon.torrents(patterns, ("info_hash", "name"))
    if not found:
        fail(EX_USAGE, "no torrent is meant")
    for one in found:
        path = f"/api/v1/torrents/{one['info_hash']}/limits"
        limits = daemon.ask("PATCH", path, json=changes) if changes else daemon.ask("GET", path)
        told.append({**one, "limits": limits})
        if not as_json:
            click.echo(harmless(f"{one['info_hash'][:8]}  {one['name']}: {_said(limits)}"))
    if as_json:
        click.echo(json.dumps(told, indent=2))


@click.command(epilog="Example: bittern explain debian-12.iso")
@with_daemon
@click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
@click.argument("patterns", metavar="TORRENT...", nargs=-1, required=True, shell_complete=torrent_names)
def explain(daemon: Daemon, as_json: bool, patterns: tuple[str, ...]) -> None:
    """Tell why torrents do what they do: what each waits for, and which seed rule does what to it, when."""
    found = daemon.torrents(patterns, ("info_hash",))
    if not found:
        fail(EX_USAGE, "no torrent is meant")
    told = [daemon.ask("GET", f"/api/v1/torrents/{one['info_hash']}/explain") for one in found]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for one in told:
        print_facts(
            [
                ("torrent", f"{one['info_hash'][:8]}  {one['name']}"),
                ("now", one["standing"]),
                ("limits", "\n".join(one["limits"])),
                ("seeding", one["seeding"]),
            ]
        )


def _changes(
    down: str | None,
    up: str | None,
    peers: int | None,
    ratio: str | None,
    idle: str | None,
    priority: str | None,
    heed: bool | None,
) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    for way, written in (("download", down), ("upload", up)):
        if written is not None:
            changes |= _rate(way, written)
    if peers is not None:
        changes["max_peers"] = peers
    if ratio is not None:
        changes |= (
            {"seed_ratio_mode": ratio} if ratio in MODES else _own("seed_ratio", "seed_ratio", _ratio(ratio))
        )
    if idle is not None:
        changes |= (
            {"seed_idle_mode": idle} if idle in MODES else _own("seed_idle", "seed_idle_s", _time(idle))
        )
    if priority is not None:
        changes["bandwidth_priority"] = PRIORITIES[priority]
    if heed is not None:
        changes["heeds_session"] = heed
    return changes


def _own(kind: str, field: str, value: float) -> dict[str, Any]:
    return {f"{kind}_mode": "own", field: value}


def _rate(way: str, written: str) -> dict[str, Any]:
    from bittern.daemon.sizes import parse_rate

    if written == "none":
        return {f"{way}_limited": False}
    # a bare letter is what one types; the configuration file wants it written out
    spelled = re.sub(r"(?<=[0-9])\s*([KMGkmg])\s*(?=$|/)", lambda found: f" {found[1].upper()}iB", written)
    try:
        if written.isdecimal():
            spelled = f"{written} B"
        return {f"{way}_limited": True, f"{way}_rate": float(parse_rate(spelled))}
    except ValueError as error:
        fail(EX_USAGE, f"{written!r}: {error}")


def _ratio(written: str) -> float:
    try:
        ratio = float(written)
    except ValueError:
        ratio = math.nan
    if not math.isfinite(ratio):
        fail(EX_USAGE, f"{written!r} is no ratio: a number, never, or rules")
    return ratio


def _time(written: str) -> float:
    from bittern.daemon.durations import parse_duration

    try:
        return float(parse_duration(written))
    except ValueError as error:
        fail(EX_USAGE, f"{written!r}: {error}")


def _said(limits: dict[str, Any]) -> str:
    said = []
    for way, word in (("download", "down"), ("upload", "up")):
        if limits[f"{way}_limited"]:
            said.append(f"{word} {size(limits[f'{way}_rate'])}/s")
    if limits["max_peers"]:
        said.append(f"{limits['max_peers']} peers")
    for kind, word, value in (
        ("seed_ratio", "ratio", f"{limits['seed_ratio']:g}"),
        ("seed_idle", "idle", duration(limits["seed_idle_s"])),
    ):
        if limits[f"{kind}_mode"] != "rules":
            said.append(f"{word} {value if limits[f'{kind}_mode'] == 'own' else 'never'}")
    if limits["bandwidth_priority"]:
        said.append(f"priority {'high' if limits['bandwidth_priority'] > 0 else 'low'}")
    if not limits["heeds_session"]:
        said.append("does not heed the limits for all")
    return ", ".join(said) or "no limits of its own"
