import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import structlog
import trio

from bittern.daemon import hooks as hooks_module
from bittern.daemon import process, spooling
from bittern.daemon.app import Daemon
from bittern.daemon.audience import runs_for
from bittern.daemon.config import Config, Hook, Hooks, Webhook
from bittern.daemon.deliveries import Delivery, load_delivery
from bittern.daemon.descendants import adopt_orphans, bury_orphans, somebody_ended
from bittern.daemon.hooks import HookRunner
from bittern.daemon.refusals import Refusal
from bittern.daemon.spool import Spool
from bittern.engine.events import (
    Added,
    Arrived,
    Checked,
    Completed,
    DiskLow,
    Failed,
    Recovered,
    Removed,
    TorrentFacts,
    TrackerTrouble,
)
from bittern.engine.supervision import Supervisor
from bittern.errors import StateError
from bittern.net.http import HttpResponse, Unreachable
from bittern.terms import InfoHash
from tests.fakes.faults import Fault


def facts(number=1, **changes):
    return TorrentFacts(
        **{
            "number": number,
            "info_hash": InfoHash(bytes([number]) * 20),
            "name": f"name {number}; $(false)",
            "path": f"/d/name {number}",
            "folder": "/d",
            "size_bytes": 5,
            "labels": ("films", "hd"),
            "trackers": ("http://t.example/announce",),
            "downloaded_bytes": 6,
            "watch": "/drop/tv",
        }
        | changes
    )


def completed(number=1, event_id=None, **changes):
    return Completed(
        facts=facts(number, **changes),
        event_id=event_id or f"event-{number}",
        reason="downloaded",
        at_wall=1.5,
    )


class FakeSession:
    def __init__(self):
        self.told = []

    def delivered(self, info_hash, event_id):
        self.told.append((info_hash, event_id))


class NoWeb:
    async def post(self, url, body, *, headers, max_bytes, deadline_s):
        raise Unreachable("cannot be reached (no web here)")


@pytest.fixture
def log():
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
def world(tmp_path, log):
    return World(tmp_path, log)


class World:
    """A state folder, a session, and hooks written for one test."""

    def __init__(self, tmp_path, log):
        self.base = tmp_path
        self.state = tmp_path / "state"
        self.state.mkdir()
        self.pending = self.state / "deliveries" / "pending"
        self.done = self.state / "deliveries" / "done"
        self.dead = self.state / "deliveries" / "dead"
        self.session = FakeSession()
        self.log = log
        self.told = []
        self.supervisor = Supervisor(self.told.append)

    def script(self, body, name="hook", shell="/bin/sh"):
        path = self.base / name
        path.write_text(f"#!{shell}\n{body}\n")
        path.chmod(0o755)
        return str(path)

    def hook(
        self,
        body,
        *arguments,
        on=("completed",),
        timeout_s=20.0,
        name="hook",
        shell="/bin/sh",
        retries=0,
        **terms,
    ):
        command = (self.script(body, name, shell), *arguments)
        return Hook(on=on, command=command, timeout_s=timeout_s, retries=retries, **terms)

    def runner(self, *hooks, parallel=2):
        runner = HookRunner(
            Config(hook=hooks, hooks=Hooks(parallel=parallel)),
            self.state,
            http=NoWeb(),
            supervisor=self.supervisor,
            rng=random.Random(7),
            environ={**os.environ, "NOTIFY_SOCKET": "/run/secret"},
        )
        runner.bind(self.session)
        return runner

    @asynccontextmanager
    async def running(self, *hooks, parallel=2):
        runner = self.runner(*hooks, parallel=parallel)
        async with trio.open_nursery() as nursery:
            await nursery.start(runner.run)
            yield runner
            nursery.cancel_scope.cancel()

    def ended(self):
        return [line for line in self.log if line["event"] == "hook.done"]

    async def cut_short(self, body, timeout_s=0.3):
        """The end of a hook that got as far as READY, and then took too long: on a slow machine it needs more time."""
        ready = self.base / "ready"
        for number in range(3):
            hook = self.hook(body.replace("READY", f": > {ready}"), timeout_s=timeout_s * 8**number)
            async with self.running(hook) as runner:
                runner.submit(completed(event_id=f"try-{number}"))
                lines = await self.until_ended(number + 1)
            if ready.exists():
                break
        return lines[-1]

    async def until_ended(self, count=1):
        await until(lambda: len(self.ended()) >= count)
        return self.ended()


async def until(true, seconds=60.0):
    with trio.fail_after(seconds):
        while not true():
            await trio.sleep(0.005)


def text(path):
    return path.read_text() if path.exists() else ""


