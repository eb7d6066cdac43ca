"""One program run to its end: its own process group, a time to live, the last of what it printed.

Whatever it does — floods its output, ignores TERM, leaves children behind that hold its pipes — it costs
bounded memory and time here. When it is ended, so are all whom it has started, sessions of their own or not.
"""

import errno
import math
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import trio

from bittern.daemon.descendants import Descendants, bury_orphans, children, marked, spawning

OUTPUT_BYTES: Final = 4096
"""So much of the end of what a program prints is kept."""

TERM_PATIENCE_S: Final = 5.0
"""Between TERM and KILL for a program that took too long."""

STOP_PATIENCE_S: Final = 2.0
"""The same when the daemon stops: it has 10 s for all."""

KILL_PATIENCE_S: Final = 5.0
"""A program that is stuck in the kernel outlives even KILL for as long as it is stuck."""

CANNOT_START: Final = 126
NOT_FOUND: Final = 127
"""Exit statuses as a shell has them."""

_DRAIN_S: Final = 0.25
"""What the program itself printed is in the pipe when it ends; a child that keeps the pipe open is not
waited for."""

_FLOOD_BYTES: Final = 1024 * 1024
_FLOOD_PAUSE_S: Final = 0.01
"""Beyond the first MiB at most 6 MiB/s are read, so that a flood costs the program time, and us next to
none."""

_CHUNK: Final = 64 * 1024

SHELL: Final = "/bin/sh"
_HEAD_BYTES: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """`exit_status` is negative for a signal, and as a shell has it (126, 127) with `error` when it never
    ran.
    """

    exit_status: int
    output: str = ""
    seconds: float = 0.0
    timed_out: bool = False
    stopped: bool = False
    error: str = ""


class Patience:
    """How long running programs may still take; shared by all of them, so that a stop reaches each."""

    def __init__(self) -> None:
        self._until = math.inf
        self._scopes: set[trio.CancelScope] = set()

    @property
    def stopping(self) -> bool:
        """Was `end_by` called?"""
        return self._until < math.inf

    def end_by(self, at: float) -> None:
        """None may run beyond `at` (trio clock)."""
        self._until = min(self._until, at)
        for scope in self._scopes:
            scope.deadline = min(scope.deadline, self._until)

    @contextmanager
    def allow(self, seconds: float) -> Iterator[trio.CancelScope]:
        """As `trio.move_on_after`, cut short by `end_by`."""
        scope = trio.CancelScope(deadline=min(trio.current_time() + seconds, self._until))
        self._scopes.add(scope)
        try:
            with scope:
                yield scope
        finally:
            self._scopes.discard(scope)


async def run_program(
    argv: Sequence[str], *, env: Mapping[str, str], stdin: bytes, timeout_s: float, patience: Patience
) -> Ended:
    """Never raises for what the program does. When cancelled it ends the program first, and all that it has started."""
    started_at = trio.current_time()
    word = secrets.token_hex(8)
    env = marked(env, word)
    with ExitStack() as open_files:
        try:
            reader, writer = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            return Ended(exit_status=CANNOT_START, error=f"cannot be started: {error}")
        stream = trio.lowlevel.FdStream(reader)
        open_files.callback(stream.close)
        try:
            process = await _spawn(argv, env, stdin, writer)
        except (OSError, ValueError) as error:
            missing = isinstance(error, FileNotFoundError)
            why = await trio.to_thread.run_sync(_why_not, argv[0], error)
            return Ended(
                exit_status=NOT_FOUND if missing else CANNOT_START, error=f"cannot be started: {why}"
            )
        finally:
            os.close(writer)
        try:
            pidfd = os.pidfd_open(process.pid)
        except OSError as error:
            # short of descriptors: whom we cannot watch shall not run
            _signal_group(process.pid, signal.SIGKILL)
            await trio.to_thread.run_sync(process.wait)
            children.discard(process.pid)
            return Ended(exit_status=CANNOT_START, error=f"cannot be watched: {error}")
        open_files.callback(os.close, pidfd)
        tail = _Tail(stream)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tail.read)
            ended = False
            try:
                with patience.allow(timeout_s) as scope:
                    await trio.lowlevel.wait_readable(pidfd)
                    ended = True
            finally:
                # Not reaped before this is over, so the group's number cannot have become another's.
                if not ended:
                    ended = await _end_all(process.pid, word, pidfd, patience)
                if ended:
                    process.wait()
                    children.discard(process.pid)
            with trio.move_on_after(_DRAIN_S):
                await tail.finished.wait()
            nursery.cancel_scope.cancel()
    return Ended(
        exit_status=process.returncode if ended else -signal.SIGKILL,
        output=tail.text(),
        seconds=trio.current_time() - started_at,
        timed_out=scope.cancelled_caught and not patience.stopping,
        stopped=scope.cancelled_caught and patience.stopping,
        error="" if ended else "stuck in the kernel, even KILL does not end it",
    )


