"""The limits follow the clock on the wall, and a new configuration at once."""

from datetime import datetime, timedelta
from typing import Any

import trio
from trio.testing import MockClock

from bittern.daemon.config import load_config
from bittern.daemon.overrides import Overrides
from bittern.daemon.scheduling import Scheduler

TEXT = """
[limits]
upload_rate = 1000
[[schedule]]
days = ["mon"]
from = "08:00"
to = "17:00"
download = "2 kB"
upload = 0
"""


class Wall:
    def __init__(self, at: str) -> None:
        self.at = datetime.fromisoformat(at)

    def __call__(self) -> datetime:
        return self.at + timedelta(seconds=trio.current_time())


class Session:
    def __init__(self) -> None:
        self.rates: list[Any] = []

    def apply(self, settings: Any) -> None:
        self.rates.append((settings.download_rate, settings.upload_rate))


async def test_the_clock_is_followed(tmp_path, autojump_clock: MockClock) -> None:
    path = tmp_path / "b.toml"
    path.write_text(TEXT)
    config = load_config(path, environ={})
    session, wall = Session(), Wall("2026-11-23 07:59:00")
    scheduler = Scheduler(config, session, Overrides(tmp_path), local_now=wall)
    async with trio.open_nursery() as nursery:
        await nursery.start(scheduler.run)
        assert session.rates == []
        await trio.sleep(70)
        assert session.rates == [(2000.0, None)]
        wall.at += timedelta(days=1)
        await trio.sleep(6)
        assert session.rates[1:] == [(None, 1000.0)]
        wall.at -= timedelta(days=1)
        await trio.sleep(6)
        assert session.rates[2:] == [(2000.0, None)]
        path.write_text(TEXT.replace("2 kB", "3 kB"))
        scheduler.apply(load_config(path, environ={}))
        assert session.rates[3:] == [(3000.0, None)]
        await trio.sleep(60)
        assert len(session.rates) == 4
        nursery.cancel_scope.cancel()
