"""`bittern check-config`: is this file right?"""

import sys
from pathlib import Path

import click


@click.command(epilog="Example: bittern check-config /etc/bittern/bittern.toml")
@click.argument("file", type=click.Path(path_type=Path))
def check_config(file: Path) -> None:
    """Check a configuration FILE without running anything.

    Exit status 0 when it can be used; else 78, with one line for each fault.
    """
    from bittern.daemon.config import load_config
    from bittern.errors import ConfigError

    try:
        load_config(file)
    except ConfigError as error:
        for fault in error.faults:
            click.echo(fault, err=True)
        sys.exit(78)
    click.echo(f"{file}: OK")
