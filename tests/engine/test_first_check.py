"""The first check of a torrent, when what follows from it fails: it is tried again as the first, and told once."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from bittern.disk.resume import ResumeRecord
from bittern.engine import lifecycle
from bittern.engine.events import Checked, Completed, Failed
from bittern.engine.store import Store
from bittern.errors import StorageError
from bittern.proto import messages as m
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifecycle, "RETRY_FIRST_S", 0.0)


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_download_folder_that_cannot_be_made_heals(tmp_path: Path, restarted: bool) -> None:
    made = make_torrent(files=[("a", 100_000), ("b/c", 0), ("d", 70_000)])
    folder = tmp_path / "in the way" / "films"
    folder.parent.touch()
    async with running(tmp_path) as engine:
        await engine.session.add(made.blob, downloads=str(folder))
        await engine.until(Failed)
        assert not engine.told(Checked)
        if not restarted:
            folder.parent.unlink()
            await engine.until(Checked)
            assert len(engine.told(Failed)) == 1
    if restarted:
        folder.parent.unlink()
    async with running(tmp_path) as engine:
        if restarted:
            await engine.until(Checked)
        else:
            await engine.until_true(
                lambda: engine.session.torrents[made.info_hash].reachable, "it is checked"
            )
            assert not engine.told(Checked)
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert engine.told(Completed)[0].reason == "downloaded"
    assert made.is_at(folder)


async def test_what_was_found_whole_stays_found_when_the_commit_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent()
    real = Store.write
    failures = 0

    def write(self: Store, records: Sequence[ResumeRecord]) -> None:
        nonlocal failures
        if not failures and any(record.state == "complete" for record in records):
            failures += 1
            raise StorageError("made to fail")
        real(self, records)

    monkeypatch.setattr(Store, "write", write)
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        completed = await engine.until(Completed)
        assert failures
        assert completed.reason == "already-complete"
        assert len(engine.told(Checked)) == 1
