"""A table that is looked at again and again, until interrupted."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bittern.cli.terminal import harmless

EVERY_S: Final = 2.0


def watch_rows(
    look: Callable[[], tuple[Sequence[str], Iterable[Sequence[str]]]], *, right: Sequence[str]
) -> None:
    """Draws the rows that fit on the screen."""
    console = Console(highlight=False)
    try:
        with Live(console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while True:
                heads, rows = look()
                live.update(_table(heads, list(rows), right=right, height=console.height), refresh=True)
                time.sleep(EVERY_S)
    except KeyboardInterrupt:
        pass


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[str], height: int
) -> Table:
    """As many rows as fit, each on one line, and how many more there are."""
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for head in heads:
        table.add_column(
            head, justify="right" if head in right else "left", no_wrap=True, overflow="ellipsis"
        )
    room = max(1, height - 2)
    for row in rows[:room]:
        table.add_row(*(Text(harmless(cell)) for cell in row))
    if len(rows) > room:
        table.add_row(*("",) * (len(heads) - 1), Text(f"and {len(rows) - room} more", style="dim"))
    return table
