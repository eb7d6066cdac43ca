"""The global rate limits as the peers meet them: stand in line, be granted a portion, move it.

Counted is what a peer's socket gives us, whatever it is, and the blocks we send, with their headers. Our other
messages go out at once and uncounted: they are a thousandth of what they bring in, and a request held back would cost
the very rate that is limited. What TCP and IP add is not seen from here.

Whoever came first is served first, and comes last after that: so those who always want more get equal shares,
however many bytes each could move at once.
"""

from collections.abc import Callable

import trio

from bittern.policy.pacing import TokenBucket, portion_bytes


class Throttle:
    """One direction's limit. Off, it costs a look at `limited`."""

    def __init__(self, rate_per_s: float | None) -> None:
        self.limited = rate_per_s is not None
        self.rate_per_s = rate_per_s
        """Both only to be read."""
        self._bucket: TokenBucket | None = None
        self._line = trio.Lock()
        """Held by whoever is at the head of the line; trio hands it on in order of asking."""
        self._pause: trio.CancelScope | None = None
        """The last sleep of one at the head; when it is over, to cancel it does nothing."""

    def set_rate(self, rate_per_s: float | None) -> None:
        """Bytes per second, None for no limit; holds for those who wait already too."""
        if rate_per_s == self.rate_per_s:
            return
        self.rate_per_s = rate_per_s
        self.limited = rate_per_s is not None
        if rate_per_s is None:
            self._bucket = None
        elif self._bucket is not None:
            self._bucket.set_rate(rate_per_s, trio.current_time())
        if self._pause is not None:
            self._pause.cancel()

    def portion(self, most: int) -> int:
        """How much is moved at a time, up to `most`."""
        return most if self.rate_per_s is None else min(most, portion_bytes(self.rate_per_s))

    async def acquire(self, wanted: int) -> int:
        """Leave to move 1..`wanted` bytes, at once; what is not moved is given back."""
        async with self._line:
            return await self._granted(wanted)

    async def send(self, view: memoryview, send_nowait: Callable[[memoryview], int]) -> int:
        """Sends all of it, a portion at a time, or until the connection is full; gives how much.

        The line waits meanwhile: a block that is begun is ended before the next peer's, for half a block is of no use
        to anybody, and what else we have to say to a peer cannot be said in the middle of one.
        """
        sent = 0
        async with self._line:
            while sent < len(view):
                granted = await self._granted(len(view) - sent)
                took = send_nowait(view[sent : sent + granted])
                self.give_back(granted - took)
                sent += took
                if took < granted:
                    break
        return sent

    def give_back(self, unused: int) -> None:
        """Bytes that were granted and not moved."""
        if self._bucket is not None:
            self._bucket.give_back(unused)

    async def _granted(self, wanted: int) -> int:
        while self.rate_per_s is not None:
            now = trio.current_time()
            if self._bucket is None:
                self._bucket = TokenBucket(self.rate_per_s, now)
            granted = self._bucket.take(wanted, now)
            if granted:
                return granted
            with trio.CancelScope() as self._pause:
                await trio.sleep(self._bucket.wait_s(wanted, now))
        return wanted
