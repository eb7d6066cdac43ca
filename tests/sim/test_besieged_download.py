"""A download besieged by hundreds who lie about what they have, send what is wrong, or say without end: it comes at the
rate of the honest seed, in bounded memory, and who sent bad data is banned; in virtual time.
"""

import random
import struct
from collections.abc import Sequence
from enum import Enum
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bittern.engine.events import Checked, PeerBanned
from bittern.errors import HandshakeError
from bittern.policy.roster import Source
from bittern.proto import messages as m
from bittern.proto.handshake import Handshake
from bittern.terms import BLOCK_SIZE, Address, InfoHash, PeerId
from tests.fakes.engine import running
from tests.fakes.memory_peers import Manner, MemoryPeer, Town
from tests.fakes.torrents import Made, make_torrent

RATE_PER_S = 200_000
FOR_S = 30
AGAIN_S = 1.0


class Lie(Enum):
    """What one does that knocks at a download."""

    SILENT = "shakes hands, and says nothing more"
    EMPTY = "has everything, lets us ask, and sends nothing"
    BAD = "has everything, and sends what is wrong"
    SOME_BAD = "has everything, and of each piece only the first block is right"
    SHORT = "sends blocks of another length than we asked for"
    UNTRUE = "names pieces in its bitfield, and rejects what we ask of them"
    HAVES = "says a thousand times a second that it has a piece"


BANNED = {Lie.BAD, Lie.SOME_BAD, Lie.SHORT}


class Liar(MemoryPeer):
    def __init__(self, remote: Address, peer_id: PeerId, lie: Lie, made: Made) -> None:
        super().__init__(remote)
        self._peer_id, self._lie, self._made = peer_id, lie, made

    def handshake(self, info_hash: InfoHash) -> Handshake:
        return Handshake(info_hash, self._peer_id, extended=False, fast=True, dht=False)

    def greet(self) -> None:
        if self._lie is Lie.SILENT:
            return
        if self._lie is Lie.HAVES:
            self.say(m.HAVE_NONE)
            now = trio.current_time()
            for tenth in range(600):
                self.say(m.pack_have(tenth % self._made.piece_count) * 100, now + tenth / 10)
            return
        self.say(m.HAVE_ALL)
        self.say(m.UNCHOKE)

    def hear(self, kind: int, body: bytes) -> None:
        if kind != m.REQUEST_ID:
            return
        index, begin, length = struct.unpack(">III", body)
        if self._lie is Lie.UNTRUE:
            self.say(struct.pack(">IBIII", 13, m.REJECT_ID, index, begin, length))
        elif self._lie in BANNED:
            block = bytes(length - (self._lie is Lie.SHORT))
            if self._lie is Lie.SOME_BAD and begin == 0:
                block = self._made.piece(index)[:length]
            self.say(m.PIECE_HEADER.pack(9 + len(block), m.PIECE_ID, index, begin) + block)


async def besieged(
    folder: Path, lies: Sequence[Lie], liars: int, *, places: int, max_peers: int
) -> tuple[float, float]:
    """When an honest seed was asked whose address is known, and what part of its line is used from then on."""
    made = make_torrent("wanted.bin", size=int(1.3 * RATE_PER_S * FOR_S), piece_length=65536)
    rng, town = random.Random(5), Town()
    async with (
        running(
            folder,
            dialer=town,
            max_peers=max_peers,
            max_peers_per_torrent=places,
            piece_memory=8 << 20,
        ) as engine,
        trio.open_nursery() as nursery,
    ):
        await engine.add(made)
        await engine.until(Checked, timeout_s=600)
        torrent = engine.session.torrents[made.info_hash]
        swarms = engine.session.swarms

        async def knocks(number: int) -> None:
            lie = lies[number % len(lies)]
            address = Address(f"10.{9 + lies.index(lie)}.{number >> 8}.{number & 255}", 6881)
            await trio.sleep(rng.random() * AGAIN_S)
            for life in range(10_000):
                peer_id = PeerId(b"-LI0000-%05d%07d" % (number, life))
                one = Liar(address, peer_id, lie, made)
                try:
                    swarms.introduce(one.handshake(made.info_hash), one)
                except HandshakeError:
                    one.close()
                await one.gone.wait()
                await trio.sleep(AGAIN_S)

        async def looks() -> None:
            while True:
                assert engine.buffers.in_use_bytes <= engine.buffers.budget_bytes
                assert swarms.peer_count <= max_peers
                await trio.sleep(0.5)

        for number in range(liars):
            nursery.start_soon(knocks, number)
        nursery.start_soon(looks)
        await trio.sleep(15)
        swarms.addresses_found(torrent, (town.settle(made, Manner.GIVES, RATE_PER_S),), Source.TRACKER)
        began = trio.current_time()
        while not given(town):
            await trio.sleep(0.5)
            assert trio.current_time() < began + 600, "never asked for anything"
        served_s, before = trio.current_time() - began, given(town)
        await trio.sleep(FOR_S)
        share = (given(town) - before) * BLOCK_SIZE / (FOR_S * RATE_PER_S)
        banned = {event.host for event in engine.told(PeerBanned)}
        kinds = {lies[int(host.split(".")[1]) - 9] for host in banned}
        assert kinds == BANNED & set(lies)
        nursery.cancel_scope.cancel()
    return served_s, share


def given(town: Town) -> int:
    """Blocks, by the honest one."""
    return sum(one._given for one in town._open)


ALL = list(Lie)


async def test_a_download_among_liars_comes_at_the_honest_rate(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    served_s, share = await besieged(tmp_path, ALL, 21, places=10, max_peers=20)
    assert share >= 0.8
    assert served_s <= 60


@pytest.mark.proof
@pytest.mark.parametrize(
    "lies", [*([lie] for lie in ALL), ALL], ids=lambda some: some[-1].name * (len(some) == 1)
)
async def test_and_among_hundreds_of_them(lies: list[Lie], tmp_path: Path, autojump_clock: MockClock) -> None:
    served_s, share = await besieged(tmp_path, lies, 450, places=50, max_peers=200)
    assert share >= 0.8
    assert served_s <= 60
