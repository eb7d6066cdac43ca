"""`bittern show`: what a .torrent says, and how its files will lie on disk."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import click

EX_DATAERR: Final = 65


@click.command(epilog="Example: bittern show debian-12.torrent")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.argument("file", type=click.Path(path_type=Path))
def show(file: Path, as_json: bool) -> None:
    """Show what is in a .torrent FILE.

    Exit status 65, with one line saying why, when bittern would refuse it.
    """
    from bittern.disk.paths import plan_paths
    from bittern.errors import MetainfoError
    from bittern.proto.metainfo import MAX_METAINFO_BYTES, parse_metainfo

    try:
        with file.open("rb") as opened:
            metainfo = parse_metainfo(opened.read(MAX_METAINFO_BYTES + 1))
    except OSError as error:
        _refuse(file, f"cannot be read ({error.strerror})")
    except MetainfoError as error:
        _refuse(file, str(error))
    paths = plan_paths(metainfo)
    told = {
        "name": metainfo.name,
        "info_hash": metainfo.info_hash.hex(),
        "total_bytes": metainfo.listed_bytes,
        "piece_length": metainfo.piece_length,
        "piece_count": metainfo.piece_count,
        "private": metainfo.private,
        "trackers": [list(tier) for tier in metainfo.trackers],
        "web_seeds": list(metainfo.web_seeds),
        "files": [
            {"path": path, "length": entry.length}
            for path, entry in zip(paths, metainfo.files, strict=True)
            if path is not None
        ],
        "comment": metainfo.comment,
        "created_by": metainfo.created_by,
        "creation_date": metainfo.creation_date,
    }
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        _print(told)


def _refuse(file: Path, reason: str) -> NoReturn:
    from bittern.cli.terminal import harmless

    click.echo(harmless(f"{file}: {reason}"), err=True)
    sys.exit(EX_DATAERR)


def _print(told: dict[str, Any]) -> None:
    from bittern.cli.terminal import print_facts, print_table, tier_facts
    from bittern.control.units import size

    date, files = told["creation_date"], told["files"]
    print_facts(
        [
            ("name", told["name"]),
            ("info hash", told["info_hash"]),
            ("size", f"{size(told['total_bytes'])} in {len(files)} file{'s' * (len(files) != 1)}"),
            ("pieces", f"{told['piece_count']} of {size(told['piece_length'])}"),
            ("private", "yes" if told["private"] else ""),
            *tier_facts(told["trackers"]),
            ("web seeds", "\n".join(told["web_seeds"])),
            ("comment", told["comment"] or ""),
            ("created by", told["created_by"] or ""),
            ("created", datetime.fromtimestamp(date, UTC).strftime("%Y-%m-%d %H:%M UTC") if date else ""),
        ]
    )
    click.echo()
    print_table(("size", "file"), ([size(file["length"]), file["path"]] for file in files), right=("size",))
