"""Hundreds of torrents at once in virtual time, with too little of everything: nobody starves, no limit is broken."""

import math
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from bittern.disk.buffers import TURN_SHARE
from bittern.engine.admission import TURN_S
from bittern.engine.events import Checked, Downloaded
from bittern.engine.stalls import STALLED_S
from bittern.policy.choker import TURN_S as UPLOAD_TURN_S
from bittern.policy.pipeline import TIMEOUT_S
from bittern.policy.roster import Source
from bittern.proto import messages as m
from bittern.terms import Address, PeerId
from tests.fakes.engine import Engine, running
from tests.fakes.memory_peers import Manner, Taker, Town
from tests.fakes.torrents import Made, make_torrent

PIECE = 32768


@asynccontextmanager
async def carrying(
    folder: Path, many: Sequence[Made], town: Town, **settings: object
) -> AsyncIterator[Engine]:
    async with running(folder, dialer=town, **settings) as engine:
        for made in many:
            await engine.add(made)
        await engine.until(Checked, len(many), timeout_s=600)
        yield engine


def torrents(count: int, size: int) -> list[Made]:
    return [make_torrent(f"{number:03}.bin", size=size, piece_length=PIECE) for number in range(count)]


def named(engine: Engine, made: Made, address: Address) -> None:
    torrent = engine.session.torrents[made.info_hash]
    engine.session.swarms.addresses_found(torrent, (address,), Source.TRACKER)


def open_below(folder: Path) -> int:
    """How many descriptors the process has of files there."""
    links = []
    for number in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # that of the listing itself
            pass
    return sum(link.startswith(f"{folder}/") for link in links)


class Progress:
    """How long each of them went without a byte."""

    def __init__(self, engine: Engine, whom: Sequence[Made]) -> None:
        self._torrents = [engine.session.torrents[made.info_hash] for made in whom]
        self.had = [torrent.record.downloaded_bytes for torrent in self._torrents]
        self._at = [trio.current_time()] * len(self.had)
        self.longest_s = [0.0] * len(self.had)

    def look(self) -> None:
        now = trio.current_time()
        for number, torrent in enumerate(self._torrents):
            self.longest_s[number] = max(self.longest_s[number], now - self._at[number])
            if torrent.record.downloaded_bytes > self.had[number] or torrent.complete:
                self.had[number] = torrent.record.downloaded_bytes
                self._at[number] = now

    @property
    def total(self) -> int:
        return sum(self.had)


