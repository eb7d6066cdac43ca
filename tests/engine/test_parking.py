"""Parked torrents in virtual time: when they wake to dial, and what they remember meanwhile."""

import errno
import itertools
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bittern.engine.events import Checked
from bittern.engine.parking import LINGER_S, LINGER_UNFINISHED_S, Parking
from bittern.errors import HandshakeError
from bittern.net.dialer import Dialer
from bittern.net.transport import SocketTransport
from bittern.policy.roster import BACK_OFF_FIRST_S, BACK_OFF_MOST_S, JITTER, Source
from bittern.proto import messages as m
from bittern.proto.handshake import Handshake
from bittern.terms import Address, InfoHash, PeerId
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected, dialled
from tests.fakes.torrents import Made, make_torrent

HOUR_S = 3600.0


class Nobody(Dialer):
    """Nobody answers, and the books are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.dials: list[tuple[float, Address]] = []
        self.there: dict[Address, Address] = {}
        """Who does answer, and where."""

    async def dial(self, address: Address) -> SocketTransport:
        self.dials.append((trio.current_time(), address))
        if address in self.there:
            transport = await super().dial(self.there[address])
            transport.remote = address
            return transport
        await trio.sleep(0.1)
        raise OSError(errno.ECONNREFUSED, "nobody there")

    def times(self, address: Address) -> list[float]:
        return [at for at, whom in self.dials if whom == address]


def peer(n: int) -> Address:
    return Address(f"10.0.{n >> 8}.{n & 255}", 6881)


def named(engine: Engine, made: Made, *addresses: Address) -> None:
    torrent = engine.session.torrents[made.info_hash]
    engine.session.swarms.addresses_found(torrent, addresses, Source.TRACKER)


class Wakes:
    """When a torrent became live."""

    def __init__(self, engine: Engine, info_hash: InfoHash) -> None:
        self._engine = engine
        self._info_hash = info_hash
        self.at: list[float] = []
        self.live_s = 0

    async def watch(self) -> None:
        was = False
        while True:
            live = self._info_hash in self._engine.session.swarms.live
            self.live_s += live
            if live and not was:
                self.at.append(trio.current_time())
            was = live
            await trio.sleep(1)


async def test_addresses_that_never_answer_wake_their_torrent_less_and_less(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made, nobody = make_torrent(), Nobody()
    async with running(tmp_path, dialer=nobody) as engine, trio.open_nursery() as nursery:
        await engine.add(made)
        await engine.until(Checked)
        wakes = Wakes(engine, made.info_hash)
        nursery.start_soon(wakes.watch)
        named(engine, made, *map(peer, range(20)))
        await trio.sleep(1.5 * HOUR_S)
        nursery.cancel_scope.cancel()
    # each address has a back-off of its own: without a common one the twenty would keep it awake
    gaps = [after - before for before, after in itertools.pairwise(wakes.at)]
    assert 5 <= len(wakes.at) <= 10
    assert wakes.live_s <= 10 * 20
    for n, gap in enumerate(gaps):
        assert gap >= (1 - JITTER) * min(BACK_OFF_FIRST_S * 2**n, BACK_OFF_MOST_S)
    for address in map(peer, range(20)):
        times = nobody.times(address)
        assert 4 <= len(times) <= 8
        for n, (before, after) in enumerate(itertools.pairwise(times)):
            assert after - before >= (1 - JITTER) * min(BACK_OFF_FIRST_S * 2**n, BACK_OFF_MOST_S)


async def test_who_is_named_again_is_nobody_new_but_a_new_address_is_dialled_at_once(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made, nobody = make_torrent(), Nobody()
    known = [peer(n) for n in range(5)]
    async with running(tmp_path, dialer=nobody) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent = engine.session.torrents[made.info_hash]
        for _ in range(90):
            named(engine, made, *known)
            await trio.sleep(20)
        # half an hour: 30 + 60 + 120 + 240 + 480 s of pauses, and the same five named ninety times
        assert all(4 <= len(nobody.times(address)) <= 8 for address in known)
        assert torrent.vain_wakes >= 3
        before = len(nobody.dials)
        named(engine, made, *known, peer(99))
        await trio.sleep(1)
        assert {whom for _, whom in nobody.dials[before:]} >= {peer(99)}
        assert torrent.vain_wakes == 0
        await trio.sleep(BACK_OFF_FIRST_S * (1 + JITTER) + 10)
        assert len(nobody.times(peer(99))) == 2


NOW = 10_000.0


@pytest.mark.parametrize(
    ("idle_s", "partials", "complete", "due_s", "vain", "parked", "woken_s"),
    [
        (None, 0, False, None, False, False, None),
        (LINGER_S - 1, 0, False, None, False, False, None),
        (LINGER_S, 0, False, None, False, True, None),
        (LINGER_S, 1, False, None, False, False, None),
        (LINGER_UNFINISHED_S, 1, False, None, False, True, None),
        # somebody is due at once, or soon enough to stay for
        (LINGER_S, 0, False, -1.0, False, False, None),
        (LINGER_S, 0, False, LINGER_S, False, False, None),
        (LINGER_S, 0, False, 0.0, True, False, None),
        (LINGER_S, 0, False, 100.0, False, True, 100.0),
        # a seed dials nobody; who dialled in vain waits longer
        (LINGER_S, 0, True, 100.0, False, True, None),
        (LINGER_S, 0, False, 20.0, True, True, BACK_OFF_FIRST_S),
    ],
)
def test_who_is_parked_and_when_it_is_woken(
    idle_s: float | None,
    partials: int,
    complete: bool,
    due_s: float | None,
    vain: bool,
    parked: bool,
    woken_s: float | None,
) -> None:
    noted: list[float] = []
    torrent = SimpleNamespace(
        info_hash=InfoHash(bytes(20)),
        complete=complete,
        dial_again_at=0.0,
        vain_wakes=0,
        dialled_in_vain=noted.append,
    )
    swarm: Any = SimpleNamespace(
        torrent=torrent,
        idle_since=lambda: None if idle_s is None else NOW - idle_s,
        fetch=SimpleNamespace(partials=[None] * partials),
        roster=SimpleNamespace(next_due_at=lambda: None if due_s is None else NOW + due_s),
        dialled_in_vain=vain,
    )
    parking = Parking(random.Random(1))
    assert parking.parks(swarm, NOW) is parked
    at_s = HOUR_S if woken_s is None else woken_s
    assert list(parking.take_due(NOW + at_s * (1 - JITTER) - 0.1)) == []
    assert list(parking.take_due(NOW + at_s * (1 + JITTER))) == [torrent.info_hash] * (woken_s is not None)
    assert bool(noted) is (vain and parked)


async def test_a_parked_torrent_has_one_appointment_however_often_it_wakes(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made, nobody = make_torrent(), Nobody()
    async with running(tmp_path, dialer=nobody) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent = engine.session.torrents[made.info_hash]
        swarms = engine.session.swarms
        for n in range(300):
            named(engine, made, peer(n))
            await trio.sleep(10)
            assert len(swarms._parking._due) == (made.info_hash not in swarms.live)
        with trio.fail_after(HOUR_S):
            while made.info_hash in swarms.live:
                await trio.sleep(1)
        assert len(swarms._parking._due) == 1
        assert len(swarms._parking._due._heap) < 100
        assert len(torrent.resting) <= 32 * 12
        await engine.session.remove(made.info_hash, reason="")
        assert len(swarms._parking._due) == 0


async def test_a_useful_peer_makes_the_others_worth_a_dial_again(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made, nobody = make_torrent(), Nobody()
    async with running(tmp_path, dialer=nobody) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent = engine.session.torrents[made.info_hash]
        named(engine, made, peer(1), peer(2))
        await trio.sleep(BACK_OFF_FIRST_S * 8)
        assert torrent.vain_wakes >= 3

        def answers(there: Address) -> None:
            nobody.there[peer(1)] = there

        async with dialled(
            answers, made.info_hash, PeerId(b"-TE0000-useful------"), within_s=HOUR_S
        ) as found:
            assert torrent.vain_wakes >= 3
            await found.say(m.HAVE_ALL, m.UNCHOKE)
            await found.serve(made, pieces=1)
            await trio.sleep(1)
        del nobody.there[peer(1)]
        await trio.sleep(1)
        assert torrent.vain_wakes == 0
        left_at = trio.current_time()
        await trio.sleep(30)
        assert [at for at in nobody.times(peer(1)) if at > left_at]


async def test_a_seed_that_had_no_room_is_asked_again_in_a_moment(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made = make_torrent()
    (door,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with door, running(tmp_path, dialer=Dialer()) as engine:
        await engine.add(made)
        await engine.until(Checked)

        async def turn_away() -> None:
            for reset in (False, True):
                stream = await door.accept()
                if not reset:
                    await stream.receive_some(68)
                await trio.aclose_forcefully(stream)

        named(engine, made, Address(*door.socket.getsockname()))
        began = trio.current_time()
        with trio.fail_after(HOUR_S):
            await turn_away()
            stream = await door.accept()
        assert trio.current_time() - began < BACK_OFF_FIRST_S * (1 - JITTER)
        await trio.aclose_forcefully(stream)


async def test_what_wakes_a_torrent_right_after_a_stop_is_not_lost(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    made, nobody = make_torrent(), Nobody()
    async with running(tmp_path, dialer=nobody) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent, swarms = engine.session.torrents[made.info_hash], engine.session.swarms
        named(engine, made, peer(1))
        swarms.stop(torrent)  # while its .torrent is read
        named(engine, made, peer(2))
        await trio.sleep(2)
        assert made.info_hash in swarms.live
        assert {address for _, address in nobody.dials} == {peer(2)}


async def test_who_knocks_at_a_swarm_that_is_about_to_end_is_turned_away(tmp_path: Path) -> None:
    made = make_torrent("leaving.bin")
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash) as peer:
            await peer.hear()
            swarm = engine.session.swarms.live[made.info_hash]
            transport = next(iter(swarm.peers)).transport
            handshake = Handshake(
                made.info_hash, PeerId(b"later".ljust(20)), extended=False, fast=True, dht=False
            )
            swarm.stop()
            with pytest.raises(HandshakeError, match="about to end"):
                swarm.arrive(transport, handshake)


@pytest.mark.usefixtures("autojump_clock")
async def test_who_named_them_is_known_of_addresses_that_came_while_it_woke(tmp_path: Path) -> None:
    made = make_torrent("woken.bin")
    async with running(tmp_path, dialer=Nobody()) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent, swarms = engine.session.torrents[made.info_hash], engine.session.swarms
        swarms.stop(torrent)
        await engine.until_true(lambda: swarms.running(made.info_hash) is None, "it is parked")
        for number, source in enumerate((Source.DHT, Source.LSD)):
            swarms.addresses_found(torrent, (peer(number),), source)
        await engine.until_true(lambda: swarms.running(made.info_hash), "it is live")
        roster = swarms.running(made.info_hash).roster
        assert [roster.source_of(peer(number)) for number in range(2)] == [Source.DHT, Source.LSD]
