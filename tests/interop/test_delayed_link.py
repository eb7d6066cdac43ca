"""Transfers over a gigabit with a round trip: every byte arrives, whatever is under way meanwhile."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench.link import ROUND_TRIPS_MS, bittern, libtorrent
from tests.fakes.link import Link
from tests.fakes.payloads import MIB, Payload, digest_of

PayloadOf = Callable[..., Payload]


def transfer(tmp_path: Path, payload: Payload, round_trip_ms: int, *, seeds: bool) -> None:
    """Between bittern and a libtorrent at the other end, which dials."""
    with ExitStack() as stack:
        link = stack.enter_context(Link(tmp_path / "link", round_trip_ms / 1000))
        other = libtorrent(tmp_path / "other", payload, not seeds, link.far.host)
        with link.far:
            stack.enter_context(other)
        with link.near:
            ours = stack.enter_context(bittern(tmp_path / "bittern", payload, seeds, link.near.host))
            other.client.call("connect", host=link.near.host, ports=[ours.port])
            leecher = other if seeds else ours
            leecher.wait_whole()
    assert digest_of(leecher.folder / payload.name) == payload.digest


def test_we_leech_over_twenty_milliseconds(tmp_path: Path, payload_of: PayloadOf) -> None:
    transfer(tmp_path, payload_of("delayed", 6 * MIB + 321, 256 * 1024), 20, seeds=False)


@pytest.mark.proof
@pytest.mark.parametrize("seeds", [False, True], ids=["leech", "seed"])
@pytest.mark.parametrize("round_trip_ms", ROUND_TRIPS_MS)
def test_each_way(tmp_path: Path, payload_of: PayloadOf, round_trip_ms: int, seeds: bool) -> None:
    transfer(tmp_path, payload_of("delayed long", 64 * MIB + 321, MIB), round_trip_ms, seeds=seeds)
