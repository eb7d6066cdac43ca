"""The log: one line per event that an administrator cares about, told once what it says is true.

Three ways of writing a line: for people, as JSON for programs, with a priority for the journal. Every line leaves
whole and at once; those of a turn of the loop may leave together (`held`), but for warnings and errors. Names from the
wild can neither break a line nor steer a terminal.

structlog, which brings asyncio along, is imported for the first line that is written: a tenth of a start, and the first
peers are served without a word.
"""

import json
import logging
import os
import select
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, cast

if TYPE_CHECKING:
    import structlog


@contextmanager
def _absent(package: str) -> Iterator[None]:
    """Whoever is imported meanwhile, and could do with that package, does without it."""
    modules = cast("dict[str, Any]", sys.modules)
    before = {package: modules[package]} if package in modules else {}
    modules[package] = None
    try:
        yield
    finally:
        del modules[package]
        modules.update(before)


Log: TypeAlias = "structlog.typing.FilteringBoundLogger"
Style: TypeAlias = Literal["json", "console", "colour", "journal"]

LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}

QUIET_LIBRARIES: Final = ("httpx", "httpcore", "watchdog")
"""They log each request with its URL, in which trackers carry passkeys, and each file event."""

TRACE_CHARS_AT_MOST: Final = 16_000
"""Of one traceback: where it begins and where it ends. What an error says may hold a stranger's bytes."""

HELD_AT_MOST_BYTES: Final = 64 * 1024
HELD_AT_MOST_S: Final = 1.0
"""A loop that hangs, and whose process is killed for that, has told by then what it did last."""

_PRIORITIES: Final = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
_COLOURS: Final = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31;1"}


def setup_logs(level: str, form: str, *, fd: int = 1, environ: Mapping[str, str] = os.environ) -> None:
    """`form` is `log.format` of the configuration; may be called again to change both in a running daemon."""
    # what is held by another writer goes first
    _holding.flush()
    _library.set_up(_Setup(LEVELS[level], choose_style(form, fd, environ), fd))
    _route_libraries()


def get_log() -> Log:
    """The logger; what it does is decided when a line is written, so it may be got before `setup_logs`."""
    return cast("Log", _Unbound())


class _Setup(NamedTuple):
    level: int
    style: Style
    fd: int


class _Library:
    """structlog, from the first line on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._imported: ModuleType | None = None
        self._setup: _Setup | None = None

    def set_up(self, setup: _Setup) -> None:
        """So from now on."""
        with self._lock:
            self._setup = setup
            if self._imported is not None:
                _configure(setup)

    def get(self) -> Any:
        """As it was set up; any thread may be the first."""
        if self._imported is None:
            with self._lock:
                self._import()
        return self._imported

    def _import(self) -> None:
        if self._imported is None:
            with _absent("rich"):
                # it would draw tracebacks with it, and ours are plain: with pygments behind it that is much
                import structlog
            if self._setup is not None:
                _configure(self._setup)
            self._imported = structlog

    def hears(self, level: str) -> bool:
        """Would such a line be written?"""
        return self._setup is None or LEVELS.get(level, self._setup.level) >= self._setup.level


def _configure(setup: _Setup) -> None:
    import structlog

    structlog.configure(
        processors=[_Renderer(setup.style)],
        wrapper_class=structlog.make_filtering_bound_logger(setup.level),
        logger_factory=_LineLoggerFactory(setup.fd),
        # A reload changes level and style of loggers that exist already.
        cache_logger_on_first_use=False,
    )


_library: Final = _Library()


class _Unbound:
    """A logger that is found anew for each line."""

    def bind(self) -> "_Bound":
        """One that is found for its first line, and kept: it goes by the level and the style of that moment."""
        return _Bound()

    def __getattr__(self, name: str) -> Any:
        return getattr(_library.get().get_logger(), name) if _library.hears(name) else _unheard


class _Bound:
    def __getattr__(self, name: str) -> Any:
        if not _library.hears(name):
            return _unheard
        found = _library.get().get_logger().bind()
        for level in LEVELS:
            setattr(self, level, getattr(found, level))
        return getattr(found, name)


def _unheard(*_: object, **__: object) -> None:
    """A line below the level."""


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


def _trace(exc_info: "structlog.typing.ExcInfo") -> str:
    text = "".join(traceback.format_exception(*exc_info)).rstrip("\n")
    if len(text) <= TRACE_CHARS_AT_MOST:
        return text
    half = TRACE_CHARS_AT_MOST // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters are left out here]\n{text[-half:]}"


class _Holding:
    """Lines of one thread wait for the next `flush`: a call into the kernel costs more than the line, for whoever waits
    for the interpreter goes first then.
    """

    def __init__(self) -> None:
        self.thread = 0
        self._writers: list[LineWriter] = []
        self._over = threading.Event()
        self._news = threading.Event()
        """There are such lines, or no more will be held."""

    def holds(self, writer: "LineWriter") -> bool:
        """Does that one's line of now wait?"""
        if threading.get_ident() != self.thread:
            return False
        if writer not in self._writers:
            self._writers.append(writer)
            if not self._news.is_set():
                # once a second at most: others go first whenever a thread is woken
                self._news.set()
        return True

    def flush(self) -> None:
        """From any thread."""
        with suppress(IndexError):
            while True:
                self._writers.pop(0).flush()

    def begin(self) -> None:
        """Lines of this thread, from now on."""
        self.thread, self._news, self._over = threading.get_ident(), threading.Event(), threading.Event()
        late = threading.Thread(target=self._flush_late, args=(self._news, self._over), daemon=True)
        late.start()

    def end(self) -> None:
        """None any more."""
        self.thread = 0
        self._over.set()
        self._news.set()
        self.flush()

    def _flush_late(self, news: threading.Event, over: threading.Event) -> None:
        while news.wait() and not over.wait(HELD_AT_MOST_S):
            news.clear()
            self.flush()


