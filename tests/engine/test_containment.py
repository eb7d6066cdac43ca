"""A bug in each part in turn: it is told once, costs what it was in, and a sibling notices nothing."""

import contextlib
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from bittern.discovery.announcer import Announcer
from bittern.disk.attempt import JobCrashed
from bittern.disk.resume import ResumeRecord
from bittern.disk.storage import Storage
from bittern.engine import dialling, failures, flusher, heartbeat, metadata, store, waking
from bittern.engine.checker import Checker
from bittern.engine.completion import Completion
from bittern.engine.events import Checked, Completed, Crashed, CrashedAgain, Failed, Warned
from bittern.engine.lifecycle import Lifecycle
from bittern.engine.peer import Peer
from bittern.engine.supervision import RESTARTS_AT_MOST
from bittern.engine.swarm import Swarm
from bittern.engine.swarms import Swarms
from bittern.engine.torrent import State, Torrent
from bittern.engine.whereabouts import Whereabouts
from bittern.errors import HandshakeError
from bittern.policy.add_terms import AddTerms
from bittern.policy.picker import Picker
from bittern.policy.roster import Source
from bittern.proto import messages as m
from bittern.proto.decoder import Decoder
from bittern.terms import Address, PeerId
from tests.fakes.engine import Engine, running
from tests.fakes.faults import Fault
from tests.fakes.memory_peers import Manner, Taker, Town
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import Made, make_torrent

VICTIM = make_torrent("victim.bin", size=3_000_000, piece_length=16384)
SIBLING = make_torrent("sibling.bin")
TRAP = Address("10.0.0.1", 6881)
"""The first who settles in a town."""


@asynccontextmanager
async def both(folder: Path, *, checked: int = 2, victims_blocks: int = 1 << 30) -> AsyncIterator[Engine]:
    """Two torrents, each with a seed that comes back whenever it is thrown out, or has sent so many blocks.

    Whatever fell meanwhile, at the end no task and no descriptor is left of it.
    """
    before = left()
    async with both_there(folder, checked=checked, victims_blocks=victims_blocks) as engine:
        yield engine
    assert left() == before


def left() -> tuple[int, int]:
    """Tasks and descriptors; buffers and connection slots are counted by every engine that stops."""
    gc.collect()
    return trio.lowlevel.current_statistics().tasks_living, len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def both_there(folder: Path, *, checked: int, victims_blocks: int) -> AsyncIterator[Engine]:
    async with running(folder, strict=False) as engine:
        for made in (VICTIM, SIBLING):
            await engine.add(made)
        await engine.until(Checked, checked)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_seeding, engine, VICTIM, 0, victims_blocks)
            nursery.start_soon(keep_seeding, engine, SIBLING, 1, 1 << 30)
            yield engine
            nursery.cancel_scope.cancel()


async def keep_seeding(engine: Engine, made: Made, seed: int, blocks: int) -> None:
    while True:
        try:
            async with connected(engine.address, made.info_hash, seed=seed) as peer:
                await peer.say(m.HAVE_ALL, m.UNCHOKE)
                await peer.serve(made, pieces=blocks)
        except (OSError, trio.EndOfChannel, trio.BrokenResourceError):
            pass
        await trio.sleep(0.02)


def of_victim(storage: Storage, *_: object, **_terms: object) -> bool:
    return storage.paths[0] == VICTIM.name


async def sibling_completes(engine: Engine) -> None:
    await engine.until_true(
        lambda: any(event.facts.info_hash == SIBLING.info_hash for event in engine.told(Completed)),
        "the sibling's completion",
    )
    assert SIBLING.is_at(engine.downloads)


async def victim_completes(engine: Engine) -> None:
    await engine.until_true(
        lambda: any(event.facts.info_hash == VICTIM.info_hash for event in engine.told(Completed)),
        "the victim's completion",
    )
    assert VICTIM.is_at(engine.downloads)


async def victim_is_quarantined(engine: Engine, falls: int = RESTARTS_AT_MOST + 1) -> None:
    torrent = engine.session.torrents[VICTIM.info_hash]
    await engine.until_true(lambda: torrent.state is State.ERROR, "the quarantine")
    assert "quarantined" in torrent.error
    assert [event.facts.info_hash for event in engine.told(Failed)] == [VICTIM.info_hash]
    falls_told = [f"{event.where}: {event.exception}" for event in engine.bugs]
    assert len(falls_told) == falls, "\n".join(falls_told)


