"""Where the `bittern` command begins. It imports next to nothing, so that `run` hears signals from here on."""

import sys


def main() -> None:
    """Gives the word to the commands."""
    if sys.argv[1:2] != ["run"]:
        from bittern.cli.commands import bittern

        bittern()
        return
    from bittern.daemon.signals import kept_signals

    with kept_signals() as early:
        # Takes some tenths of a second, and a signal's own way of ending a program is not an orderly one.
        from bittern.cli.commands import bittern

        bittern(obj=early)