async def test_argv_environment_stdin_and_place(world):
    out = world.base / "out"
    code = f"""
import json, os, sys
told = {{"argv": sys.argv[1:], "env": dict(os.environ), "stdin": json.load(sys.stdin), "cwd": os.getcwd(),
        "leader": os.getpgid(0) == os.getpid() == os.getsid(0)}}
json.dump(told, open({str(out)!r} + ".tmp", "w"))
os.rename({str(out)!r} + ".tmp", {str(out)!r})
print("told you")
"""
    hook = world.hook(code, "{name}", "--to={path}", "{info_hash}/{label}/{labels}", shell=sys.executable)
    async with world.running(hook) as runner:
        runner.submit(completed(path="/d/\udcff"))
        (line,) = await world.until_ended()
    told = json.loads(out.read_text())
    assert told["argv"] == ["name 1; $(false)", "--to=/d/\udcff", "01" * 20 + "/films/films,hd"]
    assert told["cwd"] == "/"
    assert told["leader"] is True
    assert told["env"]["BITTERN_EVENT_ID"] == "event-1"
    labels = [told["env"][key] for key in ("BITTERN_LABEL", "BITTERN_LABELS", "TR_TORRENT_LABELS")]
    assert labels == ["films", "films,hd", "films,hd"]
    assert told["env"]["TR_TORRENT_NAME"] == "name 1; $(false)"
    assert "NOTIFY_SOCKET" not in told["env"]
    assert told["stdin"] == {
        "event": "completed",
        "event_id": "event-1",
        "attempt": 1,
        "time": 1,
        "info_hash": "01" * 20,
        "name": "name 1; $(false)",
        "path": "/d/\udcff",
        "dir": "/d",
        "size_bytes": 5,
        "label": "films",
        "labels": ["films", "hd"],
        "watch": "/drop/tv",
        "reason": "downloaded",
    }
    assert line["exit_status"] == 0
    assert line["output"] == "told you"
    assert line["attempt"] == 1
    assert line["on"] == "completed"
    assert line["log_level"] == "info"
    assert world.session.told == [(InfoHash(b"\x01" * 20), "event-1")]
    kept = load_delivery((world.done / "event-1.toml").read_bytes())
    assert (kept.runs[0].exit_status, kept.runs[0].output, kept.runs[0].attempts) == (0, "told you", 1)
    assert not list(world.pending.iterdir())


async def test_each_hook_gets_the_events_it_asked_for(world):
    out = world.base / "out"
    record = f'echo "$0 $BITTERN_EVENT $BITTERN_REASON" | sed "s,.*/,," >> {out}'
    ends = world.hook(record, name="ends", on=("completed", "removed"))
    other = world.hook(record, name="other", on=("added", "failed", "completed"))
    async with world.running(ends, other, parallel=1) as runner:
        runner.submit(Added(facts=facts(), event_id="e1", at_wall=1))
        runner.submit(Checked(facts=facts(), complete=False, hashed_bytes=0, at_wall=1))
        runner.submit(Failed(facts=facts(), event_id="e2", reason="disk full", retry_in_s=1, at_wall=1))
        runner.submit(completed(event_id="e3"))
        runner.submit(Removed(facts=facts(), event_id="e4", reason="drop removed", at_wall=1))
        await world.until_ended(5)
    # one torrent's events keep their order
    assert text(out).splitlines() == [
        "other added ",
        "other failed disk full",
        "ends completed downloaded",
        "other completed downloaded",
        "ends removed drop removed",
    ]


async def test_a_completed_event_that_nobody_asked_for_is_delivered_at_once(world):
    async with world.running() as runner:
        runner.submit(completed())
        await until(lambda: world.session.told)
    assert not list(world.pending.iterdir())
    assert not list(world.done.iterdir())


async def test_the_same_event_twice_runs_once(world):
    out = world.base / "out"
    hook = world.hook(f"echo x >> {out}")
    async with world.running(hook) as runner:
        runner.submit(completed())
        runner.submit(completed())
        await world.until_ended()
        runner.submit(completed())
        await until(lambda: len(world.session.told) == 3)
    async with world.running(hook) as runner:
        runner.submit(completed())
        await until(lambda: len(world.session.told) == 4)
    assert text(out) == "x\n"


async def test_two_at_a_time(world):
    out = world.base / "out"
    # each waits for a second one beside it, but for the last, and then a little for a third
    second = f"[ $(grep -c + {out}) -ge 2 ]"
    hook = world.hook(f"echo + >> {out}; until {second}; do sleep 0.01; done; sleep 0.1; echo - >> {out}")
    async with world.running(hook, parallel=2) as runner:
        for number in range(1, 7):
            runner.submit(completed(number))
        await world.until_ended(6)
    running = most = 0
    for line in text(out).split():
        running += 1 if line == "+" else -1
        most = max(most, running)
    assert most == 2


@pytest.mark.parametrize(
    ("body", "status", "level"),
    [("exit 3", 3, "warning"), ("kill -9 $$", -9, "warning"), ("exit 0", 0, "info")],
)
async def test_exit_status(world, body, status, level):
    async with world.running(world.hook(f"echo why; {body}")) as runner:
        runner.submit(completed())
        (line,) = await world.until_ended()
    assert line["exit_status"] == status
    assert line["output"] == "why"
    assert line["log_level"] == level
    assert list((world.dead if status else world.done).iterdir())


async def test_a_program_that_cannot_be_started_is_told_and_holds_up_nobody(world):
    plain = world.base / "plain"
    plain.write_text("no program")
    hooks = [
        Hook(on=("completed",), command=("/does/not/exist",), retries=0),
        Hook(on=("completed",), command=(str(plain),), retries=0),
        world.hook("exit 0"),
    ]
    async with world.running(*hooks) as runner:
        runner.submit(completed())
        lines = await world.until_ended(3)
    assert [line["exit_status"] for line in lines] == [127, 126, 0]
    assert "cannot be started" in lines[0]["error"]


