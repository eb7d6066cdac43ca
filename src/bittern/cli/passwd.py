"""`bittern passwd`: writes the file that `web.password_file` names."""

import os
import sys
from pathlib import Path

import click

from bittern.cli.terminal import harmless

EX_IOERR = 74


@click.command(epilog="Example: bittern passwd /etc/bittern/web.password")
@click.option(
    "--stdin", "piped", is_flag=True, help="Read the password from standard input, up to the line's end."
)
@click.argument("file", type=click.Path(path_type=Path))
def passwd(piped: bool, file: Path) -> None:
    """Ask for a password, and write its hash to FILE, for web.password_file.

    The file belongs to who runs this, and its group may read it: for the service, `chgrp bittern FILE`.
    """
    from bittern.control.access import hash_password

    password = (
        sys.stdin.readline().rstrip("\n")
        if piped
        else click.prompt("Password", hide_input=True, confirmation_prompt=True)
    )
    if not password:
        raise click.UsageError("An empty password keeps nobody out.")
    try:
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w") as out:  # noqa: PTH123 — with its mode
            out.write(hash_password(password) + "\n")
        beside.replace(file)
    except OSError as error:
        click.echo(harmless(f"{file}: cannot be written ({error.strerror})"), err=True)
        sys.exit(EX_IOERR)
