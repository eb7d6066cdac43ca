"""The sockets of control as the daemon has them, before a test's engine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from bittern.control.stream import Stream
from bittern.daemon.config import Config, default_config
from bittern.daemon.controlling import Control
from bittern.daemon.overrides import Overrides
from bittern.daemon.scheduling import Scheduler
from tests.fakes.engine import Engine, running
from tests.fakes.processes import free_port


def web_config(folder: Path) -> Config:
    """With full access, at a free port."""
    made = default_config(folder)
    Path(made.paths.state).mkdir(parents=True)
    web = msgspec.structs.replace(made.web, port=free_port(), access="full")
    return msgspec.structs.replace(made, web=web)


@asynccontextmanager
async def controlled(
    folder: Path, config: Config, *, strict: bool = True
) -> AsyncIterator[tuple[Engine, Control]]:
    async with running(folder, strict=strict) as engine:
        control = Control(
            engine.session,
            engine.supervisor,
            Stream(),
            config=config,
            port=1,
            version="0",
            scheduler=Scheduler(config, engine.session, Overrides(folder)),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(control.run)
            yield engine, control
            nursery.cancel_scope.cancel()
