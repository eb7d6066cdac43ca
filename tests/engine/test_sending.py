"""How much of an upload goes out before others have their turn on the loop."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from bittern.engine.sending import BATCHES_AT_ONCE, Sender
from bittern.engine.throttle import Throttle
from bittern.engine.uploads import BATCH_REQUESTS, SendBuffers, UploadQueue
from bittern.policy.taking import Taking
from bittern.proto.layout import Layout
from bittern.proto.messages import PIECE_HEADER, PIECE_HEADER_BYTES, PIECE_ID, Request
from bittern.terms import BLOCK_SIZE

BATCH_BYTES = BATCH_REQUESTS * (BLOCK_SIZE + PIECE_HEADER_BYTES)


class Socket:
    """Takes so many bytes; then nothing."""

    def __init__(self, takes_bytes: int) -> None:
        self.left_bytes = takes_bytes
        self.sent_bytes = 0

    def send_nowait(self, blob: memoryview) -> int:
        taken = min(len(blob), self.left_bytes)
        self.left_bytes -= taken
        self.sent_bytes += taken
        return taken

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()


def uploading(socket: Any, batches: int) -> Any:
    """The upload of a peer who waits for so many batches, as a coroutine to be stepped by hand."""
    size = batches * BATCH_REQUESTS * BLOCK_SIZE
    home: Any = SimpleNamespace(
        layout=Layout(size, size, (size,)),
        storage=SimpleNamespace(read_cached=lambda _, views: sum(map(len, views))),
        upload_throttle=Throttle(None),
        send_buffers=SendBuffers(),
    )
    uploads = UploadQueue()
    for block in range(batches * BATCH_REQUESTS):
        uploads.push(Request(0, block * BLOCK_SIZE, BLOCK_SIZE))
    sender = Sender(home, socket, uploads, Taking(), sent=lambda *_: None, lost=lambda: None)
    return sender.run()


async def test_what_the_socket_takes_goes_out_in_one_turn_up_to_some_batches() -> None:
    socket = Socket(1 << 40)
    upload = uploading(socket, 2 * BATCHES_AT_ONCE)
    upload.send(None)
    assert socket.sent_bytes == BATCHES_AT_ONCE * BATCH_BYTES
    upload.close()


async def test_a_full_socket_ends_the_turn() -> None:
    socket = Socket(BATCH_BYTES + 1)
    upload = uploading(socket, 2 * BATCHES_AT_ONCE)
    upload.send(None)
    assert socket.sent_bytes == BATCH_BYTES + 1
    upload.close()


class Home:
    """A swarm whose blocks are all zeros; `cold` ones have to be read by a thread."""

    def __init__(self) -> None:
        size = 8 * BLOCK_SIZE
        self.layout = Layout(size, size, (size,))
        self.storage: Any = self
        self.disk: Any = self
        self.upload_throttle = Throttle(None)
        self.send_buffers = SendBuffers()
        self.cold = False
        self.read_by_threads = 0

    def read_cached(self, _: int, views: list[memoryview]) -> int:
        return 0 if self.cold else sum(map(len, views))

    def read_scattered(self, _: int, views: list[memoryview]) -> None:
        self.read_by_threads += 1

    async def call(self, read: Callable[..., None], *args: Any) -> None:
        read(*args)


class Wire:
    """Takes `room` bytes until it is opened, and keeps them."""

    def __init__(self, room: int = 1 << 40) -> None:
        self.room = room
        self.got = b""
        self.broken = False
        self.opened = trio.Event()

    def send_nowait(self, blob: memoryview) -> int:
        if self.broken:
            raise ConnectionResetError
        taken = bytes(blob[: self.room])
        self.room -= len(taken)
        self.got += taken
        return len(taken)

    async def wait_writable(self) -> None:
        await self.opened.wait()
        self.room = 1 << 40


class Asked:
    """A connection on which blocks were asked for, and its sender, who waits for something to do."""

    def __init__(self, home: Home, wire: Wire) -> None:
        self.uploads, self.taking = UploadQueue(), Taking()
        self.sent: list[int] = []
        self.lost = False
        transport: Any = wire
        self.sender = Sender(
            home,
            transport,
            self.uploads,
            self.taking,
            sent=lambda payload_bytes, _: self.sent.append(payload_bytes),
            lost=self._lose,
        )

    def _lose(self) -> None:
        self.lost = True

    def ask(self, *blocks: int) -> bytes:
        """What is to come."""
        for block in blocks:
            self.uploads.push(Request(0, block * BLOCK_SIZE, BLOCK_SIZE))
        return b"".join(
            PIECE_HEADER.pack(9 + BLOCK_SIZE, PIECE_ID, 0, block * BLOCK_SIZE) + bytes(BLOCK_SIZE)
            for block in blocks
        )


@asynccontextmanager
async def asked(home: Home, wire: Wire) -> AsyncIterator[Asked]:
    made = Asked(home, wire)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.sender.run)
        await wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()
    assert home.send_buffers._lent == 0


async def test_the_first_few_blocks_go_out_without_a_turn_of_the_loop() -> None:
    home, wire = Home(), Wire()
    home.send_buffers.give_back(home.send_buffers.borrow(BATCH_REQUESTS))
    async with asked(home, wire) as made:
        due = made.ask(*range(SendBuffers.FEW))
        made.sender.answer()
        assert wire.got == due
        assert made.sent == [SendBuffers.FEW * BLOCK_SIZE]
        assert made.taking.handed_bytes == len(due)
        assert len(made.uploads) == 0
        due += made.ask(7)
        made.sender.answer()
        assert len(made.uploads) == 1, "only the first ones"
        await wait_all_tasks_blocked()
        assert wire.got == due


async def test_more_than_a_few_are_the_sender_s_own_task_s() -> None:
    home, wire = Home(), Wire()
    async with asked(home, wire) as made:
        due = made.ask(*range(SendBuffers.FEW + 1))
        made.sender.answer()
        assert wire.got == b""
        await wait_all_tasks_blocked()
        assert wire.got == due


async def test_what_is_not_in_memory_is_read_by_a_thread_in_its_order() -> None:
    home, wire = Home(), Wire()
    home.cold = True
    async with asked(home, wire) as made:
        due = made.ask(3, 1, 2)
        made.sender.answer()
        assert wire.got == b""
        assert made.sent == []
        await wait_all_tasks_blocked()
        assert wire.got == due
        assert home.read_by_threads == 2, "neighbours together"


@pytest.mark.parametrize("room", [0, 5, BLOCK_SIZE + 30])
async def test_what_a_full_socket_does_not_take_goes_out_before_what_is_said_later(room: int) -> None:
    home, wire = Home(), Wire(room)
    async with asked(home, wire) as made:
        due = made.ask(0, 1)
        made.sender.answer()
        assert len(wire.got) == room
        made.sender.say(b"later")
        made.sender.answer()
        await wait_all_tasks_blocked()
        wire.opened.set()
        await wait_all_tasks_blocked()
        assert wire.got == (due + b"later" if room else b"later" + due)
        assert made.taking.handed_bytes == len(due)
        assert made.sent == [2 * BLOCK_SIZE]


async def test_what_was_said_before_goes_out_before() -> None:
    home, wire = Home(), Wire()
    async with asked(home, wire) as made:
        made.sender.say(b"before")
        due = made.ask(0)
        made.sender.answer()
        await wait_all_tasks_blocked()
        assert wire.got == b"before" + due


async def test_what_was_asked_for_before_goes_out_before() -> None:
    home, wire, read = Home(), Wire(), trio.Event()

    class Slow:
        async def call(self, fill: Callable[..., None], *args: Any) -> None:
            await read.wait()
            fill(*args)

    home.cold, home.disk = True, Slow()
    async with asked(home, wire) as made:
        due = made.ask(3)
        made.sender.answer()
        await wait_all_tasks_blocked()
        home.cold = False
        due += made.ask(1)
        made.sender.answer()
        read.set()
        await wait_all_tasks_blocked()
        assert wire.got == due


async def test_a_limited_torrent_has_its_blocks_stand_in_line() -> None:
    home, wire = Home(), Wire()
    home.upload_throttle = Throttle(1 << 30)
    async with asked(home, wire) as made:
        due = made.ask(0)
        made.sender.answer()
        assert wire.got == b""
        wire.opened.set()
        await wait_all_tasks_blocked()
        assert wire.got == due


async def test_who_is_gone_is_lost_and_its_buffer_is_given_back() -> None:
    home, wire = Home(), Wire()
    async with asked(home, wire) as made:
        made.ask(0)
        wire.broken = True
        made.sender.answer()
        assert made.lost
