"""What the page is fed, to many pages at once."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from bittern.control import updates
from bittern.control.updates import READERS_AT_MOST, Looks
from bittern.engine.events import Checked
from bittern.policy.selection import Choice
from tests.fakes.control import Control, controlling
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent

ONE, TWO = make_torrent("one.bin"), make_torrent("two.bin", size=100_000)


@asynccontextmanager
async def reading(control: Control) -> AsyncIterator[dict[str, Any]]:
    """A page that is open meanwhile, and its first message."""
    async with await trio.open_unix_socket(control.path) as stream:
        await stream.send_all(b"GET /api/v1/updates HTTP/1.1\r\nHost: bittern\r\n\r\n")
        told = b""
        with trio.fail_after(60):
            while not (found := re.search(rb"data: (.*)\n\n", told)):
                told += await stream.receive_some(65536)
        yield json.loads(found[1])


async def test_readers_share_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    usual = Looks._look

    async def counted(self: Looks) -> None:
        nonlocal looked
        looked += 1
        await usual(self)

    monkeypatch.setattr(Looks, "_look", counted)
    monkeypatch.setattr(updates, "FRESH_S", 1e6)
    async with running(tmp_path) as engine, controlling(engine, tmp_path) as control:
        await engine.add(ONE)
        for _ in range(3):
            async with reading(control) as first:
                assert first["anew"]
                assert [row["name"] for row in first["torrents"]] == ["one.bin"]
    assert looked == 1


async def test_what_changed_and_what_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "FRESH_S", 0.0)
    async with running(tmp_path) as engine, controlling(engine, tmp_path):
        looks = Looks(engine.session)
        assert (await looks.since(0))[1:] == (True, [], [])
        await engine.add(ONE)
        await engine.add(TWO)
        heard, anew, changed, gone = await looks.since(1)
        assert (anew, {one.record.name for one in changed}, gone) == (False, {"one.bin", "two.bin"}, [])
        await engine.session.remove(TWO.info_hash, reason="test")
        later, anew, changed, gone = await looks.since(heard)
        assert (anew, TWO.info_hash in {one.info_hash for one in changed}, gone) == (
            False,
            False,
            [TWO.info_hash],
        )
        await engine.add(TWO)
        _, anew, changed, gone = await looks.since(later)
        assert (anew, TWO.info_hash in {one.info_hash for one in changed}, gone) == (False, True, [])
        # who was away for longer than is remembered begins anew
        monkeypatch.setattr(updates, "GONE_AT_MOST", 0)
        await engine.session.remove(TWO.info_hash, reason="test")
        _, anew, changed, gone = await looks.since(later)
        assert (anew, [one.info_hash for one in changed], gone) == (True, [ONE.info_hash], [])


async def test_who_is_renamed_or_wants_less_looks_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "FRESH_S", 0.0)
    box = make_torrent("box", files=[("a", 30_000), ("b", 40_000)])
    async with running(tmp_path) as engine:
        looks = Looks(engine.session)
        await engine.add(box)
        await engine.until(Checked)
        await engine.session.pause(box.info_hash)
        heard, *_ = await looks.since(0)
        heard, _, changed, _ = await looks.since(heard)
        assert not changed
        await engine.session.rename(box.info_hash, "box", "chest")
        heard, _, changed, _ = await looks.since(heard)
        assert [one.record.name for one in changed] == ["chest"]
        await engine.session.select(box.info_hash, Choice(skip=("b",)))
        heard, _, changed, _ = await looks.since(heard)
        assert [one.wanted_bytes < 70_000 for one in changed] == [True]


async def test_no_more_pages_than_there_is_room_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert READERS_AT_MOST < 100
    monkeypatch.setattr("bittern.control.looking.READERS_AT_MOST", 1)
    async with (
        running(tmp_path) as engine,
        controlling(engine, tmp_path) as control,
        reading(control),
    ):
        with trio.fail_after(60):
            assert (await control.client.get("/api/v1/updates")).status_code == 503
            # looking at it otherwise goes on
            assert (await control.client.get("/api/v1/torrents")).status_code == 200
