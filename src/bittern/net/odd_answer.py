"""HTTP answers that do not come whole or are anything special: h11 reads them."""

from typing import Final, Protocol

import h11
import trio

from bittern.errors import TrackerError
from bittern.net.answer import (
    CHUNKS_AT_ONCE,
    HEAD_AT_MOST_BYTES,
    HEADS_AT_MOST,
    Body,
    NotHttp,
    PlainAnswer,
    bytes_at_most,
    no_answer,
    too_many_bytes,
    too_many_heads,
)

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NO_HTTP: Final = "answered something that is not HTTP, or nothing at all"


class Line(Protocol):
    """A connection over which one question was asked."""

    at_rest: bool
    came_bytes: int

    async def receive(self) -> bytes:
        """Empty at the end; `OSError`."""


class OddAnswers:
    """Of one line."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_AT_MOST_BYTES)

    async def read(self, asked: list[tuple[str, str]], came: bytes, max_bytes: int) -> PlainAnswer:
        """The answer to a GET with these headers, of which this much `came`. Afterwards the line is `at_rest`, or has
        to be closed. `TrackerError`, `OSError`.
        """
        try:
            self._http.send(h11.Request(method="GET", target="/", headers=asked))
            self._http.send(h11.EndOfMessage())
            self._http.receive_data(came)
            return await self._answer(max_bytes)
        except h11.ProtocolError:
            raise NotHttp(_NO_HTTP) from None

    async def _answer(self, max_bytes: int) -> PlainAnswer:
        status, heads, found = 0, 0, None
        while True:
            event = await self._next(bytes_at_most(max_bytes))
            if isinstance(event, h11.Response):
                status, told = event.status_code, dict(event.headers)
                where = told.get(b"location")
                if status in _REDIRECTS and where is not None:
                    return PlainAnswer(status, b"", where.decode("utf-8", "replace"))
                found = Body(told.get(b"content-encoding", b"identity").decode("latin-1"), max_bytes)
            elif isinstance(event, h11.Data) and found is not None:
                found.feed(event.data)
                if not found.chunks % CHUNKS_AT_ONCE:
                    await trio.lowlevel.checkpoint()
            elif isinstance(event, h11.InformationalResponse):
                heads += 1
                if heads > HEADS_AT_MOST:
                    raise NotHttp(too_many_heads())
                if self._line.came_bytes >= HEAD_AT_MOST_BYTES:
                    raise NotHttp(no_answer())
            elif isinstance(event, h11.EndOfMessage) and found is not None:
                if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
                    self._http.start_next_cycle()
                    self._line.at_rest = not self._http.trailing_data[0]
                return PlainAnswer(status, found.whole())
            elif isinstance(event, h11.ConnectionClosed):
                raise NotHttp(_NO_HTTP)

    async def _next(self, at_most_bytes: int) -> object:
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                if self._line.came_bytes > at_most_bytes:
                    raise TrackerError(too_many_bytes(at_most_bytes))
                self._http.receive_data(await self._line.receive())
            elif event is h11.PAUSED:
                raise NotHttp(_NO_HTTP)
            else:
                return event
