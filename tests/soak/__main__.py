"""Hundreds of torrents that come and go while everything around the daemon fails: `make soak`.

    python -m tests.soak --seconds 600 --torrents 300 [--seed N] [--leak KIB_A_MINUTE]

In the first third the daemon is killed or stopped now and then; the rest is one life, of which the figures count.
Every round ends in a calm moment, in which a sample is taken. At the end all faults stop: every torrent that is
still wanted must become complete and its data right, none may be there that was removed, every completion must have
been told, each with one id, and nothing may have grown. Else it ends with 1 and says what is wrong.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from tests.fakes.processes import Program
from tests.soak.acts import Soak, Wanted
from tests.soak.figures import HEADING, Sample, children_of, growth, sample

ROUND_S = 8.0
CALM_S = 2.0
RESTARTS_UNTIL = 1 / 3
END_S = 240.0
"""How long it may take until all is well again."""


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--torrents", type=int, default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument(
        "--leak", type=int, default=0, help="the daemon loses so many KiB a minute: is it noticed?"
    )
    options = parser.parse_args(argv)
    print(f"soak: {options.seconds:g} s, {options.torrents} torrents, --seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="bittern-soak-", ignore_cleanup_errors=True) as work:
        soak = Soak(Path(work), options.torrents, options.seed)
        if soak.disk.why_not:
            print(f"NOT TESTED: a full disk ({soak.disk.why_not})")
        try:
            wrong = run(soak, options.seconds, options.leak)
        except AssertionError as error:
            wrong = [str(error)]
        finally:
            soak.close()
            while Program.started:
                Program.started.pop().kill()
    for one in wrong:
        print(f"WRONG: {one}")
    print("soak: nothing is wrong" if not wrong else f"soak: {len(wrong)} things are wrong")
    return 1 if wrong else 0


def run(soak: Soak, seconds: float, leak_kib: int) -> list[str]:
    """Gives what is wrong."""
    began = time.monotonic()
    soak.be_calm()
    for _ in range(soak.population):
        soak.drop()
    soak.daemon.start()
    samples: list[Sample] = []
    print(HEADING)
    leaks = False
    while (now := time.monotonic()) - began < seconds:
        restarting = now - began < seconds * RESTARTS_UNTIL
        while time.monotonic() - now < min(ROUND_S, seconds / 4):
            soak.act()
            soak.daemon.must_live()
            time.sleep(0.05)
        if restarting:
            soak.restart()
            samples.clear()
        elif leak_kib and not leaks:
            leaks = True
            soak.ask_inside(f"leak {leak_kib * 1024}")
        soak.be_calm()
        time.sleep(CALM_S)
        samples.append(look(soak, began))
    told, wrong = growth(samples)
    print("\n".join(told), flush=True)
    return wrong + ending(soak, began)


def look(soak: Soak, began: float) -> Sample:
    counted = len(soak.listed()), soak.metric("bittern_peers"), soak.metric("bittern_tasks")
    in_use = sum(soak.ask_inside("figures").values())
    found = sample(soak.daemon.pid, time.monotonic() - began, *counted, in_use)
    print(found.row(), flush=True)
    return found


def ending(soak: Soak, began: float) -> list[str]:
    """All faults have stopped: what is still not well after a while?"""
    stopped_at = time.monotonic()
    soak.calm.touch()
    soak.be_calm()
    soak.reload()
    soak.settle(60)
    while time.monotonic() - stopped_at < END_S:
        known = soak.listed()
        for info_hash, seen in known.items():
            if seen["state"] == "stopped":
                soak.ask("POST", f"/api/v1/torrents/{info_hash}/resume")
            elif seen["left_bytes"] or seen["state"] == "metadata":
                soak.ask("POST", f"/api/v1/torrents/{info_hash}/reannounce")
        if known and not unwell(soak, known) and not untold(soak) and not children_of(soak.daemon.pid):
            print(f"all was well {time.monotonic() - stopped_at:.0f} s after the faults stopped")
            break
        time.sleep(2)
    look(soak, began)
    known = soak.listed()
    wrong = unwell(soak, known) + untold(soak) + told_twice(soak)
    if children_of(soak.daemon.pid):
        wrong.append(f"{children_of(soak.daemon.pid)} child processes are left")
    wrong += [f"a bug is reported: {event}" for event in soak.daemon.events("bug")[:3]]
    if soak.daemon.log.read_text(errors="replace"):
        wrong.append(f"more than the log was printed: {soak.daemon.log.read_text(errors='replace')[:500]}")
    wrong += [f"the data of {name} is not what was seeded" for name in spoilt(soak)]
    events = Counter(event["event"] for event in soak.daemon.events())
    print(f"{soak.number} drops, {soak.restarts} restarts, acts: {soak.done}")
    print(f"told: {dict(events.most_common(14))}; {soak.tracker.asked} announces")
    if soak.daemon.stop() != 0:
        wrong.append("it did not end well")
    return wrong


def unwell(soak: Soak, known: dict[str, dict[str, Any]]) -> list[str]:
    """Torrents that are lost, back from the dead, or not complete."""
    wanted = {one.payload.info_hash: one for one in soak.alive()}
    wrong = [
        f"{wanted[one].payload.name} is lost ({wanted[one].drop})" for one in wanted.keys() - known.keys()
    ]
    wrong += [f"{known[one]['name']} was removed and is there" for one in known.keys() - wanted.keys()]
    return wrong + [
        f"{seen['name']} is {seen['state']}, {seen['left_bytes']} bytes are missing: {seen['error']}"
        for seen in known.values()
        if seen["state"] != "seeding" or seen["left_bytes"]
    ]


def completions(soak: Soak) -> dict[str, set[str]]:
    """The ids under which the hook was told of each."""
    found = defaultdict(set)
    for line in soak.hook_told.read_text().splitlines():
        event, event_id, info_hash = line.split()
        if event == "completed":
            found[info_hash].add(event_id)
    return found


def untold(soak: Soak) -> list[str]:
    told = completions(soak)
    return [
        f"no hook was told that {one.payload.name} is complete"
        for one in soak.alive()
        if one.payload.info_hash not in told
    ]


def told_twice(soak: Soak) -> list[str]:
    return [
        f"{len(ids)} ids for the completion of {soak.wanted[info_hash].payload.name}"
        for info_hash, ids in completions(soak).items()
        if len(ids) > 1 + soak.wanted[info_hash].chosen
    ]


def spoilt(soak: Soak) -> list[str]:
    """Whose data is not right. What is moved meanwhile is looked for again: it may have been seen on its way."""
    doubtful = soak.alive()
    for again in range(10):
        known = soak.listed()
        doubtful = [
            one
            for one in doubtful
            if one.payload.info_hash in known and not is_right(soak, one, known[one.payload.info_hash], again)
        ]
        if not doubtful:
            break
        time.sleep(1)
    for one in doubtful:
        print(f"all that was told of {one.payload.name} ({one}):")
        for event in soak.daemon.events(info_hash=one.payload.info_hash):
            print(f"    {event}")
        for folder in (soak.daemon.downloads, soak.disk.folder):
            print(f"    {folder}: {sorted(map(str, folder.rglob(one.payload.name + '*')))}")
        record = soak.daemon.state / f"resume/{one.payload.info_hash}.toml"
        print(record.read_text(errors="replace"), flush=True)
    return [one.payload.name for one in doubtful]


def is_right(soak: Soak, one: Wanted, seen: dict[str, Any], again: int) -> bool:
    """Every file that is wanted, byte for byte."""
    answer = soak.ask("GET", f"/api/v1/torrents/{one.payload.info_hash}/files")
    if answer is None:
        return False
    for file in answer.json()["files"]:
        lies = Path(seen["folder"]) / file["path"]
        if file["wanted"]:
            wanted = (one.payload.folder / file["path"]).read_bytes()
            if not lies.exists() or lies.read_bytes() != wanted:
                what = "differs" if lies.exists() else "is not there"
                print(f"{lies}: {what}, seen {again + 1} times; {seen}; {file}")
                return False
    return True


if __name__ == "__main__":
    sys.exit(main())
