"""What happens to the daemon: torrents come and go, and all around it fails."""

import contextlib
import json
import random
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx

from tests.fakes.bittern_process import Bittern
from tests.fakes.payloads import Payload, make_payload
from tests.soak import inside
from tests.soak.world import Liars, MoodyTracker, SmallDisk, Streams, VanishingSeed

HOOK = """#!/bin/sh
echo "$BITTERN_EVENT $BITTERN_EVENT_ID $BITTERN_INFO_HASH" >>"{told}"
[ -e "{calm}" ] && exit 0
case $(($$ % 24)) in
    0) exit 1 ;;
    1) sleep 60 ;;
    2) sleep 20 & ;;
    3) head -c 3000000 /dev/zero ;;
    4) head -c 3000000 /dev/urandom >&2; exit 3 ;;
    5) kill -9 $$ ;;
esac
"""


@dataclass
class Wanted:
    """One torrent that was dropped, and never again once it is to go."""

    payload: Payload
    drop: Path
    going: bool = False
    gone_for_sure: bool = False
    """The daemon has said so: it may not come back."""
    chosen: int = 0
    """How often its files were chosen: each choice may end in a completion of its own."""
    skipped: set[int] = field(default_factory=set)


class Soak:
    """The daemon and its world; `act` does one thing to it."""

    def __init__(self, work: Path, torrents: int, seed: int) -> None:
        self.rng = random.Random(seed)
        self.population = torrents
        self.world = VanishingSeed(work / "world")
        self.tracker = MoodyTracker(self.world.client.port)
        self.disk = SmallDisk(work / "small disk")
        self.liars = Liars(work / "liars")
        self.tied = work / "tied"
        self.tied.mkdir()
        self.hook_told, self.calm = work / "told.txt", work / "calm"
        self.daemon = Bittern(work / "bittern", storage={"reserve": "1 MiB"})
        self.inside = work / "inside.sock"
        self.daemon.command = [sys.executable, inside.__file__, str(self.inside)]
        self.daemon.hook.write_text(HOOK.format(told=self.hook_told, calm=self.calm))
        self.daemon.tables["hook"].update(
            on=["added", "completed", "removed"], timeout_s=2, retries=2, retry_after_s=1
        )
        self.streams = Streams(self.daemon.state / "control.sock")
        self.wanted: dict[str, Wanted] = {}
        self.slow_writes: list[tuple[Path, bytes]] = []
        self.number = self.restarts = 0
        self.done: dict[str, int] = {}
        self.configure()

    # -- the daemon ---------------------------------------------------------------------------------------

    def configure(self, extra: str = "") -> None:
        self.daemon.tables["network"]["max_peers"] = self.rng.choice([150, 200])
        self.daemon.write_config(
            f'[[watch]]\nfolder = "{self.tied}"\ndownloads = "{self.disk.folder}"\ntie = true\n'
            f'after_add = "keep"\nreceipts = true\n[hooks]\nparallel = 6\n{extra}'
        )

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        """None when it does not answer: it may have done it or not."""
        try:
            transport = httpx.HTTPTransport(uds=str(self.streams.path))
            with httpx.Client(transport=transport, base_url="http://localhost", timeout=30) as client:
                return client.request(method, path, **more)
        except httpx.HTTPError:
            return None

    def ask_inside(self, word: str) -> dict[str, int]:
        """What its memory holds (`inside`)."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(self.inside))
            client.sendall(word.encode())
            found: dict[str, int] = json.loads(client.makefile("rb").read())
            return found

    def listed(self) -> dict[str, dict[str, Any]]:
        answer = self.ask("GET", "/api/v1/torrents")
        return {one["info_hash"]: one for one in answer.json()["torrents"]} if answer is not None else {}

    def metric(self, name: str) -> int:
        answer = self.ask("GET", "/metrics")
        lines = answer.text.splitlines() if answer is not None else []
        return next((int(float(line.split()[1])) for line in lines if line.startswith(f"{name} ")), 0)

    def restart(self) -> None:
        self.restarts += 1
        self.configure()
        if self.rng.random() < 0.6:
            self.daemon.kill()
        else:
            assert self.daemon.stop() == 0, f"SIGTERM ended in {self.daemon.process}"
        if self.rng.random() < 0.5:
            self.remove_by_file()
        self.daemon.start("daemon.loaded" if self.rng.random() < 0.7 else "daemon.ready")

    # -- one act ------------------------------------------------------------------------------------------

    ACTS: ClassVar[dict[str, int]] = {
        "remove_by_file": 6,
        "remove_by_command": 10,
        "pause": 8,
        "resume": 10,
        "choose": 5,
        "move": 5,
        "reload": 2,
        "reload_badly": 1,
        "tracker_mood": 3,
        "seed_goes": 1,
        "seed_comes": 3,
        "lie": 2,
        "fill": 1,
        "free": 3,
        "clients_come": 12,
        "clients_leave": 4,
        "rpc": 5,
        "bad_file": 3,
    }

    def act(self) -> None:
        """The fewer there are of what it is to have, the sooner more come."""
        for _ in range(3):
            self.write_on()
        if len(self.alive()) < self.population:
            self.drop()
        names = list(self.ACTS)
        [name] = self.rng.choices(names, [self.ACTS[one] for one in names])
        getattr(self, name)()
        self.done[name] = self.done.get(name, 0) + 1

    def alive(self) -> list[Wanted]:
        return [one for one in self.wanted.values() if not one.going]

    def drop(self) -> None:
        self.number += 1
        sizes: Any = self.rng.choice([20_000, 70_000, [30_000, 5_000], [17_000, 0, 40_000, 900]])
        payload = make_payload(self.world.data, f"t{self.number:05}", sizes, 16_384)
        self.world.take(payload)
        folder = self.rng.choice([self.daemon.drop, self.tied])
        blob, ending = payload.blob(self.tracker.url), "torrent"
        if self.rng.random() < 0.2:
            text = f"magnet:?xt=urn:btih:{payload.info_hash}&dn={payload.name}&tr={self.tracker.url}\n"
            blob, ending = text.encode(), "magnet"
        path = folder / f"{payload.name}.{ending}"
        self.wanted[payload.info_hash] = Wanted(payload, path)
        if ending == "torrent" and self.rng.random() < 0.3:
            path.touch()
            self.slow_writes.append((path, blob))
        else:
            coming = self.daemon.work / ".coming"
            coming.write_bytes(blob)
            coming.rename(path)

    def write_on(self, all_of_it: bool = False) -> None:
        """A part more of a file that is written slowly."""
        if self.slow_writes:
            path, rest = self.slow_writes.pop(0)
            size = len(rest) if all_of_it else 60
            # Only its own: a file that was taken away meanwhile must not come back half.
            with contextlib.suppress(FileNotFoundError), path.open("r+b") as file:
                file.seek(0, 2)
                file.write(rest[:size])
                if rest[size:]:
                    self.slow_writes.append((path, rest[size:]))

    def pick(self) -> Wanted | None:
        """One that the daemon has taken in, and that is to stay."""
        known = self.listed()
        found = [one for one in self.alive() if one.payload.info_hash in known]
        return self.rng.choice(found) if found else None

    def remove_by_file(self) -> None:
        writing = {path for path, _ in self.slow_writes}
        files = [one for one in self.alive() if one.drop.parent == self.tied and one.drop not in writing]
        if files:
            one = self.rng.choice(files)
            one.going = True
            one.drop.unlink(missing_ok=True)

    def remove_by_command(self) -> None:
        one = self.pick()
        if one is not None and one.drop.parent != self.tied:
            one.going = True
            self.remove(one)

    def remove(self, one: Wanted) -> None:
        flag = self.rng.choice(["true", "false"])
        answer = self.ask("DELETE", f"/api/v1/torrents/{one.payload.info_hash}?data={flag}")
        one.gone_for_sure = one.gone_for_sure or (answer is not None and answer.status_code in {200, 404})

    def post(self, one: Wanted | None, what: str) -> None:
        if one is not None:
            self.ask("POST", f"/api/v1/torrents/{one.payload.info_hash}/{what}")

    def pause(self) -> None:
        self.post(self.pick(), "pause")

    def resume(self) -> None:
        stopped = [one for one, seen in self.listed().items() if seen["state"] == "stopped"]
        if stopped:
            self.ask("POST", f"/api/v1/torrents/{self.rng.choice(stopped)}/resume")

    def choose(self) -> None:
        one = self.pick()
        if one is not None and not one.payload.single:
            one.chosen += 1
            words = {"skip": [0]} if self.rng.random() < 0.5 else {"take": [0]}
            self.ask("PATCH", f"/api/v1/torrents/{one.payload.info_hash}/files", content=json.dumps(words))

    def move(self) -> None:
        folder = self.rng.choice([self.daemon.downloads, self.disk.folder])
        one = self.pick()
        if one is not None:
            path = f"/api/v1/torrents/{one.payload.info_hash}/move"
            self.ask("POST", path, params={"folder": str(folder)})

    def reload(self) -> None:
        self.configure()
        self.daemon.reload()

    def reload_badly(self) -> None:
        self.configure("no such key = [")
        self.daemon.reload()

    def tracker_mood(self) -> None:
        self.tracker.be(self.rng.choice(["honest", "honest", "garbage", "slow", "dead"]))

    def seed_goes(self) -> None:
        self.world.vanish()

    def seed_comes(self) -> None:
        self.world.start()

    def lie(self) -> None:
        one = self.pick()
        if one is not None:
            self.liars.attack(self.daemon.port, one.payload)

    def fill(self) -> None:
        self.disk.fill()

    def free(self) -> None:
        self.disk.free()

    def clients_come(self) -> None:
        self.streams.come()
        self.streams.read()

    def clients_leave(self) -> None:
        self.streams.leave(self.rng.randrange(20))

    def rpc(self) -> None:
        body = {"method": "torrent-get", "arguments": {"fields": ["id", "name", "percentDone"]}}
        answer = self.ask("POST", "/transmission/rpc", content=json.dumps(body))
        if answer is not None and answer.status_code == 409:
            token = {"X-Transmission-Session-Id": answer.headers["X-Transmission-Session-Id"]}
            self.ask("POST", "/transmission/rpc", content=json.dumps(body), headers=token)

    def bad_file(self) -> None:
        self.number += 1
        folder, name = self.rng.choice([self.daemon.drop, self.tied]), f"bad-{self.number}"
        bad = [b"", b"d4:infod", b"garbage" * 1000, b"d4:infod6:lengthi-1eee", self.rng.randbytes(5000)]
        (folder / f"{name}.{self.rng.choice(['torrent', 'magnet'])}").write_bytes(self.rng.choice(bad))

    # -- quiet --------------------------------------------------------------------------------------------

    def be_calm(self) -> None:
        """All that is wrong around it is mended; its torrents stay as they are."""
        self.liars.kill()
        self.disk.free()
        self.world.start()
        self.tracker.be("honest")
        self.streams.leave()
        while self.slow_writes:
            self.write_on(all_of_it=True)

    def close(self) -> None:
        self.streams.leave()
        self.tracker.be("dead")
        for program in (self.liars, self.world.client, self.daemon):
            program.kill()
        self.disk.close()

    def settle(self, timeout_s: float) -> None:
        """Until the daemon has taken in what it was given, and let go what it was told to."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for one in self.wanted.values():
                if one.going and not one.gone_for_sure and one.drop.parent != self.tied:
                    self.remove(one)
            known = self.listed()
            if {one.payload.info_hash for one in self.alive()} == set(known):
                return
            time.sleep(0.5)
