"""Which folders may be named over the network."""

from pathlib import Path

import pytest

from bittern.control.folders import folder_within


@pytest.fixture
def allowed(tmp_path: Path) -> str:
    (tmp_path / "data" / "films").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "data" / "out").symlink_to(tmp_path / "outside")
    (tmp_path / "data" / "in").symlink_to("films")
    (tmp_path / "data" / "round").symlink_to("round")
    return str(tmp_path / "data")


@pytest.mark.parametrize("inside", ["", "/films", "/in", "/in/new", "/new/er", "/x/../films", "/round/.."])
def test_what_lies_inside(inside: str, allowed: str) -> None:
    assert folder_within(allowed + inside, [allowed]) is not None


@pytest.mark.parametrize(
    "outside", ["/out", "/out/new", "/..", "/../data2", "2", "/in/../../outside", "/a\0b", "/\ud800"]
)
def test_what_does_not(outside: str, allowed: str) -> None:
    assert folder_within(allowed + outside, [allowed]) is None


def test_a_link_to_another_folder_of_ours(allowed: str, tmp_path: Path) -> None:
    assert folder_within(f"{allowed}/out", [allowed, str(tmp_path / "outside")]) == f"{allowed}/out"


def test_a_relative_one(allowed: str) -> None:
    assert folder_within("films", [allowed]) is None
