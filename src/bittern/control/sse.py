"""Server-sent events: an answer that goes on until the client leaves."""

import json
from abc import ABC, abstractmethod
from typing import Any

import trio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

SILENT: bytes = b": nothing new\n\n"
"""Says that the stream lives, so that one whose reader is gone is noticed."""


def message(value: Any, event: str = "") -> bytes:
    """One message; `event` "" is the usual kind."""
    kind = f"event: {event}\n" if event else ""
    return f"{kind}data: {json.dumps(value)}\n\n".encode()


class EventStream(Response, ABC):
    """`tell` sends what there is to send, with `say`, and ends with the client."""

    def __init__(self) -> None:
        super().__init__(media_type="text/event-stream", headers={"Cache-Control": "no-store"})
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._begin, send)
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

    async def _begin(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        self._send = send
        await self.tell()

    async def say(self, body: bytes) -> None:
        """Sends that; waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    @abstractmethod
    async def tell(self) -> None:
        """What the stream is about."""
