"""A network of a hundred of our own nodes and some of libtorrent's, on real sockets: how soon peers are found in it."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.dht_crowd import DhtCrowd
from tests.fakes.payloads import MIB, Payload, digest_of
from tests.fakes.processes import HOST, wait_until

NODES = 100


def took(bittern: Bittern, payload: Payload, began: float) -> float:
    """Seconds until it was whole."""
    bittern.wait("torrent.completed", 600, name=payload.name)  # who finds nobody looks again after minutes
    ended = time.monotonic()
    assert digest_of(bittern.downloads / payload.name) == payload.digest
    return ended - began


@pytest.mark.proof
def test_one_introduction_is_enough_and_the_next_start_needs_none(
    tmp_path: Path, payload_of: Callable[..., Payload]
) -> None:
    first, second = (payload_of(f"number {number}", MIB + number, 65536) for number in range(2))
    with ExitStack() as stack:
        network = {"dht": True, "dht_bootstrap": [], "dial_scope": "this-host"}
        router = Bittern(tmp_path / "router", network=network).start()
        introducer = f"{HOST}:{router.udp_port}"
        stack.enter_context(DhtCrowd(tmp_path / "crowd", NODES, introducer))
        seeders = [stack.enter_context(Libtorrent(tmp_path / f"seeder{number}")) for number in range(2)]
        for seeder in seeders:
            seeder.dht(introducer)
            wait_until(lambda one=seeder: one.call("dht_nodes")[0] > 8, 300, "libtorrent's table")
            for payload in (first, second):
                seeder.add(payload.torrent(tmp_path), payload.folder)
            seeder.wait_whole()
        bittern = Bittern(
            tmp_path / "bittern",
            network=network | {"dht_bootstrap": [introducer]},
        )
        bittern.give(first)
        began = time.monotonic()
        with bittern:
            cold_s = took(bittern, first, began)
            router.stop()
        bittern.give(second)
        began = time.monotonic()
        with bittern:
            warm_s = took(bittern, second, began)
            print(f"\na start without a table: {cold_s:.1f} s; with one, its router dead: {warm_s:.1f} s")
