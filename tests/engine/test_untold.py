"""What hooks are told of is told at least once, with one id, whatever fails in between."""

from pathlib import Path

import pytest
from trio.testing import MockClock

from bittern.engine import failures
from bittern.engine.events import Arrived, Checked, Completed
from bittern.engine.flusher import Flusher
from bittern.engine.torrent import Torrent
from bittern.errors import StorageError
from bittern.net.dialer import Dialer
from bittern.proto import messages as m
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent


@pytest.mark.parametrize("moves", [False, True])
async def test_what_arrived_is_told_although_its_record_could_not_be_written_at_first(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, moves: bool
) -> None:
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 0.05)
    plain, failed = Flusher.durable, list[str]()

    async def durable(self: Flusher, torrent: Torrent) -> None:
        if torrent.record.downloaded_event_id and not failed:
            failed.append(torrent.record.downloaded_event_id)
            raise StorageError("no space left on device", errno=28, path="state")
        await plain(self, torrent)

    monkeypatch.setattr(Flusher, "durable", durable)
    made = make_torrent(size=50_000, piece_length=16_384)
    async with running(tmp_path, dialer=Dialer()) as engine:
        await engine.add(made, **({"incomplete": str(tmp_path / "incomplete")} if moves else {}))
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.serve(made, pieces=4)
            await engine.until(Completed)
    assert failed
    assert {event.event_id for event in engine.told(Arrived)} == set(failed)
