"""Records are read at the start, whole and once, and nobody acts on them before all is ready."""

from dataclasses import replace
from pathlib import Path

from bittern.disk.resume import dump_record, load_record
from bittern.engine.events import Event, Loaded
from bittern.engine.loading import LOAD_SLICE
from bittern.engine.store import READ_BYTES, Damaged, Store
from bittern.terms import InfoHash
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent


async def test_all_are_known_and_nobody_acts_on_them_until_the_others_are_ready(tmp_path: Path) -> None:
    made = make_torrent(size=65536)
    async with running(tmp_path) as engine:
        await engine.add(made)
    template = load_record((tmp_path / f"state/resume/{made.info_hash.hex()}.toml").read_bytes())
    for number in range(LOAD_SLICE):
        info_hash = InfoHash(number.to_bytes(20))
        record = replace(template, info_hash=info_hash, stopped="paused", root=f"{number}", number=number + 2)
        (tmp_path / f"state/resume/{info_hash.hex()}.toml").write_bytes(dump_record(record))
    told: list[Event] = []
    steps: list[object] = []

    async def others() -> None:
        steps.append([event for event in told if isinstance(event, Loaded)])

    async with running(
        tmp_path, also=told.append, progress=lambda done, of: steps.append((done, of)), others=others
    ) as engine:
        assert len(engine.session.torrents) == LOAD_SLICE + 1
        assert engine.told(Loaded) == [Loaded(torrents=LOAD_SLICE + 1, complete=0)]
    count = LOAD_SLICE + 1
    first = [(known, count) for known in (8, 24, 56, 120)]
    assert steps == [*first, (count, count), (count, count), []]


async def test_without_records_the_progress_is_told_all_the_same(tmp_path: Path) -> None:
    steps: list[object] = []
    async with running(tmp_path, progress=lambda done, of: steps.append((done, of))):
        assert steps == [(0, 0)]


async def test_a_record_is_read_to_its_end_however_long(tmp_path: Path) -> None:
    made = make_torrent(size=65536)
    async with running(tmp_path) as engine:
        await engine.add(made)
    path = tmp_path / f"state/resume/{made.info_hash.hex()}.toml"
    pieces = 8 * READ_BYTES
    record = replace(load_record(path.read_bytes()), piece_count=pieces, have=b"\x0f" * (pieces // 8))
    path.write_bytes(dump_record(record))
    store = Store(str(tmp_path / "state"))
    assert store.read(made.info_hash) == record
    store.close()


def test_what_is_no_record_is_left_alone_and_what_a_crash_left_is_removed(tmp_path: Path) -> None:
    Store(str(tmp_path)).close()
    resume, info_hash = tmp_path / "resume", InfoHash(b"\xab" * 20)
    strange = [resume / f"{'x' * 40}.toml", resume / "notes.toml", resume / f"{info_hash.hex()}.toml.bak"]
    left = [tmp_path / folder / ".one.tmp7-1" for folder in ("resume", "torrents", "removed")]
    for path in [*strange, *left]:
        path.touch()
    (resume / f"{info_hash.hex()}.toml").mkdir()
    store = Store(str(tmp_path))
    assert store.known() == [info_hash]
    assert store.read(info_hash) == Damaged(info_hash, {}, "cannot be read (Is a directory)")
    assert [path for path in [*strange, *left] if path.exists()] == strange
    store.close()
