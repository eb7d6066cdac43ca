"""`bittern help`: all commands, or one of them."""

import click


@click.command("help", epilog="Example: bittern help add")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def show_help(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show what there is, or how a COMMAND is used."""
    at = ctx.parent if ctx.parent is not None else ctx
    for word in words:
        group = at.command
        found = group.get_command(at, word) if isinstance(group, click.Group) else None
        if found is None:
            raise click.UsageError(f"there is no command {' '.join(words)!r}; `bittern help` lists them")
        at = click.Context(found, at, word)
    click.echo(at.get_help())
