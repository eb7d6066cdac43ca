"""Who knocks: peers are introduced at once, whatever strangers do or do not say."""

import errno
import os
import random
import resource
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
import trio

from bittern.engine.supervision import Supervisor
from bittern.errors import HandshakeError
from bittern.net import dialer, listener
from bittern.net.dialer import Dialer
from bittern.net.listener import HANDSHAKE_DEADLINE_S, Listener
from bittern.net.transport import PeerTransport, plain_address
from bittern.proto.handshake import Handshake, pack_handshake
from bittern.terms import Address, InfoHash, PeerId
from tests.fakes.processes import free_port

HOST = "127.0.0.1"
HASH = InfoHash(b"h" * 20)
ID = PeerId(b"-XX0000-123456789012")
HELLO = pack_handshake(HASH, ID)


class Hall:
    """Where peers are introduced to; info hash `x…` is not known here."""

    def __init__(self) -> None:
        self.arrived: list[tuple[Handshake, PeerTransport]] = []
        self.news = trio.Event()
        self.complaints: list[str] = []

    def introduce(self, handshake: Handshake, transport: PeerTransport) -> None:
        if handshake.info_hash.startswith(b"x"):
            raise HandshakeError("no such torrent here")
        self.arrived.append((handshake, transport))
        self.news.set()
        self.news = trio.Event()

    async def wait_for(self, count: int) -> None:
        with trio.fail_after(60):
            while len(self.arrived) < count:
                await self.news.wait()


@asynccontextmanager
async def listening(
    *addresses: str, port: int = 0
) -> AsyncIterator[tuple[Listener, Hall, Callable[[], int]]]:
    """The third says how many strangers are waited for."""
    hall = Hall()
    made = Listener(addresses or (HOST,), port, hall.introduce, taken=hall.complaints.append)
    async with trio.open_nursery() as nursery:
        told = await nursery.start(made.run)
        assert told == made.port
        try:
            yield made, hall, lambda: len(made._pending)
        finally:
            nursery.cancel_scope.cancel()
            for _, transport in hall.arrived:
                transport.close()


async def knock(port: int, said: bytes = b"", host: str = HOST) -> trio.SocketStream:
    stream = await trio.open_tcp_stream(host, port)
    if said:
        await stream.send_all(said)
    return stream


async def is_closed(stream: trio.SocketStream, within_s: float = 60) -> bool:
    with trio.move_on_after(within_s):
        try:
            return await stream.receive_some(1) == b""
        except trio.BrokenResourceError:
            return True
    return False


