"""A stop is heard at every moment, and what is started is told to whoever waits for it."""

import json
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from bittern.daemon.signals import HEARD
from tests.fakes.bittern_process import COMMAND, Bittern, run_command
from tests.fakes.processes import PATIENCE_S, wait_until


def catches(pid: int, number: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    [caught] = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) & 1 << number - 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_while_it_starts(tmp_path: Path, number: int) -> None:
    bittern = Bittern(tmp_path / "bittern").start("")
    # the last that it begins to hear
    wait_until(lambda: catches(bittern.pid, HEARD[-1]), PATIENCE_S, "the command", 0.002)
    bittern.signal(signal.SIGHUP)
    bittern.signal(number)
    assert bittern.process is not None
    assert bittern.process.wait(PATIENCE_S) == 0
    bittern.check_unhurt()


SLOW_CLICK = """
import os, sys, time
open({reached!r}, "w").close()
while not os.path.exists({go_on!r}):
    time.sleep(0.005)
sys.path.remove({here!r})
del sys.modules["click"]
import click
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_before_anything_is_imported(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first thing from outside that is imported takes its time."""
    here, reached, go_on = tmp_path / "first", tmp_path / "reached", tmp_path / "go on"
    here.mkdir()
    (here / "click.py").write_text(SLOW_CLICK.format(reached=str(reached), go_on=str(go_on), here=str(here)))
    monkeypatch.setenv("PYTHONPATH", str(here))
    bittern = Bittern(tmp_path / "bittern").start("")
    wait_until(reached.exists, PATIENCE_S, "the import")
    bittern.signal(number)
    go_on.touch()
    assert bittern.process is not None
    assert bittern.process.wait(PATIENCE_S) == 0
    bittern.check_unhurt()


def test_a_stop_while_a_reload_hangs(tmp_path: Path) -> None:
    """As on a network mount that is gone; here the file is a FIFO that nobody finishes writing."""
    bittern = Bittern(tmp_path / "bittern")
    with bittern:
        bittern.config.unlink()
        os.mkfifo(bittern.config)
        bittern.reload()

        def writer() -> int | None:
            try:
                return os.open(bittern.config, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody reads yet
                return None

        writing = wait_until(writer, PATIENCE_S, "the reload")
        try:
            assert bittern.stop() == 0
        finally:
            os.close(writing)


def test_a_configuration_without_end(tmp_path: Path) -> None:
    refused = run_command("check-config", "/dev/zero")
    assert refused.returncode == 78
    [line] = refused.stderr.splitlines()
    assert line.startswith("/dev/zero: larger than")


def test_nothing_but_json_on_standard_output(tmp_path: Path) -> None:
    with subprocess.Popen(
        [COMMAND, "run", "--log-format", "json"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        assert daemon.stdout is not None
        assert daemon.stderr is not None
        first = daemon.stdout.readline()
        daemon.terminate()
        lines = [first, *daemon.stdout]
        assert str(tmp_path / "var/drop") in daemon.stderr.read()
        assert daemon.wait(PATIENCE_S) == 0
    assert all({"timestamp", "level", "event"} <= json.loads(line).keys() for line in lines)


def test_a_taken_port_does_not_use_up_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd gives a start so much time, and more when it is asked for more."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd,
        socket.create_server(("127.0.0.1", 0)) as other,
    ):
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        bittern = Bittern(tmp_path / "bittern", network={"port": other.getsockname()[1]})
        bittern.start("listen.failed")
        told = []
        while not any(line.startswith("STATUS=cannot listen") for line in told):
            told += systemd.recv(4096).decode().splitlines()
        asked_for = [int(line.split("=")[1]) for line in told if line.startswith("EXTEND_TIMEOUT_USEC")]
        assert max(asked_for) > 60_000_000
        assert "READY=1" not in told
        assert bittern.stop() == 0
