"""`bittern create` and `bittern verify`, in this process but for other programs."""

import hashlib
import json
import os
import subprocess

import libtorrent
import pytest
from click.testing import CliRunner

from bittern.cli.commands import bittern
from bittern.proto.bencode import decode
from bittern.proto.creation import PIECES_WANTED, choose_piece_length
from bittern.proto.metainfo import parse_metainfo
from tests.fakes.need import need
from tests.fakes.torrents import make_torrent

TRACKER = "http://tracker.example/announce"


def run(*words):
    done = CliRunner().invoke(bittern, [str(word) for word in words], catch_exceptions=False)
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture
def film(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = make_torrent(
        "film",
        files=(
            ("a.bin", 200_000),
            ("B.bin", 70_001),
            ("empty", 0),
            ("sub/c.txt", 5),
            ("sub.txt", 40_000),
            ("ü", 7),
        ),
    )
    made.write(tmp_path)
    return made


def created(path, *options):
    status, out, err = run("create", path, "--json", *options)
    assert (status, err) == (0, "")
    return json.loads(out)


@pytest.mark.parametrize("private", [True, False])
def test_a_folder_has_the_info_hash_that_others_give_it(film, tmp_path, private):
    told = created("film", "-t", TRACKER, "-s", "32 KiB", *["-p"] * private)
    paths = [str(one.relative_to(tmp_path)) for one in (tmp_path / "film").rglob("*") if one.is_file()]
    files = [
        libtorrent.create_file_entry(path, (tmp_path / path).stat().st_size)
        for path in sorted(paths, key=lambda path: path.encode().lower())
    ]
    flags = libtorrent.create_torrent.v1_only | libtorrent.create_torrent.no_attributes
    theirs = libtorrent.create_torrent(files, 32768, flags)
    theirs.set_priv(private)
    libtorrent.set_piece_hashes(theirs, str(tmp_path))
    info = libtorrent.bencode(theirs.generate()[b"info"])
    assert told["info_hash"] == hashlib.sha1(info).hexdigest()
    assert (
        libtorrent.torrent_info(str(tmp_path / "film.torrent")).total_size() == told["total_bytes"] == 310_013
    )


def test_transmission_gives_the_same_info_hash(film, tmp_path):
    """It leaves out empty files, and has an order of its own for letters beyond ASCII."""
    need("transmission-create", "transmission-show")
    (tmp_path / "film" / "empty").unlink()
    (tmp_path / "film" / "ü").unlink()
    argv = ["transmission-create", "-p", "-t", TRACKER, "-s", "16", "-o", "theirs.torrent", "film"]
    subprocess.run(argv, check=True, capture_output=True)
    theirs = parse_metainfo((tmp_path / "theirs.torrent").read_bytes())
    told = created("film", "-t", TRACKER, "-s", "16 KiB", "--private")
    assert told["info_hash"] == theirs.info_hash.hex()
    shown = subprocess.run(["transmission-show", "film.torrent"], check=True, capture_output=True, text=True)
    assert told["info_hash"] in shown.stdout


def test_all_that_is_asked_for_is_in_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    (tmp_path / "one.bin").write_bytes(b"x" * 100_000)
    told = created(
        "one.bin", "-t", f"{TRACKER},udp://two.example:1/", "-t", "http://three.example/", "-w",
        "http://seed.example/one.bin", "-c", "for you", "-o", "other.torrent",
    )  # fmt: skip
    blob = (tmp_path / "other.torrent").read_bytes()
    metainfo = parse_metainfo(blob)
    assert metainfo.trackers == ((TRACKER, "udp://two.example:1/"), ("http://three.example/",))
    assert metainfo.web_seeds == ("http://seed.example/one.bin",)
    assert (metainfo.comment, metainfo.creation_date) == ("for you", 1_700_000_000)
    assert (metainfo.private, metainfo.multi_file, metainfo.piece_length) == (False, False, 16384)
    assert told["magnet"].startswith(f"magnet:?xt=urn:btih:{metainfo.info_hash.hex()}&dn=one.bin&tr=http%3A")
    assert list(decode(blob)) == sorted(decode(blob))
    assert run("create", "one.bin", "-o", "other.torrent")[0] == 73
    assert run("create", "one.bin", "-o", "other.torrent", "-f")[0] == 0
    assert run("verify", "other.torrent", "one.bin") == (0, "one.bin: all 7 pieces fit, in 1 file\n", "")


def test_wishes_that_cannot_be_fulfilled_cost_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "one").write_bytes(b"x")
    (tmp_path / "none").mkdir()
    (tmp_path / "nothing").touch()
    os.mkfifo(tmp_path / "fifo")
    for status, *words in (
        (64, "one", "-p"),
        (64, "one", "-t", "gopher://x/"),
        (64, "one", "-w", "seed"),
        (64, "one", "-s", "100 KiB"),
        (64, "one", "-s", "big"),
        (65, "nothing"),
        (66, "none"),
        (66, "nowhere"),
        (66, "fifo"),
        (73, "one", "-o", "nowhere/x.torrent"),
    ):
        found, out, err = run("create", *words)
        assert (found, out, err.count("\n")) == (status, "", 1), words
    (tmp_path / "none" / "x").write_bytes(b"1")
    (tmp_path / "none" / "link").symlink_to("x")
    assert run("create", "none")[2] == "none/link: no ordinary file, left out\n"
    (tmp_path / "none" / os.fsdecode(b"\xff")).write_bytes(b"1")
    assert run("create", "none", "-f")[0] == 65


