"""Who leaves a full house for whom, and who does not get in again."""

from types import SimpleNamespace
from typing import Any

import pytest

from bittern.engine.admission import SHOWN_OUT_S, Admission
from bittern.terms import Address


class Idler:
    """Of no use, and gone at once."""

    def __init__(self, host: str, house: "set[Any]") -> None:
        self.address = Address(host, 1)
        self.scope = SimpleNamespace(cancel_called=False)
        self._house = house
        house.add(self)

    def uselessness(self, _: float) -> float:
        return 2.0

    def close(self) -> None:
        self._house.discard(self)


@pytest.mark.parametrize(
    ("host", "neighbour", "stranger"),
    [("10.0.0.1", "10.0.0.1", "10.0.0.2"), ("2a01:4f8:1:2::3", "2a01:4f8:1:2:9::7", "2a01:4f8:1:3::3")],
)
def test_who_was_shown_out_takes_the_place_of_a_neighbour_at_most(
    host: str, neighbour: str, stranger: str
) -> None:
    peers: set[Any] = set()
    swarm = SimpleNamespace(peers=peers, fetch=None, all_useful_until=0.0, wants_peers=False, lonely=False)
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
