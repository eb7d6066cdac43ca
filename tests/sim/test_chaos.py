"""Every component has a bug at the same time, each on a torrent of its own: who is not meant notices nothing.

In virtual time: trio's autojump clock does not see threads, so what the daemon does in them is done on the loop here.
"""

import contextlib
import gc
import itertools
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bittern.control.views import torrent_view
from bittern.daemon import watch
from bittern.daemon.config import Config, Paths, Watch, Webhook
from bittern.daemon.config_reader import Folder
from bittern.daemon.hooks import HookRunner
from bittern.daemon.watch import Watcher
from bittern.discovery.announcer import Announcer
from bittern.disk.storage import Storage
from bittern.engine import flusher, store
from bittern.engine.checker import Checker
from bittern.engine.events import Checked, Completed, Crashed, Event, Failed, Recovered
from bittern.engine.failures import QUARANTINE_S, RETRY_MOST_S
from bittern.engine.peer import Peer
from bittern.engine.supervision import RESTART_PAUSE_MOST_S, RESTARTS_AT_MOST
from bittern.engine.swarm import Swarm
from bittern.engine.torrent import State
from bittern.errors import TrackerError
from bittern.net.http import HttpResponse
from bittern.policy.partial import Partial
from bittern.policy.picker import Picker
from bittern.policy.roster import Source
from bittern.proto.decoder import Decoder
from bittern.terms import Address, PeerId
from tests.fakes.engine import Engine, running
from tests.fakes.faults import Fault
from tests.fakes.memory_peers import Downloader, Manner, Taker, Town
from tests.fakes.torrents import Made, make_torrent

RATE_PER_S = 50_000
PIECE_BYTES = 16384
TRACKER = "http://192.0.2.1/a"
SMALL = 20
"""Pieces, of those that are done in the end."""

SIZES = {"decoder": 90, "picker": 70} | dict.fromkeys(
    ("peer", "swarm", "disk job", "record", "tracker", "delivery", "webhook", "check"), SMALL
)
VICTIMS = {
    name: make_torrent(
        f"{name}.bin", size=pieces * PIECE_BYTES, piece_length=PIECE_BYTES, trackers=[[TRACKER]]
    )
    for name, pieces in SIZES.items()
}
"""By what has the bug there."""

QUARANTINED = {"swarm", "disk job"}
FED_NOTHING = {"decoder", "picker", "peer"}
"""Their connections end, one by one; nothing is wrong with the torrent."""
DONE_ALL_THE_SAME = {"tracker", "delivery", "webhook"}
PAUSED = {*QUARANTINED, "check", "record"}
"""That one's data is whole, and its completion cannot be committed."""


def faults(monkeypatch: pytest.MonkeyPatch) -> dict[str, Fault]:
    hit = {name: made.info_hash for name, made in VICTIMS.items()}
    fault = partial(Fault, monkeypatch)
    picked = VICTIMS["picker"].piece_count
    bits = (VICTIMS["decoder"].piece_count + 7) // 8
    made = {
        "decoder": fault(Decoder, "feed", lambda decoder, _: decoder._bitfield_bytes == bits),
        "picker": fault(Picker, "begin", lambda picker, *_, **__: picker._size == picked),
        "peer": fault(Peer, "run", lambda peer: peer.swarm.torrent.info_hash == hit["peer"]),
        "swarm": fault(Swarm, "tick", lambda swarm, *_: swarm.torrent.info_hash == hit["swarm"]),
        "disk job": fault(Storage, "write", lambda storage, *_, **__: storage.paths[0] == "disk job.bin"),
        "record": fault(store, "dump_record", lambda record: record.name == "record.bin"),
        "tracker": fault(Announcer, "_announce", lambda _, one, *__: one.info_hash == hit["tracker"]),
        "delivery": fault(
            HookRunner, "_start", lambda _, delivery, __: delivery.facts.info_hash == hit["delivery"]
        ),
        "check": fault(Checker, "_look", lambda _, one, *__: one.info_hash == hit["check"]),
        "watcher": fault(watch, "list_folder"),
    }
    for name, one in made.items():
        one.on = name == "tracker"  # the others would be met before there is any load
    return made


