"""Which daemon a command means: by the configuration file that is named, or the one that is there."""

import contextlib
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


def configuration(named: str | None, *, places: bool = False) -> "Config":
    """What the daemon was told; ends the command with a line for each fault. With `places` only faults in `paths` and
    `control` do: of the rest the daemon that runs may have read another version, and just now it may have to be asked.
    """
    from bittern.daemon.config import default_config, load_config, load_places
    from bittern.errors import ConfigError

    if named is None and not os.path.exists(DEFAULT_CONFIG):  # noqa: PTH110 — False where one may not look
        return default_config(Path.cwd())
    path = Path(named) if named is not None else DEFAULT_CONFIG
    environ = unit_environ(path)
    try:
        return load_config(path, environ=environ)
    except ConfigError as error:
        if places:
            with contextlib.suppress(ConfigError):
                found = load_places(path, usual=path == DEFAULT_CONFIG, environ=environ)
                count = len(error.faults)
                click.echo(
                    f"{path} has {count} fault{'s' if count > 1 else ''} (bittern check-config names them); "
                    "a daemon that runs goes by what it has read before",
                    err=True,
                )
                return found
        for fault in error.faults:
            click.echo(fault, err=True)
        sys.exit(EX_CONFIG)


def unit_environ(path: Path) -> Mapping[str, str]:
    """What systemd tells `bittern@NAME` of its state folder, told to whoever looks from outside. Also of one that has
    never run, and has none yet: by the default folder its commands would go to the main daemon.
    """
    beside_usual = os.path.realpath(path.parent) == os.path.realpath(DEFAULT_CONFIG.parent)
    if beside_usual and path.suffix == DEFAULT_CONFIG.suffix and path.name != DEFAULT_CONFIG.name:
        return {"STATE_DIRECTORY": f"/var/lib/bittern-{path.stem}"}
    return {}
