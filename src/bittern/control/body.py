"""What a request brings along, so far as it is not too much and does not take too long."""

import http
from contextlib import aclosing
from typing import Final

import trio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

PATIENCE_S: Final = 60.0
LEFT_BYTES: Final = 4 * 1024 * 1024
LEFT_S: Final = 1.0
"""So much of what nobody wants, and for so long, is taken and thrown away: whoever still sends when the connection ends
may not hear why.
"""


async def read_body(request: Request, at_most: int) -> bytes | None:
    """None when it is larger."""
    body = bytearray()
    try:
        with trio.fail_after(PATIENCE_S):
            async with aclosing(request.stream()) as parts:
                async for part in parts:
                    body += part
                    if len(body) > at_most:
                        break
                else:
                    return bytes(body)
    except trio.TooSlowError as error:
        raise HTTPException(http.HTTPStatus.REQUEST_TIMEOUT) from error
    except ClientDisconnect as error:
        # nobody hears it
        raise HTTPException(http.HTTPStatus.BAD_REQUEST) from error
    await let_go(request.receive)
    return None


async def let_go(receive: Receive) -> None:
    """Reads some of what a request that is refused still brings."""
    left = LEFT_BYTES
    with trio.move_on_after(LEFT_S):
        while left > 0:
            told = await receive()
            left -= len(told.get("body", b""))
            if not told.get("more_body", False):
                return
