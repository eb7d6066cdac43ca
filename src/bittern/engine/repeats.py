"""Which bugs are told of in full: each place's first. The others are counted, and told in one line now and then.

Whoever finds a bug that he can have us meet again and again shall fill neither the log's disk nor what others read
along. Synchronous; `now` is seconds of any clock.
"""

from typing import Final

from bittern.disk.attempt import JobCrashed
from bittern.values import Struct

PLACES_AT_MOST: Final = 100
"""Beyond so many all further ones together are one."""

PAUSE_FIRST_S: Final = 1.0
PAUSE_MOST_S: Final = 3600.0
"""Between two lines about the same place; each pause is twice the one before."""

FORGOTTEN_S: Final = 86400.0
"""A place where nothing has happened for so long is told of in full again."""

ELSEWHERE: Final = "other places"

CHARS_AT_MOST: Final = 300
"""Of what a bug says of itself: a stranger's bytes may be in it."""


class More(Struct, frozen=True, kw_only=True):
    """So many more of a bug that is known, within `in_s`; `where`, `error` and `remedy` are the latest one's."""

    place: str
    count: int
    in_s: float
    where: str
    error: str
    remedy: str


class _Known:
    """A place."""

    __slots__ = ("error", "last_at", "more", "pause_s", "remedy", "told_at", "where")

    def __init__(self, now: float) -> None:
        self.told_at = self.last_at = now
        self.pause_s = PAUSE_FIRST_S
        self.more = 0
        self.where = self.error = self.remedy = ""


class Repeats:
    """All places where bugs were met."""

    def __init__(self) -> None:
        self._places: dict[str, _Known] = {}

    def is_new(self, place: str, now: float, *, where: str, error: str, remedy: str) -> bool:
        """Is that bug to be told of in full? Else it is counted."""
        known = self._places.get(place)
        if known is None and len(self._places) >= PLACES_AT_MOST:
            self._forget_old(now)
            if len(self._places) >= PLACES_AT_MOST:
                place = ELSEWHERE
                known = self._places.get(place)
        if known is None or now - known.last_at > FORGOTTEN_S:
            self._places[place] = _Known(now)
            return True
        known.last_at = now
        known.more += 1
        known.where, known.error, known.remedy = where, error, remedy
        return False

    def due(self, now: float) -> list[More]:
        """Those that were counted for long enough; from now on they are counted anew."""
        return [
            self._told(place, known, now)
            for place, known in self._places.items()
            if known.more and now - known.told_at >= known.pause_s
        ]

    def rest(self, now: float) -> list[More]:
        """All that were counted."""
        return [self._told(place, known, now) for place, known in self._places.items() if known.more]

    def _told(self, place: str, known: _Known, now: float) -> More:
        more = More(
            place=place,
            count=known.more,
            in_s=now - known.told_at,
            where=known.where,
            error=known.error,
            remedy=known.remedy,
        )
        known.more, known.told_at = 0, now
        known.pause_s = min(2 * known.pause_s, PAUSE_MOST_S)
        return more

    def _forget_old(self, now: float) -> None:
        self._places = {
            place: known for place, known in self._places.items() if now - known.last_at <= FORGOTTEN_S
        }


def place_of(error: BaseException) -> str:
    """Its class and the line that raised it."""
    if isinstance(error, JobCrashed) and error.__cause__ is not None:
        error = error.__cause__
    kind, trace = type(error).__qualname__, error.__traceback__
    if trace is None:
        return kind
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{kind} at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"


def brief(error: BaseException) -> str:
    """What it says of itself, cut."""
    return cut(repr(error))


def cut(text: str) -> str:
    """Not longer than what a line may hold of it."""
    return text if len(text) <= CHARS_AT_MOST else text[: CHARS_AT_MOST - 1] + "…"