@pytest.mark.parametrize(
    ("head", "status", "words"),
    [
        (b"echo ran by $0 $1\n", 0, "ran by"),
        (b"\x7fELF\0\0\0\0", 126, "no program for this machine"),
        (b"", 126, "no program for this machine"),
        (b"#!/no/such/interpreter -x\n", 127, '"/no/such/interpreter -x", as its first line says'),
        (b"#!/bin/sh\r\necho\r\n", 127, "line ends of Windows"),
    ],
)
async def test_what_can_be_wrong_with_a_program(world, head, status, words):
    program = world.base / "program"
    program.write_bytes(head)
    program.chmod(0o755)
    hook = Hook(on=("completed",), command=(str(program), "{label}"), retries=0)
    async with world.running(hook) as runner:
        runner.submit(completed())
        (line,) = await world.until_ended()
    assert line["exit_status"] == status
    assert words in (line["output"] or line["error"])
    assert status or line["output"] == f"ran by {program} films"


async def test_who_is_ended_and_says_that_all_is_well_was_not_told(world):
    line = await world.cut_short("trap 'exit 0' TERM; READY; sleep 60 & wait")
    assert list(world.dead.iterdir())
    assert (line["exit_status"], line["timed_out"]) == (124, True)


async def test_a_flood_of_output_keeps_its_last_4_kib(world):
    hook = world.hook("head -c 3000000 /dev/zero | tr '\\0' x; echo; echo the end >&2")
    async with world.running(hook) as runner:
        runner.submit(completed())
        (line,) = await world.until_ended()
    assert len(line["output"]) <= 4096
    assert line["output"].endswith("xx\nthe end")


async def test_output_that_is_not_text_is_kept(world):
    async with world.running(world.hook("printf '\\377\\000\\033ok'")) as runner:
        runner.submit(completed())
        (line,) = await world.until_ended()
    assert line["output"].endswith("ok")


async def test_timeout_ends_the_whole_group_also_what_ignores_term(world, monkeypatch):
    monkeypatch.setattr(process, "TERM_PATIENCE_S", 0.3)
    pids = world.base / "pids"
    line = await world.cut_short(
        f"trap '' TERM; (trap '' TERM; sleep 60) & echo $$ $! > {pids}; READY; sleep 60; sleep 60"
    )
    assert line["exit_status"] == -signal.SIGKILL
    assert line["timed_out"] is True
    for pid in map(int, text(pids).split()):
        await until(lambda pid=pid: not alive(pid))
    assert list(world.dead.iterdir())


@pytest.fixture
def adopting():
    adopt_orphans()
    yield
    bury_orphans()
    adopt_orphans(adopt=False)


ESCAPES = {
    "a session of its own": "setsid sh -c 'echo $$ >> PIDS; trap \"\" TERM; sleep 60; sleep 60' &",
    "and without its parent": "(setsid sh -c 'echo $$ >> PIDS; trap \"\" TERM; sleep 60; sleep 60' & );",
    "and with another environment": "env -i setsid sh -c 'echo $$ >> PIDS; trap \"\" TERM; sleep 60; sleep 60' &",
    "one after the other": 'setsid sh -c \'trap "" TERM; while :; do '
    "(setsid sleep 60 & echo $! >> PIDS); sleep 0.02; done' &",
}


@pytest.mark.parametrize("ends_at_term", [False, pytest.param(True, marks=pytest.mark.proof)])
@pytest.mark.parametrize(
    "how",
    [
        "and without its parent",
        *(pytest.param(how, marks=pytest.mark.proof) for how in ESCAPES if how != "and without its parent"),
    ],
)
async def test_timeout_ends_those_too_who_left_the_group(world, monkeypatch, adopting, how, ends_at_term):
    monkeypatch.setattr(process, "TERM_PATIENCE_S", 0.3)
    pids = world.base / "pids"
    await_pids = f"while ! [ -s {pids} ]; do sleep 0.01; done; echo ready"
    stays = "" if ends_at_term else "trap '' TERM;"
    escapes = ESCAPES[how].replace("PIDS", str(pids))
    line = await world.cut_short(
        f"rm -f {pids}; {stays} {escapes} {await_pids}; READY; sleep 60; sleep 60", timeout_s=0.8
    )
    assert line["timed_out"]
    assert line["output"].startswith("ready")
    for pid in map(int, text(pids).split()):
        assert not alive(pid)
    # nor does anybody wait to be taken leave of
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


async def test_who_is_left_in_the_background_in_peace_lives_on_and_is_buried(world, monkeypatch, adopting):
    monkeypatch.setattr(hooks_module, "REPLAY_LOOK_S", 0.02)
    pids = world.base / "pids"
    quiet = world.hook(f"setsid sleep 60 & echo $! > {pids}; echo done", name="quiet")
    long = world.hook("sleep 60", name="long", timeout_s=0.3)
    async with world.running(quiet, long, parallel=1) as runner:
        runner.submit(completed())
        await world.until_ended(2)
        pid = int(text(pids))
        assert alive(pid)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not os.path.exists(f"/proc/{pid}"))


def test_nobody_is_looked_for_while_none_has_ended():
    assert not somebody_ended()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert not somebody_ended()
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert somebody_ended()
    assert not somebody_ended()


async def test_timeout_lets_a_polite_one_clean_up(world):
    line = await world.cut_short("trap 'echo cleaned; exit 7' TERM; READY; sleep 60 & wait")
    assert (line["exit_status"], line["output"], line["timed_out"]) == (7, "cleaned", True)


