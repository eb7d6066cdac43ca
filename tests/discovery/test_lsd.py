"""Local discovery as a service: how often it speaks, of what, and whom it hears."""

import random
from collections.abc import Callable
from itertools import pairwise

import pytest
import trio
from trio.testing import MockClock

from bittern.discovery import lsd as module
from bittern.discovery.lsd import (
    ANNOUNCE_S,
    FOUND_BURST,
    HOSTS,
    LOOK_S,
    PER_HOST_BURST,
    TORRENT_S,
    Lsd,
)
from bittern.policy.locality import LocalAddress
from bittern.proto.lsd import GROUP_V4, GROUP_V6, PORT, LocalAnnounce, at_most, pack_local, parse_local
from bittern.terms import Address, InfoHash
from tests.fakes.processes import free_port

LAN4 = LocalAddress(2, "eth0", "192.0.2.9", 24)
LAN6 = LocalAddress(2, "eth0", "fd00::9", 64)
OTHER4 = LocalAddress(3, "eth1", "198.51.100.9", 24)
LOOPBACK = LocalAddress(1, "lo", "127.0.0.1", 8, True)
NEIGHBOUR = Address("192.0.2.77", PORT)


class Air:
    """In the sockets' place: what was sent, when, and by which interface."""

    def __init__(self) -> None:
        self.sent: list[tuple[float, str, LocalAddress, LocalAnnounce]] = []
        self.joined: dict[str, list[int]] = {}
        self.refuses = 0

    def open(self, group: str, port: int) -> "Socket":
        if self.refuses:
            self.refuses -= 1
            raise OSError(98, "Address already in use")
        return Socket(self, group)

    def times(self) -> list[float]:
        return sorted({at for at, *_ in self.sent})


class Socket:
    def __init__(self, air: Air, group: str) -> None:
        self.air, self.group = air, group

    def join(self, indices: list[int]) -> None:
        self.air.joined[self.group] = indices

    def send(self, datagram: bytes, way: LocalAddress) -> bool:
        announce = parse_local(datagram)
        assert announce is not None
        self.air.sent.append((trio.current_time(), self.group, way, announce))
        return True

    async def run(self, receive: object, guard: object) -> None:
        await trio.sleep_forever()

    def close(self) -> None:
        pass


class Torrent:
    def __init__(self, number: int, *, wants: bool = True, private: bool = False) -> None:
        self.info_hash = InfoHash(number.to_bytes(20))
        self.private = private
        self.wants_peers = wants
        self.found: list[Address] = []

    def neighbour_found(self, address: Address) -> None:
        self.found.append(address)


@pytest.fixture
def air(monkeypatch: pytest.MonkeyPatch) -> Air:
    found = Air()
    monkeypatch.setattr(module, "Multicast", found.open)
    return found


def made(
    *places: LocalAddress,
    listen: tuple[str, ...] = ("0.0.0.0", "::"),
    taken: Callable[[str], None] = lambda _: None,
    look: Callable[[], list[LocalAddress]] | None = None,
    port: int = 7000,
) -> Lsd:
    found = list(places)
    return Lsd(listen, lambda: port, rng=random.Random(1), taken=taken, look=look or (lambda: found))


@pytest.fixture
def autojump_clock() -> MockClock:
    return MockClock(autojump_threshold=0)


async def test_drops_of_a_moment_go_out_together_on_each_interface(air: Air, autojump_clock) -> None:
    lsd = made(LAN4, LAN6, OTHER4)
    async with trio.open_nursery() as nursery:
        await nursery.start(lsd.run)
        for number in range(5):
            lsd.add(Torrent(number))
            lsd.add(Torrent(number))
        await trio.sleep(10)
        assert air.joined == {GROUP_V4: [2, 3], GROUP_V6: [2]}
        assert [(group, way) for _, group, way, _ in air.sent] == [
            (GROUP_V4, LAN4),
            (GROUP_V4, OTHER4),
            (GROUP_V6, LAN6),
        ]
        for _, _, _, announce in air.sent:
            assert announce.port == 7000
            assert announce.info_hashes == tuple(InfoHash(number.to_bytes(20)) for number in range(5))
        nursery.cancel_scope.cancel()


