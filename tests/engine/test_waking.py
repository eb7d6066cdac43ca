"""From the handshake that wakes a seed to its first block: in few steps, and nothing stays open after."""

import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from bittern.engine import choking, waking
from bittern.engine.events import Completed, Failed, Moved
from bittern.engine.opening import Opened
from bittern.engine.peer import Peer
from bittern.policy.choker import Choker
from bittern.proto import messages as m
from tests.fakes.engine import Engine, running
from tests.fakes.faults import Fault
from tests.fakes.scripted_peer import ScriptedPeer, connected
from tests.fakes.torrents import Made, make_torrent


async def seeded(engine: Engine, made: Made) -> None:
    made.write(engine.downloads)
    await engine.add(made)
    await engine.until(Completed)
    engine.files.close_all()


async def first_block(leech: ScriptedPeer, made: Made) -> None:
    await leech.say(m.INTERESTED)
    await leech.hear_until("unchoke")
    await leech.say(m.pack_requests([(0, 0, 1024)]))
    assert (await leech.hear_until("piece"))[8:] == made.piece(0)[:1024]


def hops(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done in threads from now on."""
    found: list[str] = []
    usual: Callable[..., Awaitable[Any]] = engine.disk.call

    async def call(fn: Callable[..., Any], *args: Any) -> Any:
        found.append(fn.__name__)
        return await usual(fn, *args)

    monkeypatch.setattr(engine.disk, "call", call)
    return found


async def test_the_file_of_a_seed_is_opened_by_the_hop_that_reads_its_torrent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent("one.bin", size=50_000)
    async with running(tmp_path) as engine:
        await seeded(engine, made)
        found = hops(engine, monkeypatch)
        async with connected(engine.address, made.info_hash) as leech:
            await first_block(leech, made)
        assert found.count("_open") == 1
        assert "read" not in found


async def test_of_several_files_none_is_opened_before_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent("many", files=[("a", 40_000), ("b", 40_000)])
    async with running(tmp_path) as engine:
        await seeded(engine, made)
        found = hops(engine, monkeypatch)
        async with connected(engine.address, made.info_hash) as leech:
            await leech.hear()
            assert len(engine.files) == 0
            await first_block(leech, made)
        assert found.count("_open") == found.count("read") == 1


async def test_a_file_that_is_gone_is_told_to_who_asks_for_it_and_not_before(tmp_path: Path) -> None:
    made = make_torrent("gone.bin", size=50_000)
    async with running(tmp_path) as engine:
        await seeded(engine, made)
        (engine.downloads / "gone.bin").unlink()
        async with connected(engine.address, made.info_hash) as leech:
            await leech.say(m.INTERESTED)
            await leech.hear_until("unchoke")
            assert not engine.told(Failed)
            await leech.say(m.pack_requests([(0, 0, 1024)]))
            failed = await engine.until(Failed)
        assert "gone.bin: is missing" in failed.reason


class Brake:
    """Holds the first thread that has opened a torrent."""

    def __init__(self) -> None:
        self.held, self.go = threading.Event(), threading.Event()
        self._real = waking._open

    def __call__(self, *args: Any) -> tuple[Opened, bytes | None]:
        opened = self._real(*args)
        if not self.held.is_set():
            self.held.set()
            self.go.wait(60)
        return opened


@pytest.fixture
def brake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Brake]:
    made = Brake()
    monkeypatch.setattr(waking, "_open", made)
    yield made
    made.go.set()


async def test_what_was_opened_for_one_that_is_stopped_meanwhile_is_closed(
    tmp_path: Path, brake: Brake
) -> None:
    made = make_torrent("stopped.bin", size=50_000)
    async with running(tmp_path) as engine, trio.open_nursery() as nursery:
        await seeded(engine, made)

        async def knock() -> None:
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                async with connected(engine.address, made.info_hash):
                    pass

        nursery.start_soon(knock)
        await engine.until_true(brake.held.is_set, "its .torrent is read")
        assert len(engine.files) > 0
        engine.session.swarms.stop(engine.session.torrents[made.info_hash])
        brake.go.set()
        await engine.until_true(lambda: len(engine.files) == 0, "closed")


async def test_who_is_moved_while_it_wakes_is_served_from_where_it_lies_then(
    tmp_path: Path, brake: Brake
) -> None:
    made, there = make_torrent("moved.bin", size=50_000), tmp_path / "there"
    async with running(tmp_path) as engine, trio.open_nursery() as nursery:
        await seeded(engine, made)

        async def leech() -> None:
            async with connected(engine.address, made.info_hash) as peer:
                await first_block(peer, made)
                assert engine.session.swarms.live[made.info_hash].storage.folder == str(there)

        nursery.start_soon(leech)
        await engine.until_true(brake.held.is_set, "its .torrent is read")
        await engine.session.move(made.info_hash, str(there))
        await engine.until(Moved)
        brake.go.set()


async def its_peer(engine: Engine, made: Made) -> Peer:
    live = engine.session.swarms.live
    await engine.until_true(lambda: made.info_hash in live and bool(live[made.info_hash].peers), "a peer")
    return next(iter(live[made.info_hash].peers))


async def test_who_is_alone_is_unchoked_as_it_asks(tmp_path: Path) -> None:
    made = make_torrent("alone.bin", size=50_000)
    async with running(tmp_path) as engine:
        await seeded(engine, made)
        async with connected(engine.address, made.info_hash):
            peer = await its_peer(engine, made)
            peer.on_interested(m.Interested())
            assert not peer.am_choking


async def test_interest_that_comes_and_goes_is_decided_on_once_a_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent("fickle.bin", size=50_000)
    async with running(tmp_path) as engine:
        await seeded(engine, made)
        async with connected(engine.address, made.info_hash) as leech:
            peer = await its_peer(engine, made)
            looks: list[float] = []
            real = Choker.to_choke

            def noted(choker: Choker[Peer], *args: Any) -> list[Peer]:
                looks.append(trio.current_time())
                return real(choker, *args)

            monkeypatch.setattr(Choker, "to_choke", noted)
            for _ in range(100):
                peer.on_interested(m.Interested())
                peer.on_not_interested(m.NotInterested())
            assert len(looks) == 1
            await leech.hear_until("unchoke")
            peer.on_interested(m.Interested())
            assert len(looks) < 100
            await leech.hear_until("unchoke")


@pytest.mark.parametrize("few", ["connections", "torrents"])
async def test_in_a_crowd_those_who_ask_are_looked_at_together(
    few: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent("crowd.bin", size=50_000)
    async with running(tmp_path) as engine:
        await seeded(engine, made)
        async with connected(engine.address, made.info_hash) as leech:
            peer = await its_peer(engine, made)
            slots, live = engine.session.swarms.connection_slots, engine.session.swarms.live
            if few == "connections":
                monkeypatch.setattr(slots, "taken", choking.SMALL + 1)
            else:
                swarm = live[made.info_hash]
                monkeypatch.setattr(
                    engine.session.swarms, "live", dict.fromkeys(range(choking.SMALL + 1), swarm)
                )
            peer.on_interested(m.Interested())
            assert peer.am_choking
            monkeypatch.undo()
            await leech.hear_until("unchoke")


async def test_a_bug_of_the_choker_costs_nobody_his_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent("bug.bin", size=50_000)
    async with running(tmp_path, strict=False) as engine:
        await seeded(engine, made)
        async with connected(engine.address, made.info_hash) as leech:
            peer = await its_peer(engine, made)
            Fault(monkeypatch, Choker, "to_choke", times=1)
            peer.on_interested(m.Interested())
            assert peer.am_choking
            assert engine.session.swarms.slots_news.is_set()
            await first_block(leech, made)
            assert [bug.where for bug in engine.bugs] == ["an upload slot that was asked for"]
