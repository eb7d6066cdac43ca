"""What is claimed in resume records survives everything that may happen before and after a check."""

from pathlib import Path

from bittern.disk.resume import ResumeRecord, dump_record, load_record
from bittern.engine.events import Checked, FolderAway
from bittern.engine.torrent import State
from bittern.policy.add_terms import AddTerms
from bittern.proto import messages as m
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent


def _record(folder: Path, made: Made) -> ResumeRecord:
    return load_record((folder / f"state/resume/{made.info_hash.hex()}.toml").read_bytes())


async def _half(folder: Path, made: Made) -> ResumeRecord:
    """A few pieces in a first run; gives its last record."""
    async with running(folder) as engine:
        await engine.add(made)
        await engine.until(Checked)
        torrent = engine.session.torrents[made.info_hash]
        async with connected(engine.address, made.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.serve(made, pieces=4 * 9)
        await engine.until_true(lambda: torrent.have is not None and torrent.have.count >= 1, "a piece")
    return _record(folder, made)


async def test_what_was_not_checked_since_a_kill_keeps_its_claims(tmp_path: Path) -> None:
    made = make_torrent(size=65536 * 20, trackers=[["http://a.example/announce"]])
    more = make_torrent(size=65536 * 20, trackers=[["http://b.example/announce"]])
    before = await _half(tmp_path, made)
    before.clean = False  # as a kill leaves it
    path = tmp_path / f"state/resume/{made.info_hash.hex()}.toml"
    path.write_bytes(dump_record(before))
    downloads, away = tmp_path / "downloads", tmp_path / "away"
    downloads.rename(away)
    async with running(tmp_path) as engine:
        await engine.until(FolderAway)
        assert (await engine.session.add(more.blob, AddTerms(str(engine.downloads)))).kind == "merged"
    after = _record(tmp_path, made)
    assert after.have == before.have
    assert not after.clean
    downloads.rmdir()
    away.rename(downloads)
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        assert torrent.have is not None
        assert torrent.have.to_bytes() == before.have
