"""Real clients and a real tracker: we leech from them, and they leech from us; every byte is compared."""

import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.bench.measure import peak_rss_bytes
from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import CLIENTS, Client, Libtorrent
from tests.fakes.payloads import MIB, Payload, digest_of
from tests.fakes.processes import wait_until
from tests.fakes.tracker_process import Tracker

PayloadOf = Callable[..., Payload]
KIB = 1024

SMALL_FILES = [random.Random(number).choice([0, 1, 700, 4096, 9000]) for number in range(1000)]
# name: sizes, piece length. Each last piece is short.
CASES: dict[str, tuple[int | Sequence[int], int]] = {
    "one file": (5 * MIB + 12_345, 256 * KIB),
    "1000 small files": (SMALL_FILES, 64 * KIB),
    "few files": ([3 * MIB, 1, 0, 2 * MIB + 1], 128 * KIB),
} | {
    f"pieces of {length // KIB} KiB": (max(2 * length, MIB) + 777, length)
    for length in (16 * KIB << step for step in range(11))
}
IN_EVERY_TEST_RUN = {
    ("libtorrent", "one file"),
    ("transmission", "few files"),
    ("aria2", "one file"),
    ("libtorrent", "1000 small files"),
    ("libtorrent", "pieces of 16 KiB"),
    ("libtorrent", "pieces of 16384 KiB"),
}


def both(*, matrix: bool) -> list[object]:
    return [
        pytest.param(client, case, id=f"{client}-{case.replace(' ', '-')}")
        for client in CLIENTS
        for case in CASES
        if ((client, case) in IN_EVERY_TEST_RUN) != matrix
    ]


def leech(tmp_path: Path, payload: Payload, seeders: Sequence[Client]) -> None:
    """bittern gets everything that these have."""
    with Tracker(tmp_path / "tracker", payload.info_hash) as tracker, ExitStack() as running:
        torrent = payload.torrent(tmp_path, tracker.url)
        for seeder in seeders:
            running.enter_context(seeder).add(torrent, payload.folder)
        for seeder in seeders:
            seeder.wait_whole()
        tracker.wait_for(payload.info_hash, seeds=len(seeders))
        with Bittern(tmp_path / "bittern") as bittern:
            bittern.give(payload, tracker.url)
            bittern.wait("torrent.completed", info_hash=payload.info_hash)
            assert digest_of(bittern.downloads / payload.name) == payload.digest
            bittern.wait("hook.done", on="completed", exit_status=0)
            # and the tracker was told: it is one of the seeds now
            tracker.wait_for(payload.info_hash, seeds=len(seeders) + 1)


def seed(tmp_path: Path, payload: Payload, leechers: Sequence[Client]) -> None:
    """Everybody gets everything from bittern, which finds the data in its place."""
    with Tracker(tmp_path / "tracker", payload.info_hash) as tracker, ExitStack() as running:
        torrent = payload.torrent(tmp_path, tracker.url)
        bittern = Bittern(tmp_path / "bittern")
        copy(payload, bittern.downloads)
        # Who does not dial us has to be there first, so that the tracker names it to us.
        first = [one for one in leechers if not one.dials_loopback]
        later = [one for one in leechers if one.dials_loopback]
        for leecher in first:
            running.enter_context(leecher).add(torrent, leecher.work / "got")
        if first:
            tracker.wait_for(payload.info_hash, leeches=len(first))
        running.enter_context(bittern)
        bittern.give(payload, tracker.url)
        told = bittern.wait("torrent.completed", info_hash=payload.info_hash)
        assert told["reason"] == "already-complete"
        tracker.wait_for(payload.info_hash, seeds=1)
        for leecher in later:
            running.enter_context(leecher).add(torrent, leecher.work / "got")
        for leecher in leechers:
            leecher.wait_whole()
            leecher.stop()  # some are whole before all of it is written
            got, empty = leecher.work / "got" / payload.name, leecher.makes_empty_files
            assert digest_of(got, empty_files=empty) == digest_of(
                payload.folder / payload.name, empty_files=empty
            )
        assert digest_of(bittern.downloads / payload.name) == payload.digest


