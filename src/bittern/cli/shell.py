"""`bittern shell`: the same commands at a prompt, with history and completion. readline's door."""

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from bittern.cli.daemon import which_daemon

PROMPT: Final = "bittern> "
HISTORY_LINES: Final = 1000
NOT_HERE: Final = frozenset({"run", "shell"})
"""They would not come back."""

WORDS_OF_END: Final = frozenset({"exit", "quit", "q"})
FILES: Final = frozenset({"add", "download", "create", "verify", "show", "plan", "check-config", "passwd"})


@click.command(epilog="Example: bittern shell")
@which_daemon
@click.pass_context
def shell(ctx: click.Context) -> None:
    """Type commands at a prompt: `list`, `download PATH`, `show NAME`, `help`, ... until `quit` or Ctrl-D.

    Every command of bittern is there, with its options; Tab completes, the arrow keys bring back earlier lines. Lines
    can also be piped in: then the exit status is that of the last one that failed.
    """
    assert ctx.parent is not None
    prompt = Prompt(ctx.parent)
    if sys.stdin.isatty():
        click.echo("Commands, `help` for all of them; `quit` or Ctrl-D ends.")
        _converse(prompt)
    else:
        status = 0
        for line in sys.stdin:
            if line.strip() in WORDS_OF_END:
                break
            status = prompt.obey(line) or status
        sys.exit(status)


def _converse(prompt: "Prompt") -> None:
    import readline

    history = _history()
    try:
        readline.read_history_file(history)
    except OSError:
        pass  # the first time, or not ours to read
    readline.set_history_length(HISTORY_LINES)
    readline.set_completer_delims(" \t\n")
    readline.set_completer(_completer(prompt))
    readline.parse_and_bind("tab: complete")
    try:
        while True:
            try:
                line = input(PROMPT)
            except KeyboardInterrupt:
                click.echo()
                continue
            except EOFError:
                click.echo()
                break
            if line.strip() in WORDS_OF_END:
                break
            prompt.obey(line)
    finally:
        try:
            history.parent.mkdir(parents=True, exist_ok=True)
            # links with keys in them are nobody else's affair
            os.close(os.open(history, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
            readline.write_history_file(history)
        except OSError:
            pass


def _history() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "bittern" / "history"


def _completer(prompt: "Prompt") -> Callable[[str, int], str | None]:
    import readline

    offered: list[str] = []

    def complete(beginning: str, state: int) -> str | None:
        nonlocal offered
        if state == 0:
            offered = prompt.complete(readline.get_line_buffer()[: readline.get_begidx()], beginning)
        return offered[state] if state < len(offered) else None

    return complete


class Prompt:
    """Runs lines as if they were the command's arguments, below the context of the program."""

    def __init__(self, top: click.Context) -> None:
        self._top = top

    def obey(self, line: str) -> int:
        """The exit status; what is wrong is told, and nothing that a command does ends the prompt."""
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            click.echo(f"{error}: quote names with spaces as in 'a b'", err=True)
            return 2
        if not words:
            return 0
        words = _as_commands(words)
        if words[0] in NOT_HERE:
            click.echo(f"{words[0]} is not for this prompt", err=True)
            return 2
        group = self._top.command
        assert isinstance(group, click.Group)
        try:
            name, command, rest = group.resolve_command(self._top, words)
            assert command is not None
            with command.make_context(name, rest, parent=self._top) as made:
                command.invoke(made)
        except click.exceptions.Exit as end:
            return end.exit_code
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort:
            return 1
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        except KeyboardInterrupt:
            click.echo()
        return 0

    def complete(self, before: str, beginning: str) -> list[str]:
        """What may stand for the word that begins so, behind that part of the line."""
        from click.shell_completion import ShellComplete

        from bittern.cli.completion import file_names

        try:
            words = shlex.split(before)
        except ValueError:
            return []
        if words and words[0] in FILES and not beginning.startswith("-"):
            found_files = [_quoted(name) for name in file_names(beginning)]
            if found_files or words[0] != "show":
                return found_files
        if words:
            words = ["info", *words[1:]] if words[0] in {"show", "s"} else words
        completer = ShellComplete(self._top.command, {"parent": self._top}, "", "")
        found = completer.get_completions(words, beginning)
        return [_quoted(one.value) + " " for one in found if one.type == "plain"]


def _quoted(word: str) -> str:
    return word if word.endswith("/") and " " not in word else shlex.quote(word)


def _is_there(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):
        return False  # longer than a name can be


def _as_commands(words: list[str]) -> list[str]:
    """In etorrent `show` is of torrents; ours is of .torrent files, unless none of that name is there."""
    if words[0] in {"show", "s"} and not any(
        _is_there(word) or word.endswith(".torrent") for word in words[1:]
    ):
        return ["info", *words[1:]]
    return words
