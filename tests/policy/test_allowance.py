"""What strangers get, and how much of it."""

import pytest

from bittern.policy.allowance import (
    BURST_S,
    KNOWN_AT_MOST,
    KNOWN_S,
    LARGE_BYTES_PER_S,
    PER_SOURCE_BURST,
    PER_SOURCE_PER_S,
    SMALL_FACTOR,
    SOURCES,
    STRANGERS_PER_S,
    Allowance,
    AnswerLimits,
)
from bittern.terms import Address


def host(number: int, port: int = 6881) -> Address:
    return Address(f"50.{number >> 16}.{number >> 8 & 255}.{number & 255}", port)


def test_an_allowance_saves_up_to_its_burst() -> None:
    allowance = Allowance(2.0, 4.0, 0.0)
    assert [allowance.take(0.0) for _ in range(5)] == [True] * 4 + [False]
    assert allowance.wait_s(0.0) == pytest.approx(0.5)
    assert allowance.take(0.5)
    assert allowance.left(100.0) == 4.0
    assert not allowance.take(100.0, 5.0)
    assert allowance.left(99.0) == 4.0, "the clock does not run backwards"


def test_one_source_gets_a_burst_and_then_its_rate_whatever_its_ports() -> None:
    limits = AnswerLimits(0.0)
    assert sum(limits.serve(host(1, 1000 + n), 0.0) for n in range(500)) == PER_SOURCE_BURST
    served = sum(limits.serve(host(1, n % 1000), n / 100) for n in range(1, 1001))
    assert served == pytest.approx(10 * PER_SOURCE_PER_S, abs=2)
    assert limits.serve(host(2), 0.0)


def test_addresses_of_one_ipv6_network_are_one_source() -> None:
    limits = AnswerLimits(0.0)
    assert sum(limits.serve(Address(f"2001:db8::{n:x}", 1), 0.0) for n in range(1, 500)) == PER_SOURCE_BURST


def test_endpoints_of_loopback_are_sources_of_their_own() -> None:
    limits = AnswerLimits(0.0)
    assert all(limits.serve(Address("127.0.0.1", 1000 + n), 0.0) for n in range(200))


def test_all_strangers_together_are_bounded_and_do_not_starve_those_we_know() -> None:
    limits = AnswerLimits(0.0)
    limits.met(host(1), 0.0)
    served = sum(limits.serve(host(1000 + n), n / 10_000) for n in range(20_000))
    assert served == pytest.approx(STRANGERS_PER_S * (BURST_S + 2), abs=2)
    assert limits.serve(host(1), 2.0)


def test_a_flood_of_sources_is_remembered_only_so_far() -> None:
    limits = AnswerLimits(0.0)
    for number in range(3 * SOURCES):
        limits.serve(host(number), 0.0)
        limits.met(host(number), 0.0)
    assert len(limits._sources) == SOURCES
    assert len(limits._known) == KNOWN_AT_MOST


def test_to_know_somebody_lasts_a_while() -> None:
    limits = AnswerLimits(0.0)
    limits.met(host(1), 0.0)
    assert limits.knows(host(1, 7), KNOWN_S)
    assert not limits.knows(host(1), KNOWN_S + 1)
    assert not limits.knows(host(2), 0.0)


def test_long_answers_to_strangers_come_out_of_one_small_account() -> None:
    limits = AnswerLimits(0.0)
    assert limits.room(host(1), 100, 300, 0.0) == 300
    long = [limits.room(host(n), 100, 1000, 0.0) for n in range(1000)]
    assert set(long) == {1000, SMALL_FACTOR * 100}
    assert (1000 - SMALL_FACTOR * 100) * long.count(1000) <= LARGE_BYTES_PER_S
    limits.met(host(1), 0.0)
    assert limits.room(host(1), 100, 1000, 0.0) == 1000
