"""A torrent's own limits as values: checked, kept in a record, and in the place of rules."""

from typing import Any

import pytest

from bittern.policy.limits import KINDS, NO_LIMITS, Limits, changed, packed, unpacked
from bittern.policy.seedrules import Amounts, SeedFacts, SeedGuard, SeedRule, foresee, rules_for

FULL: dict[str, Any] = {
    "download_rate": 1000.0,
    "download_limited": True,
    "upload_rate": 0.0,
    "upload_limited": True,
    "heeds_session": False,
    "max_peers": 7,
    "seed_ratio": 0.0,
    "seed_ratio_mode": "own",
    "seed_idle_s": 60.0,
    "seed_idle_mode": "never",
    "bandwidth_priority": -1,
}


def test_what_is_packed_is_unpacked() -> None:
    full = changed(NO_LIMITS, FULL)
    assert FULL.keys() == KINDS.keys()
    assert full == Limits(**FULL)
    assert unpacked({"name": "x", **packed(full)}) == full
    for name, value in FULL.items():
        one = changed(NO_LIMITS, {name: value})
        assert unpacked(packed(one)) == one


def test_none_of_its_own_costs_nothing() -> None:
    assert packed(NO_LIMITS) == {}
    assert unpacked({"name": "x"}) is NO_LIMITS
    assert changed(Limits(max_peers=3), {"max_peers": 0}) is NO_LIMITS
    assert changed(NO_LIMITS, {}) is NO_LIMITS


@pytest.mark.parametrize(
    "wrong",
    [
        {"download_rate": -1.0},
        {"upload_rate": float("nan")},
        {"upload_rate": float("inf")},
        {"download_rate": True},
        {"download_limited": 1},
        {"max_peers": 2.0},
        {"max_peers": 70_000},
        {"seed_ratio": -0.5},
        {"seed_ratio_mode": "mine"},
        {"seed_idle_mode": ["own"]},
        {"seed_idle_s": 1e12},
        {"bandwidth_priority": 2},
        {"color": "red"},
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        changed(NO_LIMITS, wrong)


def test_a_limit_switched_off_keeps_its_figure() -> None:
    limits = changed(NO_LIMITS, {"download_rate": 5000, "download_limited": True})
    assert limits.download == 5000
    limits = changed(limits, {"download_limited": False})
    assert (limits.download, limits.download_rate) == (None, 5000)
    assert changed(NO_LIMITS, {"upload_limited": True}).upload == 0


RULES = (
    SeedRule(name="a", when=(Amounts(ratio=2.0), Amounts(seed_time_s=100.0)), action="remove"),
    SeedRule(name="b", when=(Amounts(idle_s=10.0),), action="stop"),
)


def facts(ratio: float = 0.0, seed_time_s: float = 0.0, idle_s: float = 0.0) -> SeedFacts:
    return SeedFacts(ratio=ratio, seed_time_s=seed_time_s, idle_s=idle_s)


def test_without_its_own_the_rules_are_as_they_are() -> None:
    assert rules_for(NO_LIMITS, RULES) is RULES
    assert rules_for(Limits(max_peers=5), RULES) is RULES


def test_its_own_stand_in_the_place_of_what_rules_name() -> None:
    own = rules_for(Limits(seed_ratio=3.0, seed_ratio_mode="own"), RULES)
    assert foresee(facts(ratio=2.5), own, ()) is not None
    met = foresee(facts(ratio=3.0), own, ())
    assert met is not None
    assert met.due
    assert met.rule.action == "stop"
    assert [rule.when for rule in own] == [
        (Amounts(ratio=3.0),),
        (Amounts(seed_time_s=100.0),),
        (Amounts(idle_s=10.0),),
    ]


def test_never_takes_away_what_rules_name() -> None:
    left = rules_for(Limits(seed_ratio_mode="never", seed_idle_mode="never"), RULES)
    assert [rule.when for rule in left] == [(Amounts(seed_time_s=100.0),)]
    both = (SeedRule(name="c", when=(Amounts(ratio=1.0, idle_s=5.0),), action="stop"),)
    assert rules_for(Limits(seed_idle_mode="never"), both) == []


def test_a_guard_holds_against_its_own_too() -> None:
    own = rules_for(Limits(seed_idle_s=5.0, seed_idle_mode="own"), ())
    guard = SeedGuard(until=(Amounts(seed_time_s=50.0),))
    held = foresee(facts(seed_time_s=10.0, idle_s=6.0), own, (guard,))
    assert held is not None
    assert held.in_s == pytest.approx(40)
