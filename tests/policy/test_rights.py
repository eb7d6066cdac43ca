"""Modes and groups of what is made."""

import pytest

from bittern.policy.rights import (
    NO_RIGHTS,
    Rights,
    as_text,
    file_mode_fault,
    folder_mode_fault,
    from_text,
    umask_fault,
)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660, 0o664])
def test_modes_of_files(mode: int) -> None:
    assert not file_mode_fault(mode)


@pytest.mark.parametrize("mode", [0o400, 0o000, 0o666, 0o646, 0o755, 0o610, 0o4640, 0o2640, 0o1640, 0o10644])
def test_what_no_file_of_strangers_gets(mode: int) -> None:
    assert file_mode_fault(mode)


@pytest.mark.parametrize("mode", [0o700, 0o750, 0o755, 0o770, 0o775, 0o711])
def test_modes_of_folders(mode: int) -> None:
    assert not folder_mode_fault(mode)


@pytest.mark.parametrize("mode", [0o500, 0o600, 0o777, 0o772, 0o2770, 0o1770, 0o4750])
def test_what_no_folder_gets(mode: int) -> None:
    assert folder_mode_fault(mode)


def test_masks() -> None:
    assert [mask for mask in range(0o1000 * 2) if not umask_fault(mask)] == [
        mask for mask in range(0o100) if mask & 2
    ]


@pytest.mark.parametrize(
    "rights",
    [
        NO_RIGHTS,
        Rights(file_mode=0o640),
        Rights(file_mode=0o600, folder_mode=0o750, group=0),
        Rights(group=7),
    ],
)
def test_a_record_gives_back_what_it_was_given(rights: Rights) -> None:
    assert from_text(as_text(rights)) == rights


@pytest.mark.parametrize(
    "text",
    [
        "file=0666",
        "file=4755",
        "folder=0777",
        "group=-1",
        "group=4294967295",
        "file=",
        "x",
        "file=0o640 group=media",
        "file=٣٤٤",
    ],
)
def test_what_a_damaged_record_says_gives_nobody_more(text: str) -> None:
    assert from_text(text) == NO_RIGHTS


def test_each_word_counts_by_itself() -> None:
    below = Rights(file_mode=0o640, folder_mode=0o750, group=7)
    assert NO_RIGHTS.over(below) == below
    assert Rights(file_mode=0o600).over(below) == Rights(file_mode=0o600, folder_mode=0o750, group=7)
    assert Rights(group=0).over(below).group == 0
