"""Whom a swarm dials, and what it takes for that."""

import random
from types import SimpleNamespace
from typing import Any

import trio

from bittern.engine.dialling import Dialling
from bittern.policy.roster import Roster, Source
from bittern.terms import Address, InfoHash


class Slots:
    """Any number; how many were taken, ever."""

    def __init__(self) -> None:
        self.dials_at_once = 50
        self.taken = self.ever = 0

    def take(self) -> bool:
        self.taken += 1
        self.ever += 1
        return True

    def give_back(self) -> None:
        self.taken -= 1


async def test_who_has_nobody_to_dial_takes_no_places() -> None:
    slots, roster = Slots(), Roster(random.Random(1))
    host: Any = SimpleNamespace(connection_slots=slots)
    swarm: Any = SimpleNamespace(places=50, roster=roster, makes_room=lambda now: False)
    dials: list[Address] = []
    nursery: Any = SimpleNamespace(start_soon=lambda body, address: dials.append(address))
    dialling = Dialling(host, swarm, InfoHash(b"h" * 20))
    dialling.dial_due(nursery)
    assert slots.ever == 0
    address = Address("10.0.0.1", 6881)
    roster.add(address, Source.TRACKER)
    dialling.dial_due(nursery)
    assert dials == [address]
    assert slots.taken == 1
    roster.failed(address, trio.current_time())
    before = slots.ever
    dialling.dial_due(nursery)
    assert slots.ever == before, "it is not due"