async def test_a_grandchild_that_keeps_the_pipe_holds_up_nothing(world):
    pids = world.base / "pids"
    hook = world.hook(f"setsid sleep 60 & echo $! > {pids}; echo done")
    async with world.running(hook) as runner:
        runner.submit(completed())
        (line,) = await world.until_ended()
    assert (line["exit_status"], line["output"]) == (0, "done")
    pid = int(text(pids))
    assert alive(pid)
    os.kill(pid, signal.SIGKILL)


async def test_a_hook_that_does_not_read_a_long_message(world):
    async with world.running(world.hook("exit 0")) as runner:
        runner.submit(completed(name="x" * 300_000))
        (line,) = await world.until_ended()
    assert line["exit_status"] == 0


# ---------------------------------------------------------------------------------------- trying again


async def test_a_hook_that_fails_is_tried_again_until_it_works(world):
    out = world.base / "out"
    hook = world.hook(
        f"echo $BITTERN_EVENT_ID $BITTERN_ATTEMPT >> {out}; test $BITTERN_ATTEMPT = 3",
        retries=5,
        retry_after_s=0.01,
    )
    async with world.running(hook) as runner:
        runner.submit(completed())
        lines = await world.until_ended(3)
    assert text(out).splitlines() == ["event-1 1", "event-1 2", "event-1 3"]
    assert [line["exit_status"] for line in lines] == [1, 1, 0]
    assert [line["retry_in_s"] for line in lines] == [0.01, 0.02, None]
    assert list(world.done.iterdir())
    assert not list(world.dead.iterdir())


async def test_a_hook_is_given_up_and_its_last_words_are_kept(world):
    hook = world.hook("echo because; exit 9", retries=2, retry_after_s=0.01)
    async with world.running(hook) as runner:
        runner.submit(completed())
        await until(lambda: any(line["event"] == "hook.given_up" for line in world.log))
        await until(lambda: list(world.dead.iterdir()))
    assert len(world.ended()) == 3
    (run,) = load_delivery((world.dead / "event-1.toml").read_bytes()).runs
    assert (run.exit_status, run.output, run.attempts) == (9, "because", 3)
    async with world.running(hook) as runner:
        runner.submit(completed())
        await until(lambda: len(world.session.told) == 2)
    assert len(world.ended()) == 3, "what was given up is not taken in again"


async def test_a_failing_hook_holds_up_its_own_torrents_later_events_only(world):
    out = world.base / "out"
    record = f"echo $(basename $0) $BITTERN_NAME $BITTERN_EVENT >> {out}"
    bad = world.hook(f"{record}; test -e {world.base}/go", name="bad", retries=50, retry_after_s=0.01)
    good = world.hook(record, name="good", on=("completed", "removed"))
    async with world.running(bad, good, parallel=1) as runner:
        runner.submit(completed(1, name="a"))
        runner.submit(Removed(facts=facts(1, name="a"), event_id="e9", reason="", at_wall=1))
        await until(lambda: text(out).count("bad a completed") >= 2)
        # another hook of the same event does not wait
        await until(lambda: "good a completed" in text(out))
        runner.submit(completed(2, name="b"))
        await until(lambda: "good b completed" in text(out))
        assert "removed" not in text(out)
        (world.base / "go").touch()
        await until(lambda: "good a removed" in text(out))


async def test_the_pause_of_a_failed_hook_outlives_the_daemon(world):
    hook = world.hook("exit 1", retries=5, retry_after_s=3600)
    async with world.running(hook) as runner:
        runner.submit(completed())
        await world.until_ended()
        await until(lambda: load_delivery((world.pending / "event-1.toml").read_bytes()).runs[0].due_wall)
    async with world.running(hook):
        await trio.sleep(0.2)
    assert len(world.ended()) == 1


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
async def test_a_clock_that_is_set_while_a_failed_hook_pauses_changes_nothing(world, monkeypatch, jump_s):
    offset_s = 0
    monkeypatch.setattr(hooks_module, "time", SimpleNamespace(time=lambda: time.time() + offset_s))
    hook = world.hook("test $BITTERN_ATTEMPT = 2", retries=5, retry_after_s=0.3)
    async with world.running(hook) as runner:
        began = trio.current_time()
        runner.submit(completed())
        await world.until_ended(1)
        # the pause has begun
        await trio.testing.wait_all_tasks_blocked(0.01)
        offset_s = jump_s
        await world.until_ended(2)
        assert trio.current_time() - began > 0.3, "the pause is kept"


async def test_events_of_a_torrent_keep_their_order_over_a_restart_whatever_their_ids_say(world):
    out = world.base / "out"
    hook = world.hook(
        f"test -e {world.base}/go && echo $BITTERN_EVENT >> {out}",
        on=("completed", "failed", "removed"),
        retries=500,
        retry_after_s=0.01,
    )
    async with world.running(hook) as runner:
        # the clock is set back, and back again
        runner.submit(completed(event_id="id-5"))
        await until(lambda: (world.pending / "id-5.toml").exists())
        runner.submit(Failed(facts=facts(), event_id="id-3", reason="", retry_in_s=1.0, at_wall=1))
        await until(lambda: (world.pending / "id-3.toml").exists())
    async with world.running(hook) as runner:
        runner.submit(Removed(facts=facts(), event_id="id-1", reason="", at_wall=1))
        await until(lambda: (world.pending / "id-1.toml").exists())
    (world.base / "go").touch()
    async with world.running(hook):
        await until(lambda: len(text(out).splitlines()) == 3)
    assert text(out).splitlines() == ["completed", "failed", "removed"]