class Web:
    """Where hooks are told, and where one of them always fails."""

    def __init__(self) -> None:
        self.told: Counter[str] = Counter()
        self.fails = True

    async def post(
        self, url: str, body: bytes, *, headers: Any, max_bytes: int, deadline_s: float
    ) -> HttpResponse:
        await trio.sleep(0.1)
        for name in (*VICTIMS, "other"):
            if f'"{name}.bin"'.encode() in body:
                self.told[name] += 1
                if name == "webhook" and self.fails:
                    if self.told[name] % 2:
                        raise TrackerError("cannot be reached")
                    return HttpResponse(500, b"")
        return HttpResponse(200, b"")


@dataclass
class Walk:
    """What came of it."""

    others: list[int] = field(default_factory=list)
    """Bytes that each has, in the order of their names."""
    sent: int = 0


def left() -> tuple[int, ...]:
    """Tasks, descriptors, and what a transfer is made of; buffers and slots are counted by each engine that stops."""
    gc.collect()
    alive = Counter(type(one) for one in gc.get_objects())
    return (
        trio.lowlevel.current_statistics().tasks_living,
        len(os.listdir("/proc/self/fd")),
        *(alive[kind] for kind in (Swarm, Peer, Picker, Partial, Decoder, Taker, Downloader)),
    )


async def on_the_loop(fn: Callable[..., Any], *args: Any, **_terms: Any) -> Any:
    await trio.lowlevel.checkpoint()
    return fn(*args)


class World:
    """An engine with a watched folder and hooks, four honest downloads, one that somebody downloads from us, and all
    victims.
    """

    def __init__(self, folder: Path, for_s: float) -> None:
        self.folder = folder
        self.town = Town()
        self.web = Web()
        self.drop = folder / "drop"
        self.drop.mkdir(parents=True)
        size = int(2 * RATE_PER_S * for_s)
        self.others = [make_torrent(f"other{number}.bin", size=size) for number in range(4)]
        self.ours = make_torrent("ours.bin", size=64 * 65536)
        self.told: list[Event] = []
        self.hooks: HookRunner | None = None
        self.numbers = itertools.count(1)
        self.quiet = False

    def hear(self, event: Event) -> None:
        if isinstance(event, Crashed):
            # its traceback holds all that it went through
            event = Crashed(
                where=event.where, exception=Exception(repr(event.exception)), remedy=event.remedy
            )
        self.told.append(event)
        if self.hooks is not None:
            self.hooks.submit(event)

    @contextlib.asynccontextmanager
    async def running(self) -> Any:
        async with running(
            self.folder, strict=False, dialer=self.town, also=self.hear, max_peers=200
        ) as engine:
            config = Config(
                paths=Paths(state=Folder(engine.settings.state), downloads=Folder(str(engine.downloads))),
                watch=(Watch(folder=Folder(str(self.drop))),),
                webhook=(
                    Webhook(on=("completed",), url="http://192.0.2.9/", retries=20, retry_after_s=10.0),
                ),
            )
            self.hooks = HookRunner(
                config,
                Path(engine.settings.state),
                http=self.web,
                supervisor=engine.supervisor,
                rng=random.Random(1),
            )
            self.hooks.bind(engine.session)
            watcher = self.watcher = Watcher(
                config, engine.session, engine.supervisor, tell_hooks=self.hooks.refused
            )
            async with trio.open_nursery() as nursery:
                await nursery.start(self.hooks.run)
                await nursery.start(
                    partial(engine.supervisor.serve, dispensable=True), "watcher", watcher.run
                )
                nursery.start_soon(self._knocks, engine)
                yield engine
                nursery.cancel_scope.cancel()
            engine.events.clear()
        self.hooks = None

    async def _knocks(self, engine: Engine) -> None:
        """People come to the victims of themselves too, two a second each."""
        while True:
            await trio.sleep(0.5)
            for made in VICTIMS.values():
                torrent = engine.session.torrents.get(made.info_hash)
                if torrent is None or not torrent.reachable or self.quiet:
                    continue
                number = next(self.numbers)
                Taker(Address("10.7.0.1", 6881), PeerId(b"-TA0000-%012d" % number)).knock(engine, made)

    def settle(self, engine: Engine, made: Made) -> None:
        address = self.town.settle(made, Manner.GIVES, RATE_PER_S)
        torrent = engine.session.torrents[made.info_hash]
        engine.session.swarms.addresses_found(torrent, (address,), Source.TRACKER)

    async def begin(self, engine: Engine, wrong: dict[str, Fault]) -> Downloader:
        self.ours.write(engine.downloads)
        all_but_one = [made for name, made in VICTIMS.items() if name != "check"]
        for made in (self.ours, *self.others, *all_but_one):
            await engine.add(made)
        await engine.until(Checked, 1 + len(self.others) + len(all_but_one))
        for fault in wrong.values():
            fault.on = True
        self.watcher.poke()
        await engine.add(VICTIMS["check"])
        for made in self.others:
            self.settle(engine, made)
        for made in all_but_one:
            for _ in range(1 + RESTARTS_AT_MOST):  # it falls over each of them
                self.settle(engine, made)
        leecher = Downloader(
            Address("10.1.1.1", 6881), PeerId(b"-GO0000-000000000001"), self.ours, RATE_PER_S
        )
        engine.session.swarms.introduce(leecher.handshake(self.ours.info_hash), leecher)
        return leecher


