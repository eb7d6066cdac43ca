"""`bittern hooks` beside a running daemon and without one."""

import json
import time
from collections.abc import Callable
from pathlib import Path

from tests.fakes.bittern_process import Bittern, call_command, run_command
from tests.fakes.payloads import Payload
from tests.fakes.processes import PATIENCE_S, wait_until


def test_a_call_that_was_given_up_is_found_and_told_again(
    tmp_path: Path, payload_of: Callable[..., Payload]
) -> None:
    payload = payload_of("hooked", 20_000, 16384)
    hook = tmp_path / "notes"
    hook.write_text(f'#!/bin/sh\necho "no ${{BITTERN_ATTEMPT}} \033[31m"; test -e {tmp_path}/go\n')
    hook.chmod(0o755)
    bittern = Bittern(
        tmp_path, hook={"on": ["added"], "command": [str(hook)], "retries": 1, "retry_after_s": 0.1}
    )

    own_process = ["list", "replay"]

    def hooks(*words: object) -> str:
        """The first two as they are typed, each a process of its own; then the same without starting one."""
        run = call_command
        if own_process and words[0] == own_process[0]:
            own_process.pop(0)
            run = run_command
        done = run("hooks", words[0], "--config", bittern.config, *words[1:])
        assert done.returncode == 0, done.stderr
        return done.stdout

    with bittern:
        bittern.give(payload)
        bittern.wait("hook.given_up")
        (one,) = json.loads(hooks("list", "--json"))
        assert (one["state"], one["event"], one["name"]) == ("dead", "added", payload.name)
        assert one["hooks"][0]["attempts"] == 2
        assert one["hooks"][0]["exit_status"] == 1
        told = hooks("show", one["id"][:20])
        assert "no 2" in told
        assert "\033" not in told
        assert one["id"] in hooks("list")
        (tmp_path / "go").touch()
        assert json.loads(hooks("replay", "--dead", "--json")) == [one["id"]]
        assert bittern.wait("hook.done", exit_status=0)["attempt"] == 3
        wait_until(lambda: json.loads(hooks("list", "--json"))[0]["state"] == "done", PATIENCE_S, "done")
    # without the daemon: the next start tells it
    hooks("replay", one["id"])
    with bittern:
        assert bittern.wait("hook.done")["attempt"] == 4
        wait_until(lambda: json.loads(hooks("list", "--json"))[0]["state"] == "done", PATIENCE_S, "done")
    assert hooks("purge", "--older-than", 1) == "0 deleted\n"
    time.sleep(0.01)
    assert json.loads(hooks("purge", "--json")) == {"deleted": 1}
    assert json.loads(hooks("list", "--json")) == []


def test_what_cannot_be_shown(tmp_path: Path) -> None:
    bittern = Bittern(tmp_path)
    unknown = run_command("hooks", "show", "0199", "--config", bittern.config)
    assert (unknown.returncode, unknown.stderr) == (66, "0199: no such delivery\n")
    assert run_command("hooks", "list", "--config", tmp_path / "none.toml").returncode == 78
    assert run_command("hooks", "replay", "--config", bittern.config).returncode == 2
    for words in (["list"], ["show"], ["replay"], ["purge"]):
        assert "Example" in call_command("hooks", *words, "--help").stdout