def its_swarm(swarm: Swarm, *_: object, **__: object) -> bool:
    return swarm.torrent.info_hash == VICTIM.info_hash


def its_torrent(_: object, torrent: Torrent, *rest: object, **terms: object) -> bool:
    return torrent.info_hash == VICTIM.info_hash


def its_record(_: object, record: ResumeRecord, *rest: object) -> bool:
    return record.info_hash == VICTIM.info_hash


def its_picker(picker: Picker, *_: object, **__: object) -> bool:
    return picker._size == VICTIM.piece_count


def its_peer(peer: Peer, *_: object) -> bool:
    return its_swarm(peer.swarm)


PASSING = [
    pytest.param(Storage, "write", of_victim, id="a write"),
    pytest.param(Lifecycle, "piece_written", its_torrent, id="what follows a write"),
    pytest.param(Swarm, "_settle", its_swarm, id="the swarm's own task"),
    pytest.param(waking, "_open", its_record, id="the start of a swarm"),
]
LASTING = [
    *PASSING,
    pytest.param(Swarm, "tick", its_swarm, id="the tick"),
    pytest.param(Swarm, "idle_since", its_swarm, id="the parking"),
]
OF_ONE_PEER = [
    pytest.param(Peer, "run", its_peer, id="the loop"),
    pytest.param(
        Decoder,
        "feed",
        lambda decoder, _: decoder._bitfield_bytes == (VICTIM.piece_count + 7) // 8,
        id="the decoder",
    ),
    pytest.param(Picker, "begin", its_picker, id="the picker"),
    pytest.param(
        Swarms,
        "_introduce",
        lambda _, shake, transport: shake.info_hash == VICTIM.info_hash,
        id="the introduction",
    ),
    pytest.param(Swarm, "_start", its_swarm, id="the admission"),
]
OF_ITS_OWN = [
    pytest.param(Announcer, "_announce", its_torrent, id="the tracker", marks=pytest.mark.proof),
    pytest.param(
        store,
        "dump_record",
        lambda record: record.name == VICTIM.name,
        id="the record",
        marks=pytest.mark.proof,
    ),
    pytest.param(
        flusher,
        "_sync",
        lambda job: job.record.name == VICTIM.name,
        id="the sync of what was written",
        marks=pytest.mark.proof,
    ),
]


@pytest.mark.parametrize(("owner", "name", "hits"), LASTING)
async def test_a_swarm_with_a_bug_falls_and_is_quarantined(
    owner: type, name: str, hits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    Fault(monkeypatch, owner, name, hits)
    async with both(
        tmp_path, victims_blocks=8
    ) as engine:  # a few each time: it is not to be done before it falls
        await sibling_completes(engine)
        await victim_is_quarantined(engine)


async def test_who_arrives_while_a_swarm_falls_is_turned_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, strict=False) as engine:
        await engine.add(VICTIM)
        await engine.until(Checked)
        arriving = engine.session.swarms
        first = Taker(Address("10.1.0.1", 6881), PeerId(b"-TA0000-%012d" % 0))
        arriving.introduce(first.handshake(VICTIM.info_hash), first)
        await engine.until_true(lambda: arriving.running(VICTIM.info_hash), "its swarm")
        swarm = arriving.running(VICTIM.info_hash)
        first.close()
        await engine.until_true(lambda: not swarm.peers, "nobody is left in it")
        fault = Fault(monkeypatch, Swarm, "_settle", its_swarm, times=1)

        async def knock_when_it_falls(number: int) -> None:
            while not fault.count:
                await trio.lowlevel.checkpoint()
            taker = Taker(Address("10.1.0.1", 6881), PeerId(b"-TA0000-%012d" % number))
            with contextlib.suppress(HandshakeError):
                arriving.introduce(taker.handshake(VICTIM.info_hash), taker)

        async with trio.open_nursery() as nursery:
            # whose turn it is among tasks is chance: of so many one comes between the fall and the end
            for number in range(1, 50):
                nursery.start_soon(knock_when_it_falls, number)
            swarm.work()
        await engine.until(Crashed)
        falls = [event.where for event in engine.bugs]
        assert falls == [f"swarm {VICTIM.name!r}"]


