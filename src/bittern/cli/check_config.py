"""`bittern check-config`: is this file right?"""

import json
import os
import sys
from pathlib import Path

import click


@click.command(epilog="Example: bittern check-config /etc/bittern/bittern.toml")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@click.argument("file", type=click.Path(path_type=Path))
def check_config(file: Path, as_json: bool) -> None:
    """Check a configuration FILE without running anything.

    Exit status 0 when it can be used; else 78, with one line for each fault. What may not be
    meant is remarked on.
    """
    from bittern.cli.configuration import unit_environ
    from bittern.daemon.config import load_config
    from bittern.daemon.config_rules import remarks
    from bittern.daemon.overrides import Overrides
    from bittern.errors import ConfigError

    faults: tuple[str, ...] = ()
    told: list[str] = []
    try:
        # also before the unit starts, which then says itself where its state is
        config = load_config(file, environ={**unit_environ(file), **os.environ})
        told = remarks(config)
    except ConfigError as error:
        faults = error.faults
    if as_json:
        click.echo(json.dumps({"ok": not faults, "faults": list(faults), "remarks": told}, indent=2))
        sys.exit(78 if faults else 0)
    if faults:
        for fault in faults:
            click.echo(fault, err=True)
        sys.exit(78)
    click.echo(f"{file}: OK")
    for remark in told:
        click.echo(f"  {remark}", err=True)
    overrides = Overrides(Path(config.paths.state))
    unfit = overrides.load(config.engine())
    if unfit:
        click.echo(f"  {unfit}", err=True)
    for key, value in overrides.values.items():
        click.echo(f"  {key} = {value} was set while bittern ran, and holds instead of what the file says")