async def test_what_was_given_up_is_replayed_while_the_daemon_runs(world, monkeypatch):
    monkeypatch.setattr(hooks_module, "REPLAY_LOOK_S", 0.05)
    out = world.base / "out"
    hook = world.hook(f"echo $BITTERN_EVENT_ID $BITTERN_ATTEMPT >> {out}; test -e {world.base}/go")
    async with world.running(hook) as runner:
        runner.submit(completed())
        await until(lambda: list(world.dead.iterdir()))
        (world.base / "go").touch()
        Spool.below(world.state).ask_replay("event-1")
        await until(lambda: list(world.done.iterdir()))
    assert text(out).splitlines() == ["event-1 1", "event-1 2"]
    assert not list(world.dead.iterdir())


async def test_filters(world):
    out = world.base / "out"
    body = f"echo $(basename $0) $BITTERN_EVENT_ID >> {out}"
    hooks = [
        world.hook(body, name="films", label=("films", "tv-*")),
        world.hook(body, name="tracked", tracker=("*.example",)),
        world.hook(body, name="both", label=("other",), tracker=("t.example",)),
    ]
    async with world.running(*hooks, parallel=1) as runner:
        runner.submit(completed(1, labels=("new", "films")))
        runner.submit(completed(2, labels=("tv-x",), trackers=("http://elsewhere/announce",)))
        runner.submit(completed(3, labels=("other",)))
        runner.submit(completed(4, labels=(), trackers=("http://[half/an/address",)))
        await world.until_ended(5)
        await until(lambda: len(world.session.told) == 4)
    assert sorted(text(out).splitlines()) == sorted(
        ["films event-1", "tracked event-1", "films event-2", "tracked event-3", "both event-3"]
    )


@pytest.mark.parametrize(
    ("patterns", "asks"),
    [
        (("/drop",), True),
        (("/drop/tv",), True),
        (("*/tv",), True),
        (("/drop/films", "/dro"), False),
        (("/drop/tv/x",), False),
        ((), True),
    ],
)
def test_a_watch_filter_is_for_a_folder_and_what_is_below_it(patterns, asks):
    hook = Hook(on=("completed",), command=("/x",), watch=patterns)
    webhook = Webhook(on=("completed",), url="https://x/", watch=patterns)
    config = Config(hook=(hook,), webhook=(webhook,))
    assert len(runs_for(config, "completed", facts())) == 2 * asks
    assert len(runs_for(config, "completed", facts(watch=""))) == 2 * (not patterns)


def test_a_hook_with_a_name_is_told_of_those_only_who_name_it():
    config = Config(hook=(Hook(on=("completed",), command=("/x",), name="unpack"),))
    assert not runs_for(config, "completed", facts())
    assert not runs_for(config, "completed", facts(hooks=("other",)))
    assert runs_for(config, "completed", facts(hooks=("other", "unpack")))


def refusal(name="x.torrent", **changes):
    return Refusal(
        **{
            "path": f"/drop/rejected/{name}",
            "drop_path": f"/drop/{name}",
            "reason": "not bencode",
            "watch": "/drop",
            "label": "films",
            "size_bytes": 3,
            "event_id": f"refused-{name[0]}",
            "at_wall": 1.5,
        }
        | changes
    )


async def test_a_refused_drop_is_durable_before_it_is_set_aside_and_told_once(world):
    out = world.base / "out"
    hook = world.hook(
        f'exec >> {out}; echo "$BITTERN_EVENT $BITTERN_NAME $BITTERN_PATH $BITTERN_REASON [$BITTERN_INFO_HASH]"; cat',
        on=("rejected",),
        watch=("/drop",),
    )
    async with world.running(hook) as runner:
        assert await runner.refused(refusal())
        [kept] = [*world.pending.glob("*.toml"), *world.done.glob("*.toml")]
        assert kept.stem == "refused-x"
        assert await runner.refused(refusal(watch="/else", event_id="another"))
        await world.until_ended(1)
        assert await runner.refused(refusal())
    lines = text(out).splitlines()
    assert lines[0] == "rejected x.torrent /drop/rejected/x.torrent not bencode []"
    told = json.loads(lines[1])
    assert (told["path"], told["reason"], told["info_hash"], told["watch"]) == (
        "/drop/rejected/x.torrent",
        "not bencode",
        "",
        "/drop",
    )
    assert len(lines) == 2


async def test_a_refused_drop_waits_for_a_state_folder_that_can_be_written(world, monkeypatch):
    monkeypatch.setattr(spooling, "DURABLE_WITHIN_S", 0.05)
    monkeypatch.setattr(spooling, "RETRY_S", (0.05,))
    async with world.running(world.hook("exit 0", on=("rejected",))) as runner:
        moved = world.base / "moved"
        world.pending.rename(moved)
        assert not await runner.refused(refusal())
        moved.rename(world.pending)
        monkeypatch.setattr(spooling, "DURABLE_WITHIN_S", 60)
        with trio.fail_after(60):
            while not await runner.refused(refusal()):
                pass
        await world.until_ended()
    assert len(world.ended()) == 1


async def test_refused_drops_do_not_wait_for_each_other(world):
    gate = world.base / "gate"
    slow = world.hook(
        f'[ "$BITTERN_NAME" = b.torrent ] || [ -e {gate} ]', on=("rejected",), retries=3, retry_after_s=60.0
    )
    async with world.running(slow) as runner:
        await runner.refused(refusal("a.torrent"))
        await world.until_ended(1)
        await runner.refused(refusal("b.torrent"))
        lines = await world.until_ended(2)
    assert [line["exit_status"] for line in lines] == [1, 0]


