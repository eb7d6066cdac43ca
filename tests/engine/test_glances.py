"""Complete torrents after a start: a glance at their files tells that all is well, and no .torrent is opened for it."""

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from bittern.disk.attempt import JobCrashed
from bittern.disk.resume import ResumeRecord
from bittern.engine.events import Checked, Completed, Crashed, Failed
from bittern.engine.opening import Opener
from bittern.engine.store import Store
from bittern.engine.torrent import State
from bittern.terms import InfoHash
from tests.fakes.engine import Engine, running
from tests.fakes.torrents import Made, make_torrent

ONE = make_torrent("one", size=50_000)
MANY = make_torrent("many", files=[("a", 70_000), ("sub/b", 5), ("sub/deep/c", 0)])
ALONE = make_torrent("alone", files=[("only", 1_000)])
ALL = (ONE, MANY, ALONE)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[InfoHash]:
    """Whose .torrent was read."""
    found: list[InfoHash] = []
    real = Store.metainfo

    def noted(store: Store, info_hash: InfoHash) -> bytes:
        found.append(info_hash)
        return real(store, info_hash)

    monkeypatch.setattr(Store, "metainfo", noted)
    return found


async def complete_all(folder: Path) -> None:
    async with running(folder) as engine:
        for made in ALL:
            made.write(engine.downloads)
            await engine.add(made)
        await engine.until(Completed, len(ALL))


async def looked_at(engine: Engine) -> None:
    await engine.until_true(lambda: not engine.session.lifecycle.checks, "looked at")


def note_of(folder: Path, made: Made) -> Path:
    return folder / f"state/torrents/{made.info_hash.hex()}.paths"


async def test_nothing_is_opened(tmp_path: Path, opened: list[InfoHash]) -> None:
    await complete_all(tmp_path)
    opened.clear()
    async with running(tmp_path) as engine:
        await looked_at(engine)
        assert opened == []
        assert not engine.told(Checked)
        assert not engine.told(Failed)


@pytest.mark.parametrize("damage", ["gone", "cut", "of another"])
async def test_a_note_of_no_use_is_made_anew(tmp_path: Path, opened: list[InfoHash], damage: str) -> None:
    await complete_all(tmp_path)
    note = note_of(tmp_path, MANY)
    if damage == "gone":
        note.unlink()
    elif damage == "cut":
        note.write_bytes(note.read_bytes()[:-1])
    else:
        note.write_bytes(note_of(tmp_path, ALONE).read_bytes())
    for expected in ([MANY.info_hash], []):
        opened.clear()
        async with running(tmp_path) as engine:
            await looked_at(engine)
            assert opened == expected
            assert not engine.told(Checked)


async def test_what_is_missing_or_changed_is_seen(tmp_path: Path) -> None:
    await complete_all(tmp_path)
    (tmp_path / "downloads/one").unlink()
    (tmp_path / "downloads/many/sub/b").write_bytes(b"other")
    async with running(tmp_path) as engine:
        await looked_at(engine)
        assert [event.facts.name for event in engine.told(Failed)] == ["one"]
        assert [event.facts.name for event in engine.told(Checked)] == ["many"]


async def test_many_are_glanced_at_in_one_hop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await complete_all(tmp_path)
    hops: list[int] = []
    real = Opener.are_unchanged

    def noted(opener: Opener, records: Sequence[ResumeRecord]) -> list[bool | JobCrashed]:
        hops.append(len(records))
        return real(opener, records)

    monkeypatch.setattr(Opener, "are_unchanged", noted)
    async with running(tmp_path) as engine:
        await looked_at(engine)
    assert hops == [len(ALL)]


async def test_a_bug_in_a_glance_is_that_torrents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await complete_all(tmp_path)
    real = Store.paths

    def trip(store: Store, info_hash: InfoHash) -> tuple[str | None, ...] | None:
        assert info_hash != MANY.info_hash, "a bug"
        return real(store, info_hash)

    monkeypatch.setattr(Store, "paths", trip)
    async with running(tmp_path, strict=False) as engine:
        await looked_at(engine)
        assert [event.facts.name for event in engine.told(Failed)] == ["many"]
        assert {torrent.state for torrent in engine.session.torrents.values()} == {State.ERROR, State.SEEDING}


async def test_where_the_hop_fails_each_is_looked_at_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await complete_all(tmp_path)
    fails = iter([True])
    real = Opener.are_unchanged

    def trip(opener: Opener, records: Sequence[ResumeRecord]) -> list[bool | JobCrashed]:
        assert not next(fails, False), "a bug"
        return real(opener, records)

    monkeypatch.setattr(Opener, "are_unchanged", trip)
    async with running(tmp_path, strict=False) as engine:
        await looked_at(engine)
        assert len(engine.told(Crashed)) == 1
        assert not engine.told(Failed)
        assert {torrent.state for torrent in engine.session.torrents.values()} == {State.SEEDING}


async def test_who_is_removed_or_stopped_or_to_be_hashed_during_a_glance_is_not_settled_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await complete_all(tmp_path)
    began, go = threading.Event(), threading.Event()
    real = Opener.are_unchanged

    def slowly(opener: Opener, records: Sequence[ResumeRecord]) -> list[bool | JobCrashed]:
        began.set()
        assert go.wait(300)
        return real(opener, records)

    monkeypatch.setattr(Opener, "are_unchanged", slowly)
    async with running(tmp_path) as engine:
        try:
            await engine.until_true(began.is_set, "a glance")
            assert engine.session.recheck(engine.session.torrents[ALONE.info_hash])
            assert await engine.session.remove(ONE.info_hash, reason="")
            await engine.session.pause(MANY.info_hash)
        finally:
            go.set()
        await looked_at(engine)
        assert {info_hash: torrent.state for info_hash, torrent in engine.session.torrents.items()} == {
            MANY.info_hash: State.STOPPED,
            ALONE.info_hash: State.SEEDING,
        }
        assert [(event.facts.name, event.hashed_bytes) for event in engine.told(Checked)] == [
            ("alone", 1_000)
        ]


async def test_a_removed_torrent_leaves_no_note(tmp_path: Path) -> None:
    await complete_all(tmp_path)
    async with running(tmp_path) as engine:
        assert await engine.session.remove(MANY.info_hash, reason="")
    assert not note_of(tmp_path, MANY).exists()
    assert note_of(tmp_path, ALONE).exists()
