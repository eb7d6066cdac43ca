"""When, and to whom: tables of situations, and walks through a hostile day."""

import math
import random
import sys
from collections.abc import Sequence

import pytest

from bittern.policy.announcing import (
    BACK_OFF_MOST_S,
    HASTE_S,
    OUTAGE_FAILURES,
    OUTAGE_MOST_S,
    UNKNOWN,
    UNSETTLED_S,
    AnnounceState,
    Hosts,
    Plan,
)
from bittern.proto.announce import AnnounceEvent as Event

A, B, C = "http://a/announce", "http://b/announce", "http://c/announce"
RNG = random.Random(5)


def state(*tiers: Sequence[str]) -> AnnounceState:
    return AnnounceState(tiers, random.Random(1))


def succeed(
    one: AnnounceState,
    now: float,
    *,
    interval_s: float = 1800.0,
    min_interval_s: float | None = None,
    tracker_id: bytes | None = None,
) -> Plan:
    plan = one.plan(now)
    assert plan is not None, "nothing was due"
    one.succeeded(
        plan.url,
        plan.event,
        now,
        RNG,
        interval_s=interval_s,
        min_interval_s=min_interval_s,
        tracker_id=tracker_id,
    )
    return plan


def fail(one: AnnounceState, now: float, *, retry_in_s: float | None = None) -> Plan:
    plan = one.plan(now)
    assert plan is not None, "nothing was due"
    one.failed(plan.url, now, RNG, retry_in_s=retry_in_s)
    return plan


def test_without_trackers_nothing_is_ever_due() -> None:
    one = state()
    assert one.next_at == math.inf
    assert one.plan(1e9) is None
    one.completed(5.0)
    assert one.plan(6.0) is None
    assert one.next_at == math.inf
    assert one.stopping() == []


def test_started_at_once_then_the_interval() -> None:
    one = state([A])
    assert one.plan(100.0) == Plan(A, Event.STARTED)
    assert one.plan(100.1) is None, "under way"
    one.succeeded(A, Event.STARTED, 101.0, RNG, interval_s=1000.0, min_interval_s=None, tracker_id=None)
    assert 101 + 900 <= one.next_at <= 101 + 1100
    assert one.plan(one.next_at - 1) is None
    assert succeed(one, one.next_at) == Plan(A, Event.NONE)


def test_reannounces_are_spread() -> None:
    at = set()
    for _ in range(50):
        one = state([A])
        succeed(one, 0.0, interval_s=1000.0)
        at.add(one.next_at)
    assert len(at) == 50
    assert max(at) - min(at) > 100


def test_started_until_somebody_heard_it() -> None:
    one = state([A])
    now = 0.0
    for _ in range(5):
        assert fail(one, now).event is Event.STARTED
        assert one.next_at > now
        now = one.next_at
    assert succeed(one, now).event is Event.STARTED
    assert succeed(one, one.next_at).event is Event.NONE


def test_each_tracker_hears_started_first() -> None:
    one = state([A], [B])
    succeed(one, 0.0)
    now = one.next_at
    assert fail(one, now) == Plan(A, Event.NONE)
    assert one.next_at == now, "the next tracker is asked at once"
    assert succeed(one, now) == Plan(B, Event.STARTED)


def test_completed_is_told_once_and_at_once_whatever_min_interval_says() -> None:
    one = state([A], [B])
    succeed(one, 0.0, min_interval_s=900.0)
    one.completed(50.0)
    assert one.next_at == 50.0
    assert succeed(one, 50.0, min_interval_s=900.0) == Plan(A, Event.COMPLETED)
    assert one.next_at >= 950.0
    assert succeed(one, one.next_at).event is Event.NONE


def test_completed_is_told_again_only_when_it_was_not_heard() -> None:
    one = state([A])
    succeed(one, 0.0)
    one.completed(50.0)
    assert fail(one, 50.0).event is Event.COMPLETED
    assert succeed(one, one.next_at).event is Event.COMPLETED
    assert succeed(one, one.next_at).event is Event.NONE


def test_completed_before_anybody_answered_follows_started() -> None:
    one = state([A])
    fail(one, 0.0)
    one.completed(1.0)
    assert one.plan(1.0) is None, "the tracker is backing off"
    now = one.next_at
    assert succeed(one, now).event is Event.STARTED
    assert one.next_at == now
    assert succeed(one, now).event is Event.COMPLETED


def test_completed_while_an_announce_is_under_way() -> None:
    one = state([A])
    plan = one.plan(0.0)
    assert plan is not None
    one.completed(1.0)
    one.succeeded(A, plan.event, 2.0, RNG, interval_s=1800.0, min_interval_s=600.0, tracker_id=None)
    assert succeed(one, 2.0).event is Event.COMPLETED