async def test_what_waits_for_the_state_folder_is_bounded(world, monkeypatch):
    monkeypatch.setattr(spooling, "WAITING_AT_MOST", 3)
    runner = world.runner(world.hook("exit 0", on=("failed", "completed")))
    for number in range(5):
        runner.submit(Failed(facts=facts(), event_id=f"f{number}", reason="", retry_in_s=1, at_wall=1))
    runner.submit(completed())
    async with trio.open_nursery() as nursery:
        await nursery.start(runner.run)
        await world.until_ended(4)
        nursery.cancel_scope.cancel()
    (lost,) = [line for line in world.log if line["event"] == "hook.events_lost"]
    assert lost["events"] == 2
    assert world.session.told


async def test_a_webhook_that_left_the_configuration_is_given_up(world):
    webhook = Webhook(
        on=("completed",), url="https://user:pass@web.example/x?y=z", retries=3, retry_after_s=0.05
    )

    class Web(NoWeb):
        async def post(self, *words, **terms):
            # it leaves while it is told
            runner.apply(Config())
            await super().post(*words, **terms)

    runner = HookRunner(
        Config(webhook=(webhook,)),
        world.state,
        http=Web(),
        supervisor=world.supervisor,
        rng=random.Random(7),
    )
    runner.bind(world.session)
    async with trio.open_nursery() as nursery:
        await nursery.start(runner.run)
        runner.submit(completed())
        line = (await world.until_ended())[0]
        assert (line["url"], line["exit_status"]) == ("https://web.example", 1)
        assert "command" not in line
        await until(lambda: list(world.dead.iterdir()))
        nursery.cancel_scope.cancel()
    assert "not in the configuration" in world.ended()[-1]["error"]


@pytest.mark.parametrize("lacking", ["pipe2", "pidfd_open"])
async def test_short_of_descriptors_a_hook_is_tried_again(world, monkeypatch, lacking):
    real, left = getattr(os, lacking), [1]

    def short(*words):
        if left:
            left.pop()
            raise OSError(errno.EMFILE, "Too many open files")
        return real(*words)

    monkeypatch.setattr(os, lacking, short)
    async with world.running(world.hook("exit 0", retries=1, retry_after_s=0.01)) as runner:
        runner.submit(completed())
        lines = await world.until_ended(2)
    assert [line["exit_status"] for line in lines] == [126, 0]
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


async def test_short_of_descriptors_a_hook_is_ended_and_nothing_falls(world, monkeypatch, adopting):
    monkeypatch.setattr(hooks_module, "REPLAY_LOOK_S", 0.01)
    monkeypatch.setattr(process, "TERM_PATIENCE_S", 0.3)
    looks = []

    def short_for(real):
        def look(path="."):
            if str(path).startswith("/proc"):
                looks.append(path)
                raise OSError(errno.EMFILE, "Too many open files", path)
            return real(path)

        return look

    for name in ("listdir", "scandir"):
        monkeypatch.setattr(os, name, short_for(getattr(os, name)))
    line = await world.cut_short("trap '' TERM; READY; sleep 60; sleep 60")
    assert (line["exit_status"], line["timed_out"]) == (-signal.SIGKILL, True)
    assert {"/proc", "/proc/self/task"} <= set(map(str, looks))


async def test_the_hooks_folder(world):
    out = world.base / "out"
    folder = world.base / "hooks {d}"
    (folder / "completed").mkdir(parents=True)
    for name in ("b", "a {name}", ".c", "d"):
        world.script(f'echo "$(basename "$0")" >> {out}', name=f"hooks {{d}}/completed/{name}")
    (folder / "completed" / "d").chmod(0o644)
    (folder / "completed" / "e").mkdir()
    # what the kernel will not even look at: a link to where we may not go is another such
    (folder / "completed" / "f").symlink_to("x" * 300)
    runner = HookRunner(
        Config(hooks=Hooks(folder=str(folder))),
        world.state,
        http=NoWeb(),
        supervisor=world.supervisor,
        rng=random.Random(7),
    )
    runner.bind(world.session)
    async with trio.open_nursery() as nursery:
        await nursery.start(runner.run)
        runner.submit(completed())
        runner.submit(Added(facts=facts(), event_id="e1", at_wall=1))
        await world.until_ended(2)
        await until(lambda: list(world.done.iterdir()))
        nursery.cancel_scope.cancel()
    assert text(out).splitlines() == ["a {name}", "b"]


async def test_who_asks_for_an_event_is_known_before_it_is_told(world):
    added = Added(facts=facts(), event_id="e1", at_wall=1)
    arrived = Arrived(facts=facts(), event_id="e2", at_wall=1)
    async with world.running(world.hook("true", on=("downloaded",), label=("music",))) as runner:
        assert not any(map(runner.asks_for, (added, arrived, completed())))
        assert runner.asks_for(Arrived(facts=facts(labels=("music",)), event_id="e2", at_wall=1))
        (world.base / "hooks" / "completed").mkdir(parents=True)
        runner.apply(Config(hooks=Hooks(folder=str(world.base / "hooks"))))
        # nobody has looked into it yet
        assert all(map(runner.asks_for, (added, arrived, completed())))
        runner.submit(added)
        await until(lambda: not runner.asks_for(added))
        assert not runner.asks_for(arrived)
        assert runner.asks_for(completed())


