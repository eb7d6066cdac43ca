"""Files that are not wanted: nothing of them appears, what belongs to wanted ones is complete without them, and a
change of mind is followed at once and over restarts.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from bittern.disk.parts import unpack_files
from bittern.engine.events import Arrived, Checked, Completed, Downloaded, Event, Failed, Warned
from bittern.engine.torrent import State, Torrent
from bittern.errors import FileSelectionError
from bittern.policy.add_terms import AddTerms
from bittern.policy.selection import Choice
from bittern.proto import messages as m
from tests.fakes.engine import Engine, running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent

KIB = 1024
PIECE = 64 * KIB
FILES = (("a", 3 * PIECE + 1000), ("sub/b", 5 * PIECE), ("c", 2 * PIECE), ("empty", 0))
"""Pieces 0-3 are a's, 3-8 b's, 8-10 c's."""


def _made(**terms: object) -> Made:
    return make_torrent("t", files=FILES, piece_length=PIECE, **terms)  # type: ignore[arg-type]  # passed on


def _torrent(engine: Engine, made: Made) -> Torrent:
    return engine.session.torrents[made.info_hash]


def _parts(engine: Engine, made: Made) -> Path:
    return Path(engine.store.parts_path(made.info_hash))


def _is_at(engine: Engine, made: Made, name: str) -> bool:
    at = 0
    for path, length in made.paths:
        if path == f"t/{name}":
            return (engine.downloads / path).read_bytes() == made.payload[at : at + length]
        at += length
    raise AssertionError(name)


def _there(engine: Engine) -> list[str]:
    return sorted(
        str(path.relative_to(engine.downloads / "t"))
        for path in engine.downloads.rglob("*")
        if path.is_file() and path.name[0] != "."
    )


async def _fetch(engine: Engine, made: Made, completions: int = 1) -> set[int]:
    """Until it is complete so often; gives the pieces that were asked for."""
    torrent = _torrent(engine, made)
    await engine.until_true(lambda: torrent.state in {State.DOWNLOADING, State.SEEDING}, "running")
    asked: dict[int, None] = {}
    async with (
        connected(engine.address, made.info_hash, seed=completions) as seed,
        trio.open_nursery() as nursery,
    ):
        await seed.say(m.HAVE_ALL, m.UNCHOKE)
        nursery.start_soon(seed.serve, _Noting(made, asked))
        await engine.until(Completed, completions)
        nursery.cancel_scope.cancel()
    return set(asked)


class _Noting:
    def __init__(self, made: Made, asked: dict[int, None]) -> None:
        self._made, self._asked = made, asked

    def piece(self, index: int) -> bytes:
        self._asked[index] = None
        return self._made.piece(index)


