"""Who is asked for an info dictionary, and when again; without connections."""

import hashlib
from collections.abc import Awaitable, Callable
from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from bittern.disk.buffers import PieceBuffers
from bittern.engine.gathering import HASHED_AT_ONCE_BYTES, HELD_AT_MOST, Gathering, MetadataMemory
from bittern.policy.metadata import TIMEOUT_S
from bittern.proto.extension import UT_METADATA, UT_PEX, ExtensionHandshake
from bittern.proto.metadata import METADATA_PIECE_BYTES, pack_metadata_piece
from bittern.terms import Address, InfoHash
from tests.fakes.inline_disk import InlineDisk

INFO = b"d6:lengthi1ee" * 100


class Peer:
    """One that says it has the metadata, and counts what it is asked."""

    def __init__(self, number: int, *, extensions: tuple[str, ...] = (UT_METADATA,)) -> None:
        self.address = Address(f"192.0.2.{number}", 6881)
        self.spoken = SimpleNamespace(numbers=dict.fromkeys(extensions, 3))
        self.asked = 0
        self.closed = False

    def say(self, blob: bytes) -> None:
        self.asked += 1

    def close(self) -> None:
        self.closed = True


class World:
    """The swarm that it is for."""

    def __init__(self, info: bytes = INFO) -> None:
        self.download_throttle = SimpleNamespace(stopped=False)
        self.memory = MetadataMemory()
        self.found: list[bytes] = []
        self.liars: list[str] = []
        self.witnesses: list[Address] = []
        self.tasks: list[Callable[[], Awaitable[None]]] = []
        self.start, self.has_found = self.tasks.append, self.found.append
        self.lied, self.speaks_of_peers = self.liars.append, self.witnesses.append
        self.size = len(info)
        self.gathering = Gathering(
            self,
            InfoHash(hashlib.sha1(info).digest()),
            memory=self.memory,
            disk=InlineDisk(PieceBuffers(1 << 20)),
        )

    def joins(self, peer: Peer) -> Peer:
        self.gathering.met(peer, ExtensionHandshake(extensions={}, metadata_size=self.size))
        return peer

    def ticks(self) -> None:
        self.gathering.tick(trio.current_time())

    def gives(self, peer: Peer, info: bytes) -> None:
        for number, at in enumerate(range(0, len(info), METADATA_PIECE_BYTES)):
            body = info[at : at + METADATA_PIECE_BYTES]
            self.gathering.heard(peer, pack_metadata_piece(number, self.size, body))


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("given", [True, False])
async def test_it_is_found_or_not_and_the_memory_given_back(world: World, given: bool) -> None:
    one = world.joins(Peer(1))
    assert (one.asked, world.memory.left_bytes) == (1, HELD_AT_MOST - len(INFO))
    if given:
        world.gives(one, INFO)
    world.gathering.close()
    assert (world.found, world.liars) == ([INFO] * given, [])
    assert world.memory.left_bytes == HELD_AT_MOST


async def test_who_sent_a_wrong_one_is_named_and_the_others_are_asked_at_once(world: World) -> None:
    liar, honest = world.joins(Peer(1)), world.joins(Peer(2))
    before = honest.asked
    world.gives(liar, bytes(len(INFO)))
    assert (world.found, world.liars) == ([], [liar.address.host])
    assert honest.asked == before + 1
    world.gives(honest, INFO)
    assert world.found == [INFO]


async def test_a_large_one_is_hashed_apart() -> None:
    info = bytes(HASHED_AT_ONCE_BYTES + 1)
    world = World(info)
    world.joins(one := Peer(1))
    for number, at in enumerate(range(0, len(info), METADATA_PIECE_BYTES)):
        world.ticks()
        body = info[at : at + METADATA_PIECE_BYTES]
        world.gathering.heard(one, pack_metadata_piece(number, len(info), body))
    assert not world.found
    [judging] = world.tasks
    await judging()
    assert world.found == [info]


async def test_each_second_it_is_looked_whom_to_ask(world: World, autojump_clock: MockClock) -> None:
    world.download_throttle.stopped = True
    one = world.joins(Peer(1))
    world.ticks()
    assert one.asked == 0
    world.download_throttle.stopped = False
    world.ticks()
    assert one.asked == 1
    for _ in range(round(3 * TIMEOUT_S)):
        await trio.sleep(1)
        world.ticks()
    # who never answers is given up
    assert one.closed


async def test_who_is_gone_is_forgotten(world: World) -> None:
    one = world.joins(Peer(1))
    world.gathering.left(one)
    world.gathering.left(Peer(2))
    world.ticks()
    assert one.asked == 1
    assert not world.gathering._sources


async def test_who_has_it_and_speaks_of_peers_is_a_witness(world: World) -> None:
    world.joins(Peer(1))
    teller = world.joins(Peer(2, extensions=(UT_METADATA, UT_PEX)))
    world.gathering.met(Peer(3, extensions=(UT_METADATA, UT_PEX)), ExtensionHandshake(extensions={}))
    assert world.witnesses == [teller.address]
