"""Which rule comes first, when and why; and that what is foreseen comes true, whatever is uploaded meanwhile."""

import math
import random

import pytest

from bittern.policy.seedrules import Amounts, Scope, SeedFacts, SeedGuard, SeedRule, duration, foresee

HOUR, DAY = 3600.0, 86400.0


def facts(ratio: float = 0.0, seed_time_s: float = 0.0, idle_s: float = 0.0, **more) -> SeedFacts:
    return SeedFacts(ratio=ratio, seed_time_s=seed_time_s, idle_s=idle_s, **more)


def rule(*when: Amounts, action="stop", **more) -> SeedRule:
    return SeedRule(name="r", when=when, action=action, **more)


BOTH = Amounts(ratio=2.0, seed_time_s=72 * HOUR)
IDLE = Amounts(idle_s=14 * DAY)


@pytest.mark.parametrize(
    ("now", "in_s"),
    [
        (facts(), 14 * DAY),
        (facts(ratio=2.0), 72 * HOUR),
        (facts(ratio=2.0, seed_time_s=71 * HOUR), HOUR),
        (facts(ratio=1.99, seed_time_s=100 * HOUR, idle_s=DAY), 13 * DAY),
        (facts(ratio=2.0, seed_time_s=72 * HOUR), 0.0),
        (facts(seed_time_s=15 * DAY, idle_s=14 * DAY), 0.0),
    ],
)
def test_all_of_one_alternative(now, in_s):
    outlook = foresee(now, [rule(BOTH, IDLE)], [])
    assert outlook.in_s == in_s
    assert outlook.due == (in_s == 0)


def test_a_ratio_is_not_foreseen():
    assert foresee(facts(), [rule(Amounts(ratio=1.0))], []).in_s == math.inf


def test_a_guard_holds_back_what_ends_the_seeding_and_only_of_those_it_is_for():
    scope = Scope(tracker=("*.private.example",))
    guards = [SeedGuard(until=(Amounts(seed_time_s=72 * HOUR), Amounts(ratio=3.0)), scope=scope)]
    met = rule(Amounts(ratio=1.0))
    guarded = facts(ratio=1.0, trackers=("t.private.example",))
    assert foresee(guarded, [met], guards).in_s == 72 * HOUR
    assert foresee(guarded, [met], guards).guard == guards[0].until[0]
    assert foresee(facts(ratio=3.0, trackers=("t.private.example",)), [met], guards).due
    assert foresee(facts(ratio=1.0, trackers=("t.public.example",)), [met], guards).due
    assert foresee(guarded, [rule(Amounts(ratio=1.0), action="move", folder="/x")], guards).due


def test_the_first_of_several_and_what_was_moved_is_not_moved_again():
    move = rule(Amounts(ratio=1.0), action="move", folder="/archive")
    stop = rule(Amounts(ratio=1.0), action="stop")
    assert foresee(facts(ratio=1.0), [move, stop], []).rule is move
    assert foresee(facts(ratio=1.0, folder="/archive"), [move, stop], []).rule is stop
    assert foresee(facts(ratio=1.0, folder="/archive"), [move], []) is None


def test_scopes():
    only = rule(IDLE, scope=Scope(label=("tv-*", "films")))
    assert foresee(facts(labels=("new", "tv-hd")), [only], [])
    assert foresee(facts(labels=("music",)), [only], []) is None
    assert foresee(facts(), [only], []) is None
    assert foresee(facts(), [rule(IDLE, scope=Scope(label=("*",)))], [])


def test_a_rule_says_what_it_will_do_when_and_why():
    outlook = foresee(facts(ratio=2.0999, seed_time_s=71 * HOUR), [rule(BOTH)], [])
    assert outlook.sentence() == (
        "is stopped in 1 h if nothing is uploaded until then: ratio 2.09 of 2 and seed time 2 d 23 h of 3 d"
    )
    guard = SeedGuard(until=(Amounts(seed_time_s=5 * DAY),))
    outlook = foresee(facts(ratio=1.0, seed_time_s=DAY), [rule(Amounts(ratio=1.0), action="remove")], [guard])
    assert outlook.sentence() == (
        "is removed, its data stays in 4 d if nothing is uploaded until then: ratio 1 of 1; "
        "not before seed time 1 d of 5 d"
    )
    outlook = foresee(facts(ratio=0.999), [rule(Amounts(ratio=1.0), action="move", folder="/archive")], [])
    assert outlook.sentence() == "is moved to /archive once enough was uploaded: ratio 0.99 of 1"


def test_durations():
    assert [duration(n) for n in (0, 59, 60, 3661, 90000, 20 * DAY)] == [
        "0 s", "59 s", "1 min", "1 h 1 min", "1 d 1 h", "20 d",
    ]  # fmt: skip


def _met(now: SeedFacts, amounts: Amounts) -> bool:
    """Said in another way than the code does."""
    return (
        (amounts.ratio is None or now.ratio >= amounts.ratio)
        and (amounts.seed_time_s is None or now.seed_time_s >= amounts.seed_time_s)
        and (amounts.idle_s is None or now.idle_s >= amounts.idle_s)
    )


def _amounts(rng: random.Random) -> Amounts:
    while True:
        chosen = Amounts(
            ratio=rng.choice([None, 0.5, 1.0, 2.0]),
            seed_time_s=rng.choice([None, 10.0, 50.0, 200.0]),
            idle_s=rng.choice([None, 5.0, 30.0]),
        )
        if chosen != Amounts():
            return chosen


@pytest.mark.parametrize("seed", range(60))
def test_what_is_foreseen_comes_true(seed: int) -> None:
    """Looking only when something was uploaded, and when it is foreseen, misses nothing and is never early."""
    rng = random.Random(seed)
    rules = [
        rule(*(_amounts(rng) for _ in range(rng.randint(1, 3))), action=rng.choice(["stop", "remove"]))
        for _ in range(rng.randint(1, 3))
    ]
    guards = [
        SeedGuard(until=tuple(_amounts(rng) for _ in range(rng.randint(1, 2))))
        for _ in range(rng.randint(0, 2))
    ]
    now, uploaded, idle_since = 0.0, 0.0, 0.0
    look_at = 0.0
    while now < 400:
        seen = facts(uploaded, now, now - idle_since)
        truly = any(any(_met(seen, one) for one in each.when) for each in rules) and all(
            any(_met(seen, one) for one in guard.until) for guard in guards
        )
        if now >= look_at:
            outlook = foresee(seen, rules, guards)
            assert outlook.due == truly
            look_at = now + outlook.in_s
        assert (now >= look_at) == truly
        if truly:
            return
        now += 1.0
        if rng.random() < 0.1:
            uploaded, idle_since, look_at = uploaded + rng.random() / 2, now, now
