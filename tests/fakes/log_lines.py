"""The lines of the log as what they say, instead of on a descriptor."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bittern.daemon.logs import Level, get_log


@contextmanager
def log_lines() -> Iterator[list[dict[str, Any]]]:
    """Every line told meanwhile, of all levels: its fields, with `event` and `level`."""
    lines: list[dict[str, Any]] = []

    def write(level: Level, event: str, fields: dict[str, Any]) -> None:
        lines.append({**fields, "event": event, "level": level})

    with log_led_elsewhere():
        get_log().lead(write, "debug")
        yield lines


@contextmanager
def log_led_elsewhere() -> Iterator[None]:
    """Afterwards the log goes where it went before."""
    log = get_log()
    before = log.writes, log.least
    try:
        yield
    finally:
        log.lead(*before)
