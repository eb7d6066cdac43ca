import os
import socket

import pytest

from bittern.daemon.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def line(request, tmp_path):
    """A socket as systemd has it, and how its name is written."""
    written = f"@bittern-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind("\0" + written[1:] if request.param == "abstract" else written)
        ours.settimeout(60)
        yield ours, written


def test_what_is_told(line):
    ours, written = line
    notifier = Notifier({"NOTIFY_SOCKET": written})
    notifier.ready("all\nwell")
    assert ours.recv(4096) == b"READY=1\nSTATUS=all well"
    notifier.status("5 torrents")
    assert ours.recv(4096) == b"STATUS=5 torrents"
    notifier.watchdog()
    assert ours.recv(4096) == b"WATCHDOG=1"
    notifier.extend_timeout(2.5)
    assert ours.recv(4096) == b"EXTEND_TIMEOUT_USEC=2500000"
    notifier.reloading()
    assert ours.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.stopping()
    assert ours.recv(4096) == b"STOPPING=1"
    notifier.close()
    notifier.ready()
    assert ours.recv(4096) == b"READY=1"
    notifier.close()


def test_sockets_to_keep(line):
    ours, written = line
    notifier = Notifier({"NOTIFY_SOCKET": written})
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        notifier.keep([one, two])
        assert ours.recv(4096) == b"FDSTOREREMOVE=1\nFDNAME=peers"
        told, fds, _, _ = socket.recv_fds(ours, 4096, 8)
        assert told == b"FDSTORE=1\nFDNAME=peers"
        kept = [socket.socket(fileno=fd) for fd in fds]
        assert [each.getsockname() for each in kept] == [one.getsockname(), two.getsockname()]
        for each in kept:
            each.close()
    notifier.close()


def waiting(ours):
    try:
        return ours.recv(4096)
    except BlockingIOError:
        return b""


def test_a_full_queue_or_nobody_there_holds_up_nothing(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours:
        ours.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(5000):
            notifier.watchdog()
        ours.setblocking(False)
        came = sum(1 for _ in iter(lambda: waiting(ours), b""))
        assert 0 < came < 5000, "what the queue did not take was left out"
        notifier.stopping()
        assert ours.recv(4096) == b"STOPPING=1"
    notifier.watchdog()
    notifier.close()
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "none")}).close()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_socket_nothing_happens(environ):
    notifier = Notifier(environ | {"WATCHDOG_USEC": "1000000"})
    notifier.ready()
    assert notifier.watchdog_interval_s is None


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval(environ, interval_s):
    assert Notifier({"NOTIFY_SOCKET": "/x"} | environ).watchdog_interval_s == interval_s
