"""Who gives way in a full house: a table."""

from typing import Any

import pytest

from bittern.policy.room import BROKEN_S, CHOKES_S, NOTHING_S, PROOF_S, PROVEN_FACTOR, WAITS_S, uselessness

NEW: dict[str, Any] = {
    "proven": False,
    "wants": False,
    "takes": None,
    "has": False,
    "owes": False,
    "seeding": False,
}


@pytest.mark.parametrize(
    ("how", "stays_s"),
    [
        ({}, NOTHING_S),
        ({"has": True}, CHOKES_S),
        ({"has": True, "owes": True}, PROOF_S),
        ({"has": True, "owes": True, "proven": True}, BROKEN_S * PROVEN_FACTOR),
        ({"wants": True, "seeding": True}, WAITS_S),
        ({"wants": True, "seeding": True, "takes": True}, WAITS_S),
        ({"wants": True, "seeding": True, "takes": False}, PROOF_S),
        ({"wants": True}, PROOF_S),
        ({"wants": True, "has": True, "owes": True}, PROOF_S),
        ({"proven": True}, NOTHING_S * PROVEN_FACTOR),
    ],
)
def test_how_long_one_may_stay_without_moving_anything(how: dict[str, Any], stays_s: float) -> None:
    terms = NEW | how
    assert uselessness(idle_s=stays_s - 0.01, **terms) < 1
    assert uselessness(idle_s=stays_s, **terms) == 1
    assert uselessness(idle_s=0.0, **terms) == 0