After = Callable[[World, Engine], Awaitable[None]]


async def walked(
    folder: Path, wrong: dict[str, Fault], for_s: float, afterwards: After | None = None
) -> Walk:
    before = left()
    world = World(folder, for_s)
    walk = Walk()
    async with world.running() as engine:
        leecher = await world.begin(engine, wrong)
        await trio.sleep(for_s)
        walk.others = [
            engine.session.torrents[made.info_hash].record.downloaded_bytes for made in world.others
        ]
        walk.sent = leecher.taken_bytes
        if afterwards is not None:
            await afterwards(world, engine)
        leecher.close()
    del world, engine, leecher
    assert left() == before, "left behind"
    return walk


def wrong_enough(world: World) -> bool:
    """Who dials whom when is chance: each has its turn."""
    failed = {event.facts.name for event in world.told if isinstance(event, Failed)}
    done = {event.facts.name for event in world.told if isinstance(event, Completed)}
    return failed >= {f"{name}.bin" for name in PAUSED} and done >= {
        f"{name}.bin" for name in DONE_ALL_THE_SAME
    }


def paused(world: World, engine: Engine) -> None:
    """Only the victims, and for all to see."""
    torrents = {name: engine.session.torrents[made.info_hash] for name, made in VICTIMS.items()}
    failed = Counter(
        event.facts.name.removesuffix(".bin") for event in world.told if isinstance(event, Failed)
    )
    # a picker is asked by its peers, and by its swarm
    by_swarm = failed.keys() & {"picker"}
    assert failed == dict.fromkeys(PAUSED | by_swarm, 1), "each once"
    for name in PAUSED | by_swarm:
        torrent = torrents[name]
        view = torrent_view(engine.session, torrent)
        assert torrent.state is State.ERROR
        assert view["state"] == "error"
        assert ("quarantined" in view["error"]) == (name in QUARANTINED | by_swarm)
        assert "Bug" in view["error"], view["error"]
        assert view["retry_in_s"] > 0
    for name in FED_NOTHING - by_swarm:
        assert not torrents[name].error
        assert torrents[name].state is State.DOWNLOADING
        assert torrents[name].record.downloaded_bytes == 0
    for name in DONE_ALL_THE_SAME:
        assert torrents[name].complete, name
        assert VICTIMS[name].is_at(engine.downloads)
    falls = Counter(event.where for event in engine.bugs)
    for name in QUARANTINED:
        assert (
            falls[f"swarm {name + '.bin'!r}"] + falls[f"write of {name + '.bin'!r}"] >= RESTARTS_AT_MOST + 1
        )
    folder = f"watched folder {world.drop}"
    others = [where for where in falls.keys() - {folder} if "other" in where or "ours" in where]
    assert not others
    assert engine.supervisor.resting == {folder}
    assert engine.session.swarms.live.keys() <= {
        made.info_hash for made in (world.ours, *world.others, *(VICTIMS[name] for name in SIZES))
    } - {VICTIMS[name].info_hash for name in PAUSED}


def alive(engine: Engine) -> dict[str, int]:
    """What there is more of than the engine knows of."""
    engine.events.clear()  # whose tracebacks hold all that they went through
    gc.collect()
    swarms = engine.session.swarms.live.values()
    there = Counter(type(one) for one in gc.get_objects())
    return {
        "swarms": there[Swarm] - len(swarms),
        "peers": there[Peer] - sum(len(swarm.peers) for swarm in swarms),
        "connections": engine.session.swarms.connection_slots.taken
        - sum(len(swarm.peers) for swarm in swarms),
    }


