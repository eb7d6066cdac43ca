"""A download besieged by hundreds who lie about what they have, send what is wrong, or say without end: it comes at the
rate of the honest seed, in bounded memory, and who sent bad data is banned; in virtual time.
"""

import itertools
import random
import struct
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bittern.engine.events import Checked, PeerBanned
from bittern.policy.roster import Source
from bittern.proto import messages as m
from bittern.terms import BLOCK_SIZE, Address, PeerId
from tests.fakes.engine import running
from tests.fakes.memory_peers import Knocker, Manner, Town
from tests.fakes.siege import AGAIN_S, RATE_PER_S, Fate, each_and_all, fate_of, knocks
from tests.fakes.torrents import Made, make_torrent

FOR_S = 30


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


class Liar(Knocker):
    def __init__(self, remote: Address, peer_id: PeerId, lie: Lie, made: Made) -> None:
        super().__init__(remote, peer_id)
        self._lie, self._made = lie, made

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


async def besieged(folder: Path, lies: Sequence[Lie], liars: int, *, places: int, max_peers: int) -> Fate:
    """Of an honest seed whose address is known: when it was asked, and how fast from then on."""
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

        def liar(number: int) -> Callable[[], Liar]:
            lie, lives = lies[number % len(lies)], itertools.count()
            address = Address(f"10.{9 + lies.index(lie)}.{number >> 8}.{number & 255}", 6881)
            return lambda: Liar(address, PeerId(b"-LI0000-%05d%07d" % (number, next(lives))), lie, made)

        async def looks() -> None:
            while True:
                assert engine.buffers.in_use_bytes <= engine.buffers.budget_bytes
                assert swarms.peer_count <= max_peers
                await trio.sleep(0.5)

        for number in range(liars):
            nursery.start_soon(knocks, engine, made, liar(number), rng.random() * AGAIN_S)
        nursery.start_soon(looks)
        await trio.sleep(15)
        swarms.addresses_found(torrent, (town.settle(made, Manner.GIVES, RATE_PER_S),), Source.TRACKER)
        # of those in town, who are dialled: the honest one alone
        fate = await fate_of(lambda: sum(one._given for one in town._open) * BLOCK_SIZE, over_s=FOR_S)
        banned = {event.host for event in engine.told(PeerBanned)}
        kinds = {lies[int(host.split(".")[1]) - 9] for host in banned}
        assert kinds == BANNED & set(lies)
        nursery.cancel_scope.cancel()
    return fate


ALL = list(Lie)


async def test_a_download_among_liars_comes_at_the_honest_rate(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    (await besieged(tmp_path, ALL, 21, places=10, max_peers=20)).is_fair()


@pytest.mark.proof
@each_and_all("lies", ALL)
async def test_and_among_hundreds_of_them(lies: list[Lie], tmp_path: Path, autojump_clock: MockClock) -> None:
    (await besieged(tmp_path, lies, 450, places=50, max_peers=200)).is_fair()
