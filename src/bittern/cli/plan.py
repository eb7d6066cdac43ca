"""`bittern plan`: what would become of a drop, without dropping it."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click

from bittern.cli.configuration import HELP, configuration

EX_DATAERR: Final = 65
LINKS_SHOWN: Final = 20


@click.command(epilog="Example: bittern plan --watch /srv/bittern/drop/films film.torrent")
@click.option("--config", "named", metavar="FILE", help=HELP)
@click.option("--watch", metavar="FOLDER", help="As if it were dropped there; else where it lies.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.argument("file", type=click.Path(path_type=Path))
def plan(named: str | None, watch: str | None, as_json: bool, file: Path) -> None:
    """Say what dropping FILE would come to: folder, files, profiles and free space. Nothing is added.

    Of a .magnet each link is told of, as far as it is known without its metadata. A sidecar beside the file counts.
    Exit status 65, with one line saying why, when the file or its sidecar would be refused.
    """
    config = configuration(named)
    from bittern.cli.drop_plan import RefusedError, plan_drop
    from bittern.cli.terminal import harmless

    folder = os.path.abspath(watch) if watch else str(file.absolute().parent)
    try:
        told = plan_drop(config, file, folder)
    except RefusedError as error:
        click.echo(harmless(f"{file}: {error}"), err=True)
        sys.exit(EX_DATAERR)
    if as_json:
        click.echo(json.dumps(told, indent=2))
    elif "links" in told:
        _print_links(told)
    else:
        _print_torrent(told)


def _print_torrent(told: Mapping[str, Any]) -> None:
    from bittern.cli.terminal import print_facts, print_table
    from bittern.control.units import size

    print_facts([*_named(told), *_where(told), *_terms(told), ("space", _verdict(told["space"]))])
    click.echo()
    print_table(
        ("size", "", "file"),
        ([size(file["length"]), "" if file["wanted"] else "skipped", file["path"]] for file in told["files"]),
        right=("size",),
    )


def _print_links(told: Mapping[str, Any]) -> None:
    from bittern.cli.terminal import print_facts

    links, refused = told["links"], told["refused"]
    print_facts(_where(told))
    for link in links[:LINKS_SHOWN]:
        click.echo()
        files = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in link["select"])
        facts = [("line", str(link["line"])), *_named(link), *_terms(link)]
        print_facts([*facts, ("files", f"{files}  (the link)" if files else "")])
    if len(links) > LINKS_SHOWN:
        click.echo(f"\n{len(links) - LINKS_SHOWN} links more: --json shows all of them")
    if refused:
        click.echo()
        lines = [f"line {one['line']}: {one['reason']}" for one in refused[:LINKS_SHOWN]]
        if len(refused) > LINKS_SHOWN:
            lines.append(f"{len(refused) - LINKS_SHOWN} lines more")
        print_facts([("refused", "\n".join(lines))])


def _named(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [("name", told["name"]), ("info hash", told["info_hash"])]


def _where(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    watched = told["watch"] or "none: it would not be taken in where it lies"
    ignored = told["ignored"]
    return [
        ("watched folder", watched),
        ("ignored", f"{ignored}: rename it, or it is not taken in" if ignored else ""),
    ]


def _terms(told: Mapping[str, Any]) -> list[tuple[str, str]]:
    from bittern.control.units import duration, rate

    because = told["because"]

    def sourced(key: str, text: str, of: str = "") -> tuple[str, str]:
        source = because.get(of or key)
        return key, f"{text}  ({source})" if text and source else text

    rates = [
        f"{way} {rate(told[f'{way}_rate'])}  ({because[f'{way}_rate']})"
        for way in ("download", "upload")
        if told[f"{way}_rate"]
    ]
    ends = (
        ("seed_for_ever", "for ever" if told["seed_for_ever"] else ""),
        ("seed_ratio", f"until ratio {told['seed_ratio']:g}" if told["seed_ratio"] else ""),
        ("seed_idle_s", f"until idle for {duration(told['seed_idle_s'])}" if told["seed_idle_s"] else ""),
    )
    # who is seeded for ever has no end, whatever else is said
    seeding = [f"{text}  ({because[key]})" for key, text in ends if text][
        : 1 if told["seed_for_ever"] else None
    ]
    return [
        sourced("folder", told["folder"], "downloads"),
        ("until complete", told["incomplete_folder"] or ""),
        sourced("label", told["label"]),
        sourced("priority", str(told["priority"])),
        sourced("hooks", " ".join(told["hooks"])),
        sourced("take", " ".join(told["take"])),
        sourced("skip", " ".join(told["skip"])),
        ("rates", "\n".join(rates)),
        ("seeding", "\n".join(seeding)),
        *(sourced(key, told[key] or "") for key in ("file_mode", "folder_mode", "group")),
    ]


def _verdict(space: Mapping[str, int]) -> str:
    from bittern.control.units import size

    if not space:
        return ""
    verdict = f"{size(space['needed_bytes'])} of {size(space['free_bytes'])} free"
    verdict += f", {size(space['reserve_bytes'])} stay free"
    missing = space["missing_bytes"]
    return verdict + (f": {size(missing)} are missing, it would wait" if missing else ": it fits")