@pytest.fixture
def threadless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", on_the_loop)
    monkeypatch.setattr(flusher, "FLUSH_EVERY_S", 1.0)


async def chaos(
    folder: Path, monkeypatch: pytest.MonkeyPatch, for_s: float, more: After | None = None
) -> Walk:
    """All faults at once; what each of the others still gets is for the caller to judge."""
    wrong = faults(monkeypatch)

    async def look(world: World, engine: Engine) -> None:
        with trio.move_on_after(300):
            while not (wrong_enough(world) and all(fault.count for fault in wrong.values())):
                await trio.sleep(1)
        never = [name for name, fault in wrong.items() if not fault.count]
        assert not never
        paused(world, engine)
        if more is not None:
            for fault in wrong.values():
                fault.on = False
            world.web.fails = False
            await more(world, engine)

    return await walked(folder, wrong, for_s, look)


async def test_all_have_bugs_at_once_and_only_their_torrents_pause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threadless: None, autojump_clock: MockClock
) -> None:
    walk = await chaos(tmp_path, monkeypatch, 12)
    for had in (walk.sent, *walk.others):
        # the first block comes after the round trips of dial and handshake, and after being let in
        assert had >= 0.9 * 12 * RATE_PER_S


@pytest.mark.proof
async def test_the_others_keep_their_rates_meanwhile_and_all_are_done_when_the_bugs_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threadless: None, autojump_clock: MockClock
) -> None:
    for_s = 120
    alone = await walked(tmp_path / "alone", {}, for_s)

    async def recover(world: World, engine: Engine) -> None:
        world.quiet = True
        await trio.sleep(21)  # two rounds of choking
        assert alive(engine) == {"swarms": 0, "peers": 0, "connections": 0}
        dropped = make_torrent("dropped.bin")
        (world.drop / "dropped.torrent").write_bytes(dropped.blob)
        await trio.sleep(RESTART_PAUSE_MOST_S + watch.SWEEP_S)
        assert dropped.info_hash in engine.session.torrents
        assert not engine.supervisor.resting
        # who lived there has been forgotten by now
        await trio.sleep(QUARANTINE_S + RETRY_MOST_S)
        for made in (*VICTIMS.values(), *world.others):
            world.settle(engine, made)
        await trio.sleep(600)
        torrents = engine.session.torrents
        for name, made in VICTIMS.items():
            assert torrents[made.info_hash].complete, name
            assert not torrents[made.info_hash].error
            assert made.is_at(engine.downloads)
        assert all(made.is_at(engine.downloads) for made in world.others)
        names = {
            kind: {event.facts.name for event in world.told if isinstance(event, kind)}
            for kind in (Failed, Recovered)
        }
        assert names[Recovered] == names[Failed]

    among = await chaos(tmp_path / "among", monkeypatch, for_s, recover)
    assert min(alone.others) > 0.9 * for_s * RATE_PER_S
    for with_them, without in zip((among.sent, *among.others), (alone.sent, *alone.others), strict=True):
        assert with_them >= 0.95 * without


@pytest.mark.proof
@pytest.mark.parametrize("what", ["watcher", "delivery"])
async def test_one_that_fails_again_and_again_costs_the_others_nothing(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threadless: None, autojump_clock: MockClock
) -> None:
    for_s = 200
    alone = await walked(tmp_path / "alone", {}, for_s)
    every = faults(monkeypatch)
    every["tracker"].on = False
    wrong = {what: every[what]}

    async def look(world: World, engine: Engine) -> None:
        falls = Counter(event.where for event in engine.bugs)
        assert len(falls) == 1
        if what == "watcher":
            # pauses of 0.5, 1, 2 … 60 s
            assert 8 <= falls[f"watched folder {world.drop}"] <= 12
        assert not any(isinstance(event, Failed) for event in world.told)
        # whose server always fails: after 10, 20, 40, 80 s, and one that was told at once
        assert 4 <= world.web.told["webhook"] <= 6
        # nobody was told of a seed for the one that is taken in last
        left_over = [
            name for name in VICTIMS if not engine.session.torrents[VICTIMS[name].info_hash].complete
        ]
        assert left_over == ["check"]

    among = await walked(tmp_path / "among", wrong, for_s, look)
    for with_them, without in zip((among.sent, *among.others), (alone.sent, *alone.others), strict=True):
        assert with_them >= 0.95 * without
