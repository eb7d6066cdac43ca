"""A client of Transmission's RPC, and an engine behind it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.fakes.control import Control, controlling
from tests.fakes.engine import Engine, running


class Client:
    def __init__(self, control: Control, engine: Engine) -> None:
        self.control = control
        self.engine = engine
        self._id = ""

    async def post(self, body: Any) -> dict[str, Any]:
        headers = {"X-Transmission-Session-Id": self._id}
        answer = await self.control.client.post("/transmission/rpc", json=body, headers=headers)
        if answer.status_code == 409:
            self._id = answer.headers["X-Transmission-Session-Id"]
            return await self.post(body)
        assert answer.status_code == 200
        return dict(answer.json())

    async def ask(self, method: str, **arguments: Any) -> dict[str, Any]:
        told = await self.post(
            {"method": method, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
        )
        assert told["result"] == "success", told
        return dict(told["arguments"])

    async def refused(self, method: str, **arguments: Any) -> str:
        told = await self.post({"method": method, "arguments": arguments, "tag": 7})
        assert told["tag"] == 7
        assert told["result"] != "success"
        return str(told["result"])


@asynccontextmanager
async def speaking(folder: Path) -> AsyncIterator[Client]:
    async with running(folder) as engine, controlling(engine, folder) as control:
        yield Client(control, engine)