def copy(payload: Payload, folder: Path) -> None:
    source, target = payload.folder / payload.name, folder / payload.name
    if source.is_dir():
        shutil.copytree(source, target)
    else:
        shutil.copy(source, target)


def run_leech(tmp_path: Path, payload_of: PayloadOf, client: str, case: str) -> None:
    leech(tmp_path, payload_of("a payload", *CASES[case]), [CLIENTS[client](tmp_path / client)])


def run_seed(tmp_path: Path, payload_of: PayloadOf, client: str, case: str) -> None:
    seed(tmp_path, payload_of("a payload", *CASES[case]), [CLIENTS[client](tmp_path / client)])


@pytest.mark.parametrize(("client", "case"), both(matrix=False))
def test_we_leech_from(tmp_path: Path, payload_of: PayloadOf, client: str, case: str) -> None:
    run_leech(tmp_path, payload_of, client, case)


@pytest.mark.parametrize(("client", "case"), both(matrix=False))
def test_it_leeches_from_us(tmp_path: Path, payload_of: PayloadOf, client: str, case: str) -> None:
    run_seed(tmp_path, payload_of, client, case)


@pytest.mark.proof
@pytest.mark.parametrize(("client", "case"), both(matrix=True))
def test_we_leech_from_each(tmp_path: Path, payload_of: PayloadOf, client: str, case: str) -> None:
    run_leech(tmp_path, payload_of, client, case)


@pytest.mark.proof
@pytest.mark.parametrize(("client", "case"), both(matrix=True))
def test_each_leeches_from_us(tmp_path: Path, payload_of: PayloadOf, client: str, case: str) -> None:
    run_seed(tmp_path, payload_of, client, case)


def test_three_seeders_at_once(tmp_path: Path, payload_of: PayloadOf) -> None:
    payload = payload_of("three", 4 * MIB + 1, 64 * KIB)
    seeders = [Libtorrent(tmp_path / f"seeder {number}") for number in range(3)]
    for seeder in seeders:
        seeder.upload_limit = 640 * KIB  # nobody can give it all before the others are asked
    with Tracker(tmp_path / "tracker", payload.info_hash) as tracker, ExitStack() as running:
        torrent = payload.torrent(tmp_path, tracker.url)
        for seeder in seeders:
            running.enter_context(seeder).add(torrent, payload.folder)
            seeder.wait_whole()
        tracker.wait_for(payload.info_hash, seeds=3)
        bittern = running.enter_context(Bittern(tmp_path / "bittern"))
        bittern.give(payload, tracker.url)
        bittern.wait("torrent.completed")
        gave = [seeder.status()["uploaded"] for seeder in seeders]
        assert digest_of(bittern.downloads / payload.name) == payload.digest
    assert all(gave), gave
    # Endgame asks several for the last blocks, and a slow seeder has sent what we then cancel; no more than that.
    assert sum(gave) < payload.total * 1.2, gave


@pytest.mark.proof
@pytest.mark.parametrize("case", ["one file", "1000 small files"])
def test_one_seeder_of_each_kind(tmp_path: Path, payload_of: PayloadOf, case: str) -> None:
    leech(
        tmp_path,
        payload_of("of each", *CASES[case]),
        [make(tmp_path / name) for name, make in CLIENTS.items()],
    )


@pytest.mark.proof
@pytest.mark.parametrize("case", ["one file", "1000 small files"])
def test_one_leecher_of_each_kind(tmp_path: Path, payload_of: PayloadOf, case: str) -> None:
    seed(
        tmp_path,
        payload_of("of each", *CASES[case]),
        [make(tmp_path / name) for name, make in CLIENTS.items()],
    )


