"""What was parsed at intake is what a torrent is checked by, and nothing of it stays."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bittern.engine.events import Checked, Completed
from bittern.engine.fresh_metainfo import FreshMetainfo
from bittern.engine.store import Store
from bittern.errors import StorageError
from bittern.proto.metainfo import MAX_METAINFO_BYTES, FileEntry, parse_metainfo
from bittern.terms import InfoHash
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent

ONE: list[tuple[str, int]] = []
SEVERAL = [("a", 100_000), ("b/c", 70_000)]


def test_where_there_is_no_room_nothing_is_kept_of_the_newcomer() -> None:
    first, second = (parse_metainfo(make_torrent(name).blob) for name in ("first", "second"))
    fresh = FreshMetainfo(room := 100_000)
    fresh.keep(first)
    fresh = FreshMetainfo(2 * (room - fresh._left_bytes) - 1)
    fresh.keep(first)
    fresh.keep(first)
    fresh.keep(second)
    assert fresh.of(first.info_hash) is first
    assert fresh.of(second.info_hash) is None
    fresh.drop(second.info_hash)
    fresh.keep(second)
    assert fresh.of(second.info_hash) is None
    fresh.drop(first.info_hash)
    fresh.drop(first.info_hash)
    fresh.keep(second)
    assert fresh.of(second.info_hash) is second
    fresh.keep(first)
    assert len(fresh) == 1


LONG = tuple(f"http://{number}/{'x' * 2000}" for number in range(200))


@pytest.mark.parametrize(
    "said",
    [
        {"web_seeds": LONG},
        {"trackers": tuple((url,) for url in LONG)},
        {"files": tuple(FileEntry((url,), 1) for url in LONG)},
        {"files": (FileEntry(LONG, 1),)},
        {"nodes": tuple((url, 1) for url in LONG)},
        {"comment": "".join(LONG)},
    ],
)
def test_what_a_stranger_says_at_length_takes_room_too(said: dict[str, Any]) -> None:
    metainfo = parse_metainfo(make_torrent().blob)
    long = sum(map(len, LONG))
    fresh = FreshMetainfo(3 * long)
    for _ in range(2):
        for number in range(5):
            fresh.keep(replace(metainfo, info_hash=InfoHash(bytes([number] * 20)), **said))
        assert len(fresh) == 2
        for number in range(5):
            fresh.drop(InfoHash(bytes([number] * 20)))
        assert not len(fresh)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("files", [ONE, SEVERAL])
async def test_the_torrent_is_parsed_once_and_nothing_of_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[tuple[str, int]], there: bool
) -> None:
    made = make_torrent(files=files)
    reads = 0
    real = Store.metainfo

    def metainfo(self: Store, info_hash: Any) -> bytes:
        nonlocal reads
        reads += 1
        return real(self, info_hash)

    monkeypatch.setattr(Store, "metainfo", metainfo)
    async with running(tmp_path) as engine:
        if there:
            made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed if there else Checked)
        torrent = engine.session.torrents[made.info_hash]
        await engine.until_true(lambda: torrent not in engine.session.lifecycle.checks, "its check has ended")
        assert reads == 0
        assert len(engine.session.lifecycle.opener.fresh) == 0


async def test_a_torrent_that_could_not_be_stored_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_torrent()
    monkeypatch.setattr(Store, "add_all", lambda self, new: [StorageError("made to fail")] * len(new))
    async with running(tmp_path) as engine:
        with pytest.raises(StorageError, match="made to fail"):
            await engine.add(made)
        assert len(engine.session.lifecycle.opener.fresh) == 0


async def test_where_another_torrent_file_is_stored_what_was_kept_is_of_no_use(tmp_path: Path) -> None:
    made = make_torrent(files=SEVERAL)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "checked")
        fresh, kept = engine.session.lifecycle.opener.fresh, parse_metainfo(made.blob)
        fresh.keep(kept)
        await engine.add(made)
        assert fresh.of(made.info_hash) is kept
        (tmp_path / f"state/torrents/{made.info_hash.hex()}.torrent").unlink()
        await engine.add(made)
        assert fresh.of(made.info_hash) is None


def test_a_stored_torrent_is_read_to_its_end_and_no_further_than_one_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, info_hash = Store(str(tmp_path)), make_torrent().info_hash
    path = tmp_path / "torrents" / f"{info_hash.hex()}.torrent"
    path.write_bytes(b"de")
    assert store.metainfo(info_hash) == b"de"
    with monkeypatch.context() as patch:
        plain = os.read
        patch.setattr(os, "read", lambda fd, size: plain(fd, min(size, 1)))  # as some networks' disks answer
        assert store.metainfo(info_hash) == b"de"
    with path.open("ab") as file:
        file.truncate(MAX_METAINFO_BYTES + 1)
    with pytest.raises(StorageError, match="too large"):
        store.metainfo(info_hash)
    path.unlink()
    with pytest.raises(StorageError, match="drop it again"):
        store.metainfo(info_hash)
    store.close()