async def until(true: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not true():
            await trio.sleep(0.005)


async def test_a_peer_is_introduced_with_what_follows_unread() -> None:
    async with listening() as (made, hall, waiting):
        stream = await knock(made.port, HELLO + b"more")
        await hall.wait_for(1)
        handshake, transport = hall.arrived[0]
        assert (handshake.info_hash, handshake.peer_id) == (HASH, ID)
        assert transport.remote == Address(*stream.socket.getsockname())
        buffer = bytearray(10)
        await transport.wait_readable()
        assert transport.receive_nowait(memoryview(buffer)) == 4
        assert buffer.startswith(b"more")
        transport.send_nowait(b"hello")
        assert await stream.receive_some(10) == b"hello"
        assert waiting() == 0
        await stream.aclose()


async def test_a_bug_on_a_strangers_way_in_costs_nobody_else() -> None:
    hall, supervisor = Hall(), Supervisor(lambda _: None)
    usual = hall.introduce
    # it is not closed by nobody's knowing it any more
    kept: list[PeerTransport] = []

    def introduce(handshake: Handshake, transport: PeerTransport) -> None:
        if handshake.info_hash.startswith(b"b"):
            kept.append(transport)
            raise ZeroDivisionError("a bug")
        usual(handshake, transport)

    made = Listener(
        (HOST,),
        0,
        introduce,
        taken=hall.complaints.append,
        guard=lambda body, where: supervisor.contain(where, body, lambda _: None, remedy="none"),
    )
    async with trio.open_nursery() as nursery:
        port = await nursery.start(made.run)
        for _ in range(5):
            async with await knock(port, pack_handshake(InfoHash(b"b" * 20), ID)) as stream:
                assert await is_closed(stream)
        # the loop stands still meanwhile: it is there before the connection is looked at
        with socket.create_connection((HOST, port)) as stranger:
            stranger.sendall(pack_handshake(InfoHash(b"b" * 20), ID))
            await until(lambda: len(kept) == 6)
            stranger.setblocking(False)
            assert stranger.recv(1) == b""
        stream = await knock(port, HELLO)
        await hall.wait_for(1)
        assert supervisor.crashes == 6
        nursery.cancel_scope.cancel()
    await stream.aclose()
    hall.arrived[0][1].close()


@pytest.mark.parametrize(
    ("said", "rest", "runs"), [(HELLO, b"", 1), (HELLO[:30], HELLO[30:], 2)], ids=["all", "part"]
)
async def test_who_has_said_it_by_the_time_of_its_turn_needs_no_task(
    said: bytes, rest: bytes, runs: int
) -> None:
    hall, guarded = Hall(), list[str]()

    async def guard(body: Callable[[], Awaitable[None]], where: str) -> None:
        guarded.append(where)
        await body()

    made = Listener((HOST,), 0, hall.introduce, taken=hall.complaints.append, guard=guard)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(made.run)
        # the loop stands still meanwhile: it is there before the connection is looked at
        with socket.create_connection((HOST, port)) as stranger:
            stranger.sendall(said)
            if rest:
                await until(lambda: len(made._pending) == 1)
                stranger.sendall(rest)
            await hall.wait_for(1)
            assert guarded == [f"handshake of {hall.arrived[0][1].remote}"] * runs
            assert not made._pending
        nursery.cancel_scope.cancel()
    hall.arrived[0][1].close()


async def test_a_handshake_may_come_in_bits() -> None:
    async with listening() as (made, hall, _):
        stream = await knock(made.port)
        for at in range(0, 68, 7):
            await stream.send_all(HELLO[at : at + 7])
            await trio.sleep(0.002)
        await hall.wait_for(1)
        await stream.aclose()


@pytest.mark.parametrize(
    "said",
    [
        b"\x00",
        b"G",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x13BitTorrent protocoL",
        b"\x13BitTorrent prX",
        b"\x13" + b"\0" * 200,
        pack_handshake(InfoHash(b"x" * 20), ID),
        random.Random(1).randbytes(5000).replace(b"\x13", b"\x14"),
    ],
)
async def test_a_stranger_is_shown_out_at_once(said: bytes) -> None:
    async with listening() as (made, hall, waiting):
        stream = await knock(made.port, said)
        assert await is_closed(stream)
        await until(lambda: waiting() == 0)
        assert hall.arrived == []
        await stream.aclose()
        peer = await knock(made.port, HELLO)
        await hall.wait_for(1)
        await peer.aclose()


async def test_who_leaves_or_resets_in_the_middle_costs_nothing() -> None:
    async with listening() as (made, hall, waiting):
        half = await knock(made.port, HELLO[:30])
        reset = await knock(made.port, HELLO[:30])
        reset.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await until(lambda: waiting() == 2)
        await half.aclose()
        reset.socket.close()
        await until(lambda: waiting() == 0)
        peer = await knock(made.port, HELLO)
        await hall.wait_for(1)
        await peer.aclose()


async def test_the_silent_are_shown_out_after_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    assert HANDSHAKE_DEADLINE_S == 10
    monkeypatch.setattr(listener, "HANDSHAKE_DEADLINE_S", 0.1)
    async with listening() as (made, hall, waiting):
        silent, slow = await knock(made.port), await knock(made.port, HELLO[:67])
        assert await is_closed(silent)
        assert await is_closed(slow)
        assert waiting() == 0
        assert hall.arrived == []
        await silent.aclose()
        await slow.aclose()


async def test_silent_strangers_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PENDING_LIMIT", 8)
    monkeypatch.setattr(listener, "HANDSHAKE_DEADLINE_S", 1000.0)
    async with listening() as (made, hall, waiting):
        silent = []
        for number in range(8):
            silent.append(await knock(made.port, HELLO[:number]))
            await until(lambda number=number: waiting() == number + 1)
        # long before the strangers' deadline
        peer = await knock(made.port, HELLO)
        await hall.wait_for(1)
        assert await is_closed(silent[0]), "the oldest made room"
        assert waiting() == 7
        for stranger in silent[1:]:
            assert not await is_closed(stranger, 0.01), "nobody else had to"
        # the second oldest was only slow
        await silent[1].send_all(HELLO[1:])
        await hall.wait_for(2)
        for stream in (*silent, peer):
            await stream.aclose()


async def test_a_crowd_from_one_host_makes_room_among_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PENDING_LIMIT", 5)
    monkeypatch.setattr(listener, "HANDSHAKE_DEADLINE_S", 1000.0)
    async with listening() as (made, hall, waiting):
        slow = await trio.open_tcp_stream(HOST, made.port, local_address="127.0.0.2")
        await until(lambda: waiting() == 1)
        crowd = [await knock(made.port) for _ in range(20)]
        await until(lambda: waiting() == 5)
        assert await is_closed(crowd[0])
        await slow.send_all(HELLO)
        await hall.wait_for(1)
        for stream in (slow, *crowd):
            await stream.aclose()


async def test_a_crowd_is_never_larger_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "PENDING_LIMIT", 5)
    monkeypatch.setattr(listener, "HANDSHAKE_DEADLINE_S", 1000.0)
    before = len(os.listdir("/proc/self/fd"))
    async with listening() as (made, hall, waiting):
        crowd = [await knock(made.port) for _ in range(60)]
        await until(lambda: waiting() == 5)
        peer = await knock(made.port, HELLO)
        await hall.wait_for(1)
        assert waiting() <= 5
        closed = 0
        for stranger in crowd:
            closed += await is_closed(stranger, 0.02)
        assert closed >= 55
        for stream in (*crowd, peer):
            await stream.aclose()
    assert len(os.listdir("/proc/self/fd")) == before, "a descriptor was left behind"