_holding: Final = _Holding()


@contextmanager
def held() -> Iterator[Callable[[], None]]:
    """Lines of this thread leave when what this gives is called, or a second later, or at the end."""
    _holding.begin()
    try:
        yield _holding.flush
    finally:
        _holding.end()


class LineWriter:
    """Whole lines to a descriptor, from any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()
        self._held = b""

    def write(self, line: str, *, urgent: bool = True) -> None:
        """A reader that is gone costs the line, never the daemon."""
        blob = (line + "\n").encode("utf-8", "backslashreplace")
        with self._lock:
            self._held += blob
            if not urgent and len(self._held) < HELD_AT_MOST_BYTES and _holding.holds(self):
                return
            self._write()

    def flush(self) -> None:
        """What was held."""
        with self._lock:
            self._write()

    def _write(self) -> None:
        rest, self._held = self._held, b""
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                # Whoever started us made the descriptor non-blocking: wait as a blocking one would.
                select.select([], [self._fd], [])
            except OSError:
                return


class _LineLogger:
    def __init__(self, writer: LineWriter) -> None:
        self._writer = writer

    def msg(self, line: str) -> None:
        self._writer.write(line)

    def told_soon(self, line: str) -> None:
        self._writer.write(line, urgent=False)

    debug = info = told_soon
    warning = error = critical = exception = msg


class _LineLoggerFactory:
    def __init__(self, fd: int) -> None:
        self._logger = _LineLogger(LineWriter(fd))

    def __call__(self, *_args: Any) -> _LineLogger:
        return self._logger


_ENCODER: Final = json.JSONEncoder()
"""With `ensure_ascii`: a name that is not UTF-8 travels as lone surrogates, which only escapes can carry."""


class _Renderer:
    """structlog's only processor: an event dictionary becomes its line, with the time and the level."""

    def __init__(self, style: Style) -> None:
        import structlog

        self._style = style
        self._traced = structlog.processors.ExceptionRenderer(_trace)
        self._second = (0, "")
        """The one that was shown last, and how: lines come in bursts."""

    def __call__(self, logger: Any, level: str, fields: MutableMapping[str, Any]) -> str:
        now = time.time()
        if "exc_info" in fields:
            fields = self._traced(logger, level, fields)
        event = str(fields.pop("event"))
        plain = {
            key: value if type(value) in _PLAIN else _plain(value)
            for key, value in fields.items()
            if value is not None
        }
        if self._style == "json":
            return _ENCODER.encode({"timestamp": self._stamp(now), "level": level, "event": event} | plain)
        trace = str(plain.pop("exception", ""))
        text = " ".join([_clean(event), *(f"{key}={_word(value)}" for key, value in plain.items())])
        lines = [text, *(_clean(line) for line in trace.splitlines())]
        if self._style == "journal":
            return "\n".join(f"<{_PRIORITIES[level]}>{line}" for line in lines)
        return "\n".join([self._head(now, level) + lines[0], *(f"    {line}" for line in lines[1:])])

    def _stamp(self, now: float) -> str:
        second, shown = self._second
        if second != int(now):
            second, shown = int(now), time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
            # at once: threads write lines too
            self._second = second, shown
        return f"{shown}.{int((now - second) * 1e6):06}Z"

    def _head(self, now: float, level: str) -> str:
        local = datetime.fromtimestamp(now).astimezone().isoformat(" ", "seconds")
        if self._style == "console":
            return f"{local} {level:<7} "
        return f"\x1b[2m{local[11:19]}\x1b[0m \x1b[{_COLOURS[level]}m{level:<7}\x1b[0m "


_PLAIN: Final = frozenset({str, int, bool})
"""What nearly all fields are."""


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
