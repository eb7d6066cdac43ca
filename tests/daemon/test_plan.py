"""`bittern plan`: what would be, and nothing is done."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bittern.cli.commands import bittern
from tests.fakes.torrents import make_torrent


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "bittern.toml").write_text(
        """
[paths]
state = "state"
downloads = "dl"
[[watch]]
folder = "drop"
label = "own"
subfolders = true
[[profile]]
name = "films"
watch = ["*/drop/films"]
downloads = "films"
priority = 4
[storage]
reserve = 0
"""
    )
    (tmp_path / "drop" / "films" / "old").mkdir(parents=True)
    return tmp_path


def run(base: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(bittern, ["plan", "--config", str(base / "bittern.toml"), *words])
    return done.exit_code, done.output


def test_what_it_tells(base: Path) -> None:
    made = make_torrent("A Film", files=(("film.mkv", 70_000), ("film.nfo", 100)))
    file = base / "drop" / "films" / "old" / "a.torrent"
    file.write_bytes(made.blob)
    file.with_suffix(".toml").write_text('downloads = "of-1960"\nseed_for_ever = true\nskip = ["*.nfo"]')
    before = sorted(base.rglob("*"))
    status, out = run(base, "--json", str(file))
    told = json.loads(out)
    assert status == 0
    assert told["folder"] == str(base / "films" / "of-1960")
    assert (told["label"], told["priority"], told["seed_for_ever"]) == ("own", 4, True)
    assert told["watch"] == str(file.parent)
    assert told["because"] == {
        "downloads": "sidecar",
        "seed_for_ever": "sidecar",
        "skip": "sidecar",
        "priority": "profile films",
    }
    assert told["space"]["needed_bytes"] == 70_000
    assert told["space"]["missing_bytes"] == 0
    assert told["files"][0] == {"path": "A Film/film.mkv", "length": 70_000, "wanted": True}
    assert told["files"][1]["wanted"] is False
    status, out = run(base, str(file))
    assert "of-1960  (sidecar)" in out
    assert "it fits" in out
    assert sorted(base.rglob("*")) == before


def test_elsewhere_and_refused(base: Path) -> None:
    file = base / "a.torrent"
    file.write_bytes(make_torrent("A Film").blob)
    status, out = run(base, str(file))
    assert status == 0
    assert "would not be taken in where it lies" in out
    status, out = run(base, "--json", "--watch", str(base / "drop" / "films"), str(file))
    assert json.loads(out)["folder"] == str(base / "films")
    (base / "a.toml").write_text('downloads = "/etc"')
    status, out = run(base, str(file))
    assert status == 65
    assert "outside the folders" in out
    file.write_bytes(b"no torrent")
    assert run(base, str(file))[0] == 65
