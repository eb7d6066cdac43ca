"""A connection whose other end may be slow, but not for ever: what is not read in time ends it."""

from typing import Final

import trio

SEND_PATIENCE_S: Final = 60.0
PART_BYTES: Final = 64 * 1024
"""So much must be taken in that time: whoever reads at all gets all."""


class PatientStream:
    """What Hypercorn asks of a plain stream (it has no `do_handshake`: that is how it knows)."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self.socket = stream.socket

    async def send_all(self, told: bytes) -> None:
        """Raises `trio.BrokenResourceError` when nobody takes it."""
        for start in range(0, len(told), PART_BYTES):
            with trio.move_on_after(SEND_PATIENCE_S) as patience:
                await self._stream.send_all(memoryview(told)[start : start + PART_BYTES])
            if patience.cancelled_caught:
                self.hang_up()
                raise trio.BrokenResourceError("the other end does not read")

    async def receive_some(self, at_most: int | None = None) -> bytes:
        """As of a stream. How long a request's head may take is Hypercorn's to say, its body who reads it."""
        return bytes(await self._stream.receive_some(at_most))

    async def send_eof(self) -> None:
        """As of a stream."""
        await self._stream.send_eof()

    async def aclose(self) -> None:
        """As of a stream."""
        await self._stream.aclose()

    def hang_up(self) -> None:
        """At once; whoever waits for it gets an error."""
        self.socket.close()
