"""Data that rots while it is seeded."""

import os
from pathlib import Path

import pytest
import trio

from bittern.engine import scrub
from bittern.engine.events import Checked, Completed, Failed, Rotten
from bittern.engine.torrent import State, Torrent
from bittern.proto import messages as m
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent

FAST = 1e9


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "IDLE_S", 0.02)


def rot(path: Path, at: int) -> None:
    """One bit, and nobody wrote to the file."""
    told = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))


async def seeding(engine: Engine, made: Made, count: int = 1) -> None:
    made.write(engine.downloads)
    await engine.add(made)
    await engine.until(Completed, count)


async def test_a_rotten_piece_is_not_served_and_fetched_again(tmp_path: Path) -> None:
    made = make_torrent("kept", files=[("a", 100_000), ("sub/b", 200_000)])
    async with running(tmp_path, scrub_rate=FAST) as engine:
        await seeding(engine, made)
        torrent = engine.session.torrents[made.info_hash]
        rot(engine.downloads / "kept/sub/b", 50_000)
        rotten = await engine.until(Rotten)
        assert rotten.pieces == (2,)
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "wanted again")
        assert engine.told(Checked)[-1].complete is False
        async with connected(engine.address, made.info_hash, seed=3) as leecher:
            await leecher.say(m.INTERESTED)
            await leecher.hear_until("unchoke")
            await leecher.say(m.pack_requests([(2, 0, 16384), (1, 0, 16384)]))
            while (heard := await leecher.hear())[0] not in {"reject", "piece"}:
                pass
            assert heard[0] == "reject"
            assert (await leecher.hear_until("piece"))[8:] == made.piece(1)[:16384]
        async with connected(engine.address, made.info_hash, seed=4) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Completed, 2)
            nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)
        assert engine.told(Completed)[1].reason == "downloaded"
        assert len(engine.told(Rotten)) == 1


async def test_what_somebody_changed_or_took_away_is_no_rot(tmp_path: Path) -> None:
    changed, taken, fine = (make_torrent(name, size=100_000) for name in ("changed", "taken", "fine"))
    async with running(tmp_path, scrub_rate=None) as engine:
        for number, made in enumerate((changed, taken, fine)):
            await seeding(engine, made, number + 1)
        data = engine.downloads / "changed"
        data.write_bytes(b"x" + data.read_bytes()[1:])
        (engine.downloads / "taken").unlink()
        engine.session.scrubber.set_rate(FAST)
        await engine.until_true(
            lambda: engine.session.torrents[changed.info_hash].state is State.DOWNLOADING, "fetched again"
        )
        assert (await engine.until(Failed)).facts.name == "taken"
        assert engine.session.torrents[fine.info_hash].state is State.SEEDING
        assert not engine.told(Rotten)


async def test_shared_data_that_rotted_is_an_error_where_it_may_not_be_written(tmp_path: Path) -> None:
    one = make_torrent("one", size=100_000, piece_length=16384)
    two = make_torrent("one", size=100_000, piece_length=32768)
    async with running(tmp_path, scrub_rate=None) as engine:
        await seeding(engine, one)
        await engine.add(two)
        await engine.until(Completed, 2)
        rot(engine.downloads / "one", 5)
        engine.session.scrubber.set_rate(FAST)
        await engine.until(Rotten, 2)
        assert (await engine.until(Failed)).facts.info_hash == two.info_hash


async def test_its_place_survives_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "NOTE_EVERY_S", 0.0)
    made = make_torrent("long", size=65536 * 50)
    note = tmp_path / "state/scrub.toml"
    # after the first piece it rests for long
    async with running(tmp_path, scrub_rate=65536.0 / 1000) as engine:
        await seeding(engine, made)
        await engine.until_true(note.exists, "a note of its place")
    place = note.read_text()
    assert made.info_hash.hex() in place
    assert "piece = 1" in place
    async with running(tmp_path, scrub_rate=None) as engine:
        assert engine.session.scrubber._piece == 1
        rot(engine.downloads / "long", 65536 * 49)
        engine.session.scrubber.set_rate(FAST)
        assert (await engine.until(Rotten)).pieces == (49,)


@pytest.mark.parametrize(
    "blob", ["", "at = 5\npiece = 1", 'at = "zz"\npiece = 1', 'at = "00"\npiece = "x"', "\0"]
)
async def test_a_note_that_cannot_be_read_is_a_new_beginning(tmp_path: Path, blob: str) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/scrub.toml").write_text(blob)
    async with running(tmp_path, scrub_rate=FAST) as engine:
        await seeding(engine, make_torrent())
        await trio.sleep(0.05)
        assert not engine.told(Rotten)


async def test_between_two_passes_it_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "IDLE_S", 60.0)
    async with running(tmp_path, scrub_rate=None) as engine:
        await seeding(engine, make_torrent())
        scrubber = engine.session.scrubber
        opened: list[str] = []
        inner = scrubber._scrub

        async def counting(torrent: Torrent) -> None:
            opened.append(torrent.record.name)
            await inner(torrent)

        monkeypatch.setattr(scrubber, "_scrub", counting)
        scrubber.set_rate(FAST)
        await engine.until_true(lambda: bool(opened), "a pass")
        await trio.sleep(0.3)
        assert len(opened) == 1


async def test_a_torrent_that_was_left_in_the_middle_is_gone_on_with(tmp_path: Path) -> None:
    made = make_torrent("long", size=65536 * 50)
    async with running(tmp_path, scrub_rate=None) as engine:
        await seeding(engine, made)
        scrubber = engine.session.scrubber
        # a second for each piece
        scrubber.set_rate(65536.0)
        await engine.until_true(lambda: scrubber._piece > 0, "under way")
        scrubber.set_rate(None)
        await trio.sleep(1.1)
        rot(engine.downloads / "long", 65536 * 49)
        scrubber.set_rate(FAST)
        assert scrubber._piece > 0
        assert (await engine.until(Rotten)).pieces == (49,)