def test_tiers_in_order_and_the_one_that_works_goes_to_the_front() -> None:
    one = state([A, B, C])
    first = fail(one, 0.0).url
    second = fail(one, 0.0).url
    third = succeed(one, 0.0).url
    assert {first, second, third} == {A, B, C}
    # later: that one first; then the others in the order they had (BEP 12's example)
    now = one.next_at + 1e6
    assert [fail(one, now).url for _ in range(3)] == [third, first, second]


def test_a_later_tier_only_when_the_first_is_down() -> None:
    one = state([A], [B])
    assert fail(one, 0.0).url == A
    assert succeed(one, 0.0).url == B
    assert succeed(one, one.next_at).url == A, "on the next announce the first tier is tried again"


def test_a_tier_is_shuffled_once() -> None:
    urls = [f"http://{number}/" for number in range(10)]
    orders = set()
    for seed in range(20):
        one = AnnounceState([urls], random.Random(seed))
        order = tuple(fail(one, 0.0).url for _ in urls)
        assert sorted(order) == sorted(urls)
        orders.add(order)
        later = one.next_at + 1e6
        assert tuple(fail(one, later).url for _ in urls) == order
    assert len(orders) > 10


def test_back_off_grows_to_its_bound() -> None:
    one = state([A])
    now, pauses = 0.0, []
    for _ in range(15):
        fail(one, now)
        pauses.append(one.next_at - now)
        now = one.next_at
    assert 15 <= pauses[0] <= 20
    assert 30 <= pauses[1] <= 40
    assert BACK_OFF_MOST_S <= pauses[-1] <= 1.3 * BACK_OFF_MOST_S
    succeed(one, now)
    fail(one, one.next_at)
    assert one.next_at - now < 1.2 * 1800 + 20, "an answer makes it forget"


def test_one_trackers_back_off_is_not_anothers() -> None:
    one = state([A], [B])
    fail(one, 0.0)
    fail(one, 0.0)
    assert one.plan(0.0) is None
    assert 15 <= one.next_at <= 20


def test_retry_in_is_its_own_wish() -> None:
    one = state([A])
    fail(one, 0.0, retry_in_s=7200.0)
    assert one.next_at == 7200.0


def test_never_is_never() -> None:
    one = state([A], [B])
    fail(one, 0.0, retry_in_s=math.inf)
    assert fail(one, 0.0, retry_in_s=math.inf).url == B
    assert one.next_at == math.inf
    assert one.plan(1e12) is None
    assert one.merge([(C,)])
    assert one.plan(1e12) == Plan(C, Event.STARTED)


def test_merged_trackers_wait_behind_one_that_works() -> None:
    one = state([A])
    succeed(one, 0.0)
    due = one.next_at
    assert one.merge([(A, B), (B,)])
    assert not one.merge([(A,), (B,)])
    assert one.next_at == due
    fail(one, due)
    assert succeed(one, due) == Plan(B, Event.STARTED)


def test_merged_trackers_are_asked_at_once_when_no_other_works() -> None:
    one = state([A])
    fail(one, 0.0)
    one.merge([(B,)])
    assert one.plan(0.0) == Plan(B, Event.STARTED)
    bare = state()
    bare.merge([(A,)])
    assert bare.plan(0.0) == Plan(A, Event.STARTED)


def test_the_same_url_twice_is_one_tracker() -> None:
    one = state([A, A], [A, B])
    assert fail(one, 0.0).url == A
    assert fail(one, 0.0).url == B
    assert one.plan(0.0) is None


def wide_plans(one: AnnounceState, now: float) -> list[Plan]:
    """All that is asked at this moment."""
    plans: list[Plan] = []
    plan = one.plan(now, wide=True)
    while plan is not None:
        plans.append(plan)
        plan = one.further(now, [plan.url for plan in plans])
    return plans


def answer(one: AnnounceState, plan: Plan, now: float, interval_s: float = 1800.0) -> None:
    one.succeeded(plan.url, plan.event, now, RNG, interval_s=interval_s, min_interval_s=None, tracker_id=None)


