"""bittern as its users have it: the installed command, a configuration file, watched folders, a log to read."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import httpx
from click.testing import CliRunner

from bittern.cli import commands
from bittern.disk.resume import ResumeRecord, load_record
from tests.fakes.payloads import Payload
from tests.fakes.processes import HOST, Program, wait_until

COMMAND = str(Path(sys.executable).with_name("bittern"))

HOOK = """#!/bin/sh
# One folder for each call: what the environment, the arguments and standard input said.
told=$(mktemp -d "{told}/.XXXXXXXX")
env >"$told/env"
cat >"$told/stdin"
pwd >"$told/cwd"
for word in "$@"; do printf '%s\\n' "$word"; done >"$told/argv"
mv "$told" "{told}/$BITTERN_EVENT.$BITTERN_EVENT_ID.$BITTERN_ATTEMPT.$$"
"""


class Told:
    """One call of the hook."""

    def __init__(self, folder: Path) -> None:
        self.event, self.event_id, self.attempt, _ = folder.name.split(".")
        lines = (folder / "env").read_text().splitlines()
        self.env = dict(line.split("=", 1) for line in lines if "=" in line)
        self.stdin = json.loads((folder / "stdin").read_text())
        self.argv = (folder / "argv").read_text().splitlines()
        self.cwd = (folder / "cwd").read_text().strip()


class Bittern(Program):
    """The daemon with a `drop`, a `downloads` and a `state` folder, and one hook that notes what it is told."""

    def __init__(self, work: Path, **tables: dict[str, Any]) -> None:
        super().__init__(work)
        self.command = [COMMAND]
        self.drop, self.downloads, self.state = work / "drop", work / "downloads", work / "state"
        self.told_folder = work / "told"
        for folder in (self.drop, self.downloads, self.told_folder):
            folder.mkdir(exist_ok=True)
        self.config = work / "bittern.toml"
        self.hook = work / "hook"
        self.hook.write_text(HOOK.format(told=self.told_folder))
        self.hook.chmod(0o755)
        self.tables: dict[str, Any] = {
            "paths": {"state": str(self.state), "downloads": str(self.downloads)},
            # a test that is about the DHT, or about neighbours, turns it on
            "network": {"listen": [HOST], "port": 0, "dht": False, "lsd": False},
            # several run at once, and there is one port that it takes unless told otherwise
            "web": {"enabled": False},
            "watch": {"folder": str(self.drop)},
            "hook": {
                "on": ["added", "completed", "failed", "removed"],
                "command": [str(self.hook), "{name}"],
            },
        }
        for name, table in tables.items():
            self.tables.setdefault(name, {}).update(table)
        self.write_config()
        self._events: list[dict[str, Any]] = []
        self._read_to = 0
        self._life = 0
        """Where in the events the present run of the daemon starts."""

    # -- running --------------------------------------------------------------------------------------------

    def write_config(self, extra: str = "") -> None:
        """What `tables` says, and then `extra`. (JSON's texts, numbers, flags and lists are TOML's too.)"""
        text = ""
        for name, table in self.tables.items():
            text += f"[[{name}]]\n" if name in {"watch", "hook"} else f"[{name}]\n"
            text += "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
        self.config.write_text(text + extra)

    @property
    def out(self) -> Path:
        return self.work / "events.jsonl"

    def start(self, until: str = "daemon.loaded") -> Self:
        """Returns at that event; "" for at once."""
        self.events()
        self._life = len(self._events)
        with self.out.open("ab") as out:
            self.spawn(*self.command, "run", "--config", self.config, "--log-format", "json", stdout=out)
        if until:
            self.wait(until)
        return self

    def run_to_end(self) -> subprocess.CompletedProcess[str]:
        """For a start that is refused."""
        argv = [COMMAND, "run", "--config", str(self.config), "--log-format", "json"]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: object, *_: object) -> None:
        was_alive = self.alive
        status = self.stop()
        if kind is None:
            self.check_unhurt()
            assert not was_alive or status == 0, f"exit status {status}"

    def stop(self) -> int:
        """SIGTERM; the stop must come within the 10 s that are promised, of those in which it may run."""
        began, held_up_s = time.monotonic(), 0.0
        was_alive = self.alive
        before = self.waits_s() if was_alive else {}
        self.signal(signal.SIGTERM)
        while self.alive and time.monotonic() - began < 60:
            held_up_s = max(held_up_s, self.held_up_s(before))
            time.sleep(0.01)
        status = super().stop()
        assert not was_alive or time.monotonic() - began - held_up_s < 10, "the stop took too long"
        return status

    def reload(self) -> None:
        self.signal(signal.SIGHUP)

    @property
    def port(self) -> int:
        ready = [event for event in self.events() if event["event"] == "daemon.ready"]
        return int(ready[-1]["port"])

    @contextlib.contextmanager
    def api(self) -> Iterator[httpx.Client]:
        """Who has spoken with it, over its socket; through an open folder, for a socket's path may not be long."""
        folder = os.open(self.work / "state", os.O_PATH)
        try:
            over = httpx.HTTPTransport(uds=f"/proc/self/fd/{folder}/control.sock")
            with httpx.Client(transport=over, base_url="http://bittern", timeout=60) as client:
                client.get("/api/v1/session").raise_for_status()
                yield client
        finally:
            os.close(folder)

    @property
    def udp_port(self) -> int:
        ready = [event for event in self.events() if event["event"] == "daemon.ready"]
        return int(ready[-1]["udp_port"])

    def check_unhurt(self) -> None:
        """No bug was reported and nothing but the log was printed."""
        assert not [event for event in self.events() if event["event"] == "bug"]
        assert self.log.read_text(errors="replace") == ""

    # -- its log --------------------------------------------------------------------------------------------

    def events(self, event: str = "", /, *, this_run: bool = False, **where: object) -> list[dict[str, Any]]:
        """What it has told so far, over all its runs or since its last start."""
        if self.out.exists():
            with self.out.open("rb") as out:
                out.seek(self._read_to)
                whole = out.read().rpartition(b"\n")
            self._read_to += len(whole[0]) + len(whole[1])
            # A killed daemon may leave half a line, and the next run goes on behind it.
            self._events += [
                json.loads(line[line.rindex(b'{"time') :]) for line in whole[0].splitlines() if line
            ]
        return [
            one
            for one in (self._events[self._life :] if this_run else self._events)
            if (not event or one["event"] == event)
            and all(one.get(key) == value for key, value in where.items())
        ]

    def wait(
        self, event: str, timeout_s: float = 120, /, *, count: int = 1, **where: object
    ) -> dict[str, Any]:
        """The last of at least `count` such events of this run."""

        def seen() -> list[dict[str, Any]] | None:
            found = self.events(event, this_run=True, **where)
            if len(found) < count:
                if not self.alive:
                    raise AssertionError(f"bittern ended before {event}:\n{self.tail()}")
                return None
            return found

        try:
            return wait_until(seen, timeout_s, event)[-1]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.tail()}") from None

    def tail(self) -> str:
        lines = [json.dumps(event) for event in self.events()[-30:]]
        return "\n".join(lines) + "\n" + self.log.read_text(errors="replace")[-4000:]

    # -- what it is given, and what it leaves -----------------------------------------------------------------

    def give(self, payload: Payload, *trackers: str, name: str = "") -> None:
        """Renamed into the watched folder, whole."""
        coming = self.work / ".coming"
        coming.write_bytes(payload.blob(*trackers))
        coming.rename(self.drop / (name or f"{payload.name}.torrent"))

    def give_links(self, *lines: str, name: str = "links.magnet") -> None:
        """A file of magnet links, renamed into the watched folder."""
        coming = self.work / ".coming"
        coming.write_text("".join(f"{line}\n" for line in lines))
        coming.rename(self.drop / name)

    def told(self, event: str = "") -> list[Told]:
        """What the hook was told, in order."""
        calls = sorted(
            (folder for folder in self.told_folder.iterdir() if not folder.name.startswith(".")),
            key=lambda folder: folder.stat().st_mtime_ns,
        )
        return [Told(folder) for folder in calls if not event or folder.name.startswith(f"{event}.")]

    def wait_told(self, event: str, count: int = 1) -> Told:
        wait_until(lambda: len(self.told(event)) >= count, 120, f"{count} hook calls for {event}")
        return self.told(event)[-1]

    def records(self) -> dict[str, ResumeRecord]:
        """By info hash; what a crash would leave us with."""
        found = {}
        for path in sorted((self.state / "resume").glob("[0-9a-f]*.toml")):
            record = load_record(path.read_bytes())
            found[record.info_hash.hex()] = record
        return found

    def claimed(self, payload: Payload) -> list[int]:
        """The pieces that its record says are on the disk."""
        record = self.records().get(payload.info_hash)
        if record is None:
            return []
        if record.state == "complete":
            return list(range(payload.piece_count))
        return [n for n in range(payload.piece_count) if record.have and record.have[n // 8] & 0x80 >> n % 8]


def run_command(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Any other bittern command."""
    return subprocess.run(
        [COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "100"},
        **options,
    )


def call_command(*words: object) -> subprocess.CompletedProcess[str]:
    """The same without a process of its own: to start one takes much longer than what most commands do."""
    argv = [str(word) for word in words]
    done = CliRunner().invoke(commands.bittern, argv, prog_name="bittern", env={"COLUMNS": "100"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return subprocess.CompletedProcess(argv, done.exit_code, done.stdout, done.stderr)
