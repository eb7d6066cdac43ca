"""`bittern plan`: what would be, and nothing is done."""

import json
import os
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
file_mode = "0600"
[storage]
reserve = 0
umask = "0027"
group = 0
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
        "file_mode": "profile films",
    }
    assert (told["file_mode"], told["folder_mode"], told["group"]) == ("0600", "0750", "root")
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


def test_links_are_told_of_one_by_one(base: Path) -> None:
    file = base / "drop" / "films" / "a.magnet"
    link = "magnet:?xt=urn:btih:" + "ab" * 20 + "&dn=A+film"
    file.write_text(f"# two\n{link}&so=0-2,5\nno link\n{link.replace('ab', 'cd')}\n")
    file.with_suffix(".toml").write_text('label = "mine"\nseed_idle = "90m"')
    status, out = run(base, "--json", str(file))
    told = json.loads(out)
    assert status == 0
    assert [(one["line"], one["info_hash"][:2], one["label"]) for one in told["links"]] == [
        (2, "ab", "mine"),
        (4, "cd", "mine"),
    ]
    assert told["links"][0]["folder"] == str(base / "films")
    assert told["links"][0]["select"] == [[0, 2], [5, 5]]
    assert told["refused"] == [{"line": 3, "reason": 'not a magnet link: it does not begin with "magnet:?"'}]
    status, out = run(base, str(file))
    assert "0-2, 5" in out
    assert "line 3: not a magnet link" in out
    assert "until idle for 1 h 30 min" in out
    file.write_text("no link\n")
    status, out = run(base, str(file))
    assert (status, "line 1: not a magnet link" in out) == (65, True)
    file.write_text("# nothing\n")
    assert "there is no magnet link in it" in run(base, str(file))[1]


def test_what_is_no_drop(base: Path) -> None:
    folder, blob = base / "drop", make_torrent("A Film").blob
    for name, word in (("a.txt", "ends neither in"), (".a.torrent", "begins with a dot")):
        (folder / name).write_bytes(blob)
        status, out = run(base, str(folder / name))
        assert (status, word in out) == (0, True)
    os.mkfifo(folder / "f.torrent")
    for name, word in (
        ("f.torrent", "no regular file"),
        ("films", "no regular file"),
        ("b.torrent", "no such"),
    ):
        status, out = run(base, str(folder / name))
        assert (status, word in out, out.count(name)) == (65, True, 1)


def test_a_sidecar_that_is_refused_on_the_way_in_is_refused_here(base: Path) -> None:
    file = base / "drop" / "a.torrent"
    file.write_bytes(make_torrent("A Film").blob)
    file.with_suffix(".toml").symlink_to("/etc/hostname")
    status, out = run(base, str(file))
    assert (status, "is no plain file" in out) == (65, True)
