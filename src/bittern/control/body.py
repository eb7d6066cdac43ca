"""What a request brings along, so far as it is not too much and does not take too long."""

import http
from contextlib import aclosing
from typing import Final

import trio
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

PATIENCE_S: Final = 60.0


async def read_body(request: Request, at_most: int) -> bytes | None:
    """None when it is larger."""
    body = bytearray()
    try:
        with trio.fail_after(PATIENCE_S):
            async with aclosing(request.stream()) as parts:
                async for part in parts:
                    body += part
                    if len(body) > at_most:
                        return None
    except trio.TooSlowError as error:
        raise HTTPException(http.HTTPStatus.REQUEST_TIMEOUT) from error
    except ClientDisconnect as error:
        # nobody hears it
        raise HTTPException(http.HTTPStatus.BAD_REQUEST) from error
    return bytes(body)
