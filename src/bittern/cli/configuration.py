"""Which daemon a command means: by the configuration file that is named, or the one that is there."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from bittern.daemon.config import Config

EX_CONFIG: Final = 78
DEFAULT_CONFIG: Final = Path("/etc/bittern/bittern.toml")

HELP: Final = (
    f"The daemon's configuration file; else {DEFAULT_CONFIG}, or what `bittern run` uses without one."
)


def configuration(named: str | None) -> "Config":
    """What the daemon was told; ends the command with a line for each fault."""
    from bittern.daemon.config import default_config, load_config
    from bittern.errors import ConfigError

    try:
        if named is None and not os.path.exists(DEFAULT_CONFIG):  # noqa: PTH110 — False where one may not look
            return default_config(Path.cwd())
        path = Path(named) if named is not None else DEFAULT_CONFIG
        return load_config(path, environ=_environ(path.absolute()))
    except ConfigError as error:
        for fault in error.faults:
            click.echo(fault, err=True)
        sys.exit(EX_CONFIG)


def _environ(path: Path) -> Mapping[str, str]:
    """What systemd tells `bittern@NAME` of its state folder, told to whoever looks from outside."""
    state = Path(f"/var/lib/bittern-{path.stem}")
    if path.parent == DEFAULT_CONFIG.parent and path != DEFAULT_CONFIG and os.path.exists(state):  # noqa: PTH110 — as above
        return {"STATE_DIRECTORY": str(state)}
    return {}
