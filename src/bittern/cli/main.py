"""Where the `bittern` command begins. It imports next to nothing, so that `run` hears signals from here on."""

import gc
import sys


def main() -> None:
    """Gives the word to the commands."""
    early = None
    if sys.argv[1:2] == ["run"]:
        from bittern.daemon.signals import keep_signals

        early = keep_signals()
        # to look for garbage in what is imported takes a tenth of the start, and finds a megabyte
        gc.disable()
    from bittern.cli.commands import bittern

    bittern(obj=early)
