"""When has a torrent been seeded enough, and what becomes of it then?

A rule is met when one of its alternatives is, and an alternative when all that it names is reached. Guards say until
when no rule may end a torrent's seeding, whatever it says. `foresee` tells which rule comes first, when if nobody asks
for the torrent until then, and why; it holds until something is uploaded, so nobody has to ask again before.
"""

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

from bittern.policy.labels import UNLABELLED
from bittern.policy.limits import Limits
from bittern.values import Struct, replace

SeedAction: TypeAlias = Literal["stop", "remove", "remove-with-data", "move"]

_DONE: Final = {
    "stop": "is stopped",
    "remove": "is removed, its data stays",
    "remove-with-data": "is removed with its data",
    "move": "is moved",
}


class Amounts(Struct, frozen=True, kw_only=True):
    """What must be reached, all of it; None: that does not matter. Not all of them are None."""

    ratio: float | None = None
    seed_time_s: float | None = None
    idle_s: float | None = None


class Scope(Struct, frozen=True, kw_only=True):
    """Whom a rule is for: a pattern of each kind must match; a kind without patterns matches all."""

    label: tuple[str, ...] = ()
    tracker: tuple[str, ...] = ()
    """Of the hosts of its trackers."""

    def holds(self, facts: "SeedFacts") -> bool:
        """Is that torrent meant?"""
        return _one_matches(self.label, facts.labels or UNLABELLED) and _one_matches(
            self.tracker, facts.trackers
        )


class SeedRule(Struct, frozen=True, kw_only=True):
    """Once one of `when` is reached, `action` is done; `folder` is where "move" moves to."""

    name: str
    when: tuple[Amounts, ...]
    action: SeedAction
    folder: str = ""
    scope: Scope = Scope()


class SeedGuard(Struct, frozen=True, kw_only=True):
    """Before one of `until` is reached, no rule stops or removes the torrent."""

    until: tuple[Amounts, ...]
    scope: Scope = Scope()


class SeedFacts(Struct, frozen=True, kw_only=True):
    """A seeding torrent: uploaded bytes for each of its own, seconds of seeding, and of seeding in vain since."""

    ratio: float
    seed_time_s: float
    idle_s: float
    labels: tuple[str, ...] = ()
    trackers: tuple[str, ...] = ()
    folder: str = ""


class Outlook(Struct, frozen=True, kw_only=True):
    """What a rule will do with a torrent. `in_s`: 0 now, `inf` not before more was uploaded."""

    rule: SeedRule
    in_s: float
    facts: SeedFacts
    reached: Amounts
    """The alternative that is met first."""
    guard: Amounts | None
    """What holds it back for longest, if a guard does."""

    @property
    def due(self) -> bool:
        """Has the time come?"""
        return self.in_s <= 0

    def sentence(self) -> str:
        """What, when and why, for people."""
        what = _DONE[self.rule.action] + (f" to {self.rule.folder}" if self.rule.action == "move" else "")
        if self.due:
            when = "now"
        elif math.isinf(self.in_s):
            when = "once enough was uploaded"
        else:
            when = f"in {duration(self.in_s)} if nothing is uploaded until then"
        held = f"; not before {self._state_of(self.guard)}" if self.guard is not None else ""
        return f"{what} {when}: {self._state_of(self.reached)}{held}"

    def why(self) -> str:
        """The reason alone."""
        return self._state_of(self.reached)

    def _state_of(self, amounts: Amounts) -> str:
        facts = self.facts
        parts = []
        if amounts.ratio is not None:
            # never rounded up to what is not reached
            parts.append(f"ratio {math.floor(facts.ratio * 100) / 100:g} of {amounts.ratio:g}")
        if amounts.seed_time_s is not None:
            parts.append(f"seed time {duration(facts.seed_time_s)} of {duration(amounts.seed_time_s)}")
        if amounts.idle_s is not None:
            parts.append(f"idle {duration(facts.idle_s)} of {duration(amounts.idle_s)}")
        return " and ".join(parts)


def rules_for(limits: Limits, rules: Sequence[SeedRule]) -> Sequence[SeedRule]:
    """The rules as they are for a torrent with those limits.

    A ratio of its own stands in the place of every ratio that rules name, and so does an idle time; of what names
    neither the rules go on to decide.
    """
    if limits.seeds_by_rules:
        return rules
    by_ratio, by_idle = limits.seed_ratio_mode == "rules", limits.seed_idle_mode == "rules"
    found = []
    if limits.seed_ratio_mode == "own":
        amounts = Amounts(ratio=limits.seed_ratio)
        found.append(SeedRule(name="its own ratio limit", when=(amounts,), action="stop"))
    if limits.seed_idle_mode == "own":
        amounts = Amounts(idle_s=limits.seed_idle_s)
        found.append(SeedRule(name="its own idle limit", when=(amounts,), action="stop"))
    for rule in rules:
        when = tuple(
            one for one in rule.when if (by_ratio or one.ratio is None) and (by_idle or one.idle_s is None)
        )
        if when:
            found.append(rule if len(when) == len(rule.when) else replace(rule, when=when))
    return found


def foresee(facts: SeedFacts, rules: Sequence[SeedRule], guards: Sequence[SeedGuard]) -> Outlook | None:
    """The rule that comes first, of several at once the one that is listed first; None: no rule is for it."""
    held_s, held_by = 0.0, None
    for guard in guards:
        if guard.scope.holds(facts):
            wait_s, amounts = _first(facts, guard.until)
            if wait_s > held_s:
                held_s, held_by = wait_s, amounts
    best: Outlook | None = None
    for rule in rules:
        if not rule.scope.holds(facts) or (rule.action == "move" and rule.folder == facts.folder):
            continue
        wait_s, amounts = _first(facts, rule.when)
        guarded = rule.action != "move" and held_s > wait_s
        if guarded:
            wait_s = held_s
        if best is None or wait_s < best.in_s:
            best = Outlook(
                rule=rule, in_s=wait_s, facts=facts, reached=amounts, guard=held_by if guarded else None
            )
    return best


def _first(facts: SeedFacts, alternatives: Sequence[Amounts]) -> tuple[float, Amounts]:
    """How long until one of them is reached, if nothing is uploaded, and which."""
    waits = [_wait_s(facts, amounts) for amounts in alternatives]
    at = min(range(len(waits)), key=waits.__getitem__)
    return waits[at], alternatives[at]


def _wait_s(facts: SeedFacts, amounts: Amounts) -> float:
    if amounts.ratio is not None and facts.ratio < amounts.ratio:
        return math.inf
    return max(
        0.0,
        (amounts.seed_time_s or 0.0) - facts.seed_time_s,
        amounts.idle_s - facts.idle_s if amounts.idle_s is not None else 0.0,
    )


def _one_matches(patterns: Sequence[str], values: Sequence[str]) -> bool:
    return not patterns or any(fnmatchcase(value, pattern) for value in values for pattern in patterns)


_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """For people, in the two largest units: "3 d 4 h"."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
        if len(parts) == 2:
            break
    return " ".join(parts) or "0 s"
