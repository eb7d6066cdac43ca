"""What is believed and what is hashed, decided without a disk."""

import dataclasses
from typing import Any

import pytest

from bittern.disk.resume import ResumeRecord
from bittern.disk.stamps import FileStamp
from bittern.engine.check_plan import Survey, plan_check
from bittern.errors import StorageError
from bittern.proto.bitfield import Bitfield
from bittern.proto.layout import Layout
from bittern.terms import InfoHash

# three files over ten pieces of 100 bytes: pieces 0-3, 3-6, 6-9
LAYOUT = Layout(100, 1000, (350, 300, 350))
WHOLE = (FileStamp(350, 1), FileStamp(300, 1), FileStamp(350, 1))


def record(have: set[int] = frozenset(), **changes: Any) -> ResumeRecord:  # type: ignore[assignment]  # an empty default
    bits = Bitfield(10)
    for piece in have:
        bits.set(piece)
    made = ResumeRecord(
        info_hash=InfoHash(b"h" * 20),
        name="n",
        root="n",
        folder="/d",
        incomplete_folder="",
        label="",
        state="downloading",
        number=1,
        total_bytes=1000,
        piece_length=100,
        piece_count=10,
        have=bits.to_bytes() if have else b"",
        stamps=WHOLE,
        clean=True,
        shared=False,
        uploaded_bytes=0,
        downloaded_bytes=0,
        added_wall=0.0,
        completed_wall=None,
        completed_event_id="",
        completed_reason="",
        completed_spooled=False,
        moving_to="",
        drop_path="",
        tie=False,
        trackers=(),
        private=False,
        checked=True,
    )
    return dataclasses.replace(made, **changes)


def survey(*stamps: FileStamp | None, ranges: tuple[tuple[int, int], ...] = ((0, 1000),)) -> Survey:
    return Survey(stamps or WHOLE, ranges)


def plan(one: ResumeRecord, found: Survey, had: Bitfield | None = None) -> tuple[list[int], list[int]]:
    made = plan_check(one, LAYOUT, found, had)
    return list(made.trusted.indices()), made.doubtful


def test_at_the_first_check_all_that_may_be_there_is_hashed_holes_included() -> None:
    new = record(checked=False, stamps=())
    assert plan(new, survey(ranges=())) == ([], list(range(10)))
    assert plan(new, survey(None, None, None)) == ([], [])
    # the middle file is missing: pieces that need a byte of it cannot be there
    assert plan(new, survey(WHOLE[0], None, WHOLE[2])) == ([], [0, 1, 2, 7, 8, 9])
    # a short first file holds one whole piece and a half
    assert plan(new, survey(FileStamp(150, 1), WHOLE[1], WHOLE[2])) == ([], [0, 4, 5, 6, 7, 8, 9])


def test_after_a_clean_stop_nothing_is_hashed() -> None:
    assert plan(record({1, 2, 8}), survey()) == ([1, 2, 8], [])
    assert plan(record(state="complete"), survey()) == (list(range(10)), [])


def test_after_a_kill_unclaimed_pieces_with_data_are_hashed_and_claims_are_believed() -> None:
    killed = record({1, 2}, clean=False)
    touched = (FileStamp(350, 9), WHOLE[1], WHOLE[2])
    assert plan(killed, survey(*touched)) == ([1, 2], [0, 3])
    assert plan(killed, survey(*touched, ranges=((0, 100),))) == ([1, 2], [0])
    assert plan(killed, survey(*touched, ranges=())) == ([1, 2], [])


def test_a_file_that_somebody_else_changed_is_hashed_whole() -> None:
    touched = survey(WHOLE[0], FileStamp(300, 9), WHOLE[2])
    assert plan(record({0, 3, 4}), touched) == ([0], [3, 4, 5, 6])
    assert plan(record(state="complete"), touched) == ([0, 1, 2, 7, 8, 9], [3, 4, 5, 6])


@pytest.mark.parametrize("clean", [True, False])
def test_data_of_ours_that_is_gone_is_an_error(clean: bool) -> None:
    with pytest.raises(StorageError, match=r"file 1 of 3.*missing"):
        plan(record({0}, clean=clean), survey(None, WHOLE[1], WHOLE[2]))
    with pytest.raises(StorageError, match=r"file 3 of 3.*shrunk to 349 bytes"):
        plan(record({9}, clean=clean), survey(WHOLE[0], WHOLE[1], FileStamp(349, 1)))
    with pytest.raises(StorageError, match="missing"):
        plan(record(state="complete"), survey(WHOLE[0], WHOLE[1], None))


def test_a_missing_file_that_held_nothing_of_ours_is_no_error() -> None:
    assert plan(record({9}, stamps=(None, None, WHOLE[2])), survey(None, None, WHOLE[2])) == ([9], [])
    # shrunk, but not below the last piece that is ours
    assert plan(record({0}, clean=False), survey(FileStamp(100, 1), WHOLE[1], WHOLE[2]))[0] == [0]


def test_what_this_process_verified_needs_no_record() -> None:
    had = Bitfield.full(10)
    assert plan(record(), survey(), had) == (list(range(10)), [])
    with pytest.raises(StorageError):
        plan(record(), survey(None, WHOLE[1], WHOLE[2]), had)


def test_pad_files_are_never_missed() -> None:
    padded = Survey((WHOLE[0], None, WHOLE[2]), ((0, 1000),), frozenset({1}))
    assert plan(record(state="complete", stamps=padded.stamps), padded) == (list(range(10)), [])
    assert plan(record(checked=False, stamps=()), padded) == ([], list(range(10)))