def test_pieces_are_chosen_so_that_there_are_some_thousand():
    for shift in range(50):
        length = choose_piece_length(1 << shift)
        assert length & (length - 1) == 0
        assert 16384 <= length <= 16 << 20
        if 16384 < length < 16 << 20:
            assert PIECES_WANTED / 2 < (1 << shift) / length <= PIECES_WANTED


def test_verify_names_the_files_that_are_wrong(film, tmp_path):
    (tmp_path / "film.torrent").write_bytes(film.blob)
    for folder in (tmp_path, tmp_path / "film"):
        status, out, _ = run("verify", "film.torrent", folder)
        assert (status, out) == (0, "film: all 5 pieces fit, in 6 files\n")
    with (tmp_path / "film" / "a.bin").open("r+b") as file:
        file.seek(70_000)
        file.write(b"????")
    (tmp_path / "film" / "sub.txt").write_bytes(b"short")
    (tmp_path / "film" / "empty").write_bytes(b"long")
    (tmp_path / "film" / "sub" / "c.txt").unlink()
    status, out, _ = run("verify", "film.torrent", tmp_path)
    lines = out.splitlines()
    assert status == 1
    assert lines[-1] == "film: 6 of 6 files are wrong, 2 of 5 pieces do not fit"
    status, out, _ = run("verify", "--json", "film.torrent", tmp_path)
    told = json.loads(out)
    assert status == 1
    assert (told["ok"], told["bad_pieces"], told["piece_count"]) == (False, 2, 5)
    assert {one["path"]: one["status"] for one in told["files"]} == {
        "film/a.bin": "damaged",
        "film/B.bin": "uncertain",
        "film/empty": "longer",
        "film/sub/c.txt": "missing",
        "film/sub.txt": "shorter",
        "film/ü": "uncertain",
    }


def test_verify_without_anything_to_look_at(film, tmp_path):
    (tmp_path / "bad.torrent").write_bytes(b"nonsense")
    (tmp_path / "film.torrent").write_bytes(film.blob)
    assert run("verify", "bad.torrent", tmp_path)[0] == 65
    assert run("verify", "nowhere.torrent", tmp_path)[0] == 66
    assert run("verify", "film.torrent", tmp_path / "nowhere")[0] == 66
    (tmp_path / "empty").mkdir()
    status, out, _ = run("verify", "film.torrent", "empty")
    assert status == 1
    assert out.endswith("film: 6 of 6 files are wrong, 5 of 5 pieces do not fit\n")


def test_what_is_written_while_it_is_hashed_makes_no_torrent(film, tmp_path, monkeypatch):
    """Also when it is as long as before."""
    from bittern.disk import creating

    digests = creating.piece_digests

    def written_meanwhile(folder, paths, layout, progress):
        found = digests(folder, paths, layout, progress)
        (tmp_path / "film" / "a.bin").write_bytes(bytes(200_000))
        return found

    monkeypatch.setattr(creating, "piece_digests", written_meanwhile)
    status, out, err = run("create", tmp_path / "film")
    assert (status, out) == (66, "")
    assert "was changed meanwhile" in err
    assert not list(tmp_path.glob("*.torrent"))


@pytest.mark.parametrize(("path", "told"), [("", "an empty path"), ("/", "has no name")])
def test_what_nobody_means_is_not_hashed(path, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("mine")
    monkeypatch.setattr("bittern.disk.creating._walk", lambda *_: pytest.fail("walked"))
    status, _, err = run("create", path)
    assert status == 66
    assert told in err


def test_a_date_that_is_none_is_not_taken(film, monkeypatch, tmp_path):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "9" * 5000)
    assert created(tmp_path / "film")["name"] == "film"