async def test_once_a_minute_for_all_and_every_five_minutes_for_each(air: Air, autojump_clock) -> None:
    lsd, late, private = made(LAN4), Torrent(500), Torrent(501, private=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(lsd.run)
        lsd.add(Torrent(1))
        await trio.sleep(1)
        lsd.add(late)
        lsd.add(private)
        await trio.sleep(3600)
        nursery.cancel_scope.cancel()
    times = air.times()
    assert all(after - before >= ANNOUNCE_S for before, after in pairwise(times))
    of_late = [at for at, _, _, announce in air.sent if late.info_hash in announce.info_hashes]
    assert of_late[0] < 2 + ANNOUNCE_S
    assert 11 <= len(of_late) <= 12
    assert all(after - before >= TORRENT_S for before, after in pairwise(of_late))
    assert not any(private.info_hash in announce.info_hashes for *_, announce in air.sent)


async def test_ten_thousand_are_as_loud_as_one_and_downloads_come_first(air: Air, autojump_clock) -> None:
    lsd = made(LAN4)
    wanting = {InfoHash(number.to_bytes(20)) for number in range(9_990, 10_000)}
    async with trio.open_nursery() as nursery:
        for number in range(10_000):
            lsd.add(Torrent(number, wants=number >= 9_990))
        await nursery.start(lsd.run)
        await trio.sleep(1800)
        nursery.cancel_scope.cancel()
    assert len(air.sent) == len(air.times()) == pytest.approx(30, abs=1)
    assert wanting <= set(air.sent[0][3].info_hashes)
    told = {one for *_, announce in air.sent for one in announce.info_hashes}
    assert len(told) > 30 * (at_most(b"c" * 16) - 4) * 0.9


async def test_interfaces_come_and_go(air: Air, autojump_clock) -> None:
    found: list[LocalAddress] = []
    lsd = made(look=lambda: list(found))
    torrent = Torrent(1)
    async with trio.open_nursery() as nursery:
        await nursery.start(lsd.run)
        lsd.add(torrent)
        await trio.sleep(100)
        assert not air.sent
        found.append(LAN4)
        await trio.sleep(LOOK_S + 1)
        assert [way for _, _, way, _ in air.sent] == [LAN4]
        found[:] = [OTHER4]
        await trio.sleep(TORRENT_S)
        assert [way for _, _, way, _ in air.sent] == [LAN4, OTHER4]
        assert air.joined[GROUP_V4] == [3]
        assert not lsd.receive(said(torrent), NEIGHBOUR), "no neighbour any more"
        nursery.cancel_scope.cancel()


async def test_a_port_that_is_taken_is_told_once(air: Air, autojump_clock) -> None:
    told: list[str] = []
    air.refuses = 3
    lsd = made(LAN4, LAN6, taken=told.append)
    async with trio.open_nursery() as nursery:
        await nursery.start(lsd.run)
        lsd.add(Torrent(1))
        await trio.sleep(LOOK_S - 1)
        assert not air.sent
        await trio.sleep(2 * LOOK_S)
        assert air.sent, "it was tried again, without a word"
        nursery.cancel_scope.cancel()
    assert len(told) == 1
    assert str(PORT) in told[0]


async def test_nothing_is_said_while_nobody_could_reach_us(air: Air, autojump_clock) -> None:
    lsd = made(LAN4, port=0)
    async with trio.open_nursery() as nursery:
        await nursery.start(lsd.run)
        lsd.add(Torrent(1))
        await trio.sleep(1000)
        assert not air.sent
        nursery.cancel_scope.cancel()


def said(*torrents: Torrent, port: int = 5555, cookie: bytes = b"") -> memoryview:
    return memoryview(
        pack_local(GROUP_V4, LocalAnnounce(port, tuple(one.info_hash for one in torrents), cookie))
    )


async def listening(nursery: trio.Nursery, *torrents: Torrent) -> Lsd:
    lsd = made(LAN4, LAN6)
    await nursery.start(lsd.run)
    for torrent in torrents:
        lsd.add(torrent)
    return lsd


async def test_who_is_heard(air: Air, autojump_clock) -> None:
    ours, private, gone, unknown = Torrent(1), Torrent(2, private=True), Torrent(3), Torrent(4)
    async with trio.open_nursery() as nursery:
        lsd = await listening(nursery, ours, private, gone)
        lsd.remove(gone)
        assert lsd.receive(said(unknown, private, gone, ours), NEIGHBOUR)
        assert ours.found == [Address(NEIGHBOUR.host, 5555)]
        assert lsd.receive(said(ours, port=1), Address("fd00::5", PORT), GROUP_V6)
        assert ours.found[1:] == [Address("fd00::5", 1)]
        assert not lsd.receive(said(unknown), NEIGHBOUR)
        assert not lsd.receive(memoryview(b"garbage"), NEIGHBOUR)
        for stranger in ("192.0.3.1", "8.8.8.8", "127.0.0.1", "fd01::1", "fe80::1", "fd00::5"):
            assert not lsd.receive(said(ours), Address(stranger, PORT))
        assert len(ours.found) == 2
        assert private.found == gone.found == []
        nursery.cancel_scope.cancel()


async def test_we_do_not_hear_ourselves(air: Air, autojump_clock) -> None:
    ours = Torrent(1)
    async with trio.open_nursery() as nursery:
        lsd = await listening(nursery, ours)
        await trio.sleep(5)
        [(_, _, _, announce), *_] = air.sent
        assert announce.cookie
        assert lsd.receive(memoryview(pack_local(GROUP_V4, announce)), NEIGHBOUR)
        assert ours.found == []
        nursery.cancel_scope.cancel()


async def test_a_flood_of_one_neighbour_or_of_all_is_bounded(air: Air, autojump_clock) -> None:
    many = [Torrent(number) for number in range(20)]
    async with trio.open_nursery() as nursery:
        lsd = await listening(nursery, *many)
        heard = sum(lsd.receive(said(many[0]), NEIGHBOUR) for _ in range(1000))
        assert heard == PER_HOST_BURST
        await trio.sleep(60)
        for number in range(20_000):
            host = f"192.0.2.{number % 254 + 1}"
            lsd.receive(said(*many, port=1 + number), Address(host, PORT))
        found = sum(len(torrent.found) for torrent in many)
        assert found <= heard + FOUND_BURST
        for number in range(2000):
            lsd.receive(said(), Address(f"fd00::{number:x}", PORT), GROUP_V6)
        assert len(lsd._hosts) <= HOSTS
        nursery.cancel_scope.cancel()


async def test_a_fall_changes_nothing_of_the_pace(air: Air, autojump_clock) -> None:
    lsd = made(LAN4)
    lsd.add(Torrent(1))
    for number in range(3):
        lsd.add(Torrent(2 + number))
        with trio.move_on_after(10):
            await lsd.run()
    assert len(air.sent) == 1


async def test_loopback_only() -> None:
    """Two of them on real sockets of this machine."""
    torrents = [Torrent(1), Torrent(1)]
    port = free_port()
    lsds = [
        Lsd(
            ["0.0.0.0"],
            lambda: 7000,
            rng=random.Random(number),
            taken=pytest.fail,
            this_host=True,
            group_port=port,
        )
        for number in range(2)
    ]
    with trio.fail_after(200):
        async with trio.open_nursery() as nursery:
            for lsd in lsds:
                await nursery.start(lsd.run)
            for lsd, torrent in zip(lsds, torrents, strict=True):
                lsd.add(torrent)
            while not all(torrent.found for torrent in torrents):
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
    assert all({address.host for address in torrent.found} == {"127.0.0.1"} for torrent in torrents)
