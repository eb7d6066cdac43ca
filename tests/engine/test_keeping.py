"""What is downloaded stays in the page cache where somebody will ask for it, and nowhere else."""

from pathlib import Path

import pytest
import trio

from bittern.disk.disk import Disk, Job, WriteJob
from bittern.engine.events import Checked, Completed
from bittern.proto import messages as m
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent


@pytest.mark.parametrize("in_company", [True, False])
async def test_pieces_stay_in_memory_while_somebody_lacks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_company: bool
) -> None:
    kept: list[bool] = []
    submit = Disk.submit

    def noted(disk: Disk, job: Job) -> None:
        if isinstance(job, WriteJob):
            kept.append(job.kept)
        submit(disk, job)

    monkeypatch.setattr(Disk, "submit", noted)
    made = make_torrent(size=700_001)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with (
            connected(engine.address, made.info_hash, seed=1) as seed,
            connected(engine.address, made.info_hash, seed=2) as other,
            trio.open_nursery() as nursery,
        ):
            if not in_company:
                await other.say(m.HAVE_ALL)
                await other.hear_until("interested")
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
    assert kept
    assert set(kept) == {in_company}
    assert made.is_at(engine.downloads)
