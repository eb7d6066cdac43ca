"""What a node learns of itself."""

from bittern.policy.standing import (
    GOOD_NODES,
    QUIET_S,
    TRIAL_S,
    VOTERS,
    VOTES_NEEDED,
    AddressVotes,
    Reachability,
    Whereabouts,
)
from bittern.terms import Address


def voter(number: int) -> Address:
    return Address(f"50.{number}.1.1", 6881)


def test_our_address_is_what_most_of_several_networks_see() -> None:
    votes = AddressVotes()
    for number in range(VOTES_NEEDED - 1):
        assert votes.vote(voter(number), "8.8.8.8") is None
    assert votes.vote(voter(99), "8.8.8.8") == "8.8.8.8"
    # a new address wins when most of the latest see it
    seen = [votes.vote(voter(100 + number), "9.9.9.9") for number in range(VOTERS)]
    assert seen[: VOTES_NEEDED - 1] == [None] * (VOTES_NEEDED - 1)
    assert seen[-1] == "9.9.9.9"


def test_one_network_has_one_vote_and_local_addresses_none() -> None:
    votes = AddressVotes()
    for number in range(200):
        assert votes.vote(Address(f"50.1.1.{number}", 1), "8.8.8.8") is None
    for number in range(20):
        assert votes.vote(voter(number), "192.168.1.1") is None
        assert votes.vote(Address(f"10.{number}.1.1", 1), "9.9.9.9") is None
        assert votes.vote(Address("127.0.0.1", 1 + number), "9.9.9.9") is None


def test_trackers_have_one_vote_together() -> None:
    here = Whereabouts()
    for _ in range(20):
        assert not here.vote(None, "8.8.8.8")
    assert not here.vote(None, "192.168.1.1")
    for number in range(VOTES_NEEDED - 2):
        assert not here.vote(voter(number), "8.8.8.8")
    assert here.vote(voter(99), "8.8.8.8")
    assert not here.vote(voter(100), "8.8.8.8"), "that is no news"
    assert here.hosts == {False: "8.8.8.8"}


def test_each_family_is_counted_for_itself() -> None:
    here = Whereabouts()
    for number in range(VOTES_NEEDED):
        here.vote(voter(number), "8.8.8.8")
        here.vote(voter(number), "2001:db8::8")
    assert here.hosts == {False: "8.8.8.8", True: "2001:db8::8"}


def test_who_hears_nobody_is_read_only_and_tries_again() -> None:
    reach = Reachability(0.0)
    reach.asked("50.1.1.1")
    reach.queried("50.1.1.1", 1.0)
    reach.judge(GOOD_NODES, TRIAL_S - 1)
    assert not reach.read_only
    reach.judge(GOOD_NODES, TRIAL_S)
    assert reach.read_only
    reach.judge(GOOD_NODES, TRIAL_S + QUIET_S - 1)
    assert reach.read_only
    reach.judge(GOOD_NODES, TRIAL_S + QUIET_S)
    assert not reach.read_only


def test_a_query_out_of_nowhere_shows_that_we_are_reached() -> None:
    reach = Reachability(0.0)
    reach.queried("50.1.1.2", 1.0)
    reach.judge(GOOD_NODES, TRIAL_S)
    assert not reach.read_only
    reach.judge(GOOD_NODES, 2 * TRIAL_S)
    assert reach.read_only, "the next quarter of an hour was silent"
    reach.queried("50.1.1.3", 2 * TRIAL_S + 1)
    assert not reach.read_only


def test_while_few_know_us_silence_means_nothing() -> None:
    reach = Reachability(0.0)
    for minute in range(100):
        reach.judge(GOOD_NODES - 1, minute * 60.0)
    assert not reach.read_only
