"""Rate limits as the peers meet them: stand in line, be granted a portion, move it.

Counted is what a peer's socket gives us, whatever it is, and the blocks we send, with their headers. Our other
messages go out at once and uncounted: they are a thousandth of what they bring in, and a request held back would cost
the very rate that is limited. What TCP and IP add is not seen from here.

Whoever came first is served first, and comes last after that: so those who always want more get equal shares,
however many bytes each could move at once. Who has more weight comes so much more often; nobody waits for ever.

A rate of 0 is no narrow line but a closed door: whoever has to do with it asks for nothing and lets nobody ask
(`stopped`), and what is under way is let through.
"""

import heapq
from collections.abc import Callable
from typing import Protocol

import trio

from bittern.policy.pacing import TokenBucket, portion_bytes


class RateLimit(Protocol):
    """One direction of a torrent. Off, it costs a look at `limited`."""

    @property
    def limited(self) -> bool:
        """Has one to stand in line?"""

    @property
    def stopped(self) -> bool:
        """Is nothing to move at all?"""

    @property
    def rate_per_s(self) -> float | None:
        """Bytes per second, None for no limit."""

    def portion(self, most: int) -> int:
        """How much is moved at a time, up to `most`."""

    async def acquire(self, wanted: int) -> int:
        """Leave to move 1..`wanted` bytes, at once; what is not moved is given back."""

    async def send(self, view: memoryview, send_nowait: Callable[[memoryview], int]) -> int:
        """Sends all of it, a portion at a time, or until the connection is full; gives how much."""

    def give_back(self, unused: int) -> None:
        """Bytes that were granted and not moved."""


class Throttle:
    """A limit; several torrents may share it. `weight`: how often one is served, where the others have 1."""

    def __init__(self, rate_per_s: float | None) -> None:
        self.limited = bool(rate_per_s)
        self.stopped = rate_per_s == 0
        self.rate_per_s = rate_per_s
        """All three only to be read."""
        self._bucket: TokenBucket | None = None
        self._line = _Line()
        self._pause: trio.CancelScope | None = None
        """The last sleep of one at the head; when it is over, to cancel it does nothing."""

    def set_rate(self, rate_per_s: float | None) -> None:
        """Bytes per second, None for no limit; holds for those who wait already too."""
        if rate_per_s == self.rate_per_s:
            return
        self.rate_per_s = rate_per_s
        self.limited = bool(rate_per_s)
        self.stopped = rate_per_s == 0
        if not rate_per_s:
            self._bucket = None
        elif self._bucket is not None:
            self._bucket.set_rate(rate_per_s, trio.current_time())
        if self._pause is not None:
            self._pause.cancel()

    def portion(self, most: int) -> int:
        """How much is moved at a time, up to `most`."""
        return min(most, portion_bytes(self.rate_per_s)) if self.rate_per_s else most

    async def acquire(self, wanted: int, weight: float = 1.0) -> int:
        """Leave to move 1..`wanted` bytes, at once; what is not moved is given back."""
        await self._line.enter(self.portion(wanted) / weight)
        try:
            return await self._granted(wanted)
        finally:
            self._line.leave()

    async def acquire_all(self, wanted: int) -> None:
        """Leave to move all of it, as soon as it is not too much."""
        await self._line.enter(wanted)
        try:
            while wanted > 0:
                wanted -= await self._granted(wanted)
        finally:
            self._line.leave()

    async def send(
        self, view: memoryview, send_nowait: Callable[[memoryview], int], weight: float = 1.0
    ) -> int:
        """Sends all of it, a portion at a time, or until the connection is full; gives how much.

        The line waits meanwhile: a block that is begun is ended before the next peer's, for half a block is of no use
        to anybody, and what else we have to say to a peer cannot be said in the middle of one.
        """
        sent = 0
        await self._line.enter(len(view) / weight)
        try:
            while sent < len(view):
                granted = await self._granted(len(view) - sent)
                took = send_nowait(view[sent : sent + granted])
                self.give_back(granted - took)
                sent += took
                if took < granted:
                    break
        finally:
            self._line.leave()
        return sent

    def give_back(self, unused: int) -> None:
        """Bytes that were granted and not moved."""
        if self._bucket is not None:
            self._bucket.give_back(unused)

    async def _granted(self, wanted: int) -> int:
        while self.rate_per_s:
            now = trio.current_time()
            if self._bucket is None:
                self._bucket = TokenBucket(self.rate_per_s, now)
            granted = self._bucket.take(wanted, now)
            if granted:
                return granted
            with trio.CancelScope() as self._pause:
                await trio.sleep(self._bucket.wait_s(wanted, now))
        return wanted