async def test_what_the_hooks_folder_held_is_believed_for_a_moment(world, monkeypatch):
    async with world.running() as runner:
        runner.apply(Config(hooks=Hooks(folder=str(world.base / "hooks"))))
        runner.submit(completed())
        await until(lambda: not runner.asks_for(completed()))
        monkeypatch.setattr(spooling, "LOOKED_WITHIN_S", 0.0)
        assert runner.asks_for(completed())


async def test_short_of_descriptors_the_hooks_folder_is_asked_again(world, monkeypatch):
    monkeypatch.setattr(spooling, "RETRY_S", (0.01,))
    (world.base / "hooks" / "completed").mkdir(parents=True)
    world.script("echo ran", name="hooks/completed/one")
    real, left = os.listdir, [1]

    def short(path="."):
        if str(path).endswith("hooks/completed") and left:
            left.pop()
            raise OSError(errno.EMFILE, "Too many open files", path)
        return real(path)

    monkeypatch.setattr(os, "listdir", short)
    async with world.running() as runner:
        runner.apply(Config(hooks=Hooks(folder=str(world.base / "hooks"))))
        runner.submit(completed())
        (line,) = await world.until_ended()
    assert line["output"] == "ran"


async def test_events_of_the_way(world):
    out = world.base / "out"
    on = ("downloaded", "recovered", "tracker-error")
    hook = world.hook(f'echo "$BITTERN_EVENT $BITTERN_REASON" >> {out}', on=on)
    async with world.running(hook) as runner:
        runner.submit(Arrived(facts=facts(), event_id="e1", at_wall=1))
        runner.submit(Recovered(facts=facts(), at_wall=1))
        runner.submit(TrackerTrouble(facts=facts(), tracker="t.example", reason="gone"))
        runner.submit(TrackerTrouble(facts=facts(), tracker="t.example", reason=None))
        lines = await world.until_ended(3)
        await trio.sleep(0.1)
    assert text(out).splitlines() == ["downloaded ", "recovered ", "tracker-error t.example: gone"]
    assert len({line["event_id"] for line in lines}) == 3


async def test_a_disk_that_is_low(world):
    out = world.base / "out"
    hook = world.hook(
        f'echo "$BITTERN_PATH $BITTERN_FREE_BYTES $BITTERN_NEEDED_BYTES" >> {out}', on=("disk-low",)
    )
    async with world.running(hook) as runner:
        runner.submit(DiskLow(path="/disk", free_bytes=7, needed_bytes=9, event_id="e1", at_wall=1))
        await world.until_ended(1)
        await until(lambda: list(world.done.iterdir()))
    assert text(out) == "/disk 7 9\n"
    [done] = world.done.iterdir()
    assert load_delivery(done.read_bytes()).figures == {"free_bytes": 7, "needed_bytes": 9}


# ---------------------------------------------------------------------------------------- crashes and stops


async def test_an_attempt_that_a_crash_cut_short_is_followed_by_the_next_with_the_same_id(world):
    out = world.base / "out"
    hook = world.hook(
        f"echo $BITTERN_EVENT_ID $BITTERN_ATTEMPT >> {out}; test -e {world.base}/go || sleep 60"
    )
    async with world.running(hook) as runner:
        runner.submit(completed())
        await until(lambda: text(out))
        # what a SIGKILL of the daemon would leave behind
        left = (world.pending / "event-1.toml").read_bytes()
    (world.pending / "event-1.toml").write_bytes(left)
    (world.base / "go").touch()
    async with world.running(hook):
        (line,) = await world.until_ended()
    assert text(out).splitlines() == ["event-1 1", "event-1 2"]
    assert line["attempt"] == 2


async def test_a_stop_waits_for_a_hook_that_ends_in_time(world):
    out = world.base / "out"
    hook = world.hook(f"echo started > {out}; sleep 0.3; exit 4")
    async with world.running(hook) as runner:
        runner.submit(completed())
        await until(lambda: text(out))
        await runner.stop(grace_s=60)
        assert [line["exit_status"] for line in world.ended()] == [4]
    assert list(world.dead.iterdir())


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_a_stop_ends_hooks_and_their_delivery_stays_pending_uncounted(world, monkeypatch, how):
    monkeypatch.setattr(process, "STOP_PATIENCE_S", 0.2)
    monkeypatch.setattr(process, "TERM_PATIENCE_S", 0.2)
    out = world.base / "out"
    hook = world.hook(f"trap '' TERM; echo $$ $BITTERN_ATTEMPT >> {out}; test -e {world.base}/go || sleep 60")
    async with world.running(hook) as runner:
        runner.submit(completed(1))
        await until(lambda: text(out).endswith("\n"))
        if how == "stop":
            await runner.stop(grace_s=0.1)
            # what happens on the way down is still made durable, but not started
            runner.submit(completed(2))
            await until(lambda: (world.pending / "event-2.toml").exists())
    assert not alive(int(text(out).split()[0]))
    assert load_delivery((world.pending / "event-1.toml").read_bytes()).runs[0].attempts == 0
    assert not world.ended()
    (world.base / "go").touch()
    async with world.running(hook):
        await world.until_ended(2 if how == "stop" else 1)
    assert [line.split()[1] for line in text(out).splitlines()] == ["1"] * (3 if how == "stop" else 2)


