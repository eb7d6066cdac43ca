"""A table that is looked at again and again, until interrupted."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.live import Live

from bittern.cli.terminal import watched_table

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
                live.update(
                    watched_table(heads, list(rows), right=right, height=console.height), refresh=True
                )
                time.sleep(EVERY_S)
    except KeyboardInterrupt:
        pass
