"""`bittern show`: what a .torrent says, and how its files will lie on disk."""

import io
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import click

EX_DATAERR: Final = 65

UNFOLDED_COLUMNS: Final = 10_000
"""Wide enough for any line that a program, or a person through a pager, wants whole."""


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
    click.echo(_harmless(f"{file}: {reason}"), err=True)
    sys.exit(EX_DATAERR)


def _print(told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a letter still shows the rest
    # only a terminal folds lines: a path that is cut in two can be neither searched nor copied
    console = Console(highlight=False, width=None if sys.stdout.isatty() else UNFOLDED_COLUMNS)
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")

    def fact(name: str, text: str) -> None:
        if text:
            # Text: what a torrent says is never markup
            facts.add_row(name, Text("\n".join(map(_harmless, text.splitlines()))))

    date = told["creation_date"]
    fact("name", told["name"])
    fact("info hash", told["info_hash"])
    fact(
        "size",
        f"{_size(told['total_bytes'])} in {len(told['files'])} file{'s' * (len(told['files']) != 1)}",
    )
    fact("pieces", f"{told['piece_count']} of {_size(told['piece_length'])}")
    fact("private", "yes" if told["private"] else "")
    for number, tier in enumerate(told["trackers"], 1):
        fact(f"tracker tier {number}", "\n".join(tier))
    fact("web seeds", "\n".join(told["web_seeds"]))
    fact("comment", told["comment"] or "")
    fact("created by", told["created_by"] or "")
    fact("created", datetime.fromtimestamp(date, UTC).strftime("%Y-%m-%d %H:%M UTC") if date else "")
    console.print(facts)
    console.print()
    files = Table(box=None, pad_edge=False, header_style="dim")
    files.add_column("size", justify="right", no_wrap=True)
    files.add_column("file", overflow="fold")
    for file in told["files"]:
        files.add_row(_size(file["length"]), Text(file["path"]))
    console.print(files)


def _size(count: int) -> str:
    """Bytes for people, in the units that pieces are made of."""
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{count} bytes" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def _harmless(text: str) -> str:
    """One line that does not steer the terminal, whatever it says."""
    return "".join(c if c.isprintable() else "·" for c in text)