@pytest.mark.parametrize(
    "moods",
    [
        [errno.EMFILE, errno.ENFILE, errno.EMFILE],
        [errno.ENOMEM, errno.ENOBUFS, errno.EPERM],
        [errno.ECONNABORTED, errno.EINTR, errno.EAGAIN],
        [errno.EPROTO, errno.ENETDOWN, errno.EHOSTUNREACH],
    ],
)
async def test_accept_may_fail_for_a_while(monkeypatch: pytest.MonkeyPatch, moods: list[int]) -> None:
    waiting_moods = list(moods)

    class Moody(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            if waiting_moods:
                raise OSError(waiting_moods.pop(0), "mood")
            return super().accept()

    monkeypatch.setattr(listener, "BUSY_PAUSE_S", 0.01)
    with monkeypatch.context() as patched:
        patched.setattr(listener.socket, "socket", Moody)
        entering = listening()
        made, hall, _ = await entering.__aenter__()
    try:
        stream = await knock(made.port, HELLO)
        await hall.wait_for(1)
        assert waiting_moods == []
        await stream.aclose()
    finally:
        await entering.__aexit__(None, None, None)


async def test_short_of_descriptors_for_real(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "BUSY_PAUSE_S", 0.02)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with listening() as (made, hall, waiting):
        with socket.socket() as peer:
            peer.setblocking(False)
            filling: list[int] = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (peer.fileno() + 1, hard))
            try:
                with suppress(OSError):
                    while True:
                        filling.append(os.dup(0))
                with pytest.raises(BlockingIOError):
                    peer.connect((HOST, made.port))
                await trio.sleep(0.1)
                assert waiting() == 0, "nobody can be let in"
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for fd in filling:
                    os.close(fd)
            await trio.lowlevel.wait_writable(peer)
            peer.send(HELLO)
            await hall.wait_for(1)


async def test_a_taken_port_is_tried_again_with_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "BIND_RETRY_FIRST_S", 0.05)
    with socket.socket() as taken:
        port = free_port()
        taken.bind((HOST, port))
        taken.listen()
        hall = Hall()
        made = Listener((HOST,), port, hall.introduce, taken=hall.complaints.append)
        async with trio.open_nursery() as nursery:
            started = trio.Event()

            async def run() -> None:
                await nursery.start(made.run)
                started.set()

            nursery.start_soon(run)
            await until(lambda: len(hall.complaints) >= 2)
            assert not started.is_set()
            assert f"cannot listen on port {port}" in hall.complaints[0]
            taken.close()
            with trio.fail_after(60):
                await started.wait()
            peer = await knock(port, HELLO)
            await hall.wait_for(1)
            await peer.aclose()
            hall.arrived[0][1].close()
            nursery.cancel_scope.cancel()


async def test_every_address_gets_the_same_port() -> None:
    if not _has_ipv6():
        pytest.skip("NOT TESTED: this machine has no IPv6")
    async with listening(HOST, "127.0.0.2", "::1") as (made, hall, _):
        streams = [await knock(made.port, HELLO, host) for host in (HOST, "127.0.0.2", "::1")]
        await hall.wait_for(3)
        assert {transport.remote.host for _, transport in hall.arrived} == {HOST, "::1"}
        for stream in streams:
            await stream.aclose()


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_stopping_lets_go_of_everything() -> None:
    port = free_port()
    before = len(os.listdir("/proc/self/fd"))
    async with listening(port=port) as (made, _, waiting):
        silent = await knock(made.port)
        await until(lambda: waiting() == 1)
    assert await is_closed(silent)
    await silent.aclose()
    with pytest.raises(OSError, match=r"."):
        await knock(port)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::1", "::1"),
    ],
)
def test_addresses_are_plain(host: str, shown: str) -> None:
    assert plain_address(host, 5) == Address(shown, 5)


