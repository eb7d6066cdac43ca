"""A peer that comes while records are read does not wait for all of them, and is never forgotten."""

from functools import partial

import pytest

from bittern.engine.early import EARLY_AT_MOST, FIRST_SLICE, OF_ONE_HOST, EarlyPeers
from bittern.engine.events import Event
from bittern.engine.supervision import Supervisor
from bittern.errors import HandshakeError
from bittern.proto.handshake import Handshake
from bittern.terms import Address, InfoHash, PeerId
from tests.fakes.faults import Bug


class Caller:
    """Only a transport that comes from somewhere and can be closed."""

    def __init__(self, host: int) -> None:
        self.remote = Address(f"192.0.2.{host}", 1)
        self.closed = False

    def close(self) -> None:
        self.closed = True


def name(number: int) -> InfoHash:
    return InfoHash(number.to_bytes(20, "big"))


def handshake(number: int) -> Handshake:
    return Handshake(name(number), PeerId(bytes(20)), extended=True, fast=True, dht=False)


class Door:
    """Those that were introduced; torrents from 1000 on are not known."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self.bugs: list[Event] = []
        guard = partial(Supervisor(self.bugs.append).guard, remedy="")
        self.early = EarlyPeers(self.introduce, guard)  # type: ignore[arg-type]  # a Caller is enough here

    def introduce(self, handshake: Handshake, caller: Caller) -> None:
        number = int.from_bytes(handshake.info_hash, "big")
        if number == 666:
            raise Bug("in whoever introduces it")
        if number >= 1000:
            raise HandshakeError("no such torrent here")
        self.came.append(number)

    def knock(self, number: int, host: int = 1) -> Caller:
        caller = Caller(host)
        self.early.introduce(handshake(number), caller)  # type: ignore[arg-type]  # likewise
        return caller


def test_what_somebody_waits_for_is_read_first() -> None:
    door = Door()
    door.knock(77)  # before even the names are known
    slices = door.early.slices(map(name, range(100)), 10)
    assert next(slices) == [name(77), *map(name, range(FIRST_SLICE - 1))]
    assert door.came == []
    door.knock(88)
    second = next(slices)
    assert door.came == [77]
    assert second == [name(88), *map(name, range(FIRST_SLICE - 1, FIRST_SLICE + 8))]
    door.knock(3)  # read long ago
    assert door.came == [77, 3]
    rest = [one for part in slices for one in part]
    assert door.came == [77, 3, 88]
    assert sorted([*second, *rest]) == sorted(set(map(name, range(FIRST_SLICE - 1, 100))) - {name(77)})
    door.knock(5)
    assert door.came == [77, 3, 88, 5]


def test_slices_begin_small_and_grow() -> None:
    sizes = [len(part) for part in Door().early.slices(map(name, range(100)), 32)]
    assert sizes == [FIRST_SLICE, 16, 32, 32, 12]


def test_a_torrent_that_nobody_knows_costs_the_connection() -> None:
    door = Door()
    caller = door.knock(1000)
    slices = door.early.slices(map(name, range(5)), 2)
    next(slices)
    assert caller.closed
    with pytest.raises(HandshakeError):
        door.knock(2000)


async def test_a_bug_that_a_waiting_peer_trips_costs_its_connection_and_no_start() -> None:
    door = Door()
    ill, _ = door.knock(666), door.knock(2)
    assert list(door.early.slices([name(666), name(2)], 2)) == [[name(666), name(2)]]
    assert ill.closed
    assert door.came == [2]
    assert len(door.bugs) == 1


def test_a_load_that_ends_in_the_middle_leaves_nobody_waiting() -> None:
    door = Door()
    slices = door.early.slices([name(1), name(2), name(1001)], 1)
    next(slices)
    waiting = door.knock(1001)
    slices.close()
    assert waiting.closed


def test_only_so_many_wait() -> None:
    door = Door()
    for number in range(EARLY_AT_MOST):
        door.knock(1, number)
    with pytest.raises(HandshakeError):
        door.knock(1, 100)
    assert list(door.early.slices([name(1)], 5)) == [[name(1)]]
    assert door.came == [1] * EARLY_AT_MOST


def test_nobody_takes_all_the_places() -> None:
    door = Door()
    for _ in range(OF_ONE_HOST):
        door.knock(1)
    with pytest.raises(HandshakeError):
        door.knock(1)
    door.knock(1, 2)