def test_a_wide_torrent_asks_a_tracker_of_each_tier_at_once() -> None:
    one = AnnounceState([[A], [B, C]], random.Random(1))
    first, second = wide_plans(one, 0.0)
    assert (first, second.event) == (Plan(A, Event.STARTED), Event.STARTED)
    other = ({B, C} - {second.url}).pop()
    assert one.plan(0.1, wide=True, busy=[A, second.url]) is None, "both are under way"
    # the second tier goes on by itself
    one.failed(second.url, 1.0, RNG, retry_in_s=None)
    assert one.plan(1.0, wide=True, busy=[A]) == Plan(other, Event.STARTED)
    answer(one, first, 2.0)
    answer(one, Plan(other, Event.STARTED), 3.0, 900.0)
    assert 3 + 810 <= one.next_at <= 3 + 990, "each has its own interval"
    due = one.next_at
    assert wide_plans(one, due) == [Plan(other, Event.NONE)]
    answer(one, Plan(other, Event.NONE), due, 900.0)
    # enough peers: the first tier serves, the other lapses
    now, asked = one.next_at, []
    while now < 20_000:
        plan = one.plan(now)
        if plan is not None:
            asked.append(plan.url)
            answer(one, plan, now)
        assert one.next_at > now
        now = one.next_at
    assert set(asked) == {A}
    assert set(one.stopping()) == {A, other}


def test_a_torrent_that_comes_into_need_asks_further_tiers_at_once() -> None:
    one = state([A], [B])
    succeed(one, 0.0)
    assert one.want_now(0.5, wide=True, busy=[B])
    assert one.next_at == HASTE_S, "the other tier is asked already"
    assert one.want_now(1.0, wide=True)
    assert one.next_at == 1.0
    assert wide_plans(one, 1.0) == [Plan(B, Event.STARTED)]
    one.failed(B, 2.0, RNG, retry_in_s=None)
    assert wide_plans(one, 2.0) == []
    assert 2 + 15 <= one.next_at <= 2 + 20, "the dead one after its back-off"
    assert not one.want_now(3.0, wide=True)
    assert wide_plans(one, one.next_at) == [Plan(B, Event.STARTED)]


def test_every_tracker_that_knows_us_hears_completed_once() -> None:
    one = state([A], [B], [C])
    for plan in wide_plans(one, 0.0)[:2]:
        answer(one, plan, 0.0)
    one.failed(C, 0.0, RNG, retry_in_s=None)
    one.completed(10.0)
    assert succeed(one, 10.0) == Plan(A, Event.COMPLETED)
    assert succeed(one, 10.0) == Plan(B, Event.COMPLETED)
    assert one.next_at > 1000
    assert one.plan(5000.0) == Plan(A, Event.NONE)


def test_completed_waits_for_what_is_under_way() -> None:
    one = state([A], [B])
    for plan in wide_plans(one, 0.0):
        answer(one, plan, 0.0)
    one.completed(10.0)
    assert one.plan(10.0, busy=[A]) == Plan(B, Event.COMPLETED)


def test_counts() -> None:
    one = state([A], [B])
    assert (one.seeders, one.leechers) == (UNKNOWN, UNKNOWN)
    for plan in wide_plans(one, 0.0):
        answer(one, plan, 0.0)
    one.counted(None, None, url=A)
    assert (one.seeders, one.leechers) == (UNKNOWN, UNKNOWN)
    one.counted(1, None, url=B)
    assert (one.seeders, one.leechers) == (1, 0)
    one.counted(5, 6, url=A)
    one.counted(0, 0, url=B)
    assert (one.seeders, one.leechers) == (5, 6)
    one.counted(7, 8, url=B)
    assert (one.seeders, one.leechers) == (7, 8)
    one.counted(4, 0, url=A)
    assert (one.seeders, one.leechers) == (4, 0)


def test_need_of_peers_brings_the_next_announce_forward() -> None:
    one = state([A])
    assert not one.want_now(0.0), "it is due anyway"
    succeed(one, 0.0)
    assert one.want_now(1.0)
    assert one.next_at == HASTE_S
    assert not one.want_now(2.0), "once is enough"
    assert succeed(one, HASTE_S).event is Event.NONE
    assert one.want_now(70.0)
    assert one.next_at == HASTE_S + 2 * HASTE_S, "each time more patient"


def test_that_more_is_wanted_than_before_is_told_soon_whatever_min_interval_says() -> None:
    one = state([A])
    assert not one.wants_more(0.0)
    succeed(one, 0.0, min_interval_s=900.0)
    assert one.wants_more(100.0)
    assert succeed(one, 100.0, min_interval_s=900.0) == Plan(A, Event.NONE)
    # but nobody who changes his mind all the time is announced each time
    assert one.wants_more(110.0)
    assert not one.wants_more(111.0)
    assert one.next_at == 100.0 + HASTE_S


