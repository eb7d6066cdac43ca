"""`add --wait`: until what was added is complete."""

import time
from collections.abc import Sequence
from typing import Any, Final

import click

from bittern.cli.daemon import EX_IOERR, EX_NOTFOUND, Daemon
from bittern.cli.progress import progress
from bittern.cli.terminal import harmless

EVERY_S: Final = 1.0
FIELDS: Final = ("info_hash", "name", "state", "error", "wanted_bytes", "left_bytes")
UNSURE: Final = frozenset({"metadata", "queued", "checking", "moving"})
"""Of a torrent in these what is left is not known yet, or it is not where it belongs."""


def wait_complete(daemon: Daemon, added: Sequence[dict[str, Any]], *, shown: bool) -> int:
    """The exit status: 0 when all of them are complete. One that is stopped, removed or fails is told of and not waited
    for.
    """
    status = 0
    for one in added:
        status = _wait(daemon, one["info_hash"], one["name"], shown=shown) or status
    return status


def _wait(daemon: Daemon, info_hash: str, name: str, *, shown: bool) -> int:
    found = _look(daemon, info_hash)
    while found is not None and found["state"] in UNSURE:
        time.sleep(EVERY_S)
        found = _look(daemon, info_hash)
    done, whole = 0, found["wanted_bytes"] if found is not None else 0
    with progress(harmless(found["name"] if found is not None else name), whole, shown=shown) as advance:
        while found is not None and found["state"] not in {"error", "stopped"}:
            advance(whole - found["left_bytes"] - done)
            done = whole - found["left_bytes"]
            if not found["left_bytes"] and found["state"] not in UNSURE:
                return 0
            time.sleep(EVERY_S)
            found = _look(daemon, info_hash)
    if found is None:
        click.echo(harmless(f"{name}: was removed"), err=True)
        return EX_NOTFOUND
    if found["state"] == "stopped" and not found["left_bytes"]:
        return 0
    click.echo(harmless(f"{found['name']}: {found['error'] or 'is paused'}"), err=True)
    return EX_IOERR


def _look(daemon: Daemon, info_hash: str) -> dict[str, Any] | None:
    return next(iter(daemon.torrents((info_hash,), FIELDS, there=False)), None)
