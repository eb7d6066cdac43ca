"""Modes of a torrent's files hold while it is downloaded, moved, and over restarts."""

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from bittern.engine.events import Checked, Completed, Failed, Moved
from bittern.engine.torrent import State
from bittern.policy.rights import Rights
from bittern.proto import messages as m
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent

MADE = make_torrent("made", files=[("a", 40_000), ("sub/b", 50_000)], piece_length=16384)
RIGHTS = Rights(file_mode=0o640, folder_mode=0o710)


def modes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("made/**/*")
    } | {"made": stat.S_IMODE((folder / "made").stat().st_mode)}


GIVEN = {"made": 0o710, "made/a": 0o640, "made/sub": 0o710, "made/sub/b": 0o640}


async def fetched(engine: Engine, made: Made) -> None:
    async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
        await seed.say(m.HAVE_ALL, m.UNCHOKE)
        nursery.start_soon(seed.serve, made)
        await engine.until(Completed)
        nursery.cancel_scope.cancel()


async def test_they_are_on_record_and_kept_by_moves(tmp_path: Path) -> None:
    incomplete, later = tmp_path / "incomplete", tmp_path / "later"
    async with running(tmp_path) as engine:
        await engine.add(MADE, incomplete=str(incomplete), rights=RIGHTS)
        await engine.until(Checked)
        async with connected(engine.address, MADE.info_hash) as seed:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            await seed.serve(MADE, pieces=3)
            await engine.session.flusher.flush_dirty()
        assert modes(incomplete).items() <= GIVEN.items()
    async with running(tmp_path) as engine:
        torrent = engine.session.torrents[MADE.info_hash]
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        await fetched(engine, MADE)
        assert modes(engine.downloads) == GIVEN
        assert await engine.session.move(MADE.info_hash, str(later))
        await engine.until(Moved)
        assert modes(later) == GIVEN


async def test_those_for_all_are_of_who_has_none_and_taken_up_at_a_reload(tmp_path: Path) -> None:
    async with running(tmp_path, rights=Rights(file_mode=0o600, folder_mode=0o700)) as engine:
        other = make_torrent("other", size=20_000)
        await engine.add(MADE, rights=Rights(folder_mode=0o750))
        await engine.until(Checked)
        await fetched(engine, MADE)
        assert modes(engine.downloads)["made/a"] == 0o600
        assert modes(engine.downloads)["made/sub"] == 0o750
        engine.session.apply(replace(engine.settings, rights=Rights(file_mode=0o660)))
        await engine.add(other)
        await engine.until(Checked, 2)
        async with connected(engine.address, other.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, other)
            await engine.until(Completed, 2)
            nursery.cancel_scope.cancel()
        assert stat.S_IMODE((engine.downloads / "other").stat().st_mode) == 0o660


@pytest.mark.parametrize("refused", [stat.S_ISDIR, stat.S_ISREG])
async def test_a_group_that_cannot_be_given_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[[int], bool]
) -> None:
    def refuse(fd: int, uid: int, gid: int) -> None:
        if refused(os.fstat(fd).st_mode):
            raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refuse)
    async with running(tmp_path) as engine:
        await engine.add(MADE, rights=Rights(group=os.getegid() + 1))
        torrent = engine.session.torrents[MADE.info_hash]
        await engine.until(Checked)
        async with connected(engine.address, MADE.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, MADE)
            failed = await engine.until(Failed)
            nursery.cancel_scope.cancel()
        assert "cannot be given to group" in failed.reason
        assert torrent.state is State.ERROR
        # Several writes may have been at it at once. Folders that got their group stay.
        there = engine.downloads / "made"
        await engine.until_true(
            lambda: (
                not any(files for _, _, files in os.walk(there))
                and (refused is stat.S_ISREG or not there.exists())
            ),
            "nothing without its group",
        )
