"""Neighbours find each other (BEP 14): no tracker, no DHT, a network of their own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.lan import lan, running
from tests.fakes.payloads import MIB, Payload, digest_of

PayloadOf = Callable[..., Payload]

NETWORK = {"lsd": True, "listen": ["0.0.0.0", "::"]}


def seeding(folder: Path, payload: Payload, **network: object) -> Bittern:
    """One of ours that has it, if it is started and given it."""
    found = Bittern(folder, network=NETWORK | network)
    (found.downloads / payload.name).write_bytes((payload.folder / payload.name).read_bytes())
    return found


def whole(bittern: Bittern, payload: Payload) -> bool:
    bittern.wait("torrent.completed", 400)  # one datagram may be lost: the next comes after five minutes
    return digest_of(bittern.downloads / payload.name) == payload.digest


@pytest.mark.proof
@pytest.mark.parametrize("families", [(4, 6), (6,)])
def test_two_of_ours(tmp_path: Path, payload_of: PayloadOf, families: tuple[int, ...]) -> None:
    """Whoever comes later is heard at once, though the other has nothing new to say."""
    payload = payload_of("near", 2 * MIB + 5, 65536)
    with lan(2, families=families) as (_, [here, there]):
        seeder, leecher = (
            seeding(tmp_path / "seeder", payload),
            Bittern(tmp_path / "leecher", network=NETWORK),
        )
        with running(seeder, here):
            seeder.give(payload)
            seeder.wait("torrent.completed")
            with running(leecher, there):
                leecher.give(payload)
                assert whole(leecher, payload)


@pytest.mark.proof
def test_libtorrent_is_found(tmp_path: Path, payload_of: PayloadOf) -> None:
    payload = payload_of("near", 2 * MIB + 5, 65536)
    with lan(2) as (_, [here, there]):
        seeder, leecher = Libtorrent(tmp_path / "seeder"), Bittern(tmp_path / "leecher", network=NETWORK)
        seeder.host = here.v4
        with running(leecher, there):
            leecher.give(payload)
            leecher.wait("torrent.added")
            with here:
                seeder.launch()
            seeder.lsd()
            seeder.add(payload.torrent(tmp_path), payload.folder)
            assert whole(leecher, payload)
            seeder.stop()


@pytest.mark.proof
def test_libtorrent_finds_us(tmp_path: Path, payload_of: PayloadOf) -> None:
    payload = payload_of("near", 2 * MIB + 5, 65536)
    with lan(2) as (_, [here, there]):
        seeder, leecher = seeding(tmp_path / "seeder", payload), Libtorrent(tmp_path / "leecher")
        leecher.host = there.v4
        with there:
            leecher.launch()
        leecher.lsd()
        leecher.add(payload.torrent(tmp_path), tmp_path)
        with running(seeder, here):
            seeder.give(payload)
            leecher.wait_whole(400)
        leecher.stop()
