"""A send buffer that the kernel may not grow far enough, on a wire with a round trip."""

import socket
from pathlib import Path

import pytest
import trio

from bittern.net import transport as transport_module
from bittern.net.transport import UNSENT_BYTES, SocketTransport, settable_send_buffer
from bittern.terms import Address
from tests.fakes.link import Link

KIB = 1024
CHUNK = bytes(64 * KIB)


def size_of(connected: socket.socket) -> int:
    return connected.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)


async def send_over(link: Link, seconds: float) -> tuple[int, int, int]:
    """Sends as much as goes: the buffer's size at the end, its limit of what is not sent, and bytes that arrived."""
    with link.far, socket.socket() as listening:
        listening.bind((link.far.host, 0))
        listening.listen()
        with link.near:
            sender = socket.create_connection(listening.getsockname())
        receiver, _ = listening.accept()
    receiver.setblocking(False)
    sender.setblocking(False)
    transport = SocketTransport(sender, Address(link.far.host, 1))
    reader = SocketTransport(receiver, Address(link.near.host, 1))
    arrived = 0

    async def read() -> None:
        nonlocal arrived
        buffer = memoryview(bytearray(1024 * KIB))
        while True:
            arrived += reader.receive_nowait(buffer) or 0
            await reader.wait_readable()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        with trio.move_on_after(seconds):
            while size_of(sender) < settable_send_buffer():
                if not transport.send_nowait(CHUNK):
                    await transport.wait_writable()
        nursery.cancel_scope.cancel()
    found = size_of(sender), sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT), arrived
    transport.close()
    reader.close()
    return found


async def test_a_buffer_that_holds_the_peer_back_is_widened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "USUAL_LIMIT_BYTES", 128 * KIB)  # as the wire's ends have it
    with Link(tmp_path, 0.2, settings={"tcp_wmem": "4096 16384 131072"}) as link:
        size, unsent, arrived = await send_over(link, 300)
    assert size == settable_send_buffer()
    assert unsent == UNSENT_BYTES
    assert arrived


@pytest.mark.proof
async def test_the_kernels_own_growing_is_not_ended_for_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport_module, "USUAL_LIMIT_BYTES", settable_send_buffer())
    with Link(tmp_path, 0.2, settings={"tcp_wmem": "4096 16384 131072"}) as link:
        size, unsent, arrived = await send_over(link, 3)
    assert size < settable_send_buffer()
    assert unsent != UNSENT_BYTES
    assert arrived


@pytest.mark.proof
async def test_a_slow_wire_is_no_reason_for_a_large_buffer(tmp_path: Path) -> None:
    with Link(tmp_path, 0.02, bits_per_s=2e6) as link:
        size, unsent, arrived = await send_over(link, 3)
    assert size < settable_send_buffer()
    assert unsent != UNSENT_BYTES
    assert arrived


async def test_what_is_taken_and_not_read_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sender = socket.create_connection(listening.getsockname())
        receiver, _ = listening.accept()
    sender.setblocking(False)
    transport = SocketTransport(sender, Address("127.0.0.1", 1))
    handed = 0
    while taken := transport.send_nowait(CHUNK):
        handed += taken
    with trio.fail_after(90):
        while transport.unread_bytes() >= handed:
            await trio.sleep(0.01)
    assert transport.unread_bytes() > 0
    with receiver:
        while handed:
            handed -= len(receiver.recv(handed))
    with trio.fail_after(90):
        while transport.unread_bytes():
            await trio.sleep(0.01)
    transport.close()
    assert transport.unread_bytes() == 0
