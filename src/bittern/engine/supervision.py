"""Who dies when what dies.

Bittern's errors say whose they are (`errors.py`); anything else is a bug. This is the one place on the loop with a
broad `except`: a bug costs the peer, swarm or job it happened in, is reported with its traceback (the first of each
place; `repeats.py`), and never passes on. Cancellation always passes. With `strict` (tests) a bug is reported and then
raised all the same.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from bittern.engine.events import Crashed, CrashedAgain, Sink
from bittern.engine.repeats import More, Repeats, brief, cut, place_of
from bittern.errors import DaemonError, PeerError, TorrentError, TrackerError

RESTARTS_AT_MOST: Final = 3
RESTART_WINDOW_S: Final = 60.0
"""A service that falls more often than that in this time will not get better by being started again."""

RESTART_PAUSE_S: Final = 0.5
RESTART_PAUSE_MOST_S: Final = 60.0
"""Each pause is twice the one before, while the service does not even run for ten times that long."""


def widest(error: BaseException) -> Exception:
    """Of all errors in a group, the one that concerns the most: bug > daemon > torrent > tracker > peer."""
    leaves: list[Exception] = []
    stack: list[BaseException] = [error]
    while stack:
        one = stack.pop()
        if isinstance(one, BaseExceptionGroup):
            stack.extend(one.exceptions)
        elif isinstance(one, Exception):
            leaves.append(one)
    return max(leaves, key=_rank)


def _rank(error: Exception) -> int:
    match error:
        case PeerError() | OSError() | trio.ClosedResourceError() | trio.BrokenResourceError():
            return 0
        case TrackerError():
            return 1
        case TorrentError():
            return 2
        case DaemonError():
            return 3
        case _:
            return 4


def is_bug(error: Exception) -> bool:
    """Is it none of the errors that are raised on purpose?"""
    return _rank(error) == 4


class Intensity:
    """Counts falls in a sliding window: `exceeded` says that starting again is no use."""

    __slots__ = ("_at_most", "_falls", "_window_s")

    def __init__(self, at_most: int = RESTARTS_AT_MOST, window_s: float = RESTART_WINDOW_S) -> None:
        self._at_most = at_most
        self._window_s = window_s
        self._falls: deque[float] = deque()

    def fell(self, now: float) -> bool:
        """Notes one fall; True when there were too many."""
        self._falls.append(now)
        while self._falls[0] < now - self._window_s:
            self._falls.popleft()
        return len(self._falls) > self._at_most


class Supervisor:
    """Contains what fails, and reports bugs to the sink."""

    def __init__(self, sink: Sink, *, strict: bool = False) -> None:
        self._sink = sink
        self._strict = strict
        self._repeats = Repeats()
        self.crashes = 0
        """Bugs, told or counted."""
        self.resting: set[str] = set()
        """Services that fell, and are not started again yet."""

    def report(self, where: str, error: BaseException, remedy: str, *, last: bool = False) -> None:
        """A bug was seen: count it, and tell if it is the first of its place, or the `last` of all."""
        self.crashes += 1
        where, now = cut(where), trio.current_time()
        new = self._repeats.is_new(place_of(error), now, where=where, error=brief(error), remedy=remedy)
        if new or last:
            self._sink(Crashed(where=where, exception=error, remedy=remedy))
        else:
            self.tell_due(now)

    def tell_due(self, now: float) -> None:
        """One line for all bugs of a place that have been counted for long enough."""
        self._tell(self._repeats.due(now))

    def tell_rest(self) -> None:
        """At the end: whatever was counted."""
        self._tell(self._repeats.rest(trio.current_time()))

    def _tell(self, counted: list[More]) -> None:
        for more in counted:
            self._sink(CrashedAgain(more=more))

    async def contain(
        self,
        where: str,
        body: Callable[[], Awaitable[None]],
        settle: Callable[[Exception], None],
        *,
        remedy: str,
    ) -> None:
        """Runs `body`; an error of any kind ends here, after `settle` (sync) has put things right."""
        try:
            await body()
        except* Exception as group:
            self._settle(where, widest(group), settle, remedy)

    def guard(
        self,
        where: str,
        body: Callable[[], None],
        settle: Callable[[Exception], None],
        *,
        remedy: str,
        told: bool = False,
    ) -> None:
        """The same for synchronous work. `told`: a bug of it was reported already, another one tells nothing new."""
        try:
            body()
        except Exception as error:
            self._settle(where, error, settle, remedy, told=told)

    def _settle(
        self,
        where: str,
        error: Exception,
        settle: Callable[[Exception], None],
        remedy: str,
        *,
        told: bool = False,
    ) -> None:
        bug = is_bug(error)
        if bug and not told:
            self.report(where, error, remedy)
        try:
            settle(error)
        except DaemonError:
            raise
        except Exception as another:
            # one thing that is not put right is less than all that share its nursery
            self.report(f"what follows a failure of {where}", another, "it is left as it is")
            error, bug = another, True
        if bug and self._strict:
            raise error

    async def serve(
        self,
        name: str,
        service: Callable[..., Awaitable[None]],
        *,
        dispensable: bool = False,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Runs a service and starts it again when it falls, after pauses that grow; at most 3 times a minute, then it
        raises.

        `dispensable`: no transfer goes through it, so it is no reason to end them all, and is started again for ever.
        Nobody waits for its start then when it falls before.
        """
        intensity = Intensity()
        status: trio.TaskStatus[object] = _StartedOnce(task_status)
        pause_s = RESTART_PAUSE_S
        while True:
            began = trio.current_time()
            try:
                await service(task_status=status)
            except* DaemonError:
                raise
            except* Exception as group:
                error, now = widest(group), trio.current_time()
                if now - began > 10 * pause_s:
                    pause_s = RESTART_PAUSE_S
                hopeless = self._strict or (intensity.fell(now) and not dispensable)
                self.report(
                    name,
                    error,
                    "bittern stops" if hopeless else f"the service is started again in {pause_s:g} s",
                    last=hopeless,
                )
                if hopeless:
                    raise
                if dispensable:
                    status.started()
            else:
                return
            self.resting.add(name)
            try:
                await trio.sleep(pause_s)
            finally:
                self.resting.discard(name)
            pause_s = min(2 * pause_s, RESTART_PAUSE_MOST_S)


class _StartedOnce:
    """A service that is started again says `started` again; its starter wants to hear it once."""

    def __init__(self, inner: trio.TaskStatus[object]) -> None:
        self._inner = inner
        self._said = False

    def started(self, value: object = None) -> None:
        if not self._said:
            self._said = True
            self._inner.started(value)
