"""A torrent whose swarm has fallen too often is seen to be quarantined wherever anybody looks, and can be started
again.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from bittern.control import updates
from bittern.engine import heartbeat
from bittern.engine.events import Checked, Completed, Failed, Recovered
from bittern.engine.failures import QUARANTINE_S
from bittern.engine.supervision import RESTARTS_AT_MOST
from bittern.engine.swarm import Swarm
from bittern.engine.torrent import State
from bittern.proto import messages as m
from tests.control.test_updates import reading
from tests.fakes.bittern_process import call_command
from tests.fakes.control import Control, controlling
from tests.fakes.engine import Engine, running
from tests.fakes.faults import Fault
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent
from tests.fakes.transmission_rpc import Client

ILL, WELL = make_torrent("ill.bin", size=3_000_000, piece_length=16384), make_torrent("well.bin")
KEY = ILL.info_hash.hex()
STOPPED, ERROR_LOCAL = 0, 3
"""As Transmission's clients know them."""


@asynccontextmanager
async def quarantined(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Engine, Control, Fault]]:
    """`ILL` is; peers that have all of it come to it again and again."""
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    fault = Fault(monkeypatch, Swarm, "tick", lambda swarm, *_: swarm.torrent.info_hash == ILL.info_hash)
    async with running(folder, strict=False) as engine, controlling(engine, folder) as control:
        WELL.write(engine.downloads)
        for made in (ILL, WELL):
            await engine.add(made)
        await engine.until(Checked, 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keeps_coming, engine, fault)
            await engine.until(Failed)
            yield engine, control, fault
            nursery.cancel_scope.cancel()


async def keeps_coming(engine: Engine, fault: Fault) -> None:
    """It is not to be complete before it falls."""
    while True:
        try:
            async with connected(engine.address, ILL.info_hash) as peer:
                await peer.say(m.HAVE_ALL, m.UNCHOKE)
                await peer.serve(ILL, pieces=8 if fault.on else 1 << 30)
        except (OSError, trio.EndOfChannel, trio.BrokenResourceError):
            pass
        await trio.sleep(0.02)


def says_why(text: object) -> bool:
    return "quarantined" in str(text) and "Bug" in str(text)


async def test_it_is_seen_wherever_anybody_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "FRESH_S", 0.0)
    async with quarantined(tmp_path, monkeypatch) as (engine, control, _):
        told = await control.get(f"/torrents/{KEY}")
        assert told["state"] == "error"
        assert says_why(told["error"])
        assert isinstance(told["retry_in_s"], float | int)
        assert QUARANTINE_S - 600 < told["retry_in_s"] <= QUARANTINE_S
        rows = (await control.get("/torrents", fields="name,state"))["torrents"]
        assert rows == [{"name": "ill.bin", "state": "error"}, {"name": "well.bin", "state": "seeding"}]
        assert (await control.get("/session"))["errors"] == 1
        assert says_why(await control.get(f"/torrents/{KEY}/explain"))

        rpc = Client(control, engine)
        for row in (await rpc.ask("torrent-get", fields=["name", "status", "error", "errorString"]))[
            "torrents"
        ]:
            if row["name"] == "ill.bin":
                assert (row["status"], row["error"]) == (STOPPED, ERROR_LOCAL)
                assert says_why(row["errorString"])
            else:
                assert (row["error"], row["errorString"]) == (0, "")

        async with reading(control) as page:
            (row,) = (row for row in page["torrents"] if row["name"] == "ill.bin")
        assert row["state"] == "error"
        assert says_why(row["error"])

        metrics = (await control.client.get("/metrics")).text
        counted = {
            (sample.name, sample.labels.get("state")): sample.value
            for family in text_string_to_metric_families(metrics)
            for sample in family.samples
        }
        assert counted["bittern_torrents", "error"] == 1
        assert counted["bittern_torrents", "seeding"] == 1
        assert counted["bittern_bugs_total", None] == len(engine.bugs) > 0

        for words in (("list",), ("info", "ill.bin"), ("explain", "ill.bin")):
            done = await trio.to_thread.run_sync(call_command, *words, "--socket", control.path)
            assert done.returncode == 0, done.stderr
            assert says_why(done.stdout), words


async def shown(rpc: Client) -> tuple[int, str]:
    """To Transmission's clients."""
    (row,) = (await rpc.ask("torrent-get", ids=[KEY], fields=["error", "errorString"]))["torrents"]
    return row["error"], row["errorString"]


async def by_rpc(control: Control, engine: Engine) -> None:
    await Client(control, engine).ask("torrent-start", ids=[KEY])


async def by_rpc_at_once(control: Control, engine: Engine) -> None:
    await Client(control, engine).ask("torrent-start-now", ids=[KEY])


async def by_command(control: Control, engine: Engine) -> None:
    done = await trio.to_thread.run_sync(call_command, "resume", "ill.bin", "--socket", control.path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("start", [by_rpc, by_rpc_at_once, by_command])
async def test_it_can_be_started_again(
    start: Callable[[Control, Engine], Awaitable[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with quarantined(tmp_path, monkeypatch) as (engine, control, fault):
        rpc, torrent = Client(control, engine), engine.session.torrents[ILL.info_hash]
        # the bug is still there: it may fall as often as before, and rests again
        fault.count = 0
        await start(control, engine)
        await engine.until_true(
            lambda: (
                torrent.state is State.ERROR
                and torrent.retry_at is not None
                and fault.count > RESTARTS_AT_MOST
            ),
            "quarantined again",
        )
        assert says_why((await shown(rpc))[1])
        assert len(engine.told(Failed)) == 1, "which is no second failure"
        fault.on = False
        await start(control, engine)
        await engine.until_true(
            lambda: ILL.info_hash in {event.facts.info_hash for event in engine.told(Completed)}, "complete"
        )
        assert await shown(rpc) == (0, "")
        assert [event.facts.info_hash for event in engine.told(Recovered)] == [ILL.info_hash]
        assert ILL.is_at(engine.downloads)
