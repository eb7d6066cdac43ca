"""The log: one line per event that an administrator cares about, told once what it says is true.

Three ways of writing a line: for people, as JSON for programs, with a priority for the journal. Every line
leaves with one `write`, unbuffered. Names from the wild can neither break a line nor steer a terminal.

A package for such lines (structlog) takes a seventh of all that is imported at the start, and its own part of a line
was two dozen lines of ours.
"""

import json
import logging
import os
import select
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Style: TypeAlias = Literal["json", "console", "colour", "journal"]
Writes: TypeAlias = Callable[[Level, str, dict[str, Any]], None]

LEVELS: Final[dict[str, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

QUIET_LIBRARIES: Final = ("httpx", "httpcore", "watchdog")
"""They log each request with its URL, in which trackers carry passkeys, and each file event."""

_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31"}


class Log:
    """One line a call; `exc_info` is an exception whose traceback follows. From any thread."""

    def __init__(self, writes: Writes) -> None:
        self.lead(writes, "debug")

    def lead(self, writes: Writes, level: str) -> None:
        """Lines of that level and above go there from now on, and others nowhere."""
        self.writes, self.least = writes, level
        self._least = LEVELS[level]

    def debug(self, event: str, /, **fields: Any) -> None:
        if self._least <= 10:
            self.writes("debug", event, fields)

    def info(self, event: str, /, **fields: Any) -> None:
        if self._least <= 20:
            self.writes("info", event, fields)

    def warning(self, event: str, /, **fields: Any) -> None:
        if self._least <= 30:
            self.writes("warning", event, fields)

    def error(self, event: str, /, **fields: Any) -> None:
        self.writes("error", event, fields)


def setup_logs(level: str, form: str, *, fd: int = 1, environ: Mapping[str, str] = os.environ) -> None:
    """`form` is `log.format` of the configuration; may be called again to change both in a running daemon."""
    _log.lead(_Lines(LineWriter(fd), choose_style(form, fd, environ)).write, level)
    _route_libraries()


def get_log() -> Log:
    """The logger; what it does is decided when a line is written, so it may be got before `setup_logs`."""
    return _log


def choose_style(form: str, fd: int, environ: Mapping[str, str]) -> Style:
    """`auto`: colours on a terminal, priorities when the journal reads, plain lines for a file or a pipe."""
    if form == "json":
        return "json"
    terminal = os.isatty(fd)
    if form == "auto" and not terminal and _is_journal(fd, environ.get("JOURNAL_STREAM", "")):
        return "journal"
    return (
        "colour" if terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb" else "console"
    )


def _is_journal(fd: int, stream: str) -> bool:
    """Is this the device and inode that systemd said it connected to the journal?"""
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


class LineWriter:
    """Whole lines to a descriptor, from any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        """A reader that is gone costs the line, never the daemon."""
        rest = memoryview(line.encode("utf-8", "backslashreplace") + b"\n")
        with self._lock:
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:
                    # Whoever started us made the descriptor non-blocking: wait as a blocking one would.
                    select.select([], [self._fd], [])
                except OSError:
                    return


class _Lines:
    """Makes a line of each event."""

    def __init__(self, writer: LineWriter, style: Style) -> None:
        self._writer = writer
        self._style = style

    def write(self, level: Level, event: str, fields: dict[str, Any]) -> None:
        self._writer.write(self._text(level, event, fields))

    def _text(self, level: Level, event: str, fields: dict[str, Any]) -> str:
        now = datetime.now(UTC)
        error = fields.pop("exc_info", None)
        trace = "" if error is None else "".join(traceback.format_exception(error)).rstrip("\n")
        plain = {key: _plain(value) for key, value in fields.items() if value is not None}
        if self._style == "json":
            if trace:
                plain["exception"] = trace
            timestamp = now.isoformat().replace("+00:00", "Z")
            # ensure_ascii: a name that is not UTF-8 travels as lone surrogates, which only escapes can carry
            return json.dumps({"timestamp": timestamp, "level": level, "event": event, **plain})
        text = " ".join([_clean(event), *(f"{key}={_word(value)}" for key, value in plain.items())])
        lines = [text, *(_clean(line) for line in trace.splitlines())]
        if self._style == "journal":
            return "\n".join(f"<{_PRIORITIES[level]}>{line}" for line in lines)
        return "\n".join([self._head(now, level) + lines[0], *(f"    {line}" for line in lines[1:])])

    def _head(self, now: datetime, level: Level) -> str:
        moment = now.astimezone().isoformat(" ", "seconds")
        if self._style == "console":
            return f"{moment} {level:<7} "
        return f"\x1b[2m{moment[11:19]}\x1b[0m \x1b[{_COLOURS[level]}m{level:<7}\x1b[0m "


def _plain(value: object) -> object:
    """Bytes are hashes and ids here: hex."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(one) for one in value]
    return value if isinstance(value, (str, int, bool)) else str(value)


def _word(value: object) -> str:
    if isinstance(value, str):
        clean = _clean(value)
        return json.dumps(clean, ensure_ascii=False) if not clean or " " in clean or '"' in clean else clean
    if isinstance(value, list):
        return ",".join(_word(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _clean(text: str) -> str:
    """No control or formatting characters: what cannot be printed is shown as its escape."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def _route_libraries() -> None:
    """Libraries' warnings become lines of ours; what they chat about stays unheard at every level of ours."""
    root = logging.getLogger()
    root.handlers[:] = [_FromLibraries()]
    root.setLevel(logging.WARNING)
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


class _FromLibraries(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        log = get_log()
        write = log.error if record.levelno >= logging.ERROR else log.warning
        write("library.says", library=record.name, message=record.getMessage())


_log: Final = Log(_Lines(LineWriter(1), "console").write)
"""Before it is told where to, as people read it."""
