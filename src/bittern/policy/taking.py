"""What a peer makes of its chances to download from us: does it ask when it may, read what it asked for, and ask for
something new?

Whoever claims to want something costs a place, and an upload slot when its turn comes; the claim is free. So it is
tried: unchoked for a moment, and known from then on for what it did.
"""

from typing import Final

ANSWER_S: Final = 4.0
"""From being unchoked to the first request: a few long round trips."""

TRIAL_S: Final = 10.0
TRIAL_BYTES: Final = 512 * 1024
"""Whichever is reached first: more than is under way to somebody who does not read, and some round trips."""

PAUSE_S: Final = 15.0
"""Without a request in the middle of a turn: a peer with a rate limit of its own may pause for a few seconds."""

UNREAD_S: Final = 5.0
"""Not a byte of what is on its way was acknowledged."""

TRIED_AGAIN_S: Final = 60.0
"""Who did nothing is tried again: it may have had no room just then."""

REPEATS_AT_MOST: Final = 8
"""Of blocks that it had a moment ago or is about to get, when they are more than all others: a bad piece is fetched
again, and an impatient client asks twice."""


class Taking:
    """Of one peer."""

    __slots__ = (
        "_active_at",
        "_asked",
        "_known",
        "_may_since",
        "_new",
        "_repeats",
        "_stalled_since",
        "_taken_before",
        "_taken_bytes",
        "_verdict",
        "_verdict_at",
        "handed_bytes",
    )

    def __init__(self) -> None:
        self.handed_bytes = 0
        """Of blocks, to its connection."""
        self._may_since: float | None = None
        self._asked = False
        """In this turn."""
        self._active_at = 0.0
        """When it asked last, or something arrived."""
        self._taken_bytes = self._taken_before = 0
        """What arrived, and what of that before this turn."""
        self._stalled_since: float | None = None
        """Since when nothing arrives of what is under way."""
        self._verdict: bool | None = None
        self._verdict_at = 0.0
        self._known: bool | None = None
        """What `takes` said at the last tick."""
        self._new = self._repeats = 0
        """Requests, for what and for what not."""

    def may(self, now: float) -> None:
        """It is unchoked."""
        self._may_since, self._asked = now, False
        self._taken_before = self._taken_bytes

    def may_not(self, now: float, *, by_itself: bool) -> None:
        """It is choked, or (`by_itself`) says that it wants nothing any more."""
        if by_itself and self._may_since is not None and not self._asked and self.takes(now) is None:
            self._judge(False, now)
        self._may_since = None

    def asked(self, now: float) -> None:
        """For a block, as it may."""
        self._asked = True
        self._active_at = now
        self._new += 1

    def repeated(self) -> None:
        """It asked for a block that it asked for a moment ago."""
        self._repeats += 1

    @property
    def concerns_us(self) -> bool:
        """Is there anything to be seen at a tick?"""
        return self._may_since is not None or self._stalled_since is not None or self._verdict is False

    def tick(self, now: float, *, waiting: bool, unread_bytes: int) -> bool:
        """Once a second; `waiting`: what it asked for is still to be sent, `unread_bytes`: and that has not arrived.
        True: `takes` says something new.
        """
        taken = self.handed_bytes - unread_bytes
        if taken > self._taken_bytes:
            self._taken_bytes, self._active_at = taken, now
            self._stalled_since = None
        elif not unread_bytes:
            self._stalled_since = None
        elif self._stalled_since is None:
            self._stalled_since = now
        if self._may_since is not None:
            self._look(now, self._may_since, served=waiting or unread_bytes > 0)
        before, self._known = self._known, self.takes(now)
        return self._known is not before

    def _look(self, now: float, since: float, *, served: bool) -> None:
        if not self._asked:
            if self._verdict is not False and now - since >= ANSWER_S:
                self._judge(False, now)
        elif not served and now - self._active_at >= PAUSE_S:
            if self._verdict is not False:
                self._judge(False, now)
        elif now - since >= TRIAL_S or self._taken_bytes - self._taken_before >= TRIAL_BYTES:
            self._verdict = True

    @property
    def repeats(self) -> bool:
        """Does it want little but what it had?"""
        return self._repeats > REPEATS_AT_MOST and self._repeats > self._new

    def reads(self, now: float) -> bool:
        """Does what is sent to it arrive?"""
        return self._stalled_since is None or now - self._stalled_since < UNREAD_S

    def takes(self, now: float) -> bool | None:
        """None: it has yet to be tried."""
        if self.repeats or not self.reads(now):
            return False
        if self._verdict is False and now - self._verdict_at >= TRIED_AGAIN_S:
            return None
        return self._verdict

    def _judge(self, verdict: bool, now: float) -> None:
        self._verdict, self._verdict_at = verdict, now