def test_how_we_show_ourselves(tmp_path: Path, payload_of: PayloadOf) -> None:
    payload = payload_of("shown", 8 * MIB, 64 * KIB)
    seeder = Libtorrent(tmp_path / "seeder")
    seeder.upload_limit = 100 * KIB  # it is to be seen before it parts with a seed
    with seeder, Bittern(tmp_path / "bittern") as bittern:
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        bittern.give(payload)
        bittern.wait("torrent.checked")
        seeder.connect(bittern.port)
        [peer] = wait_until(lambda: [one for one in seeder.call("peers") if one["client"]], 60, "a peer")
        assert peer["client"].startswith("bittern ")
        assert bytes.fromhex(peer["id"])[:3] == b"-bn"
        assert bytes.fromhex(peer["id"])[3:7].isdigit()


@pytest.mark.parametrize("case", ["few files", pytest.param("1000 small files", marks=pytest.mark.proof)])
def test_bittern_from_bittern(tmp_path: Path, payload_of: PayloadOf, case: str) -> None:
    payload = payload_of("ours", *CASES[case])
    first, second = Bittern(tmp_path / "first"), Bittern(tmp_path / "second")
    copy(payload, first.downloads)
    with Tracker(tmp_path / "tracker", payload.info_hash) as tracker, first:
        first.give(payload, tracker.url)
        tracker.wait_for(payload.info_hash, seeds=1)
        with second:
            second.give(payload, tracker.url)
            assert second.wait("torrent.completed")["reason"] == "downloaded"
            assert digest_of(second.downloads / payload.name) == payload.digest


def test_a_hybrid_torrent(tmp_path: Path, payload_of: PayloadOf) -> None:
    """v1 and v2 in one, with pad files, as libtorrent makes them: we take it as v1."""
    payload = payload_of("hybrid", *CASES["few files"])
    torrent = tmp_path / "hybrid.torrent"
    with Libtorrent(tmp_path / "seeder") as seeder, Bittern(tmp_path / "bittern") as bittern:
        source = str(payload.folder / payload.name)
        seeder.call("create", source=source, piece_length=65536, target=str(torrent))
        seeder.add(torrent, payload.folder)
        seeder.wait_whole()
        torrent.rename(bittern.drop / torrent.name)
        bittern.wait("torrent.checked")
        seeder.connect(bittern.port)
        told = bittern.wait("torrent.completed")
        assert told["path"] == str(bittern.downloads / payload.name)
    assert digest_of(bittern.downloads / payload.name) == payload.digest  # the padding is no file


def test_pieces_larger_than_the_memory_for_them(tmp_path: Path, payload_of: PayloadOf) -> None:
    payload = payload_of("large pieces", 40 * MIB + 5, 16 * MIB)
    bittern = Bittern(tmp_path / "bittern", limits={"piece_memory": "4 MiB"})
    with Libtorrent(tmp_path / "seeder") as seeder, bittern:
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        bittern.give(payload)
        bittern.wait("torrent.checked")
        seeder.connect(bittern.port)
        bittern.wait("torrent.completed")
        assert peak_rss_bytes(bittern.pid) < 100 * MIB
    assert digest_of(bittern.downloads / payload.name) == payload.digest


def test_a_peer_that_sends_bad_data(tmp_path: Path, payload_of: PayloadOf) -> None:
    payload = payload_of("poisoned", 3 * MIB, 65536)
    poison = tmp_path / "poison"
    poison.mkdir()
    copy(payload, poison)
    honest, liar = Libtorrent(tmp_path / "honest"), Libtorrent(tmp_path / "liar")
    honest.upload_limit = 2 * MIB
    liar.host = "127.0.0.2"
    with honest, liar, Bittern(tmp_path / "bittern") as bittern:
        torrent = payload.torrent(tmp_path)
        liar.add(torrent, poison)
        liar.wait_whole()
        # It believes what it has checked; now that is something else.
        with (poison / payload.name).open("r+b") as file:
            file.write(random.Random(0).randbytes(payload.total))
        honest.add(torrent, payload.folder)
        honest.wait_whole()
        bittern.give(payload)
        bittern.wait("torrent.checked")
        liar.connect(bittern.port)
        bittern.wait("peer.banned", host=liar.host)
        honest.connect(bittern.port)
        bittern.wait("torrent.completed")
        assert {event["host"] for event in bittern.events("peer.banned")} == {liar.host}
    assert digest_of(bittern.downloads / payload.name) == payload.digest