async def test_events_that_came_in_just_before_the_end_are_made_durable(world):
    hook = world.hook("exit 0")
    async with world.running(hook) as runner:
        await runner.stop(0)
        runner.submit(completed())
    assert (world.pending / "event-1.toml").exists()
    assert len(world.session.told) == 1


async def test_what_is_gathered_for_a_moment_is_the_sessions_until_it_is_durable(world, monkeypatch):
    monkeypatch.setattr(spooling, "GATHER_S", 3600.0)
    async with world.running(world.hook("exit 0")) as runner:
        runner.submit(completed(1))
        await until(lambda: world.session.told)
        runner.submit(completed(2))
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert [event_id for _, event_id in world.session.told] == ["event-1"]
    assert [event_id for _, event_id in world.session.told] == ["event-1", "event-2"]
    assert (world.pending / "event-2.toml").exists()


async def test_a_second_hook_still_runs_after_a_crash_between_the_two(world):
    out = world.base / "out"
    first = world.hook(f"echo first >> {out}", name="first")
    second = world.hook(f"echo second >> {out}; test -e {world.base}/go || sleep 60", name="second")
    async with world.running(first, second) as runner:
        runner.submit(completed())
        await until(lambda: "second" in text(out))
    (world.base / "go").touch()
    async with world.running():
        await world.until_ended(2)
    assert text(out).split() == ["first", "second", "second"]


async def test_a_state_folder_without_room_makes_hooks_wait_not_vanish(world, monkeypatch):
    monkeypatch.setattr(spooling, "RETRY_S", (0.05,))
    hook = world.hook("exit 0")
    async with world.running(hook) as runner:
        moved = world.base / "moved"
        world.pending.rename(moved)
        runner.submit(completed())
        await until(lambda: any(line["event"] == "hook.waiting" for line in world.log))
        await trio.sleep(0.2)
        assert world.session.told == []
        moved.rename(world.pending)
        await world.until_ended()
    assert len(world.session.told) == 1
    assert len([line for line in world.log if line["event"] == "hook.waiting"]) == 1


async def test_a_state_folder_that_cannot_be_used_refuses_to_start(world):
    (world.state / "deliveries").write_text("")
    with pytest.raises(StateError, match="state folder"):
        await world.runner().run()


async def test_reload_goes_for_later_events(world):
    async with world.running() as runner:
        runner.submit(completed(1))
        await until(lambda: world.session.told)
        runner.apply(Config(hook=(world.hook("exit 0"),), hooks=Hooks(parallel=5)))
        runner.submit(completed(2))
        (line,) = await world.until_ended()
    assert line["event_id"] == "event-2"


async def test_no_process_and_no_descriptor_is_left(world):
    async with world.running(world.hook("exit 0")) as runner:
        runner.submit(completed(1))
        await world.until_ended()
        before = len(os.listdir("/proc/self/fd"))
        for number in range(2, 12):
            runner.submit(completed(number))
        await world.until_ended(11)
        # the last may still be on its way out
        await until(lambda: len(os.listdir("/proc/self/fd")) == before)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(("module", "where"), [(hooks_module, "environment"), (spooling, "dump_delivery")])
async def test_a_bug_in_one_delivery_costs_that_delivery(world, monkeypatch, module, where):
    fault = Fault(monkeypatch, module, where, lambda delivery, *_: delivery.event_id == "bad")
    async with world.running(world.hook("exit 0")) as runner:
        for event_id in ("bad", "good", "better"):
            runner.submit(completed(event_id=event_id))
        runner.submit(completed(2, event_id="other"))
        ended = await world.until_ended(3)
        assert {line["event_id"] for line in ended} == {"good", "better", "other"}
        assert len(world.told) == fault.count == 1
        assert ("bad" in str(world.session.told)) == (where == "environment")
    fault.on = False
    if where == "environment":
        async with world.running():
            ended = await world.until_ended(4)
            assert ended[-1]["event_id"] == "bad"


async def test_a_bug_in_who_asks_for_an_event_costs_no_torrent(world, monkeypatch):
    """It would be checked never, or be in error though it is complete; on its record the event outlives the bug."""
    async with world.running() as runner:
        daemon = SimpleNamespace(_hooks=runner, _supervisor=world.supervisor)
        fault = Fault(monkeypatch, spooling, "runs_for")
        assert Daemon._asked_for(daemon, completed())
        assert len(world.told) == fault.count == 1
        fault.on = False
        assert not Daemon._asked_for(daemon, completed())


async def test_one_url_in_several_tables_is_told_in_the_words_of_each(tmp_path):
    bodies = []

    class Web:
        async def post(self, url, body, *, headers, max_bytes, deadline_s):
            bodies.append(json.loads(body))
            return HttpResponse(200, b"")

    def row(event, text):
        return Webhook(on=(event,), url="http://chat.example/room", template={"text": text})

    config = Config(webhook=(row("completed", "done"), row("failed", "first"), row("failed", "second")))
    supervisor = Supervisor(lambda event: None)
    runner = HookRunner(config, tmp_path, http=Web(), supervisor=supervisor, rng=random.Random(1))
    delivery = Delivery(
        event="failed",
        event_id="id",
        reason="",
        at_wall=1.0,
        facts=facts(),
        runs=runs_for(config, "failed", facts()),
    )
    for run in delivery.runs:
        await runner._start(delivery, run)
    assert bodies == [{"text": "first"}, {"text": "second"}]