@pytest.mark.parametrize(("owner", "name", "hits"), PASSING)
async def test_a_swarm_survives_a_bug_that_passes(
    owner: type, name: str, hits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(monkeypatch, owner, name, hits, times=2)
    # a few blocks each time: it is not to be done before it fell twice
    async with both(tmp_path, victims_blocks=32) as engine:
        await sibling_completes(engine)
        await victim_completes(engine)
        assert not engine.told(Failed)
        assert 1 <= len(engine.bugs) <= fault.count == 2


@pytest.mark.parametrize(("owner", "name", "hits"), OF_ONE_PEER)
async def test_a_connection_with_a_bug_is_closed_and_others_are_served(
    owner: type, name: str, hits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(monkeypatch, owner, name, hits, times=3)
    async with both(tmp_path) as engine:
        await sibling_completes(engine)
        await victim_completes(engine)
        assert not engine.told(Failed)
        assert 1 <= len(engine.bugs) <= fault.count == 3


@pytest.mark.parametrize(
    ("owner", "name", "hits"),
    [
        pytest.param(dialling, "call", lambda dialer, address, *_: address == TRAP, id="the handshake"),
        pytest.param(
            Swarm, "reached", lambda swarm, transport, shake, address: address == TRAP, id="the arrival"
        ),
    ],
)
async def test_a_bug_that_somebody_leads_us_to_who_is_dialled_costs_nobody_else(
    owner: Any,
    name: str,
    hits: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    town = Town()
    assert town.settle(VICTIM, Manner.GIVES, 1_000_000) == TRAP
    fault = Fault(monkeypatch, owner, name, hits)
    async with running(tmp_path, strict=False, dialer=town) as engine:
        await engine.add(VICTIM)
        await engine.until(Checked)
        torrent, swarms = engine.session.torrents[VICTIM.info_hash], engine.session.swarms
        swarms.addresses_found(torrent, (TRAP,), Source.TRACKER)
        await engine.until_true(lambda: fault.count >= RESTARTS_AT_MOST + 2, "dialled again and again", 3600)
        assert len(engine.bugs) == fault.count
        assert swarms.connection_slots.taken == 0
        swarms.addresses_found(torrent, (town.settle(VICTIM, Manner.GIVES, 1_000_000),), Source.TRACKER)
        await engine.until(Completed)
        assert not engine.told(Failed)


async def test_neither_does_one_that_is_met_while_metadata_is_sought(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    fault = Fault(monkeypatch, metadata, "call")
    async with running(tmp_path, strict=False, dialer=Town()) as engine:
        link = f"magnet:?xt=urn:btih:{VICTIM.info_hash.hex()}"
        await engine.session.add_magnet(link, AddTerms(str(engine.downloads)))
        torrent = engine.session.torrents[VICTIM.info_hash]
        await engine.until_true(lambda: torrent.state is State.METADATA, "sought")
        engine.session.swarms.addresses_found(torrent, (TRAP,), Source.TRACKER)
        await engine.until_true(lambda: fault.count >= RESTARTS_AT_MOST + 2, "dialled again and again", 36000)
        assert len(engine.bugs) == fault.count
        assert engine.session.swarms.connection_slots.taken == 0
        assert not engine.told(Failed)


async def test_however_often_a_bug_is_met_it_is_told_in_few_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fault = Fault(monkeypatch, Peer, "run", its_peer)
    async with running(tmp_path, strict=False) as engine:
        await engine.add(VICTIM)
        await engine.until(Checked)
        while fault.count < 300:
            try:
                async with connected(engine.address, VICTIM.info_hash, seed=fault.count) as peer:
                    await peer.hear_until("unchoke")
            except (OSError, trio.EndOfChannel, trio.BrokenResourceError):
                pass
        assert len(engine.bugs) >= 300
        assert len(engine.told(Crashed)) == 1
        # a second and then two, four … between them
        assert len(engine.told(CrashedAgain)) < 12


@pytest.mark.parametrize(("owner", "name", "hits"), [*LASTING, *OF_ONE_PEER, *OF_ITS_OWN])
async def test_while_one_falls_again_and_again_the_others_keep_their_rate(
    owner: type,
    name: str,
    hits: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    autojump_clock: MockClock,
) -> None:
    rate, for_s, town = 50_000, 20, Town()
    others = [make_torrent(f"other{number}.bin", size=2 * rate * for_s) for number in range(4)]
    victim = make_torrent(VICTIM.name, size=3_000_000, piece_length=16384, trackers=[["http://192.0.2.1/a"]])
    assert victim.info_hash == VICTIM.info_hash
    monkeypatch.setattr(flusher, "FLUSH_EVERY_S", 1.0)
    fault = Fault(monkeypatch, owner, name, hits)
    # which would not even take it in, or fail it before it begins
    fault.on = owner not in {store, flusher}
    async with running(tmp_path, strict=False, dialer=town) as engine:
        torrents = {}
        for made in (victim, *others):
            await engine.add(made)
            torrents[made.name] = engine.session.torrents[made.info_hash]
        await engine.until(Checked, 5)
        fault.on = True
        for made in (VICTIM, *others):
            address = town.settle(made, Manner.GIVES, rate)
            engine.session.swarms.addresses_found(torrents[made.name], (address,), Source.TRACKER)
        taker = 0
        for _ in range(for_s * 5):
            await trio.sleep(0.2)
            if torrents[VICTIM.name].reachable:
                knocking = Taker(Address("10.1.0.1", 6881), PeerId(b"-TA0000-%012d" % taker))
                taker += 1
                with contextlib.suppress(HandshakeError):
                    engine.session.swarms.introduce(knocking.handshake(VICTIM.info_hash), knocking)
        assert fault.count
        for made in others:
            # the first block comes after the round trips of dial and handshake
            assert torrents[made.name].record.downloaded_bytes >= 0.95 * rate * for_s


@pytest.mark.parametrize(
    ("owner", "name"),
    [pytest.param(Checker, "_look", id="the check"), pytest.param(Completion, "finish", id="the completion")],
)
async def test_a_job_with_a_bug_puts_its_torrent_in_error_and_is_tried_again(
    owner: type, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "RETRY_FIRST_S", 0.1)
    monkeypatch.setattr(heartbeat, "BEAT_S", 0.01)
    fault = Fault(monkeypatch, owner, name, its_torrent, times=1)
    async with both(tmp_path, checked=1) as engine:
        await sibling_completes(engine)
        await victim_completes(engine)
        assert [event.facts.info_hash for event in engine.told(Failed)] == [VICTIM.info_hash]
        assert len(engine.bugs) == fault.count == 1


async def test_a_record_that_trips_a_bug_costs_its_torrent_a_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, strict=False) as engine:
        for made in (VICTIM, SIBLING):
            await engine.add(made, label=made.name)
        await engine.until(Checked, 2)
    Fault(monkeypatch, store, "load_record", lambda blob: VICTIM.name.encode() in blob)
    async with running(tmp_path, strict=False) as engine:
        assert engine.session.torrents.keys() == {VICTIM.info_hash, SIBLING.info_hash}
        assert engine.session.torrents[VICTIM.info_hash].record.label == VICTIM.name
        assert [event.what for event in engine.told(Warned)] == ["resume.damaged"]
        assert len(engine.bugs) == 1


async def test_a_torrent_that_cannot_even_be_taken_up_is_left_out_until_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, strict=False) as engine:
        for made in (VICTIM, SIBLING):
            await engine.add(made)
        await engine.until(Checked, 2)
    fault = Fault(monkeypatch, Whereabouts, "claim", its_torrent)
    async with running(tmp_path, strict=False) as engine:
        assert engine.session.torrents.keys() == {SIBLING.info_hash}
        assert len(engine.bugs) == fault.count == 1
    fault.on = False
    async with running(tmp_path) as engine:
        assert engine.session.torrents.keys() == {VICTIM.info_hash, SIBLING.info_hash}


@pytest.mark.parametrize(
    ("owner", "name", "hits"),
    [
        pytest.param(store, "dump_record", lambda record: record.name == VICTIM.name, id="the record"),
        pytest.param(Whereabouts, "claim", its_torrent, id="what follows it"),
    ],
)
async def test_of_many_that_are_added_at_once_only_the_one_with_a_bug_is_refused(
    owner: Any, name: str, hits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Fault(monkeypatch, owner, name, hits)
    many = [VICTIM, *(make_torrent(f"{number}.bin", size=30_000) for number in range(9))]
    refused = []

    async def add(made: Made) -> None:
        try:
            await engine.add(made)
        except JobCrashed:
            refused.append(made)

    async with running(tmp_path, strict=False) as engine:
        async with trio.open_nursery() as nursery:
            for made in many:
                nursery.start_soon(add, made)
        assert refused == [VICTIM]
        assert engine.session.torrents.keys() >= {made.info_hash for made in many[1:]}
