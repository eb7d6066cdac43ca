"""The order in which torrents wait: by priority, then by rank, which is their number until somebody moves them."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

Who = TypeVar("Who", bound=Hashable)

Step: TypeAlias = Literal["top", "up", "down", "bottom"]

PRIORITY_MOST: Final = 1000
"""And as much below 0."""

MOVED_AT_MOST: Final = 100
"""Together; each that is moved is compared with all the others."""


class Rank(NamedTuple):
    """Sorts as the order does: the lower, the sooner."""

    behind: int
    """The priority, negated."""
    rank: float


def moved(order: Mapping[Who, Rank], who: Who, to: int) -> dict[Who, Rank]:
    """Whose rank changes so that `who` stands at that place (0 is the first); mostly only its own."""
    others = sorted((rank, name) for name, rank in enumerate(order.values()))
    names = list(order)
    line = [names[index] for _, index in others if names[index] != who]
    to = max(0, min(to, len(line)))
    before = order[line[to - 1]] if to > 0 else None
    after = order[line[to]] if to < len(line) else None
    new = _between(order[who], before, after)
    if new is not None:
        return {} if new == order[who] else {who: new}
    # no room is left between the two: all of that priority get new ranks
    line.insert(to, who)
    assert after is not None
    ranked = {who: Rank(after.behind, 0.0)}
    changes: dict[Who, Rank] = {}
    for place, one in enumerate(line, 1):
        old = ranked.get(one, order[one])
        if old.behind == after.behind:
            changes[one] = Rank(old.behind, float(place))
    return changes


def _between(own: Rank, before: Rank | None, after: Rank | None) -> Rank | None:
    """A rank for one between those two, of its own priority if that will do; None: there is none."""
    behind = own.behind
    if before is not None:
        behind = max(behind, before.behind)
    if after is not None:
        behind = min(behind, after.behind)
    low = before.rank if before is not None and before.behind == behind else None
    high = after.rank if after is not None and after.behind == behind else None
    if behind == own.behind and (low is None or low < own.rank) and (high is None or own.rank < high):
        return own
    if low is None and high is None:
        return Rank(behind, own.rank)
    if low is None:
        assert high is not None
        return Rank(behind, high - 1.0 if high != 1.0 else high - 2.0)
    if high is None:
        return Rank(behind, low + 1.0 if low != -1.0 else low + 2.0)
    # 0 means that nobody has moved it
    middle = (low + high) / 2 or (low * 3 + high) / 4
    return Rank(behind, middle) if low < middle < high else None


def stepped(places: Sequence[tuple[int, Who]], step: Step, count: int) -> list[tuple[Who, int]]:
    """Several together: whom to move where, one after the other, so that they keep their order among themselves."""
    line = sorted(places, key=lambda one: one[0])
    match step:
        case "top":
            return [(who, 0) for _, who in reversed(line)]
        case "bottom":
            return [(who, count - 1) for _, who in line]
        case "up":
            # those at the very top stay, and others do not jump over them
            return [(who, max(least, place - 1)) for least, (place, who) in enumerate(line)]
        case "down":
            behind = list(enumerate(reversed(line)))
            return [(who, min(count - 1 - most, place + 1)) for most, (place, who) in behind]
