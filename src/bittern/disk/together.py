"""Small things that many ask for at once, done in few thread hops: who comes while one is under way shares the next.

A hop costs more than most of what is done in it, and a sync of a folder as much for one file as for fifty. A caller
who is alone waits for nobody but a turn of the loop.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Generic, TypeVar, cast

import trio

T = TypeVar("T")
R = TypeVar("R")


class Together(Generic[T, R]):
    """`work` is given some of what waits, at most `at_most`, and gives an outcome for each; errors are raised where the
    item came from. What it raises itself ends the call that led; the others are then done alone.
    """

    def __init__(
        self, work: Callable[[list[T]], Awaitable[Sequence[R | Exception]]], *, at_most: int, teams: int = 1
    ) -> None:
        """`teams` run at once."""
        self._work = work
        self._at_most = at_most
        self._waiting: deque[_Job[T]] = deque()
        self._free_teams = teams

    async def __call__(self, item: T) -> R:
        """The outcome for that item. Cancelled before its turn it is not done; in it, it is, unseen."""
        job = _Job(item)
        if self._free_teams:
            self._free_teams -= 1
        else:
            self._waiting.append(job)
            try:
                await job.turn.wait()
            except trio.Cancelled:
                job.gone = True
                if job in self._waiting:
                    self._waiting.remove(job)
                elif job.leads:
                    self._pass_on()
                raise
        if job.outcome is _NONE:
            await self._lead(job)
        if isinstance(job.outcome, Exception):
            raise job.outcome
        return cast("R", job.outcome)

    async def _lead(self, job: "_Job[T]") -> None:
        # who becomes ready in the same turn of the loop asks a moment later: without this the first would go alone
        await trio.lowlevel.cancel_shielded_checkpoint()
        team = [job]
        while not job.alone and self._waiting and not self._waiting[0].alone and len(team) < self._at_most:
            team.append(self._waiting.popleft())
        others = team[1:]
        done = False
        try:
            outcomes = await self._work([one.item for one in team])
            assert len(outcomes) == len(team)
            for one, outcome in zip(team, outcomes, strict=True):
                one.outcome = outcome
            done = True
        except trio.Cancelled:
            # before anything was begun: the others only need somebody else to lead them
            self._back(others)
            others = []
            raise
        finally:
            if done:
                for one in others:
                    one.turn.set()
            else:
                for one in others:
                    one.alone = True
                self._back(others)
            self._pass_on()

    def _back(self, others: "list[_Job[T]]") -> None:
        """To the head of the line; who has given up meanwhile would wait there, and lead, for ever."""
        self._waiting.extendleft(one for one in reversed(others) if not one.gone)

    def _pass_on(self) -> None:
        """The next who waits leads."""
        if self._waiting:
            job = self._waiting.popleft()
            job.leads = True
            job.turn.set()
        else:
            self._free_teams += 1


class _Nothing:
    """No outcome yet."""


_NONE: Final = _Nothing()


class _Job(Generic[T]):
    __slots__ = ("alone", "gone", "item", "leads", "outcome", "turn")

    def __init__(self, item: T) -> None:
        self.item = item
        self.alone = False
        """A team that it was in failed as a whole."""
        self.gone = False
        """Its caller was cancelled."""
        self.leads = False
        self.outcome: object = _NONE
        self.turn = trio.Event()
        """Set when it has its outcome, or is to lead."""
