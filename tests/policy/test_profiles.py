"""Which profile holds: the more specific one, key by key, and a sidecar above all."""

import random

import pytest

from bittern.policy.profiles import WISHES, Chosen, DropFacts, Profile, Wish, choose

FACTS = DropFacts(folder="/drop/films/old", name="Film.1080p", trackers=("t.example.org",), size_bytes=5_000)


def profile(name: str, wish: Wish | None = None, **terms: object) -> Profile:
    return Profile(name=name, wish=wish or Wish(label=name), **terms)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("terms", "holds"),
    [
        ({}, True),
        ({"watch": ("/drop",)}, True),
        ({"watch": ("/drop/films/old",)}, True),
        ({"watch": ("*/films",)}, True),
        ({"watch": ("/drop/films/old/x", "/dro")}, False),
        ({"torrent": ("*1080P*",)}, True),
        ({"torrent": ("*720p*",)}, False),
        ({"tracker": ("*.example.org",)}, True),
        ({"tracker": ("example.org",)}, False),
        ({"at_least_bytes": 5_000}, True),
        ({"at_least_bytes": 5_001}, False),
        ({"at_most_bytes": 5_000}, True),
        ({"at_most_bytes": 4_999}, False),
        ({"watch": ("/drop",), "torrent": ("nothing",)}, False),
    ],
)
def test_whom_a_profile_is_for(terms: dict[str, object], holds: bool) -> None:
    assert (choose([profile("x", **terms)], FACTS).wish.label == "x") is holds


def test_a_size_that_is_not_known_fits_no_profile_that_asks_for_one() -> None:
    unknown = DropFacts(folder="/drop", name="x", trackers=(), size_bytes=None)
    assert choose([profile("x", at_most_bytes=10)], unknown).wish.label is None
    assert choose([profile("x")], unknown).wish.label == "x"


def test_the_deeper_folder_counts_and_the_rest_is_inherited() -> None:
    above = profile(
        "above", Wish(label="above", priority=3), watch=("/drop",), torrent=("*",), tracker=("*",)
    )
    below = profile("below", Wish(label="below"), watch=("/drop/films",))
    for order in ([above, below], [below, above]):
        chosen = choose(order, FACTS)
        assert (chosen.wish.label, chosen.wish.priority) == ("below", 3)
        assert chosen.sources == {"label": "profile below", "priority": "profile above"}


def test_who_asks_for_more_counts_and_of_equals_the_first() -> None:
    plain, named = profile("plain"), profile("named", torrent=("*",))
    assert choose([plain, named], FACTS).wish.label == "named"
    assert choose([profile("one"), profile("two")], FACTS).wish.label == "one"


def test_a_sidecar_has_the_last_word_also_an_empty_one() -> None:
    sidecar = Wish(label="", take=())
    chosen = choose(
        [profile("x", Wish(label="x", take=("a",), skip=("b",)), watch=("/drop/films/old",))], FACTS, sidecar
    )
    assert (chosen.wish.label, chosen.wish.take, chosen.wish.skip) == ("", (), ("b",))
    assert chosen.sources["label"] == "sidecar"


def test_each_key_is_that_of_the_most_specific_profile_that_names_it() -> None:
    rng = random.Random(3)
    for _ in range(300):
        profiles = [
            Profile(
                name=str(number),
                watch=rng.choice([(), ("/drop",), ("/drop/films",), ("/drop/films/old",), ("/else",)]),
                torrent=rng.choice([(), ("*1080p*",), ("no",)]),
                wish=Wish(
                    label=rng.choice([None, str(number)]),
                    priority=rng.choice([None, number]),
                ),
            )
            for number in range(6)
        ]
        chosen: Chosen = choose(profiles, FACTS)
        for key in WISHES:
            naming = [
                one for one in profiles if one.rank(FACTS) is not None and getattr(one.wish, key) is not None
            ]
            if not naming:
                assert getattr(chosen.wish, key) is None
                continue
            best = max(naming, key=lambda one: (one.rank(FACTS), -profiles.index(one)))
            assert getattr(chosen.wish, key) == getattr(best.wish, key)
            assert chosen.sources[key] == f"profile {best.name}"
