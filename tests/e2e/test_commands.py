"""The commands as people and programs call them."""

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import bittern as package
from tests.fakes.bittern_process import COMMAND, run_command
from tests.fakes.need import need
from tests.fakes.payloads import Payload
from tests.fakes.processes import PATIENCE_S, Program, wait_until

OWN_NETWORK = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-current-user"]), "--net"]


def test_run_without_a_file(tmp_path: Path) -> None:
    """What `make run` starts: folders below ./var, and a word about which. It has a network of its own, for it takes
    the port that a bittern of this machine may have.
    """
    need("unshare")
    if subprocess.run([*OWN_NETWORK, "true"], check=False).returncode:
        need("the right to make a network namespace")
    daemon = Program(tmp_path)
    daemon.spawn(*OWN_NETWORK, COMMAND, "run")
    try:
        wait_until(lambda: "daemon.loaded" in daemon.log.read_text(), PATIENCE_S, "the daemon")
        told = daemon.log.read_text()
        assert str(tmp_path / "var/drop") in told
        assert str(tmp_path / "var/downloads") in told
        (tmp_path / "var/drop/bad.torrent").write_bytes(b"nonsense")
        wait_until((tmp_path / "var/drop/rejected/bad.torrent.reason.txt").exists, PATIENCE_S, "the refusal")
    finally:
        daemon.signal(signal.SIGINT)
        assert daemon.process is not None
        assert daemon.process.wait(PATIENCE_S) == 0


def test_the_log_ends_with_its_reader(tmp_path: Path) -> None:
    """Nobody reads standard output any more: that ends nothing."""
    config = tmp_path / "bittern.toml"
    config.write_text(
        '[paths]\nstate = "state"\n[network]\nlisten = ["127.0.0.1"]\nport = 0\ndht = false\nlsd = false\n'
        "[web]\nenabled = false\n"
    )
    read, write = os.pipe()
    argv = [COMMAND, "run", "--config", str(config), "--log-format", "json"]
    with subprocess.Popen(argv, stdout=write, stderr=subprocess.PIPE) as daemon:
        os.close(write)
        with os.fdopen(read, "rb") as out:
            while b"daemon.loaded" not in out.readline():
                pass
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(PATIENCE_S) == 0


def test_version_and_help() -> None:
    assert package.__version__ in run_command("--version").stdout
    for words in ([], ["run"], ["check-config"], ["show"]):
        told = run_command(*words, "--help")
        assert told.returncode == 0
        assert "Example" in told.stdout
    assert run_command("no-such-command").returncode == 2


def test_show(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    payload = payload_of("shown", [70_000, 0, 12], 16384)
    torrent = payload.torrent(tmp_path, "http://one.example/announce", "http://two.example/announce")
    told = run_command("show", "--json", torrent)
    assert told.returncode == 0
    assert json.loads(told.stdout) == {
        "name": payload.name,
        "info_hash": payload.info_hash,
        "total_bytes": payload.total,
        "piece_length": 16384,
        "piece_count": 5,
        "private": False,
        "trackers": [["http://one.example/announce"], ["http://two.example/announce"]],
        "web_seeds": [],
        "files": [
            {"path": path, "length": size}
            for path, size in zip(payload.file_paths(), payload.sizes, strict=True)
        ],
        "comment": None,
        "created_by": None,
        "creation_date": None,
    }
    for_people = run_command("show", torrent).stdout
    assert payload.info_hash in for_people
    assert "file 0000.bin" in for_people


@pytest.mark.parametrize("blob", [b"", b"nonsense", b"d4:infod4:name1:aee", b"d"])
def test_show_refuses(tmp_path: Path, blob: bytes) -> None:
    path = tmp_path / "bad.torrent"
    path.write_bytes(blob)
    refused = run_command("show", "--json", path)
    assert refused.returncode == 65
    assert len(refused.stderr.splitlines()) == 1
    assert refused.stdout == ""
