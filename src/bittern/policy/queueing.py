"""Who may run now, when not all may: at most so many at once, the most wanted first.

Who stands still does not count: it keeps running, for only so can it recover, and somebody else runs beside it.
When it recovers and that makes one too many, the least wanted goes back to its place. Who was let in is not
sent away for others that are no more wanted.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

Who = TypeVar("Who", bound=Hashable)


class _Place:
    __slots__ = ("admitted", "forced", "number", "priority", "stalled")

    def __init__(self, number: float, priority: int, *, forced: bool) -> None:
        self.number = number
        self.priority = priority
        self.forced = forced
        self.admitted = False
        self.stalled = False

    @property
    def order(self) -> tuple[int, bool, float]:
        return (-self.priority, not self.admitted, self.number)

    @property
    def counts(self) -> bool:
        return not self.forced and not self.stalled


class Line(Generic[Who]):
    """`at_most` None: everybody may run."""

    def __init__(self, at_most: int | None = None) -> None:
        self.at_most = at_most
        self._places: dict[Who, _Place] = {}
        self._running = 0
        """Of those who count."""
        self._waiting = 0
        self._changed = False

    def ask(self, who: Who, *, number: float, priority: int = 0, forced: bool = False) -> bool:
        """May it run? If not, it waits for `settle`. Asking again is no second wish; it tells what has changed."""
        place = self._places.get(who)
        if place is None:
            place = self._places[who] = _Place(number, priority, forced=forced)
            # whoever waits comes first, or the freshest would overtake them
            if forced or self.at_most is None or (self._running < self.at_most and not self._changed):
                self._admit(place)
            else:
                self._waiting += 1
                self._changed = True
        elif (place.priority, place.forced, place.number) != (priority, forced, number):
            before = place.admitted and place.counts
            place.priority, place.forced, place.number = priority, forced, number
            self._running += (place.admitted and place.counts) - before
            self._changed = True
            if forced and not place.admitted:
                self._waiting -= 1
                self._admit(place)
        return place.admitted

    def __contains__(self, who: Who) -> bool:
        return who in self._places

    def leave(self, who: Who) -> None:
        """It does not want to run any more."""
        place = self._places.pop(who, None)
        if place is None:
            return
        if place.admitted:
            self._running -= place.counts
            self._changed = self._changed or self._waiting > 0
        else:
            self._waiting -= 1

    def stands_still(self, who: Who, stalled: bool) -> None:
        """It runs, and nothing comes of it; or something does again."""
        place = self._places.get(who)
        if place is not None and place.admitted and place.stalled != stalled:
            self._running -= place.counts
            place.stalled = stalled
            self._running += place.counts
            self._changed = True

    def limit(self, at_most: int | None) -> None:
        """From the next `settle` on."""
        self._changed = self._changed or at_most != self.at_most
        self.at_most = at_most

    def settle(self) -> tuple[list[Who], list[Who]]:
        """Who may run from now on, and who no longer. Costs nothing while nothing has changed."""
        if not self._changed:
            return [], []
        self._changed = False
        line = sorted(
            ((place.order, who, place) for who, place in self._places.items() if place.counts),
            key=lambda one: one[0],
        )
        may = len(line) if self.at_most is None else self.at_most
        held = [(who, place) for _, who, place in line[may:] if place.admitted]
        for _, place in held:
            place.admitted = False
            self._running -= 1
            self._waiting += 1
        admitted = [(who, place) for _, who, place in line[:may] if not place.admitted]
        for _, place in admitted:
            self._waiting -= 1
            self._admit(place)
        return [who for who, _ in admitted], [who for who, _ in held]

    def _admit(self, place: _Place) -> None:
        place.admitted, place.stalled = True, False
        self._running += place.counts

    def check(self) -> None:
        """For tests: the count is right."""
        assert self._running == sum(one.admitted and one.counts for one in self._places.values())
        assert self._waiting == sum(not one.admitted for one in self._places.values())

    def running(self) -> set[Who]:
        """For tests, and for people: all who may run."""
        return {who for who, place in self._places.items() if place.admitted}
