"""The native API of a test's engine over TCP, with the gate before it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import trio

from bittern.control.api import Api
from bittern.control.gate import Gate
from bittern.control.server import Server, open_tcp
from bittern.control.stream import Stream
from tests.fakes.control import TestDaemon, described
from tests.fakes.engine import Engine


@asynccontextmanager
async def over_tcp(engine: Engine, **terms: object) -> AsyncIterator[httpx.AsyncClient]:
    api = Api(engine.session, TestDaemon(engine), Stream())
    sockets = open_tcp(["127.0.0.1"], 0)
    port = sockets[0].getsockname()[1]
    async with trio.open_nursery() as nursery:
        await nursery.start(Server(Gate(api.app(), **terms), engine.supervisor).run, sockets)
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{port}",
            timeout=60,
            trust_env=False,
            event_hooks={"response": [described(api).heed]},
        ) as client:
            yield client
        nursery.cancel_scope.cancel()
    for one in sockets:
        one.close()
