"""`bittern list` and its like beside a running daemon."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from tests.fakes.bittern_process import Bittern, call_command, run_command
from tests.fakes.payloads import Payload
from tests.fakes.processes import PATIENCE_S, wait_until


def test_a_session_by_command(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    payload = payload_of("steered", 200_000, 65536)
    torrent = payload.torrent(tmp_path, *(f"http://127.0.0.1:9/{number}/announce" for number in range(2)))
    bittern = Bittern(tmp_path)

    own_process = ["list", "add", "list"]

    def said(*words: object, status: int = 0) -> str:
        """The first few as they are typed, each a process of its own; then the same commands without starting one."""
        run = call_command
        if own_process and words[0] == own_process[0]:
            own_process.pop(0)
            run = run_command
        done = run(words[0], "--config", bittern.config, *words[1:])
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr

    assert "does not run" in said("list", status=69)
    with bittern:
        bittern.wait("control.ready")
        assert payload.name in said("add", torrent, "--label", "tests", "--label", "new")
        assert "is there already" in said("add", torrent)
        bittern.wait("torrent.checked")
        (one,) = json.loads(said("list", "--json"))
        assert (one["name"], one["state"], one["label"]) == (payload.name, "downloading", "tests")
        listed = said("list").splitlines()
        assert listed[0].split() == [
            "hash",
            "state",
            "done",
            "size",
            "down",
            "up",
            "left",
            "ratio",
            "peers",
            "name",
        ]
        assert listed[1].startswith(one["info_hash"][:8])
        assert "tests, seen" in said("label", payload.name, "--add", "seen", "--remove", "new")
        assert json.loads(said("list", "--json", "--label", "new")) == []
        assert json.loads(said("list", "--json", "--label", "seen"))[0]["labels"] == ["tests", "seen"]
        assert "no comma" in said("label", payload.name, "--add", "x" * 300, status=64)
        assert json.loads(said("list", "--json", "--state", "seeding")) == []
        assert one["info_hash"] in said("info", one["info_hash"][:6])
        assert payload.name in said("files", payload.name)
        assert "skip" in said("files", payload.name, "--skip", "0")
        assert "high" in said("files", payload.name, "--take", "*", "--priority", "high", "0")
        assert "address" in said("peers", payload.name)
        rows = [row.split() for row in said("trackers", payload.name).splitlines()]
        assert [row[0] for row in rows] == ["tier", "1", "2"]
        for tiers in (said("info", payload.name), call_command("show", torrent).stdout):
            assert [row.split()[2] for row in tiers.splitlines() if "tracker tier" in row] == ["1", "2"]
        assert [one["tier"] for one in json.loads(said("trackers", "--json", payload.name))] == [0, 1]
        said("reannounce", "*")
        assert "is moved" in said("move", payload.name, bittern.downloads / "sub")
        bittern.wait("torrent.moved")
        assert "must lie in" in said("move", payload.name, "/etc", status=77)
        assert "is paused" in said("pause", payload.name)
        assert json.loads(said("info", "--json", payload.name))["state"] == "stopped"
        assert "goes on" in said("resume", payload.name)
        assert json.loads(said("info", "--json", payload.name))["state"] != "stopped"
        wait_until(lambda: "1: 1 downloading" in said("stats"), PATIENCE_S, "the end of the queue")
        assert json.loads(said("stats", "--json"))["state_folder"] == str(bittern.state)
        assert "no torrent" in said("info", "nobody", status=66)
        assert "not" in said("add", bittern.config, status=64)
        assert "cannot be read" in said("add", tmp_path / "none", status=74)
        assert "must lie in" in said("add", torrent, "--downloads", "/etc", status=77)
        lines = f"list --json\nstop {payload.name}\n  # nothing\nshow {payload.name}\nno-such-thing\nquit\nremove *\n"
        prompt = run_command("shell", "--config", bittern.config, input=lines)
        assert prompt.returncode == 2
        assert "No such command 'no-such-thing'" in prompt.stderr
        assert f"{payload.name}: is paused" in prompt.stdout
        assert one["info_hash"] in prompt.stdout
        said("resume", payload.name)
        wait_until(lambda: "1: 1 downloading" in said("stats"), PATIENCE_S, "the end of the queue")
        bittern.write_config('[[hook]]\non = ["nothing"]\n')
        asked = run_command("stats", "--config", bittern.config)
        assert asked.returncode == 0, asked.stderr
        assert "1: 1 downloading" in asked.stdout
        assert "has 2 faults" in asked.stderr
        bittern.write_config()
        assert "is checked again" in said("recheck", payload.name)
        assert "removed" in said("remove", payload.name)
        bittern.wait("torrent.removed", reason="asked for")
        said("add", f"magnet:?xt=urn:btih:{one['info_hash']}", "--label", "films")
        assert "is there already" in said("add", torrent, "--label", "")
        assert json.loads(said("list", "--json"))[0]["label"] == ""
    assert not (bittern.state / "control.sock").exists()


def test_two_daemons_of_one_machine_are_not_mistaken(tmp_path: Path) -> None:
    one, other = Bittern(tmp_path / "one"), Bittern(tmp_path / "other")
    with one:
        one.wait("control.ready")
        assert run_command("list", "--config", other.config).returncode == 69
        os.symlink(one.state / "control.sock", tmp_path / "sock")
        assert run_command("stats", "--socket", tmp_path / "sock").returncode == 0