def test_need_of_peers_respects_min_interval() -> None:
    one = state([A])
    succeed(one, 0.0, min_interval_s=600.0)
    assert one.want_now(1.0)
    assert one.next_at == 600.0
    long = state([A])
    succeed(long, 0.0, interval_s=1800.0, min_interval_s=3600.0)
    assert long.next_at >= 3600.0
    assert not long.want_now(1.0)


def test_patience_is_forgotten_after_a_regular_announce() -> None:
    one = state([A])
    succeed(one, 0.0)
    for _ in range(4):
        one.want_now(one.next_at - 2000)
        succeed(one, one.next_at)
    one.next_at += 5000
    now = one.next_at
    succeed(one, now)
    one.want_now(now + 1)
    assert one.next_at == now + HASTE_S


def test_need_of_peers_does_not_hurry_a_tracker_that_fails() -> None:
    one = state([A])
    fail(one, 0.0)
    due = one.next_at
    assert not one.want_now(1.0)
    assert one.next_at == due


def test_a_tracker_that_answered_is_not_asked_again_within_its_min_interval_for_anothers_failure() -> None:
    one = state([A], [B])
    fail(one, 0.0, retry_in_s=100.0)
    succeed(one, 0.0, min_interval_s=600.0)
    due = one.next_at
    one.next_at = 150.0
    assert fail(one, 150.0).url == A
    assert one.plan(150.0) is None
    assert one.next_at == due, "it serves us"
    assert one.want_now(151.0)
    assert one.next_at == 600.0


def test_stopped_goes_to_who_knows_us() -> None:
    one = state([A], [B], [C])
    assert one.stopping() == [], "nobody heard of us"
    succeed(one, 0.0)
    due = one.next_at
    fail(one, due)
    succeed(one, due)
    assert one.stopping() == [B], "A does not answer lately"
    assert one.stopping() == [], "once"


def test_a_new_life_begins_with_started() -> None:
    one = state([A])
    succeed(one, 0.0)
    one.stopping()
    assert succeed(one, 1.0) == Plan(A, Event.STARTED)


def test_completed_survives_a_stop_unless_it_was_heard() -> None:
    one = state([A])
    succeed(one, 0.0)
    one.completed(1.0)
    one.stopping()
    assert [succeed(one, 2.0).event, succeed(one, 2.0).event] == [Event.STARTED, Event.COMPLETED]
    two = state([A])
    succeed(two, 0.0)
    two.completed(1.0)
    life = two.life
    plan = two.plan(1.0)
    two.stopping()
    assert two.life != life, "the answer is to a question of an earlier life"
    assert plan is not None
    two.told(plan.event)
    assert [succeed(two, 2.0).event, succeed(two, two.next_at).event] == [Event.STARTED, Event.NONE]


def test_a_refusal_for_ever_outlives_a_stop() -> None:
    one = state([A])
    fail(one, 0.0, retry_in_s=math.inf)
    one.stopping()
    assert one.plan(1.0) is None
    assert one.next_at == math.inf


def test_tracker_id_is_kept_for_its_tracker() -> None:
    one = state([A], [B])
    succeed(one, 0.0, tracker_id=b"id")
    assert one.tracker_id(A) == b"id"
    assert one.tracker_id(B) is None
    succeed(one, one.next_at)
    assert one.tracker_id(A) == b"id", "an answer without one does not take it away"


def test_the_key_differs_and_stays() -> None:
    rng = random.Random(1)
    keys = {AnnounceState([(A,)], rng).key for _ in range(20)}
    assert len(keys) == 20
    assert all(0 <= key < 1 << 32 for key in keys)


def test_an_announce_that_nobody_settles_is_due_again() -> None:
    one = state([A])
    assert one.plan(0.0) is not None
    assert one.next_at == UNSETTLED_S
    assert one.plan(UNSETTLED_S) == Plan(A, Event.STARTED)


def test_put_off_counts_no_failure() -> None:
    one = state([A], [B])
    one.put_off(A, 0.0, 300.0)
    assert succeed(one, 0.0).url == B
    assert fail(one, max(300.0, one.next_at)) == Plan(A, Event.STARTED)
    two = state([A])
    two.put_off(A, 0.0, 300.0)
    assert two.plan(0.0) is None
    assert two.next_at == 300.0
    fail(two, 300.0)
    assert two.next_at <= 320.0, "its first failure"


def test_an_idle_torrent_is_lean() -> None:
    tiers = ((A,),)
    rng = random.Random(1)
    one = AnnounceState(tiers, rng)
    assert not hasattr(one, "__dict__")
    assert one._known == ()
    assert sys.getsizeof(one) + sys.getsizeof(one._tiers) < 200