async def _spawn(
    argv: Sequence[str], env: Mapping[str, str], stdin: bytes, output: int
) -> "subprocess.Popen[bytes]":
    """In a thread: starting waits for the program's file to be read."""
    # A file in memory, not a pipe: the program may read it or not, and nobody waits for it to.
    message = os.memfd_create("event", os.MFD_CLOEXEC)
    try:
        os.write(message, stdin)
        os.lseek(message, 0, os.SEEK_SET)

        def spawn(*before: str) -> "subprocess.Popen[bytes]":
            with spawning:
                process = subprocess.Popen(  # noqa: S603 — no shell, and the program is the administrator's choice
                    [*before, *argv],
                    stdin=message,
                    stdout=output,
                    stderr=output,
                    env=dict(env),
                    cwd="/",
                    start_new_session=True,
                )
                children.add(process.pid)
                return process

        try:
            return await trio.to_thread.run_sync(spawn)
        except OSError as error:
            # a script without a first line that says what runs it: as execvp(3) and shells do
            if error.errno != errno.ENOEXEC or not await trio.to_thread.run_sync(_is_text, argv[0]):
                raise
            return await trio.to_thread.run_sync(spawn, SHELL)
    finally:
        os.close(message)


def _is_text(path: str) -> bool:
    """Is there something that a shell could read?"""
    head = _head(path)
    return bool(head) and b"\0" not in head


def _head(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, _HEAD_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _why_not(program: str, error: OSError | ValueError) -> str:
    """What the kernel means, where its word alone misleads."""
    if not isinstance(error, OSError):
        return str(error)
    first = _head(program).partition(b"\n")[0]
    if error.errno == errno.ENOEXEC:
        return f"{program} is no program for this machine, and no script either"
    if isinstance(error, FileNotFoundError) and first.startswith(b"#!"):
        named = first[2:].decode("utf-8", "replace").strip(" ")
        if named.endswith("\r"):
            return f"{program} has line ends of Windows: save it with those of Unix"
        return f'{program} wants to be run by "{named}", as its first line says, and that is not there'
    return f"{program}: {error.strerror}"


async def _end_all(group: int, word: str, pidfd: int, patience: Patience) -> bool:
    """TERM, then KILL for whatever is left of the group, and of those that left it. True: the program has ended."""
    polite_s = STOP_PATIENCE_S if patience.stopping else TERM_PATIENCE_S
    with trio.CancelScope(shield=True):
        others = Descendants(group, word)
        await trio.to_thread.run_sync(others.look)
        _signal_group(group, signal.SIGTERM)
        await trio.to_thread.run_sync(others.ask)
        with trio.move_on_after(polite_s):
            await trio.lowlevel.wait_readable(pidfd)
        # while it stands still its children are known by their parent
        _signal_group(group, signal.SIGSTOP)
        await trio.to_thread.run_sync(others.kill, KILL_PATIENCE_S / 2)
        _signal_group(group, signal.SIGKILL)
        with trio.move_on_after(KILL_PATIENCE_S):
            await trio.lowlevel.wait_readable(pidfd)
            # those it had not taken leave of are ours by now
            await trio.to_thread.run_sync(bury_orphans)
            return True
    return False


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        # All gone; or a set-uid program, which is not ours to end.
        pass


class _Tail:
    """The last `OUTPUT_BYTES` of a stream."""

    def __init__(self, stream: trio.lowlevel.FdStream) -> None:
        self.finished = trio.Event()
        self._stream = stream
        self._bytes = b""

    async def read(self) -> None:
        """To its end."""
        total = 0
        while chunk := await self._stream.receive_some(_CHUNK):
            self._bytes = (self._bytes + chunk)[-OUTPUT_BYTES:]
            total += len(chunk)
            if total > _FLOOD_BYTES:
                await trio.sleep(_FLOOD_PAUSE_S)
        self.finished.set()

    def text(self) -> str:
        return self._bytes.decode("utf-8", "replace").strip()
