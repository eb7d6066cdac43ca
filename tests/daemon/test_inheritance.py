"""What systemd hands over at the start, to a process of its own: descriptors have fixed numbers there."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bittern.daemon.inheritance import inherited

HEIR = """
import os, sys
os.environ["LISTEN_PID"] = str(os.getpid())
from bittern.daemon.inheritance import inherited
kept = inherited()
for one in kept:
    print(*one.getsockname()[:2], one.get_inheritable(), one.gettimeout())
for fd in range(3, 7):
    try:
        os.fstat(fd)
        print("open", fd)
    except OSError:
        pass
"""


def test_listening_sockets_are_taken_and_all_else_is_closed(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.socket() as idle,
        open(os.devnull) as file,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as six,
    ):

        def lay_out() -> None:
            kept = [
                os.dup2(one.fileno(), 100 + number) for number, one in enumerate((listening, idle, file, six))
            ]
            for number, fd in enumerate(kept):
                os.dup2(fd, 3 + number)
            os.closerange(7, 200)

        told = subprocess.run(
            [sys.executable, "-c", HEIR],
            env={**os.environ, "LISTEN_FDS": "4"},
            preexec_fn=lay_out,
            close_fds=False,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.splitlines()
        assert told == [
            f"127.0.0.1 {listening.getsockname()[1]} False 0.0",
            f"::1 {six.getsockname()[1]} False 0.0",
            "open 3",
            "open 6",
        ]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "3"},
        {"LISTEN_FDS": "3", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "99999999999", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "0", "LISTEN_PID": str(os.getpid())},
    ],
)
def test_what_is_not_meant_for_us_is_left_alone(environ: dict[str, str]) -> None:
    assert inherited(environ) == []
