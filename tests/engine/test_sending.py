"""How much of an upload goes out before others have their turn on the loop."""

from types import SimpleNamespace
from typing import Any

import trio

from bittern.engine.sending import BATCHES_AT_ONCE, Sender
from bittern.engine.throttle import Throttle
from bittern.engine.uploads import BATCH_REQUESTS, SendBuffers, UploadQueue
from bittern.policy.taking import Taking
from bittern.proto.layout import Layout
from bittern.proto.messages import PIECE_HEADER_BYTES, Request
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
