"""The native API of a test's engine, on a real Unix socket."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from bittern.control.api import Api
from bittern.control.openapi import description
from bittern.control.ports import Deliveries
from bittern.control.server import Server, open_socket
from bittern.control.stream import Stream
from bittern.daemon.outcomes import Outcomes
from bittern.daemon.overrides import Overrides
from bittern.daemon.spool import Spool
from tests.fakes.described import Description
from tests.fakes.engine import Engine


class TestDaemon:
    """What `control.ports.Daemon` asks for."""

    __test__ = False
    version = "0.1.0"
    port = 1
    incomplete_folder = ""

    def __init__(self, engine: Engine) -> None:
        self.state_folder = engine.settings.state
        self.data_folders = (str(engine.downloads), "/mnt/films")
        self._engine = engine
        self._overrides = Overrides(Path(engine.settings.state))
        self._overrides.load(engine.settings)
        self.outcomes = Outcomes(Spool.below(Path(engine.settings.state)))

    def limits(self) -> Mapping[str, Any]:
        return self._overrides.effective(self._engine.settings)

    def overrides(self) -> Mapping[str, Any]:
        return self._overrides.values

    async def deliveries(self, state: str | None, at_most: int) -> Deliveries:
        return await self.outcomes.newest(state, at_most)

    async def replay(self, delivery_id: str) -> bool | None:
        return await self.outcomes.replay(delivery_id)

    async def set_limits(self, changes: Mapping[str, Any]) -> None:
        base = self._engine.settings
        self._overrides.set(changes, base)
        self._engine.session.apply(self._overrides.slow(self._overrides.normal(base)))
        await self._overrides.keep()


class Control:
    """A client and what it speaks with."""

    def __init__(self, client: httpx.AsyncClient, stream: Stream, path: Path) -> None:
        self.client = client
        self.stream = stream
        self.path = path

    async def get(self, path: str, **params: object) -> dict[str, object]:
        response = await self.client.get(f"/api/v1{path}", params=params)
        assert response.status_code == 200, response.text
        return dict(response.json())


def described(api: Api) -> Description:
    """What it says of itself."""
    return Description(description(api.endpoints(), "0.1.0"))


@asynccontextmanager
async def controlling(engine: Engine, folder: Path) -> AsyncIterator[Control]:
    """Serves the engine's API while the block runs."""
    stream, path = Stream(), folder / "control.sock"
    api = Api(engine.session, TestDaemon(engine), stream)
    server = Server(api.app(), engine.supervisor)
    listening = open_socket(path)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run, [listening])
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(
            transport=transport,
            base_url="http://bittern",
            timeout=60,
            event_hooks={"response": [described(api).heed]},
        ) as client:
            yield Control(client, stream, path)
        nursery.cancel_scope.cancel()
    listening.close()
