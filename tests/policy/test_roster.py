"""The roster: back-off, bounds, bans, parole; and a random walk."""

import math
import random
import sys

import pytest

from bittern.policy.exchange import FAILED_AT_MOST, UNTRIED_AT_MOST
from bittern.policy.priority import canonical_priority
from bittern.policy.roster import (
    BACK_OFF_FIRST_S,
    BACK_OFF_MOST_S,
    GIVE_UP_AFTER,
    JITTER,
    RECONNECT_S,
    USELESS_S,
    Roster,
    Source,
    pack_kept,
)
from bittern.terms import Address


def peer(n: int, port: int = 6881) -> Address:
    return Address(f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", port)


def roster(limit: int = 1000, seed: int = 1) -> Roster:
    return Roster(random.Random(seed), limit=limit)


def test_new_addresses_are_due_at_once_and_only_once() -> None:
    it = roster()
    assert it.add(peer(1), Source.TRACKER)
    assert not it.add(peer(1), Source.PEX)
    assert it.next_due_at() == 0.0
    assert it.due(0.0, 0) == []
    assert it.due(0.0, 5) == [peer(1)]
    assert it.due(0.0, 5) == []
    assert it.next_due_at() is None


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    assert not roster().add(peer(1, port), Source.TRACKER)


def test_better_sources_are_dialled_first_and_failures_last() -> None:
    it = roster()
    it.add(peer(1), Source.PEX)
    it.add(peer(2), Source.TRACKER)
    it.add(peer(3), Source.MANUAL)
    it.add(peer(4), Source.INCOMING)
    it.add(peer(4), Source.RESUME)  # heard of twice: the better one counts
    it.add(peer(5), Source.MANUAL)
    it.due(0.0, 9)
    for n in range(1, 5):
        it.left(peer(n), 0.0, useful=True)
    it.failed(peer(5), 0.0)
    assert it.due(1000.0, 9) == [peer(n) for n in (3, 4, 2, 1, 5)]


def test_back_off_doubles_with_jitter_and_then_the_address_is_forgotten() -> None:
    it = roster()
    it.add(peer(1), Source.TRACKER)
    now, pauses = 0.0, []
    for _ in range(GIVE_UP_AFTER - 1):
        assert it.due(now, 1) == [peer(1)]
        it.failed(peer(1), now)
        due_at = it.next_due_at()
        assert due_at is not None
        assert it.due(math.nextafter(due_at, 0), 1) == []
        pauses.append(due_at - now)
        now = due_at
    for k, pause in enumerate(pauses):
        nominal = min(BACK_OFF_FIRST_S * 2**k, BACK_OFF_MOST_S)
        assert abs(pause - nominal) <= JITTER * nominal + 1e-6
    assert len({round(pause / BACK_OFF_FIRST_S, 6) % 1 for pause in pauses}) > 1
    it.due(now, 1)
    it.failed(peer(1), now)
    assert len(it) == 0


def test_who_has_no_room_is_asked_again_soon_and_then_like_all_others() -> None:
    it = roster()
    it.add(peer(1), Source.TRACKER)
    now = 0.0
    for nominal, soon in ((5.0, True), (10.0, True), (20.0, True), (8 * BACK_OFF_FIRST_S, False)):
        assert it.due(now, 1) == [peer(1)]
        assert it.turned_away(peer(1), now) is soon
        due_at = it.next_due_at()
        assert due_at is not None
        assert abs(due_at - now - nominal) <= JITTER * nominal + 1e-6
        now = due_at
    for _ in range(GIVE_UP_AFTER - 4):
        it.turned_away(peer(1), now)
    assert not it.turned_away(peer(1), now)
    assert len(it) == 0


def test_a_handshake_alone_forgives_nothing() -> None:
    it = roster()
    it.add(peer(1), Source.TRACKER)
    now = 0.0
    for _ in range(3):
        it.due(now, 1)
        it.connected(peer(1), now)
        it.left(peer(1), now, useful=False)
        due_at = it.next_due_at()
        assert due_at is not None
        now = due_at
    assert now > 3 * BACK_OFF_FIRST_S
    it.due(now, 1)
    it.connected(peer(1), now)
    assert it.next_due_at() is None
    it.left(peer(1), now, useful=True)
    again = it.next_due_at()
    assert again is not None
    assert again - now <= RECONNECT_S * (1 + JITTER)
    it.due(again, 1)
    it.failed(peer(1), again)
    later = it.next_due_at()
    assert later is not None
    assert later - again <= BACK_OFF_FIRST_S * (1 + JITTER)


def test_useless_ones_rest_long() -> None:
    it = roster()
    it.add(peer(1), Source.TRACKER)
    it.due(0.0, 1)
    it.useless(peer(1), 0.0)
    assert it.due((1 - JITTER) * USELESS_S - 1, 1) == []
    assert it.due((1 + JITTER) * USELESS_S + 1, 1) == [peer(1)]


def test_useless_ones_are_dialled_at_once_when_more_is_wanted_than_before() -> None:
    it = roster()
    for number in (1, 2):
        it.add(peer(number), Source.TRACKER)
    it.due(0.0, 2)
    it.useless(peer(1), 0.0)
    it.failed(peer(2), 0.0)
    blob = it.rest(9)
    for wanting, due in ((False, []), (True, [peer(1)])):
        again = roster()
        again.wake(blob, wanting=wanting)
        assert again.due(1.0, 9) == due
        assert (again.rest(9) == blob) is not wanting


def test_bans_are_by_host() -> None:
    it = roster()
    it.add(peer(1, 1000), Source.TRACKER)
    it.add(peer(1, 2000), Source.TRACKER)
    it.add(peer(2, 1000), Source.TRACKER)
    it.due(0.0, 1)
    it.ban(peer(1).host)
    assert len(it) == 1
    assert it.banned(peer(1).host)
    assert not it.banned(peer(2).host)
    assert not it.add(peer(1, 3000), Source.MANUAL)
    it.failed(peer(1, 1000), 0.0)  # its dial was still under way
    it.left(peer(1, 2000), 0.0, useful=True)
    assert set(it.due(0.0, 9)) <= {peer(2, 1000)}


def test_parole_is_by_host_until_cleared() -> None:
    it = roster()
    assert not it.on_parole(peer(1))
    it.parole(peer(1, 50_000))
    assert it.on_parole(peer(1, 6881))
    assert not it.on_parole(peer(2))
    it.cleared(peer(1, 1))
    it.cleared(peer(1, 1))
    assert not it.on_parole(peer(1, 50_000))


def test_bans_and_parole_are_bounded_and_the_oldest_go() -> None:
    it = roster(limit=100)
    for n in range(1000):
        it.ban(peer(n).host)
        it.parole(peer(n))
    assert not it.banned(peer(0).host)
    assert it.banned(peer(999).host)
    assert it.on_parole(peer(999))
    assert sum(it.banned(peer(n).host) for n in range(1000)) == 100
    assert sum(it.on_parole(peer(n)) for n in range(1000)) == 100


def test_a_full_roster_drops_the_worst() -> None:
    it = roster(limit=64)
    for n in range(64):
        it.add(peer(n), Source.TRACKER)
    it.due(0.0, 64)
    for n in range(32):
        it.left(peer(n), 0.0, useful=True)
    for n in range(32, 36):
        it.failed(peer(n), 0.0)
    for n in range(36, 40):
        it.connected(peer(n), 0.0)
    assert it.add(peer(100), Source.PEX)
    best = it.best(100)
    assert not set(best) & {peer(n) for n in range(32, 36)}
    for n in range(101, 300):
        it.add(peer(n), Source.PEX)
    assert len(it) <= 64
    best = it.best(100)
    assert {peer(n) for n in range(32)} <= set(best)  # the useful ones
    assert {peer(n) for n in range(36, 40)} <= set(best)  # the connected ones


def test_a_weak_source_does_not_push_out_a_better_one() -> None:
    it = roster(limit=10)
    for n in range(10):
        it.add(peer(n), Source.TRACKER)
    assert not it.add(peer(50), Source.PEX)
    assert it.add(peer(51), Source.MANUAL)


def test_the_best_are_kept_while_parked() -> None:
    it = roster()
    for n in range(10):
        it.add(peer(n), Source.TRACKER)
    it.due(0.0, 10)
    it.left(peer(7), 0.0, useful=True)
    for n in (1, 2):
        for _ in range(3):
            it.failed(peer(n), 0.0)
    assert it.best(1) == [peer(7)]
    assert set(it.best(10)[-2:]) == {peer(1), peer(2)}


def test_back_off_survives_parking() -> None:
    it = roster()
    good, new, six = peer(2), Address("2001:db8::7", 51413), Address("::1", 65535)
    for address in (peer(1), good, new, six):
        it.add(address, Source.TRACKER)
    for failures in range(1, 4):
        it.failed(peer(1), 1000.0)
        assert it.next_due_at() == 0.0
        blob = it.rest(20)
        assert len(blob) == 2 * 12 + 2 * 24
        again = roster()
        again.wake(blob)
        assert again.rest(20) == blob
        assert set(again.due(1000.0, 9)) == {good, new, six}
        due_at = again.next_due_at()
        assert due_at is not None
        pause = BACK_OFF_FIRST_S * 2 ** (failures - 1)
        assert (1 - JITTER) * pause <= due_at - 1000.0 <= (1 + JITTER) * pause + 1
        assert again.due(due_at, 9) == [peer(1)]
        again.failed(peer(1), due_at)
        later = again.next_due_at()
        assert later is not None
        assert later - due_at >= (1 - JITTER) * 2 * pause
    it.wake(b"")
    assert len(it) == 4


def test_the_best_rest_and_a_useful_one_stays_useful() -> None:
    it = roster()
    for n in range(1000):
        it.add(peer(n), Source.TRACKER)
        it.failed(peer(n), 0.0)
    it.left(peer(777), 0.0, useful=True)
    again = roster()
    again.wake(it.rest(32))
    assert len(again) == 32
    assert again.due(3600.0, 1) == [peer(777)]
    again.ban(peer(777).host)
    more = roster()
    more.ban(peer(777).host)
    more.wake(it.rest(32))
    assert peer(777) not in more.best(99)


def test_who_was_good_before_a_restart_is_believed_less_than_whom_a_peer_names_today() -> None:
    it, six = roster(), Address("2001:db8::7", 51413)
    it.add(peer(1), Source.PEX)
    it.wake(pack_kept([peer(2), six, peer(1)]))
    assert [it.source_of(one) for one in (peer(1), peer(2), six)] == [Source.PEX, Source.KEPT, Source.KEPT]
    again = roster()
    # resting makes nobody more than he was, and failures count as ever
    it.failed(peer(2), 0.0)
    again.wake(it.rest(9))
    assert again.source_of(peer(2)) is again.source_of(six) is Source.KEPT
    assert again.due(3600.0, 9) == [peer(1), six, peer(2)]
    assert again.useful() == []
    again.left(six, 0.0, useful=True)
    assert again.useful() == [six]
    full = roster(limit=10)
    for n in range(10):
        full.add(peer(n), Source.PEX)
    full.wake(pack_kept([peer(50)]))
    assert peer(50) not in full


def test_a_thousand_addresses_are_cheap() -> None:
    it = roster()
    for n in range(2000):
        it.add(peer(n), Source.TRACKER)
    assert len(it) <= 1000
    known = next(iter(it._known.values()))
    assert not hasattr(known, "__dict__")
    assert sys.getsizeof(it._known) + len(it) * sys.getsizeof(known) < 170_000


@pytest.mark.parametrize("seed", range(15))
def test_random_walk(seed: int) -> None:
    rng = random.Random(seed)
    limit = rng.choice([1, 5, 60])
    it = Roster(rng, limit=limit)
    dialling: set[Address] = set()
    connected: set[Address] = set()
    banned: set[str] = set()
    now = 0.0
    for _ in range(1500):
        now += rng.choice([0.0, 1.0, 100.0])
        step = rng.randrange(8)
        one = peer(rng.randrange(80), rng.randrange(1, 3))
        if step <= 2:
            it.add(one, rng.choice(list(Source)))
        elif step == 3:
            fresh = it.due(now, rng.randrange(4))
            assert len(fresh) == len(set(fresh))
            assert not set(fresh) & (dialling | connected)
            assert not {address.host for address in fresh} & banned
            dialling |= set(fresh)
        elif step == 4 and dialling:
            one = dialling.pop()
            it.connected(one, now)
            connected.add(one)
        elif step == 5 and dialling:
            it.failed(dialling.pop(), now)
        elif step == 6 and connected:
            one = connected.pop()
            if rng.random() < 0.3:
                it.useless(one, now)
            else:
                it.left(one, now, useful=rng.random() < 0.5)
        elif step == 7 and rng.random() < 0.03 and len(banned) < limit:
            it.ban(one.host)
            banned.add(one.host)
        assert len(it) <= limit
        due_at = it.next_due_at()
        if due_at is not None and due_at <= now and rng.random() < 0.2:
            (found,) = it.due(now, 1)
            dialling.add(found)
        again = roster(limit=limit)
        again.wake(it.rest(20))
        assert set(again.best(99)) == set(it.best(20))


# -- who was named by peers -----------------------------------------------------------------------------------


def test_who_names_addresses_that_all_fail_names_no_more() -> None:
    it = roster()
    for n in range(FAILED_AT_MOST):
        assert it.add(peer(n), Source.PEX, "1.2.3.4")
    for address in it.due(0.0, 100):
        it.failed(address, 0.0)
    assert not it.add(peer(900), Source.PEX, "1.2.3.4")
    assert it.add(peer(900), Source.PEX, "1.2.3.5")
    # an address counts for who named it once, however often it fails
    for _ in range(FAILED_AT_MOST):
        it.failed(peer(900), 0.0)
    assert it.add(peer(901), Source.PEX, "1.2.3.5")


def test_nobody_fills_the_roster_alone() -> None:
    it = roster()
    assert sum(it.add(peer(n), Source.PEX, "1.2.3.4") for n in range(1000)) == UNTRIED_AT_MOST
    it.connected(it.due(0.0, 1)[0], 0.0)
    assert sum(it.add(peer(n), Source.PEX, "1.2.3.4") for n in range(1000, 2000)) == 1


def test_what_makes_room_untried_is_held_against_nobody() -> None:
    it = roster(limit=64)
    for n in range(5000):
        it.add(peer(n), Source.PEX, f"1.2.3.{n % 7}")
    assert len(it) <= 64
    assert sum(teller.untried for teller in it._tellers._tellers.values()) == len(it)
    assert not any(teller.wrong for teller in it._tellers._tellers.values())


def test_who_turns_us_away_speaks_neither_for_nor_against_who_named_it() -> None:
    it = roster()
    for n in range(2 * FAILED_AT_MOST):
        it.add(peer(n), Source.PEX, "1.2.3.4")
    for address in it.due(0.0, 100):
        it.turned_away(address, 0.0)
    assert it.add(peer(900), Source.PEX, "1.2.3.4")
    (teller,) = it._tellers._tellers.values()
    assert (teller.untried, teller.right, teller.wrong) == (1, 0, 0)


def test_of_equals_those_of_the_highest_canonical_priority_are_dialled_first() -> None:
    it, us = roster(), Address("123.213.32.10", 1729)
    before, after = [Address(f"{n}.76.54.32", 6881) for n in range(1, 20)], [peer(n) for n in range(20)]
    for address in before:
        it.add(address, Source.PEX)
    v6 = Address("2001:db8::1", 6881)
    it.add(v6, Source.PEX)
    it.stands_at(us)
    for address in after:
        it.add(address, Source.PEX)
    it.add(peer(99), Source.DHT)
    first, *others = it.due(0.0, 100)
    assert first == peer(99)
    others.remove(v6)
    priorities = [canonical_priority(us, one) for one in others]
    assert len(others) == len(before + after)
    assert priorities == sorted(priorities, reverse=True)
