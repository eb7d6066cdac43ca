"""The commands as programs call them: what they print, and how they end."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bittern import __version__
from bittern.cli.commands import COMMANDS, bittern
from bittern.proto.bencode import encode
from tests.fakes.torrents import make_torrent

PROGRAM = [sys.executable, "-c", "from bittern.cli.main import main; main()"]


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(bittern, [str(word) for word in words])


def written(folder: Path, *, top: dict[bytes, Any] | None = None, **info: Any) -> Path:
    """Two files, a pad file and whatever else is told."""
    told: dict[bytes, Any] = {
        b"name": b"root",
        b"piece length": 16384,
        b"pieces": bytes(40),
        b"files": [
            {b"path": [b"a", b"b"], b"length": 5},
            {b"path": [b".pad", b"1"], b"length": 16379, b"attr": b"p"},
            {b"path": [b"c"], b"length": 10000},
        ],
    }
    told.update({key.replace("_", " ").encode(): value for key, value in info.items()})
    path = folder / "a.torrent"
    path.write_bytes(encode({**(top or {}), b"info": told}))
    return path


def test_json_has_exactly_what_programs_rely_on(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        private=1,
        top={
            b"announce-list": [[b"http://a/x", b"http://b/x"], [b"udp://c:6969"]],
            b"url-list": b"http://w/",
            b"comment": "é".encode(),
            b"created by": b"mk",
            b"creation date": 1_700_000_000,
        },
    )
    result = call("show", "--json", path)
    assert (result.exit_code, result.stderr) == (0, "")
    shown = json.loads(result.stdout)
    assert len(shown.pop("info_hash")) == 40
    assert shown == {
        "name": "root",
        "total_bytes": 10005,
        "piece_length": 16384,
        "piece_count": 2,
        "private": True,
        "trackers": [["http://a/x", "http://b/x"], ["udp://c:6969"]],
        "web_seeds": ["http://w/"],
        "files": [{"path": "root/a/b", "length": 5}, {"path": "root/c", "length": 10000}],
        "comment": "é",
        "created_by": "mk",
        "creation_date": 1_700_000_000,
    }


def test_json_of_a_single_file_without_anything_optional(tmp_path: Path) -> None:
    made = make_torrent("one.bin", size=100_000, piece_length=65536)
    path = tmp_path / "x.torrent"
    path.write_bytes(made.blob)
    shown = json.loads(call("show", "--json", path).stdout)
    assert shown["info_hash"] == made.info_hash.hex()
    assert shown["files"] == [{"path": "one.bin", "length": 100_000}]
    assert (shown["private"], shown["trackers"], shown["web_seeds"]) == (False, [], [])
    assert (shown["comment"], shown["created_by"], shown["creation_date"]) == (None, None, None)


def test_paths_are_those_on_disk(tmp_path: Path) -> None:
    files = [
        {b"path": [b"..", b"x"], b"length": 1},
        {b"path": [b"\xff"], b"length": 1},
        {b"path": [b"%ff"], b"length": 1},
    ]
    path = written(tmp_path, files=files, name=b"../../etc", pieces=bytes(20))
    paths = [file["path"] for file in json.loads(call("show", "--json", path).stdout)["files"]]
    assert len({shown.casefold() for shown in paths}) == 3
    for shown in paths:
        assert (tmp_path / "downloads" / shown).resolve().is_relative_to(tmp_path / "downloads")
        assert not {"", ".", ".."} & set(shown.split("/"))


def test_text_tells_the_same_and_steers_no_terminal(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        name=b"\x1b[2J[bold]n[/bold]",
        files=[{b"path": [b"[red]" + b"f" * 200], b"length": 3 << 20}],
        piece_length=4 << 20,
        pieces=bytes(20),
        top={b"comment": b"one\ntwo\x1b]0;x\x07", b"creation date": 253_402_300_799},
    )
    result = call("show", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    assert "\x07" not in result.stdout
    assert "[bold]n[/bold]" in result.stdout, "what a torrent says is not markup"
    assert "[red]" + "f" * 200 in result.stdout, "a path is not cut in two when a program reads"
    assert "3.0 MiB in 1 file" in result.stdout
    assert "9999-12-31 23:59 UTC" in result.stdout


def refused(result: Result) -> str:
    assert (result.exit_code, result.stdout) == (65, "")
    assert result.stderr.endswith("\n")
    assert result.stderr.count("\n") == 1, "one line"
    line = result.stderr[:-1]
    assert line.isprintable()
    return line


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "ends too early"),
        (b"d4:infod", "ends too early"),
        (b"<html>", "not a torrent"),
        (b"le", "not a torrent"),
        (b"de", "no info dictionary"),
        (encode({b"info": {b"name": b"x", b"meta version": 2, b"length": 1, b"piece length": 16384}}), "v2"),
        (
            encode({b"info": {b"name": b"x", b"meta version": 2, b"file tree": {}, b"piece length": 16384}}),
            "v2",
        ),
        (
            encode({b"info": {b"name": b"x", b"piece length": 1, b"pieces": b"", b"length": 1}}),
            "do not match",
        ),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_what_is_refused_ends_with_65_and_one_line(
    tmp_path: Path, blob: bytes, reason: str, options: tuple[str, ...]
) -> None:
    path = tmp_path / "bad.torrent"
    path.write_bytes(blob)
    line = refused(call("show", *options, path))
    assert line.startswith(f"{path}: ")
    assert reason in line


def test_what_cannot_be_read_is_refused_likewise(tmp_path: Path) -> None:
    assert "No such file" in refused(call("show", tmp_path / "nothing.torrent"))
    assert "directory" in refused(call("show", tmp_path))
    huge = tmp_path / "huge.torrent"
    with huge.open("wb") as opened:
        opened.truncate(1 << 34)
    assert "larger than" in refused(call("show", huge))


def test_a_file_name_cannot_make_it_two_lines(tmp_path: Path) -> None:
    path = tmp_path / "a\nb\x1b[2J.torrent"
    path.write_bytes(b"x")
    assert "a·b·[2J.torrent: not a torrent" in refused(call("show", path))


def test_letters_that_the_output_lacks_are_no_error(tmp_path: Path) -> None:
    path = written(tmp_path, name="日本\x00".encode())
    # a name that is not UTF-8 is how the wild calls its files
    odd = os.fsencode(tmp_path) + b"/\xff.torrent"
    os.rename(path, odd)
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*PROGRAM, "show", odd], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"??" in done.stdout
    with open(odd, "wb") as opened:
        opened.write(b"x")
    done = subprocess.run([*PROGRAM, "show", odd], capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (65, 1)


def test_a_terminal_gets_lines_that_fit(tmp_path: Path) -> None:
    path = written(tmp_path, files=[{b"path": [b"f" * 200], b"length": 1}], pieces=bytes(20))
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb"}
    with subprocess.Popen([*PROGRAM, "show", str(path)], stdout=theirs, env=environment) as running:
        os.close(theirs)
        told = b""
        try:
            while more := os.read(ours, 65536):
                told += more
        except OSError:
            pass  # how a terminal says that its other end is closed
        assert running.wait() == 0
    os.close(ours)
    assert max(map(len, told.decode().splitlines())) <= 80
    assert told.count(b"f" * 40)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_every_help_has_an_example(command: list[str]) -> None:
    result = call(*command, "--help")
    assert result.exit_code == 0
    assert f"Example: bittern {' '.join(command)}" in result.stdout


def test_version() -> None:
    result = call("--version")
    assert result.exit_code == 0
    assert __version__ in result.stdout


def test_a_version_costs_no_engine() -> None:
    program = (
        "import sys; from bittern.cli.main import main; sys.argv[1:] = ['--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'trio', 'httpx', 'watchdog', 'structlog', 'rich', 'msgspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


def test_an_unknown_command_is_a_usage_error() -> None:
    assert call("frobnicate").exit_code == 2


def test_check_config_tells_each_fault_in_a_line(tmp_path: Path) -> None:
    config = tmp_path / "bittern.toml"
    config.write_text('[network]\nprot = 1\n[limits]\nupload_rate = "many"\n')
    result = call("check-config", config)
    assert (result.exit_code, result.stdout) == (78, "")
    lines = result.stderr.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith(f"{config}: ") for line in lines)
    assert any("network.prot" in line and "port" in line for line in lines)
    assert any("limits.upload_rate" in line for line in lines)


def test_check_config_passes_what_is_right(tmp_path: Path) -> None:
    config = tmp_path / "bittern.toml"
    config.write_text('[paths]\nstate = "state"\ndownloads = "files"\n[[watch]]\nfolder = "drop"\n')
    result = call("check-config", config)
    assert (result.exit_code, result.stderr) == (0, "")


def test_check_config_remarks_on_a_hook_that_nobody_calls(tmp_path: Path) -> None:
    config = tmp_path / "bittern.toml"
    hook = '[[hook]]\non = ["completed"]\ncommand = ["/x"]\nname = "unpack"\n'
    config.write_text(hook)
    result = call("check-config", config)
    assert result.exit_code == 0
    assert "hook[0] has a name, 'unpack'" in result.stderr
    assert "hook[0]" in json.loads(call("check-config", "--json", config).stdout)["remarks"][0]
    config.write_text(hook + '[[profile]]\nname = "films"\nhooks = ["unpack"]\n')
    assert call("check-config", config).stderr == ""


def test_run_hands_its_options_to_the_daemon_and_ends_as_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bittern.daemon import app

    calls: list[tuple[Path | None, str | None]] = []

    def run(config: Path | None, log_format: str | None, early: list[int]) -> int:
        assert not early
        calls.append((config, log_format))
        return 78

    monkeypatch.setattr(app, "run", run)
    assert call("run").exit_code == 78
    assert call("run", "--config", tmp_path / "x.toml", "--log-format", "json").exit_code == 78
    assert calls == [(None, None), (tmp_path / "x.toml", "json")]
    assert call("run", "--log-format", "xml").exit_code == 2
    assert len(calls) == 2
