"""What stands before the application on TCP: `access.py`'s judgement, and the password's."""

import hmac
import json
import os
from typing import Final

import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from bittern.control.access import (
    MAY_STEER,
    READ_ONLY,
    SAFE_METHODS,
    THROTTLED,
    UNAUTHORIZED,
    Access,
    Denied,
    Guessing,
    basic_password,
    household,
    judge_head,
    verify_password,
)
from bittern.control.body import let_go

RPC_PATH: Final = "/transmission/rpc"
"""What is asked there is in the body: its handler looks at `MAY_STEER`."""

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})

HASHED_AT_ONCE: Final = 2
"""Passwords; each takes 16 MiB and a core for 50 ms."""


class Gate:
    """An ASGI application before another one."""

    def __init__(
        self, app: ASGIApp, *, access: Access, password_hash: str = "", hosts: tuple[str, ...] = ()
    ) -> None:
        self._app = app
        self._access: Access = access
        self._password_hash = password_hash
        self._hosts = tuple(host.lower() for host in hosts)
        self._guessing = Guessing()
        self._hashing = trio.CapacityLimiter(HASHED_AT_ONCE)
        self._key = os.urandom(32)
        self._proven = b""
        """The last password that was right, as only this process can recognise it: not to be hashed each time."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        denied = judge_head(scope["method"], headers, self._hosts)
        if denied is None and scope["path"] not in OPEN_PATHS:
            denied = await self._judge_password(headers, household((scope.get("client") or ("", 0))[0]))
        scope[MAY_STEER] = self._access == "full"
        if (
            denied is None
            and self._access != "full"
            and scope["method"] not in SAFE_METHODS
            and scope["path"].rstrip("/") != RPC_PATH
        ):
            denied = READ_ONLY
        if denied is None:
            await self._app(scope, receive, send)
        else:
            await let_go(receive)
            await _deny(denied, send)

    async def _judge_password(self, headers: dict[str, str], host: str) -> Denied | None:
        if not self._password_hash:
            return None
        password = basic_password(headers.get("authorization", ""))
        if password is None:
            return UNAUTHORIZED
        mark = hmac.digest(self._key, password.encode(), "sha256")
        if self._proven and hmac.compare_digest(mark, self._proven):
            return None
        if self._guessing.barred(host, trio.current_time()):
            return THROTTLED
        # counted before it is known, so that many at once are not many guesses
        self._guessing.failed(host, trio.current_time())
        if not await trio.to_thread.run_sync(
            verify_password, password, self._password_hash, limiter=self._hashing
        ):
            return UNAUTHORIZED
        self._guessing.passed(host)
        self._proven = mark
        return None


async def _deny(denied: Denied, send: Send) -> None:
    body = json.dumps({"error": {"code": denied.code, "message": denied.message}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in denied.headers]
    await send({"type": "http.response.start", "status": int(denied.status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