async def test_a_skipped_file_is_neither_fetched_nor_made_and_the_rest_is_complete(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        await engine.add(made, selection=Choice(skip=("b",)))
        torrent = _torrent(engine, made)
        assert torrent.left_bytes == torrent.wanted_bytes == 4 * PIECE + 2 * PIECE + 1000
        assert await _fetch(engine, made) == {0, 1, 2, 3, 8, 9, 10}
        assert _there(engine) == ["a", "c", "empty"]
        assert not (engine.downloads / "t/sub").exists()
        assert all(_is_at(engine, made, name) for name in ("a", "c"))
        assert torrent.complete
        assert not torrent.whole
        assert torrent.left_bytes == 0
        assert torrent.state is State.SEEDING
        # to trackers it is a partial seed, who has not everything (BEP 21)
        facts = torrent.announce_facts()
        assert (facts.left, facts.partial_seed) == (4 * PIECE, True)
        # the bytes of b in pieces 3 and 8 are kept, and no others
        assert _parts(engine, made).stat().st_blocks * 512 <= 2 * PIECE + 3 * 4096
        # all that it has is served, a piece with bytes apart too, and nothing else is claimed
        async with connected(engine.address, made.info_hash) as leech:
            bits = await leech.hear_until("bitfield")
            assert [index for index in range(11) if bits[index >> 3] & 0x80 >> (index & 7)] == [
                0,
                1,
                2,
                3,
                8,
                9,
                10,
            ]
            await leech.say(m.INTERESTED)
            await leech.hear_until("unchoke")
            await leech.say(m.pack_requests([(3, 0, 16384), (3, 16384, 16384)]))
            for begin in (0, 16384):
                body = await leech.hear_until("piece")
                assert body[8:] == made.piece(3)[begin : begin + 16384]
    for _ in range(2):
        async with running(tmp_path) as engine:
            torrent = _torrent(engine, made)
            assert torrent.state is State.SEEDING
            await trio.sleep(0.05)
            assert torrent.state is State.SEEDING
            assert not engine.told(Checked)  # a glance was enough
            assert torrent.have is not None
            assert torrent.have.count == 7


async def test_what_is_wanted_later_comes_and_is_told_of_with_an_id_of_its_own(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        await engine.add(made, selection=Choice(only=("a",)))
        await _fetch(engine, made)
        torrent = _torrent(engine, made)
        engine.session.delivered(made.info_hash, engine.told(Completed)[0].event_id)
        assert await engine.session.select(made.info_hash, Choice(take=("b", "empty")))
        assert torrent.record.state == "downloading"
        assert not torrent.complete
        assert torrent.left_bytes == 5 * PIECE
        assert not torrent.announce_facts().partial_seed
        # pieces that were had, and had bytes of b, are not fetched again
        assert await _fetch(engine, made, completions=2) == {4, 5, 6, 7, 8}
        assert _is_at(engine, made, "sub/b")
        assert _there(engine) == ["a", "empty", "sub/b"]
        first, second = engine.told(Completed)
        assert first.event_id != second.event_id
        assert second.reason == "downloaded"
        assert not torrent.record.completed_spooled
        assert len(engine.told(Downloaded)) == 2
        assert engine.session.recheck(torrent)
        await engine.until(Checked, len(engine.told(Checked)) + 1)
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
        assert torrent.pieces.count == 9
        assert not engine.told(Failed)
        await engine.session.select(made.info_hash, Choice(take=((0, 3),)))
        await _fetch(engine, made, completions=3)
        assert made.is_at(engine.downloads)
        assert torrent.whole
        assert torrent.have is None
        assert torrent.record.selection == ""
        await engine.until_true(lambda: not _parts(engine, made).exists(), "the parts to be gone")
    async with running(tmp_path) as engine:
        await trio.sleep(0.05)
        assert _torrent(engine, made).whole
        assert not engine.told(Checked)


async def test_unselecting_what_is_missing_completes_it(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        await engine.add(made)
        torrent = _torrent(engine, made)
        await engine.until(Checked)
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            # it has nothing of c but the piece that it shares
            await seed.say(m.pack_bitfield(bytes([0xFF, 0x80])), m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until_true(
                lambda: torrent.have is not None and torrent.have.count == 9, "nine pieces"
            )
            await engine.session.select(made.info_hash, Choice(skip=("c",)))
            done = await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert done.reason == "downloaded"
        assert torrent.complete
        # it was there before it was unwanted, and stays where it is
        assert _there(engine) == ["a", "c", "empty", "sub/b"]
        # a change of mind and back, with nothing fetched, is no second completion
        await engine.session.select(made.info_hash, Choice(take=("c",)))
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        await engine.session.select(made.info_hash, Choice(skip=("c",)))
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
        assert {one.event_id for one in engine.told(Completed)} == {done.event_id}


async def test_a_skipped_file_that_somebody_deletes_is_no_fault(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        await engine.add(made)
        await engine.until(Completed)
        await engine.session.select(made.info_hash, Choice(skip=("b",)))
        await engine.until_true(lambda: _torrent(engine, made).state is State.SEEDING, "seeding")
        assert _torrent(engine, made).whole
    (tmp_path / "downloads/t/sub/b").unlink()
    async with running(tmp_path) as engine:
        torrent = _torrent(engine, made)
        await engine.until(Checked)
        # the pieces that b shared with wanted files are fetched again, b is not
        assert torrent.record.state == "downloading"
        assert await _fetch(engine, made) == {3, 8}
        assert _there(engine) == ["a", "c", "empty"]
        assert torrent.pieces.count == 7
        assert not engine.told(Failed)


async def test_a_file_that_lay_apart_is_not_written_over_what_somebody_put_there(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        await engine.add(made, selection=Choice(skip=("b",)))
        await _fetch(engine, made)
    made.write(tmp_path / "elsewhere")
    (tmp_path / "downloads/t/sub").mkdir()
    (tmp_path / "elsewhere/t/sub/b").rename(tmp_path / "downloads/t/sub/b")
    async with running(tmp_path) as engine:
        await engine.session.select(made.info_hash, Choice(take=("b",)))
        torrent = _torrent(engine, made)
        await engine.until_true(lambda: torrent.state is State.SEEDING and torrent.whole, "complete")
        assert made.is_at(engine.downloads)


async def test_the_loss_of_bytes_that_lay_apart_costs_only_their_pieces(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        await engine.add(made, selection=Choice(skip=("b",)))
        await _fetch(engine, made)
        parts = _parts(engine, made)
    parts.unlink()
    async with running(tmp_path) as engine:
        await engine.until(Checked)
        assert await _fetch(engine, made) == {3, 8}
        assert not engine.told(Failed)
        assert _there(engine) == ["a", "c", "empty"]


async def test_what_lies_there_is_adopted_also_where_it_is_not_wanted(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        (engine.downloads / "t/c").unlink()
        await engine.add(made, selection=Choice(skip=("c",)))
        torrent = _torrent(engine, made)
        await engine.until(Checked)
        assert unpack_files(torrent.record.parted, 4) == {2}
        assert await _fetch(engine, made) == {8}
        assert _there(engine) == ["a", "empty", "sub/b"]


async def test_skipped_files_stay_away_through_a_move_and_go_with_the_torrent(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        await engine.add(made, incomplete=str(tmp_path / "incomplete"), selection=Choice(skip=("b", "empty")))
        await _fetch(engine, made)
        assert _there(engine) == ["a", "c"]
        assert not (tmp_path / "incomplete/t").exists()
        assert _parts(engine, made).exists()
        assert await engine.session.remove(made.info_hash, reason="test", with_data=True)
        assert not (engine.downloads / "t").exists()
        assert not _parts(engine, made).exists()


async def test_nothing_wanted_is_nothing_to_tell(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        await engine.add(made, selection=Choice(only=()))
        torrent = _torrent(engine, made)
        await engine.until_true(lambda: torrent.state is State.SEEDING, "at rest")
        assert torrent.left_bytes == torrent.wanted_bytes == 0
        assert not (engine.downloads / "t").exists()
    async with running(tmp_path) as engine:
        torrent = _torrent(engine, made)
        assert not any(isinstance(event, Completed) for event in engine.session.undelivered())
        await engine.session.select(made.info_hash, Choice(take=("c",)))
        assert await _fetch(engine, made) == {8, 9, 10}
        assert len(engine.told(Completed)) == 1


async def test_a_choice_while_paused_counts_when_it_goes_on_after_a_restart_too(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.session.pause(made.info_hash)
        await engine.session.select(made.info_hash, Choice(only=("c",), high=("c",)), sequential=True)
        assert _torrent(engine, made).left_bytes == 2 * PIECE + 1000
    async with running(tmp_path) as engine:
        torrent = _torrent(engine, made)
        assert torrent.state is State.STOPPED
        assert torrent.record.sequential
        await engine.session.resume(made.info_hash)
        assert await _fetch(engine, made) == {8, 9, 10}


async def test_a_file_that_the_torrent_has_not_is_refused(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        with pytest.raises(FileSelectionError):
            await engine.add(made, selection=Choice(skip=((4, 4),)))
        assert not engine.session.torrents
        await engine.add(made)
        with pytest.raises(FileSelectionError):
            await engine.session.select(made.info_hash, Choice(skip=((4, 4),)))
        assert _torrent(engine, made).record.selection == ""
        assert not await engine.session.select(make_torrent("other").info_hash, Choice(skip=("x",)))


async def test_those_who_add_it_at_the_same_time_are_one_after_the_other(tmp_path: Path) -> None:
    made, kinds = _made(), []

    async def add(engine: Engine, name: str) -> None:
        terms = AddTerms(str(engine.downloads), selection=Choice(only=(name,)))
        kinds.append((await engine.session.add(made.blob, terms)).kind)

    async with running(tmp_path) as engine:
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for name in ("a", "b", "c"):
                    nursery.start_soon(add, engine, name)
        assert sorted(kinds) == ["added", "known", "known"]
        await engine.until_true(lambda: not engine.session.lifecycle.checks, "checked")
        assert len(engine.session.lifecycle.opener.fresh) == 0


async def test_priorities_order_what_is_asked_for(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        await engine.add(made, selection=Choice(high=("c",), low=("a",)), sequential=True)
        await engine.until_true(lambda: _torrent(engine, made).state is State.DOWNLOADING, "downloading")
        order: dict[int, None] = {}
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, _Noting(made, order))
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert list(order) == [8, 9, 10, 3, 4, 5, 6, 7, 0, 1, 2]


async def test_a_wish_for_a_magnet_is_followed_when_its_files_are_known(tmp_path: Path) -> None:
    made = _made()
    link = f"magnet:?xt=urn:btih:{made.info_hash.hex()}"
    async with running(tmp_path) as engine:
        await engine.session.add_magnet(
            link, AddTerms(str(engine.downloads), selection=Choice(only=((0, 0), (2, 99))))
        )
        await engine.session.select(made.info_hash, Choice(skip=("empty",)))
    async with running(tmp_path) as engine:
        torrent = _torrent(engine, made)
        assert torrent.record.state == "metadata"
        # as when peers gave it
        await engine.add(made)
        assert torrent.record.choice == ""
        assert await _fetch(engine, made) == {0, 1, 2, 3, 8, 9, 10}
        assert _there(engine) == ["a", "c"]


def _link(made: Made, told: str) -> str:
    return f"magnet:?xt=urn:btih:{made.info_hash.hex()}&so={told}"


async def test_a_link_selects_files_over_restarts_and_numbers_that_no_file_has_are_told_of_once(
    tmp_path: Path,
) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        await engine.session.add_magnet(_link(made, "0,3-7"), AddTerms(str(engine.downloads)))
    async with running(tmp_path) as engine:
        assert not engine.told(Warned)
        await engine.add(made)
        assert await _fetch(engine, made) == {0, 1, 2, 3}
        assert _there(engine) == ["a", "empty"]
        (told,) = [one for one in engine.told(Warned) if one.what == "torrent.selection"]
        assert told.detail == "'t' has 4 files; what was said of higher numbers is ignored"
        assert _torrent(engine, made).record.magnet == ""


async def test_a_link_that_names_no_file_of_the_torrent_selects_all(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        await engine.session.add_magnet(_link(made, "4"), AddTerms(str(engine.downloads)))
        await engine.add(made)
        assert await _fetch(engine, made) == set(range(11))
        (told,) = [one for one in engine.told(Warned) if one.what == "torrent.selection"]
        assert "all are downloaded" in told.detail


async def test_another_link_adds_what_it_names(tmp_path: Path) -> None:
    made = _made()
    folder, drop = str(tmp_path / "downloads"), str(tmp_path / "drop")
    async with running(tmp_path) as engine:
        for told in ("0", "3"):
            await engine.session.add_magnet(_link(made, told), AddTerms(folder))
        await engine.add(made)
        assert await _fetch(engine, made) == {0, 1, 2, 3}
        assert _there(engine) == ["a", "empty"]
        torrent = _torrent(engine, made)
        added = await engine.session.add_magnet(
            _link(made, "2,99"), AddTerms(folder, tie=True, drop_path=drop)
        )
        assert added.kind == "merged"
        assert not torrent.complete
        await engine.session.select(made.info_hash, Choice(skip=("c",)))
        # the same drop, read once more as at each start
        again = await engine.session.add_magnet(
            _link(made, "2,99"), AddTerms(folder, tie=True, drop_path=drop)
        )
        assert again.kind == "known"
        assert torrent.complete


async def test_a_file_that_was_put_where_a_skipped_one_would_be_is_never_deleted_as_ours(
    tmp_path: Path,
) -> None:
    made = _made()
    theirs = tmp_path / "downloads/t/c"
    async with running(tmp_path) as engine:
        await engine.add(made, selection=Choice(skip=("c",)))
        await _fetch(engine, made)
        made.write(tmp_path / "elsewhere")
        (tmp_path / "elsewhere/t/c").rename(theirs)
        await engine.session.select(made.info_hash, Choice(take=("c",)))
        torrent = _torrent(engine, made)
        await engine.until_true(lambda: torrent.state is State.SEEDING and torrent.whole, "complete")
        assert await engine.session.remove(made.info_hash, reason="test", with_data=True)
        assert _there(engine) == ["c"]


async def test_the_parts_go_also_when_nothing_had_to_be_fetched(tmp_path: Path) -> None:
    made = make_torrent("t", files=(("a", PIECE), ("nfo", 100), ("b", PIECE - 100)), piece_length=PIECE)
    async with running(tmp_path) as engine:
        await engine.add(made, selection=Choice(skip=("nfo",)))
        assert await _fetch(engine, made) == {0, 1}
        torrent = _torrent(engine, made)
        assert torrent.whole
        assert _parts(engine, made).exists()
        assert _there(engine) == ["a", "b"]
        await engine.session.select(made.info_hash, Choice(take=("nfo",)))
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
        assert made.is_at(engine.downloads)
        await engine.until_true(lambda: not _parts(engine, made).exists(), "the parts to be gone")
        assert len(engine.told(Completed)) == 1


async def test_more_is_wanted_in_the_moment_of_the_last_piece(tmp_path: Path) -> None:
    made = _made()
    also: list[Callable[[], None]] = []

    def heard(event: Event) -> None:
        if isinstance(event, Downloaded):
            for one in also:
                one()

    async with running(tmp_path, also=heard) as engine:
        await engine.add(made, selection=Choice(only=("a",)))
        torrent = _torrent(engine, made)
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")

        def choose_more() -> None:
            # as when both happen before any other task has run
            torrent.record.selection, torrent.record.wanted = "", b""
            torrent.selection_changed()
            engine.session.lifecycle.reselected(torrent)

        also.append(choose_more)
        async with connected(engine.address, made.info_hash) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            nursery.start_soon(seed.serve, made)
            await engine.until(Downloaded)
            nursery.cancel_scope.cancel()
        also.clear()
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        assert not engine.told(Completed)
        assert await _fetch(engine, made) == {4, 5, 6, 7, 8, 9, 10}
        assert made.is_at(engine.downloads)


async def test_a_change_of_mind_and_back_of_what_was_found_is_no_download(tmp_path: Path) -> None:
    made = _made()
    async with running(tmp_path) as engine:
        made.write(engine.downloads)
        (engine.downloads / "t/c").unlink()
        with (engine.downloads / "t/sub/b").open("r+b") as short:
            short.truncate(4 * PIECE)
        await engine.add(made, selection=Choice(only=("a",)))
        await engine.until(Completed)
        torrent = _torrent(engine, made)
        assert torrent.record.completed_reason == "already-complete"
        await engine.session.select(made.info_hash, Choice(take=("c",)))
        await engine.until_true(lambda: torrent.state is State.DOWNLOADING, "downloading")
        await engine.session.select(made.info_hash, Choice(skip=("c",)))
        await engine.until_true(lambda: torrent.state is State.SEEDING, "seeding")
        assert torrent.record.completed_reason == "already-complete"
        assert not engine.told(Arrived)