class Share:
    """A torrent's own limit, and behind it the one for all, if the torrent heeds that."""

    def __init__(self, common: Throttle) -> None:
        self._common = common
        self._own = Throttle(None)
        self._heeds = True
        self._weight = 1.0

    def set(self, rate_per_s: float | None, *, heeds: bool, weight: float) -> None:
        """From now on."""
        self._heeds, self._weight = heeds, weight
        self._own.set_rate(rate_per_s)

    @property
    def limited(self) -> bool:
        """Has one to stand in line?"""
        return self._own.limited or (self._heeds and self._common.limited)

    @property
    def stopped(self) -> bool:
        """Is nothing to move at all?"""
        return self._own.stopped or (self._heeds and self._common.stopped)

    @property
    def rate_per_s(self) -> float | None:
        """The narrower one, bytes per second."""
        rates = [self._own.rate_per_s, self._common.rate_per_s if self._heeds else None]
        return min((rate for rate in rates if rate is not None), default=None)

    def portion(self, most: int) -> int:
        """How much is moved at a time, up to `most`."""
        most = self._own.portion(most)
        return self._common.portion(most) if self._heeds else most

    async def acquire(self, wanted: int) -> int:
        """Leave of both."""
        own = await self._own.acquire(wanted) if self._own.limited else wanted
        granted = 0
        try:
            granted = await self._common.acquire(own, self._weight) if self._heeds else own
        finally:
            self._own.give_back(own - granted)
        return granted

    async def send(self, view: memoryview, send_nowait: Callable[[memoryview], int]) -> int:
        """Sends all of it, a portion at a time, or until the connection is full; gives how much."""
        if not self._heeds:
            return await self._own.send(view, send_nowait)
        if not self._own.limited:
            return await self._common.send(view, send_nowait, self._weight)
        # paid for first: those who stand in the line for all do not wait for one whose own limit is narrow
        await self._own.acquire_all(len(view))
        sent = 0
        try:
            sent = await self._common.send(view, send_nowait, self._weight)
        finally:
            self._own.give_back(len(view) - sent)
        return sent

    def give_back(self, unused: int) -> None:
        """Bytes that were granted and not moved."""
        self._own.give_back(unused)
        if self._heeds:
            self._common.give_back(unused)


class _Line:
    """Whoever is at its head moves; the others come in the order of asking, those who want less for its weight sooner.

    Each who asks gets a number: that of who was served last, and what it wants to move, divided by its weight. The
    lowest is served first. Where all want the same that is a queue; nobody is overtaken for ever, for the numbers rise.
    """

    __slots__ = ("_asked", "_served", "_taken", "_waiting")

    def __init__(self) -> None:
        self._taken = False
        self._served = 0.0
        self._asked = 0
        self._waiting: list[tuple[float, int, trio.lowlevel.Task]] = []

    async def enter(self, cost: float) -> None:
        """Comes back at the head of it; whoever is there leaves again, whatever happens."""
        await trio.lowlevel.checkpoint_if_cancelled()
        number = self._served + cost
        if not self._taken:
            self._taken, self._served = True, number
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        self._asked += 1
        entry = (number, self._asked, trio.lowlevel.current_task())
        heapq.heappush(self._waiting, entry)

        def give_up(_: object) -> trio.lowlevel.Abort:
            self._waiting.remove(entry)
            heapq.heapify(self._waiting)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)

    def leave(self) -> None:
        """The next one's turn."""
        if self._waiting:
            self._served, _, task = heapq.heappop(self._waiting)
            trio.lowlevel.reschedule(task)
        else:
            self._taken = False
