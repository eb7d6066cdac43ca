"""What hooks are told of is told at least once, with one id, whatever fails in between."""

from pathlib import Path

import pytest
from trio.testing import MockClock

from bittern.engine import failures
from bittern.engine.events import Arrived, Checked, Completed, Removed, Started
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


async def test_a_removal_of_which_hooks_may_not_know_is_told_at_the_next_start(tmp_path: Path) -> None:
    made, other = make_torrent("gone", seed=1), make_torrent("other", seed=2)
    async with running(tmp_path) as engine:
        for one in (made, other):
            one.write(engine.downloads)
            await engine.add(one)
        await engine.until(Completed, 2)
        await engine.session.remove(made.info_hash, reason="of no use")
        [removed] = engine.told(Removed)
    async with running(tmp_path) as engine:
        assert [event for event in engine.session.undelivered() if isinstance(event, Removed)] == [removed]
        # added again it is another one
        await engine.add(made)
        await engine.until(Completed)
    async with running(tmp_path) as engine:
        assert removed in engine.session.undelivered()
        engine.session.delivered(made.info_hash, removed.event_id)
    async with running(tmp_path) as engine:
        assert removed not in engine.session.undelivered()
        assert made.info_hash in engine.session.torrents
    assert not list((tmp_path / "state/removed").iterdir())


async def test_a_removal_that_came_to_no_end_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent()

    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device", str(path))

    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        with monkeypatch.context() as patched:
            patched.setattr("bittern.engine.store.remove_durably", fail)
            with pytest.raises(StorageError):
                await engine.session.remove(made.info_hash, reason="of no use")
        [note] = (tmp_path / "state/removed").iterdir()
        blob = note.read_bytes()
        await engine.session.flusher.flush_dirty()
        assert not note.exists()
    note.write_bytes(blob)  # as a kill would have left it
    async with running(tmp_path) as engine:
        assert made.info_hash in engine.session.torrents
        assert not any(isinstance(event, Removed) for event in engine.session.undelivered())
    assert not list((tmp_path / "state/removed").iterdir())


async def test_that_it_started_is_told_again_until_hooks_have_it(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        await engine.add(made)
        started = await engine.until(Started)
    async with running(tmp_path) as engine:
        again = next(event for event in engine.session.undelivered() if isinstance(event, Started))
        assert again.event_id == started.event_id
        assert abs(again.at_wall - started.at_wall) < 0.01
        engine.session.delivered(made.info_hash, started.event_id)
        assert not engine.told(Started)
    async with running(tmp_path) as engine:
        assert not any(isinstance(event, Started) for event in engine.session.undelivered())


async def test_a_torrent_can_be_removed_where_there_is_no_room_for_a_note(tmp_path: Path) -> None:
    made = make_torrent()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        (tmp_path / "state/removed").rmdir()
        assert await engine.session.remove(made.info_hash, reason="of no use")
        assert len(engine.told(Removed)) == 1
