"""SIGKILL at random moments around completions: each event is told at least once, and always with the same id."""

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import Payload, digest_of
from tests.fakes.processes import PATIENCE_S, free_port, wait_until

EVENTS = ["added", "downloaded", "completed"]


def kill_around_completions(
    tmp_path: Path, payload_of: Callable[..., Payload], kills: int, at_once: int
) -> None:
    """Lives of less than a second, in each of which some of the torrents are about to be complete."""
    rng = random.Random(kills)
    round_number = 0
    with Libtorrent(tmp_path / "seeder") as seeder:
        while kills > 0:
            round_number += 1
            work = tmp_path / f"round {round_number}"
            work.mkdir()
            payloads = [payload_of(f"{round_number}.{n}", [70_000, 5_000], 16_384) for n in range(at_once)]
            bittern = Bittern(work, network={"port": free_port()}, paths={})
            bittern.tables["paths"]["incomplete"] = str(work / "incomplete")
            bittern.tables["hook"]["on"] = EVENTS
            for payload in payloads:
                seeder.add(payload.torrent(work), payload.folder)
                bittern.give(payload)
            seeder.wait_whole()
            for life in range(200):
                # an address that vanished a few times the seeder would not dial again for a minute
                bittern.tables["network"]["port"] = free_port()
                bittern.write_config("[hooks]\nparallel = 8\n")
                bittern.start("daemon.loaded")
                patience = rng.uniform(0, 0.8) if life < 10 and kills > 0 else PATIENCE_S
                try:
                    wait_until(partial(all_told, bittern, payloads, seeder), patience, "all hooks told", 0.1)
                    break
                except AssertionError:
                    assert life < 10, bittern.tail()
                bittern.kill()
                kills -= 1
            assert bittern.stop() == 0
            bittern.check_unhurt()
            for payload in payloads:
                assert digest_of(bittern.downloads / payload.name) == payload.digest
            for event in EVENTS:
                ids: dict[str, set[str]] = {}
                for told in bittern.told(event):
                    ids.setdefault(told.env["BITTERN_INFO_HASH"], set()).add(told.event_id)
                assert set(ids) == {payload.info_hash for payload in payloads}, event
                assert {len(one) for one in ids.values()} == {1}, (event, ids)


def all_told(bittern: Bittern, payloads: list[Payload], seeder: Libtorrent) -> bool:
    seeder.connect(bittern.port)
    told = {(one.event, one.env["BITTERN_INFO_HASH"]) for one in bittern.told()}
    return all((event, payload.info_hash) in told for event in EVENTS for payload in payloads)


@pytest.mark.proof
def test_two_hundred_kills(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    kill_around_completions(tmp_path, payload_of, 200, 6)
