"""Who leaves a full house for whom, and who does not get in again."""

import random
from types import SimpleNamespace
from typing import Any

import pytest

from bittern.engine.admission import SHOWN_OUT_S, Admission
from bittern.policy.priority import canonical_priority
from bittern.policy.roster import Roster
from bittern.terms import Address, InfoHash


class Idler:
    """Of no use, and gone at once."""

    listens_on = None

    def __init__(self, host: str, house: "set[Any]", useless: float = 2.0) -> None:
        self.address = Address(host, 1)
        self.down = self.up = SimpleNamespace(rate=lambda _: 0.0)
        self._useless = useless
        self.scope = SimpleNamespace(cancel_called=False)
        self._house = house
        house.add(self)

    def uselessness(self, _: float) -> float:
        return self._useless

    def close(self) -> None:
        self._house.discard(self)


OURS = Address("123.213.32.10", 6881)


def _swarm(peers: "set[Any]") -> Any:
    roster = Roster(random.Random(1))
    roster.stands_at(OURS)
    return SimpleNamespace(
        peers=peers, roster=roster, fetch=None, all_useful_until=0.0, wants_peers=False, lonely=False
    )


@pytest.mark.parametrize(
    ("host", "neighbour", "stranger"),
    [("10.0.0.1", "10.0.0.1", "10.0.0.2"), ("2a01:4f8:1:2::3", "2a01:4f8:1:2:9::7", "2a01:4f8:1:3::3")],
)
def test_who_was_shown_out_takes_the_place_of_a_neighbour_at_most(
    host: str, neighbour: str, stranger: str
) -> None:
    peers: set[Any] = set()
    swarm = _swarm(peers)
    admission = Admission({})

    def leaves(for_host: str, now: float) -> bool:
        swarm.all_useful_until = 0.0
        return admission.somebody_leaves(swarm, for_host, now, full=True)

    Idler(host, peers)
    assert leaves(stranger, 0)
    assert not peers
    Idler(stranger, peers)
    assert not leaves(host, 1)
    assert not leaves(neighbour, 1)
    another = Idler(neighbour, peers)
    assert leaves(neighbour, 1)
    assert another not in peers
    assert len(peers) == 1
    assert leaves(host, 1 + SHOWN_OUT_S)


def test_of_the_equally_useless_those_of_lowest_canonical_priority_leave_first() -> None:
    peers: set[Any] = set()
    swarm = _swarm(peers)
    admission = Admission({})
    crowd = [Idler(f"98.{number}.54.32", peers, 1.6 + number / 100) for number in range(40)]
    little = Idler("99.1.2.3", peers, 1.2)
    useful = Idler("99.2.2.3", peers, 0.9)
    order = sorted(crowd, key=lambda peer: canonical_priority(OURS, peer.address))
    for peer in order:
        assert admission.somebody_leaves(swarm, "", 0.0, full=True)
        assert peer not in peers
    assert admission.somebody_leaves(swarm, "", 0.0, full=True)
    assert peers == {useful}
    assert little not in peers
    assert not admission.somebody_leaves(swarm, "", 0.0, full=True)


def test_of_those_that_move_nothing_the_one_of_lowest_priority_is_given_to_a_lonely_torrent() -> None:
    peers: set[Any] = set()
    crowd = [Idler(f"98.{number}.54.32", peers, 0.5) for number in range(40)]
    admission = Admission({InfoHash(bytes(20)): _swarm(peers)})
    for peer in sorted(crowd, key=lambda peer: canonical_priority(OURS, peer.address))[:-1]:
        assert admission.makes_room(lonely=True, host="", now=0.0)
        assert peer not in peers
