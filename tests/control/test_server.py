"""The server below the API: clients that are slow, silent or many."""

import socket
from pathlib import Path

import pytest
import trio
import trio.testing
from starlette.types import Receive, Scope, Send

from bittern.control import server as served
from bittern.control.patient import SEND_PATIENCE_S, PatientStream
from bittern.control.server import Server, open_socket
from bittern.engine.events import Event
from bittern.engine.supervision import Supervisor

LARGE = 8 << 20


class Told:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)


async def large(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": bytes(LARGE), "more_body": True})


async def silent(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"listening", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def ask(path: Path) -> trio.SocketStream:
    stream = await trio.open_unix_socket(path)
    await stream.send_all(b"GET / HTTP/1.1\r\nHost: bittern\r\n\r\n")
    return stream


@pytest.mark.parametrize("app", [large, silent])
async def test_nobody_who_does_not_read_delays_the_stop(app: object, tmp_path: Path) -> None:
    listening, told = open_socket(tmp_path / "s"), Told()
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(Server(app, Supervisor(told)).run, [listening])
            client = await ask(tmp_path / "s")
            await client.receive_some(1)
            await trio.testing.wait_all_tasks_blocked(0.05)
            nursery.cancel_scope.cancel()
    listening.close()
    await client.aclose()
    assert not told.events


async def test_more_connections_than_there_is_room_for_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "CONNECTIONS_AT_MOST", 2)
    listening = open_socket(tmp_path / "s")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            await nursery.start(Server(silent, Supervisor(Told())).run, [listening])
            clients = [await ask(tmp_path / "s") for _ in range(2)]
            for client in clients:
                assert await client.receive_some(1)
            late = await trio.open_unix_socket(tmp_path / "s")
            assert await late.receive_some(1) == b""
            nursery.cancel_scope.cancel()
    listening.close()
    for client in (*clients, late):
        await client.aclose()


async def test_a_reader_that_stands_still_loses_its_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
        patient = PatientStream(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        began = trio.current_time()
        with pytest.raises(trio.BrokenResourceError):
            await patient.send_all(bytes(LARGE))
        assert trio.current_time() - began == pytest.approx(SEND_PATIENCE_S)


async def test_a_silent_listener_is_not_hung_up_on(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    listening = open_socket(tmp_path / "s")
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(silent, Supervisor(Told())).run, [listening])
        client = await ask(tmp_path / "s")
        while b"listening" not in await client.receive_some(1000):
            pass
        with trio.move_on_after(300) as waited:
            await client.receive_some(1000)
        assert waited.cancelled_caught
        nursery.cancel_scope.cancel()
    listening.close()
    await client.aclose()
