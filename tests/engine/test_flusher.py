"""Nothing that was to be written is forgotten."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio
import trio.testing

from bittern.engine.events import Checked
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent


async def test_a_flush_that_is_cancelled_before_it_began_leaves_its_work_to_others(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        flusher = engine.session.flusher
        torrent = engine.session.torrents[made.info_hash]
        await flusher.flush_dirty()
        calls = engine.disk.call

        async def waits_for_a_thread(fn: Callable[..., Any], *args: Any) -> Any:
            await trio.sleep_forever()

        torrent.record.label = "noted"
        with trio.CancelScope() as scope:
            engine.disk.call = waits_for_a_thread  # type: ignore[method-assign]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(flusher.durable, torrent)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        engine.disk.call = calls  # type: ignore[method-assign]
        await flusher.flush_dirty()
        path = tmp_path / f"state/resume/{made.info_hash.hex()}.toml"
        assert b"noted" in path.read_bytes()