@pytest.mark.parametrize("seed", range(20))
def test_walks(seed: int) -> None:
    """Whatever happens: order of events per tracker, back-offs kept, time goes on."""
    rng = random.Random(seed)
    wide = bool(seed % 2)
    urls = [A, B, C]
    one = AnnounceState([[A, B], [C]], rng)
    now, heard = 0.0, dict.fromkeys(urls, False)
    asked_not_before = dict.fromkeys(urls, -math.inf)
    downloads, told = 0, dict.fromkeys(urls, 0)
    for _ in range(400):
        match rng.randrange(8):
            case 0:
                one.want_now(now, wide=wide)
            case 1 if downloads == max(told.values()):
                one.completed(now)
                downloads += 1
            case 2 if rng.random() < 0.1:
                assert set(one.stopping()) <= {url for url in urls if heard[url]}
                heard = dict.fromkeys(urls, False)
            case 3:
                now += rng.uniform(0, 100)
            case _ if one.next_at < math.inf:
                now = max(now, one.next_at)
        plan = one.plan(now, wide=wide)
        if plan is None:
            assert one.next_at > now, "or the announcer would spin"
            continue
        assert asked_not_before[plan.url] <= now or plan.event is Event.COMPLETED
        assert (plan.event is Event.STARTED) == (not heard[plan.url])
        if rng.random() < 0.6:
            minimum = rng.choice([None, 300.0])
            one.succeeded(
                plan.url, plan.event, now, rng, interval_s=900.0, min_interval_s=minimum, tracker_id=None
            )
            heard[plan.url] = True
            asked_not_before[plan.url] = -math.inf
            told[plan.url] += plan.event is Event.COMPLETED
        else:
            one.failed(plan.url, now, rng, retry_in_s=None)
            asked_not_before[plan.url] = now + 15.0
        assert max(told.values()) in {downloads, downloads - 1}
    assert downloads


def test_a_host_in_an_outage_is_left_alone_for_a_while() -> None:
    hosts = Hosts()
    hosts.answered("http://h")
    assert [hosts.failed("http://h", 0.0, RNG) for _ in range(OUTAGE_FAILURES)] == [False, False, True]
    until = hosts.blocked_until("http://h", 0.0)
    assert until is not None
    assert 15 <= until <= 20
    assert not hosts.failed("http://h", 1.0, RNG), "asked before: the same outage"
    assert hosts.blocked_until("http://h", 1.0) == until
    assert hosts.blocked_until("http://h", until) is None
    assert not hosts.failed("http://h", until, RNG), "told already"
    again = hosts.blocked_until("http://h", until)
    assert again is not None
    assert 30 <= again - until <= 40
    assert hosts.blocked_until("http://other", 0.0) is None


def test_an_outage_is_bounded_and_ends_with_an_answer() -> None:
    hosts = Hosts()
    now = 0.0
    for _ in range(30):
        hosts.failed("http://h", now, RNG)
        now = hosts.blocked_until("http://h", now) or now
    hosts.failed("http://h", now, RNG)
    assert (hosts.blocked_until("http://h", now) or 0) - now <= 1.3 * OUTAGE_MOST_S
    assert hosts.answered("http://h")
    assert not hosts.answered("http://h"), "once"
    assert hosts.blocked_until("http://h", now) is None
    assert not hosts.failed("http://h", now, RNG), "one failure is the wild"


def test_a_host_that_never_answered_is_news_at_once() -> None:
    hosts = Hosts()
    assert hosts.failed("http://h", 0.0, RNG)
    assert not hosts.failed("http://h", 0.0, RNG)
    assert hosts.blocked_until("http://h", 0.0) is None


def test_other_trackers_are_asked_at_once_and_those_that_stay_are_not_asked_again() -> None:
    one = state([A], [B])
    succeed(one, 0.0)
    one.counted(5, 6, url=A)
    assert one.replace([[A], [C]]) == []
    assert one.plan(1.0) is None, "the first tier is served"
    assert one.next_at >= 1800 * 0.9
    assert one.seeders == 5
    assert one.replace([[C], [A]]) == []
    assert succeed(one, 2.0) == Plan(C, Event.STARTED)
    assert one.replace([[C]]) == [A], "who knows us and is gone"
    assert one.seeders == UNKNOWN
    assert not one.has(A)
    assert one.replace([]) == [C]
    assert one.plan(1e9) is None
    assert one.next_at == math.inf
    assert one.replace([[B]]) == []
    assert succeed(one, 3.0) == Plan(B, Event.STARTED)
