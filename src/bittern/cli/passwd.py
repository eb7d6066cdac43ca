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
    from bittern.control.access import PASSWORD_BYTES_AT_MOST, hash_password

    try:
        password = (
            sys.stdin.readline().rstrip("\n")
            if piped
            else click.prompt("Password", hide_input=True, confirmation_prompt=True)
        )
    except UnicodeDecodeError as error:
        raise click.UsageError("That is no text.") from error
    if not password:
        raise click.UsageError("An empty password keeps nobody out.")
    if not password.isprintable() or len(password.encode()) > PASSWORD_BYTES_AT_MOST:
        # nobody could type the one, and what sends it is not to be asked for more than the other
        raise click.UsageError(
            f"A password has letters, digits and signs, at most {PASSWORD_BYTES_AT_MOST} bytes of them."
        )
    try:
        beside = file.with_name(f".{file.name}.{os.getpid()}")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640), "w") as out:  # noqa: PTH123 — with its mode
            out.write(hash_password(password) + "\n")
        beside.replace(file)
    except OSError as error:
        click.echo(harmless(f"{file}: cannot be written ({error.strerror})"), err=True)
        sys.exit(EX_IOERR)