# -- the other direction ------------------------------------------------------------------------------------


async def test_dialling() -> None:
    async with listening() as (made, hall, _):
        transport = await Dialer().dial(Address(HOST, made.port))
        assert transport.remote == Address(HOST, made.port)
        assert transport.send_nowait(HELLO) == 68
        await hall.wait_for(1)
        transport.close()
        transport.close()


async def test_nobody_there() -> None:
    with socket.socket() as unused:
        unused.bind((HOST, 0))
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ConnectionRefusedError):
            await Dialer().dial(Address(HOST, unused.getsockname()[1]))
        assert len(os.listdir("/proc/self/fd")) == before


async def _never(_raw: socket.socket, _address: Address) -> None:
    await trio.sleep_forever()


async def test_no_answer_and_the_half_open_limit(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(dialer, "_connect", _never)
    made = Dialer(half_open=2)
    ended: list[float] = []
    before = len(os.listdir("/proc/self/fd"))

    async def dial() -> None:
        with pytest.raises(OSError, match="no answer in time") as caught:
            await made.dial(Address("192.0.2.1", 1))
        assert caught.value.errno == errno.ETIMEDOUT
        ended.append(trio.current_time())

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(dial)
    assert [at - began for at in ended] == pytest.approx([10, 10, 20, 20, 30])
    assert len(os.listdir("/proc/self/fd")) == before


async def _at_once(raw: socket.socket, address: Address) -> None:
    await trio.lowlevel.checkpoint()


async def test_dials_are_begun_at_a_bounded_pace_but_for_neighbours(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    monkeypatch.setattr(dialer, "_connect", _at_once)
    made, began = Dialer(), trio.current_time()

    async def dial(host: str) -> None:
        (await made.dial(Address(host, 1))).close()

    async with trio.open_nursery() as nursery:
        for number in range(int(dialer.DIALS_BURST + 10 * dialer.DIALS_PER_S)):
            nursery.start_soon(dial, f"192.0.2.{number % 250}")
    assert trio.current_time() - began == pytest.approx(10, abs=0.1)
    async with trio.open_nursery() as nursery:
        for number in range(200):
            nursery.start_soon(dial, f"192.168.0.{number}")
    assert trio.current_time() - began == pytest.approx(10, abs=0.1)


async def test_a_dial_that_is_given_up_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "_connect", _never)
    before = len(os.listdir("/proc/self/fd"))
    made = Dialer(half_open=1)
    with trio.move_on_after(0.05):
        await made.dial(Address("192.0.2.1", 1))
    assert len(os.listdir("/proc/self/fd")) == before
    monkeypatch.undo()
    async with listening() as (there, _, _):
        with trio.fail_after(60):
            (await made.dial(Address(HOST, there.port))).close()


async def test_an_inherited_socket_goes_on_and_what_does_not_fit_is_closed() -> None:
    with socket.create_server((HOST, 0)) as first, socket.create_server((HOST, 0)) as other:
        port, other_port = first.getsockname()[1], other.getsockname()[1]
        hall = Hall()
        told: list[int] = []
        # somebody knocked while nobody was there to open
        early = socket.create_connection((HOST, port))
        early.sendall(HELLO)
        made = Listener(
            (HOST,),
            port,
            hall.introduce,
            taken=hall.complaints.append,
            inherited=[other, first],
            listening=lambda sockets: told.extend(one.fileno() for one in sockets),
        )
        fileno = first.fileno()
        async with trio.open_nursery() as nursery:
            assert await nursery.start(made.run) == port
            await hall.wait_for(1)
            assert told == [fileno]
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, other_port))
            nursery.cancel_scope.cancel()
        early.close()
        for _, transport in hall.arrived:
            transport.close()
    assert hall.complaints == []


async def test_any_port_is_the_predecessors() -> None:
    with socket.create_server((HOST, 0)) as first:
        port = first.getsockname()[1]
        made = Listener((HOST,), 0, Hall().introduce, taken=lambda _: None, inherited=[first])
        async with trio.open_nursery() as nursery:
            assert await nursery.start(made.run) == port
            nursery.cancel_scope.cancel()
