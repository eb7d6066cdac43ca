"""Datagrams: each goes to the owner of its kind, whatever else comes."""

import errno
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bittern.net import udp
from bittern.net.scope import DialScope
from bittern.net.udp import BATCH, UNASKED_PAUSE_MOST_S, UNASKED_PAUSE_S, UNASKED_SHARE, Udp, _Batch
from bittern.proto.datagram import Kind
from bittern.terms import Address
from tests.fakes.processes import free_port

HOST = "127.0.0.1"


class Owner:
    """Keeps what comes; worthless when it begins with `?`."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, Address]] = []
        self.news = trio.Event()

    def __call__(self, datagram: memoryview, source: Address) -> bool:
        if datagram[-1:] == b"!":
            raise ZeroDivisionError
        self.heard.append((bytes(datagram), source))
        self.news.set()
        self.news = trio.Event()
        return datagram[-1:] != b"?"

    async def wait_for(self, count: int) -> None:
        with trio.fail_after(90):
            while len(self.heard) < count:
                await self.news.wait()


@asynccontextmanager
async def running(
    *addresses: str, port: int = 0, **terms: Any
) -> AsyncIterator[tuple[Udp, dict[Kind, Owner]]]:
    complaints: list[str] = terms.pop("complaints", [])
    made = Udp(addresses or (HOST,), lambda: port, taken=complaints.append, **terms)
    owners = {kind: Owner() for kind in Kind}
    for kind, owner in owners.items():
        made.register(kind, owner)
    async with trio.open_nursery() as nursery:
        await nursery.start(made.run)
        yield made, owners
        nursery.cancel_scope.cancel()
    assert made.port == 0


def a_stranger(host: str = HOST, port: int = 0) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    one.bind((host, port))
    return one


@pytest.mark.parametrize("host", [HOST, "::1"])
async def test_each_kind_goes_to_its_owner(host: str) -> None:
    async with running(host) as (made, owners):
        with a_stranger(host) as stranger:
            source = Address(host, stranger.getsockname()[1])
            for datagram in (b"", b"d1:y", b"\x41\x00", b"\0\0\0\1abc", b"d" * 60_000):
                stranger.sendto(datagram, (host, made.port))
            await owners[Kind.DHT].wait_for(2)
            assert owners[Kind.DHT].heard == [(b"d1:y", source), (b"d" * 60_000, source)]
            assert owners[Kind.UTP].heard == [(b"\x41\x00", source)]
            assert owners[Kind.TRACKER].heard == [(b"\0\0\0\1abc", source)]
            # and back
            assert made.send(b"to you", source)
            stranger.settimeout(90)
            assert stranger.recvfrom(100)[0] == b"to you"
            assert stranger.getsockname()[1] != made.port


async def test_both_families_have_one_port() -> None:
    async with running(HOST, "::1") as (made, owners):
        for host in (HOST, "::1"):
            assert made.reaches(host)
            with a_stranger(host) as stranger:
                stranger.sendto(b"dx", (host, made.port))
        await owners[Kind.DHT].wait_for(2)
        assert {source.host for _, source in owners[Kind.DHT].heard} == {HOST, "::1"}


async def test_a_family_without_a_socket_cannot_be_reached() -> None:
    async with running(HOST) as (made, _):
        assert not made.reaches("::1")
        with pytest.raises(OSError, match="no UDP socket"):
            made.send(b"x", Address("::1", 1))
    assert not made.reaches(HOST), "it has ended"


async def test_nothing_leaves_the_machine() -> None:
    async with running("0.0.0.0", scope=DialScope(this_host=True)) as (made, _):
        assert made.reaches(HOST)
        assert not made.reaches("192.0.2.1")
        with pytest.raises(OSError, match="dial_scope"):
            made.send(b"x", Address("192.0.2.1", 1))


def test_loopback_is_left_to_the_socket_that_is_bound_to_it() -> None:
    made = Udp((), lambda: 0, taken=lambda _: None)
    near, far = OddSocket(), OddSocket()
    made._sockets += [(HOST, near), ("192.0.2.5", far)]  # type: ignore[list-item]
    made.send(b"near", Address("127.0.0.9", 1))
    made.send(b"far", Address("192.0.2.1", 1))
    assert (near.sent, far.sent) == ([b"near"], [b"far"])


async def test_a_taken_port_is_tried_again_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "BIND_RETRY_FIRST_S", 0.02)
    complaints: list[str] = []
    port = free_port()
    with a_stranger(port=port) as holder:
        async with running(port=port, complaints=complaints) as (made, owners):
            assert made.port == 0
            assert "Address already in use" in complaints[0]
            with pytest.raises(OSError, match="no UDP socket"):
                made.send(b"x", Address(HOST, 1))
            holder.close()
            with trio.fail_after(90):
                while not made.port:
                    await trio.sleep(0.01)
            with a_stranger() as stranger:
                stranger.sendto(b"dx", (HOST, port))
            await owners[Kind.DHT].wait_for(1)


async def test_another_port_will_do_where_any_was_asked_for() -> None:
    with a_stranger() as holder:
        port = holder.getsockname()[1]
        async with running(port=port, or_any=True) as (made, _):
            assert made.port not in {0, port}


async def test_short_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "BIND_RETRY_FIRST_S", 0.02)
    real, short = socket.socket, [True] * 3

    def no_more(*words: Any) -> socket.socket:
        if short:
            short.pop()
            raise OSError(errno.EMFILE, "Too many open files")
        return real(*words)

    monkeypatch.setattr(udp.socket, "socket", no_more)
    complaints: list[str] = []
    async with running(complaints=complaints) as (made, _):
        with trio.fail_after(90):
            while not made.port:
                await trio.sleep(0.01)
    assert len(complaints) == 3


class OddSocket:
    """Fails as told, then has these datagrams."""

    def __init__(self, *moods: int | bytes) -> None:
        self.moods = list(moods)
        self.sent: list[bytes] = []

    def recvfrom_into(self, buffer: memoryview) -> tuple[int, tuple[str, int]]:
        if not self.moods:
            raise BlockingIOError(errno.EAGAIN, "")
        mood = self.moods.pop(0)
        if isinstance(mood, int):
            raise OSError(mood, "odd")
        buffer[: len(mood)] = mood
        return len(mood), ("192.0.2.1", 5)

    def sendto(self, datagram: bytes, _to: object) -> None:
        if self.moods:
            mood = self.moods.pop(0)
            assert isinstance(mood, int)
            raise OSError(mood, "odd")
        self.sent.append(datagram)


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.ENOBUFS, errno.EHOSTUNREACH, errno.ENETDOWN])
def test_receiving_may_fail_for_a_while(number: int) -> None:
    owner = Owner()
    batch = udp._Batch(OddSocket(number, b"d1"), {Kind.DHT: owner})  # type: ignore[arg-type]
    batch.read()
    assert owner.heard == []
    assert batch.pause_s > 0, "or it would spin"
    batch.read()
    assert [datagram for datagram, _ in owner.heard] == [b"d1"]


def test_a_batch_is_bounded_and_the_worthless_slow_it_down() -> None:
    owner = Owner()
    odd = OddSocket(*[b"d"] * BATCH, *[b"d?", b"\0", b""] * BATCH)
    batch = udp._Batch(odd, {Kind.DHT: owner})  # type: ignore[arg-type]
    batch.read()
    assert len(owner.heard) == BATCH
    assert batch.pause_s == 0, "what is asked for is read as fast as it comes"
    batch.read()
    read = 3 * BATCH - len(odd.moods)
    assert 0 < read <= BATCH
    assert batch.pause_s >= min(read * UNASKED_PAUSE_S, UNASKED_PAUSE_MOST_S)


async def test_sending_may_fail(autojump_clock: MockClock) -> None:
    made = Udp((HOST,), lambda: 0, taken=lambda _: None)
    odd = OddSocket(errno.EAGAIN, errno.ENOBUFS, errno.ENETUNREACH)
    made._sockets.append((HOST, odd))  # type: ignore[arg-type]
    to = Address(HOST, 1)
    assert not made.send(b"1", to)
    assert not made.send(b"2", to)
    with pytest.raises(OSError, match="odd"):
        made.send(b"3", to)
    assert made.send(b"4", to)
    assert odd.sent == [b"4"]


async def test_a_crash_costs_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "CRASH_PAUSE_S", 0.01)
    crashes: list[Exception] = []

    def guard(body: Any, settle: Any) -> None:
        try:
            body()
        except ZeroDivisionError as error:
            crashes.append(error)
            settle(error)

    async with running(guard=guard) as (made, owners):
        with a_stranger() as stranger:
            for datagram in (b"d!", b"d1"):
                stranger.sendto(datagram, (HOST, made.port))
            await owners[Kind.DHT].wait_for(1)
    assert len(crashes) == 1


async def test_after_a_flood_of_the_worthless_others_are_heard() -> None:
    async with running() as (made, owners):
        with a_stranger() as stranger:
            for _ in range(50):
                for _ in range(20):
                    stranger.sendto(b"d?", (HOST, made.port))
                await trio.lowlevel.checkpoint()
            stranger.sendto(b"d last", (HOST, made.port))
            with trio.fail_after(90):
                while not any(datagram == b"d last" for datagram, _ in owners[Kind.DHT].heard):
                    stranger.sendto(b"d last", (HOST, made.port))
                    await trio.sleep(0.01)


def test_what_is_dear_to_find_out_is_read_more_seldom() -> None:
    heard = 0

    def dear(datagram: memoryview, source: Address) -> bool:
        nonlocal heard
        heard += 1
        began = time.thread_time()
        while time.thread_time() < began + UNASKED_PAUSE_MOST_S / UNASKED_SHARE:
            pass
        return False

    batch = _Batch(OddSocket(b"d", b"d", b"d"), {Kind.DHT: dear})  # type: ignore[arg-type]
    batch.read()
    assert heard == 1, "others have their turn first"
    assert batch.pause_s == pytest.approx(UNASKED_PAUSE_MOST_S)
