"""How far a long command is, on a terminal's standard error; nowhere else."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress(label: str, total_bytes: int, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Gives what is told of each further portion."""
    if not shown or not sys.stderr.isatty() or total_bytes <= 0:
        yield lambda _: None
        return
    with click.progressbar(length=total_bytes, label=label, file=sys.stderr, width=30) as bar:
        yield bar.update
