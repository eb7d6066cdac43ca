"""What people see in their terminal: the live tables in tmux, bars, and what Tab offers."""

import json
import os
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.bittern_process import COMMAND, Bittern, run_command
from tests.fakes.need import need
from tests.fakes.payloads import Payload, make_payload
from tests.fakes.processes import HOST, PATIENCE_S, wait_until

pytestmark = pytest.mark.proof


class Pane:
    """A window of tmux in which one command runs; its exit status is the last thing that stands there."""

    def __init__(self, folder: Path, *words: object) -> None:
        need("tmux")
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        line = shlex.join(map(str, [COMMAND, *words])) + "; echo status $?; cat"
        self.tell("new-session", "-d", "-x", "110", "-y", "12", line)

    def tell(self, *words: str) -> str:
        # these would speak of the terminal of who runs the tests
        environ = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
        done = subprocess.run(
            [*self._tmux, *words], capture_output=True, text=True, timeout=PATIENCE_S, check=True, env=environ
        )
        return done.stdout

    def seen(self) -> list[str]:
        return [line.rstrip() for line in self.tell("capture-pane", "-p").splitlines()]

    def wait(self, said: str) -> list[str]:
        def look() -> list[str] | None:
            seen = self.seen()
            return seen if any(said in line for line in seen) else None

        try:
            return list(wait_until(look, PATIENCE_S, said))
        except AssertionError as error:
            raise AssertionError("\n".join(self.seen())) from error

    def end(self) -> None:
        self.tell("kill-server")


@pytest.fixture
def pane(tmp_path: Path) -> Iterator[Callable[..., Pane]]:
    opened: list[Pane] = []

    def opener(*words: object) -> Pane:
        opened.append(Pane(tmp_path, *words))
        return opened[-1]

    yield opener
    for one in opened:
        one.end()


def test_a_live_list_in_tmux(
    tmp_path: Path, payload_of: Callable[..., Payload], pane: Callable[..., Pane]
) -> None:
    first, second = payload_of("first", 200_000, 65536), payload_of("second", 200_000, 65536)
    with Bittern(tmp_path) as bittern:
        bittern.wait("control.ready")
        first.torrent(bittern.drop)
        bittern.wait("torrent.checked")
        window = pane("list", "--watch", "--config", bittern.config)
        seen = window.wait(first.name)
        assert seen[0].split() == [
            "hash", "state", "done", "size", "down", "up", "left", "ratio", "peers", "name",
        ]  # fmt: skip
        assert "downloading" in seen[1]
        assert not any(second.name in line for line in seen)
        second.torrent(bittern.drop)
        window.wait(second.name)
        run_command("pause", "--config", bittern.config, first.name).check_returncode()
        window.wait("stopped")
        # more than fit are counted
        for number in range(20):
            link = f"magnet:?xt=urn:btih:{number:040x}&dn=link-{number}"
            run_command("add", "--config", bittern.config, link).check_returncode()
        window.wait("and 12 more")
        assert all(len(line) <= 110 for line in window.seen())
        window.tell("resize-window", "-x", "60", "-y", "30")
        # names give way where it is narrow
        wait_until(lambda: str(window.seen()).count("metadata") == 20, PATIENCE_S, "all of them")
        assert all(len(line) <= 60 for line in window.seen())
        window.tell("send-keys", "C-c")
        # the screen as it was before
        assert not any(first.name in line for line in window.wait("status 0"))


def test_who_moves_something_in_tmux(
    tmp_path: Path, payload_of: Callable[..., Payload], pane: Callable[..., Pane]
) -> None:
    busy, idle = payload_of("busy", 200_000, 65536), payload_of("idle", 200_000, 65536)
    with Bittern(tmp_path) as bittern:
        bittern.wait("control.ready")
        for one in (busy, idle):
            one.torrent(bittern.drop)
            bittern.wait("torrent.checked", name=one.name)
        window = pane("top", "--config", bittern.config)
        window.wait("hash")
        port = json.loads(run_command("stats", "--json", "--config", bittern.config).stdout)["port"]
        with socket.create_connection((HOST, port), timeout=PATIENCE_S) as peer:
            peer.sendall(
                b"\x13BitTorrent protocol"
                + bytes(8)
                + bytes.fromhex(busy.info_hash)
                + b"-XX0000-"
                + b"x" * 12
            )
            seen = window.wait(busy.name)
            assert not any(idle.name in line for line in seen)
        wait_until(
            lambda: not any(busy.name in line for line in window.seen()), PATIENCE_S, "nobody any more"
        )
        window.tell("send-keys", "C-c")
        window.wait("status 0")


def test_whoever_waits_sees_how_far_it_is(
    tmp_path: Path, payload_of: Callable[..., Payload], pane: Callable[..., Pane]
) -> None:
    missing = payload_of("missing", 200_000, 65536)
    there = make_payload(tmp_path / "downloads", "there", 200_000, 65536)
    with Bittern(tmp_path) as bittern:
        bittern.wait("control.ready")
        paths = [one.torrent(tmp_path) for one in (there, missing)]
        done = run_command("add", "--wait", "--config", bittern.config, paths[0])
        assert (done.returncode, done.stderr) == (0, "")
        window = pane("add", "--wait", "--config", bittern.config, paths[1])
        assert "[" in "".join(window.wait("0%"))
        run_command("pause", "--config", bittern.config, missing.name).check_returncode()
        assert any("is paused" in line for line in window.wait("status 74"))


def test_tab_in_bash(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    payload = payload_of("completed", 200_000, 65536)

    def offered(*words: str) -> list[str]:
        line = " ".join(map(shlex.quote, words))
        script = (
            f'eval "$(bittern completion bash)"; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; '
            '_bittern_completion bittern; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-uc", script],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            env={"PATH": f"{Path(COMMAND).parent}:/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert offered("bittern", "rec") == ["recheck"]
    assert {"pause", "passwd", "peers", "plan"} <= set(offered("bittern", "p"))
    assert offered("bittern", "list", "--wa") == ["--watch"]
    assert offered("bittern", "completion", "z") == ["zsh"]
    with Bittern(tmp_path) as bittern:
        bittern.wait("control.ready")
        payload.torrent(bittern.drop)
        bittern.wait("torrent.checked")
        named = ("bittern", "info", "--socket", str(bittern.state / "control.sock"))
        assert offered(*named, payload.name[:4]) == [payload.name]
        assert offered(*named, payload.info_hash[:5]) == [payload.info_hash]