async def share(count: int, places: int, rate: int, seconds: int, folder: Path) -> None:
    """Downloads, of which four in ten know only somebody who is no help, and many fewer places than downloads."""
    helpless = {1: Manner.SILENT, 4: Manner.CHOKES, 7: Manner.MUTE}
    many, town = torrents(count, 4 * rate * seconds // count), Town()
    fed = [made for number, made in enumerate(many) if number % 10 not in {*helpless, 9}]
    async with carrying(
        folder, many, town, max_peers=places, piece_memory=24 * PIECE, download_rate=rate, open_files=8
    ) as engine:
        session = engine.session
        for number, made in enumerate(many):
            if number % 10 == 9:
                named(engine, made, town.nobody())
            else:
                named(engine, made, town.settle(made, helpless.get(number % 10, Manner.GIVES), 200_000))
        progress = Progress(engine, fed)
        began = trio.current_time()
        for _ in range(seconds):
            await trio.sleep(1)
            progress.look()
            # one that makes room for another still closes when that is dialled already
            assert town.open_now <= places + 3
            assert engine.buffers.in_use_bytes <= engine.buffers.budget_bytes
            assert len(engine.files) <= 8
        assert open_below(engine.downloads) <= 8
        # the others try as well, but rarely
        assert max(progress.longest_s) <= math.ceil(len(fed) / places) * TURN_S + 30
        assert progress.total >= 0.85 * rate * (trio.current_time() - began)
        assert not any(torrent.complete for torrent in session.torrents.values())


async def test_downloads_that_are_too_many_for_everything_take_turns(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    await share(20, 4, 16_384, 240, tmp_path)


@pytest.mark.proof
async def test_four_hundred_downloads_that_are_too_many_for_everything_take_turns(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    await share(400, 60, 262_144, 600, tmp_path)


@pytest.mark.parametrize(
    ("manner", "at_most_s"),
    [(Manner.SILENT, 25), (Manner.CHOKES, 25), (Manner.STOPS, TIMEOUT_S + STALLED_S + 10)],
)
async def test_who_waits_in_vain_holds_no_memory_that_others_need(
    manner: Manner, at_most_s: float, tmp_path: Path, autojump_clock: MockClock
) -> None:
    many, town = torrents(24, 64 * PIECE), Town()
    idle, fed = many[:16], many[16:]
    async with carrying(tmp_path, many, town, piece_memory=16 * PIECE) as engine:
        for made in idle:
            named(engine, made, town.settle(made, manner, 200_000))
        await trio.sleep(2)
        for made in fed:
            named(engine, made, town.settle(made, Manner.GIVES, 10_000))
        progress = Progress(engine, fed)
        for _ in range(round(1.5 * at_most_s) + 20):
            await trio.sleep(1)
            progress.look()
        assert max(progress.longest_s) <= at_most_s
        assert progress.total >= 0.4 * (1.5 * at_most_s + 20) * len(fed) * 10_000


@pytest.mark.parametrize(("count", "slots"), [(8, 4), pytest.param(30, 5, marks=pytest.mark.proof)])
async def test_upload_slots_go_round_among_all_torrents(
    count: int, slots: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    many, town = torrents(count, PIECE), Town()
    for made in many:
        made.write(tmp_path / "downloads")
    async with carrying(tmp_path, many, town, upload_slots=slots, upload_rate=65_536) as engine:
        swarms = engine.session.swarms
        takers = []
        for number, made in enumerate(many * 2):  # two at each torrent
            taker = Taker(Address(f"10.1.0.{number + 1}", 6881), PeerId(b"-TA0000-%012d" % number))
            swarms.introduce(taker.handshake(made.info_hash), taker)
            takers.append(taker)
        rounds = math.ceil(len(takers) / (slots - 1))  # one in five is given by lot
        for _ in range(round(rounds * UPLOAD_TURN_S) + 30):
            await trio.sleep(1)
            for taker in takers:
                taker.say(m.KEEP_ALIVE)
            unchoked = sum(not peer.am_choking for swarm in swarms.live.values() for peer in swarm.peers)
            assert unchoked - engine.session.choking._choker.on_trial <= slots
        assert swarms.peer_count == len(takers)
        assert all(taker.taken_bytes for taker in takers)


def turns_of(engine: Engine, many: Sequence[Made]) -> list[int]:
    """Bytes of memory that each live download may be granted at a time."""
    live = engine.session.swarms.live
    return [swarm.fetch._turn_bytes for made in many if (swarm := live.get(made.info_hash)) and swarm.fetch]


@pytest.mark.parametrize("count", [100, pytest.param(500, marks=pytest.mark.proof)])
async def test_downloads_that_are_too_many_for_the_memory_take_turns_of_some_pieces(
    count: int, tmp_path: Path, autojump_clock: MockClock
) -> None:
    """One in ten knows only somebody who falls silent, or stops."""
    piece, rate, seconds = 16_384, 50_000, 16
    many = [
        make_torrent(f"{number:03}.bin", size=rate * seconds, piece_length=piece) for number in range(count)
    ]
    town = Town()
    memory = 256 * count // 100 * piece  # a third of what they would have asked for
    async with carrying(tmp_path, many, town, max_peers=count, piece_memory=memory, open_files=8) as engine:
        for number, made in enumerate(many):
            manner = (Manner.SILENT, Manner.STOPS)[number // 10 % 2] if number % 10 == 3 else Manner.GIVES
            named(engine, made, town.settle(made, manner, rate))
        fed = [made for number, made in enumerate(many) if number % 10 != 3]
        progress = Progress(engine, fed)
        for _ in range(seconds):
            await trio.sleep(1)
            progress.look()
            assert engine.buffers.in_use_bytes <= engine.buffers.budget_bytes
        assert engine.buffers.wanted, "there was memory for all of them"
        assert max(turns_of(engine, fed)) <= 2 * piece
        assert max(progress.longest_s) <= 3
        assert progress.total >= 0.8 * len(fed) * rate * seconds
        assert min(progress.had) >= 0.9 * progress.total / len(fed)


async def test_what_lies_here_already_is_asked_for_in_larger_turns_and_nobody_starves(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Peers who answer within a round trip all that they are asked: we are what is slow, and each goes its round."""
    piece, count = 16_384, 70
    many = [make_torrent(f"{number:03}.bin", size=1 << 20, piece_length=piece) for number in range(count)]
    town = Town()
    async with carrying(
        tmp_path, many, town, max_peers=count, piece_memory=4 * TURN_SHARE * piece, open_files=8
    ) as engine:
        for made in many:
            named(engine, made, town.settle(made, Manner.GIVES, math.inf))
        progress = Progress(engine, many)
        await engine.until(Downloaded, 1, timeout_s=60)
        progress.look()
        assert min(turns_of(engine, many)) >= 4 * piece
        slow = next(
            fetch for swarm in engine.session.swarms.live.values() if (fetch := swarm.fetch) is not None
        )
        before = slow._turn_bytes
        slow.came(1, owed=2)  # a peer falls behind: memory is asked for in smaller turns again
        assert slow._turn_bytes == before // 2
        assert min(progress.had) >= 0.3 * max(progress.had)
        assert 2 * town.looks <= progress.total / piece
