"""What people see: aligned text that no torrent's name can steer.

rich's door, with `watching.py`; it is opened when something is drawn.
"""

import io
import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

UNFOLDED_COLUMNS: Final = 10_000
"""Wide enough for any line that a program, or a person through a pager, wants whole."""


def harmless(text: str) -> str:
    """One line that does not steer the terminal, whatever it says."""
    return "".join(c if c.isprintable() else "·" for c in text)


def shown_tier(index: int) -> str:
    """A tier of trackers as people count them; programs are told of the first as 0."""
    return str(index + 1)


def tier_facts(tiers: Iterable[Sequence[str]]) -> list[tuple[str, str]]:
    """A torrent's trackers for `print_facts`."""
    return [(f"tracker tier {shown_tier(index)}", "\n".join(tier)) for index, tier in enumerate(tiers)]


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Names and texts (of any number of lines) in two columns; empty ones are left out."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in facts:
        if text:
            # Text: what a torrent says is never markup
            table.add_row(name, Text("\n".join(map(harmless, text.splitlines()))))
    _console().print(table)


def print_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> None:
    """Rows under their heads; columns named in `right` are numbers, the last column may fold."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in heads:
        table.add_column(
            head,
            justify="right" if head in right else "left",
            no_wrap=head != heads[-1],
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    _console().print(table)


def aligned(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[str] = ()) -> str:
    """The same as plain text: ten thousand rows in no time. The last column is not padded."""
    table = [tuple(heads), *(tuple(map(harmless, row)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    numbers = [head in right for head in heads]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(row, widths, numbers, strict=True)
        ).rstrip()
        for row in table
    )


def json_rows(rows: Iterable[object]) -> str:
    """A JSON array, a row a line: Python's encoder is four times as fast without indentation."""
    inner = ",\n".join(map(json.dumps, rows))
    return f"[\n{inner}\n]"


def _console() -> "Console":
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that lacks a letter still shows the rest
    # only a terminal folds lines: a path that is cut in two can be neither searched nor copied
    return Console(highlight=False, width=None if sys.stdout.isatty() else UNFOLDED_COLUMNS)
