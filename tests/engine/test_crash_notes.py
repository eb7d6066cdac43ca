"""The small files of the state folder, cut at every change that they make on disk: the old or the new one is there."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from bittern.discovery.dht import Dht
from bittern.discovery.dht_state import load_tables
from bittern.disk.places import Remembered
from bittern.engine.store import Store, Tally
from bittern.policy.dhtnode import DhtNode
from bittern.terms import Address, NodeId
from tests.fakes.crash_disk import Crash, recording

Keep: TypeAlias = Callable[[Store, int], object]
Read: TypeAlias = Callable[[Store], object]


def _keep_places(store: Store, number: int) -> None:
    store.keep_places([Remembered(f"/mnt/{n}", "word", n, n, "boot") for n in range(number)])


def _read_places(store: Store) -> int:
    return len(store.places())


class Deaf:
    """The network, and nobody in it."""

    def register(self, *_: object) -> None:
        pass


NOTES: dict[str, tuple[Keep, Read]] = {
    "places.toml": (_keep_places, _read_places),
    "clock.toml": (lambda store, n: store.keep_run_clock(float(n)), lambda store: int(store.run_clock())),
    "scrub.toml": (
        lambda store, n: store.keep_scrub_place(bytes(20), n),
        lambda store: store.scrub_place()[1],
    ),
    "totals.toml": (
        lambda store, n: store.keep_tally(Tally(n, n, n, n)),
        lambda store: store.tally().runs if len(set(store.tally())) == 1 else None,
    ),
}


@pytest.mark.parametrize("name", NOTES)
@pytest.mark.parametrize("crash", list(Crash))
def test_a_note_is_the_last_one_or_the_one_under_way(tmp_path: Path, crash: Crash, name: str) -> None:
    keep, read = NOTES[name]
    Store(str(tmp_path)).close()
    kept = [0]
    with recording(tmp_path) as noted:
        store = Store(str(tmp_path))
        for number in (1, 2, 3):
            keep(store, number)
            kept += [number - 1] * (len(noted.changes) - len(kept)) + [number]
        store.close()
    rng = random.Random(f"{crash} {name}")
    for change, least in enumerate(kept):
        noted.leave(change, crash, rng)
        store = Store(str(tmp_path))
        assert read(store) in {least, least + 1}, change
        store.close()
    assert kept[-1] == 3


@pytest.mark.parametrize("crash", list(Crash))
async def test_the_table_of_the_dht_is_the_last_one_or_the_one_under_way(
    tmp_path: Path, crash: Crash
) -> None:
    kept = [0]
    node = DhtNode(NodeId(bytes(20)), rng=random.Random(1), now=0.0, send=lambda *_: None)
    state = tmp_path / "dht.toml"
    with recording(tmp_path) as noted:
        deaf: Any = Deaf()
        dht = Dht(deaf, deaf, families=(4,), port=lambda: 1, routers=(), state=state, rng=random.Random(1))
        dht.nodes[4] = node
        for number in (1, 2, 3):
            address = Address(f"50.1.{number}.1", 6881)
            node.table.answered(NodeId(bytes([number]) * 20), address, float(number))
            await dht.save()
            kept += [number - 1] * (len(noted.changes) - len(kept)) + [number]
    rng = random.Random(f"{crash}")
    for change, least in enumerate(kept):
        noted.leave(change, crash, rng)
        found = len(load_tables(state.read_bytes())[4].nodes) if state.exists() else 0
        assert found in {least, least + 1}, change
    assert kept[-1] == 3
