"""From a magnet link to the last byte, whoever names the peers; and libtorrent gets the metadata from us (BEP 9)."""

import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.lan import lan, running
from tests.fakes.payloads import MIB, Payload, digest_of
from tests.fakes.processes import HOST, wait_until
from tests.fakes.tracker_process import Tracker

PayloadOf = Callable[..., Payload]

QUIET = {"dial_scope": "this-host", "lsd": False}


@pytest.fixture
def payload(payload_of: PayloadOf) -> Payload:
    # of two pieces of metadata
    return payload_of("only a link", 16 * MIB + 9, 16384)


def link(payload: Payload, more: str = "") -> str:
    return f"magnet:?xt=urn:btih:{payload.info_hash}&dn=linked{more}"


def arrives(bittern: Bittern, payload: Payload) -> None:
    described = bittern.wait("torrent.described")
    assert (described["name"], described["source"]) == (payload.name, "peers")
    bittern.wait("torrent.completed")
    assert digest_of(bittern.downloads / payload.name) == payload.digest


def test_through_a_tracker(tmp_path: Path, payload: Payload) -> None:
    seeder, bittern = Libtorrent(tmp_path / "seeder"), Bittern(tmp_path / "bittern", network=QUIET)
    with Tracker(tmp_path / "tracker", payload.info_hash) as tracker, seeder, bittern:
        seeder.add(payload.torrent(tmp_path, tracker.url), payload.folder)
        tracker.wait_for(payload.info_hash, seeds=1)
        bittern.give_links(
            "# a comment", link(payload, f"&tr={quote(tracker.url, safe='')}"), "magnet:?xt=urn:btih:bad"
        )
        arrives(bittern, payload)
        refused = bittern.wait("drop.rejected")
        assert refused["path"].endswith("links.magnet:3")
        assert (bittern.drop / "accepted" / "links.magnet").exists()
        assert (bittern.drop / "rejected" / "links.magnet").read_text() == "magnet:?xt=urn:btih:bad\n"


@pytest.mark.proof
def test_through_a_peer_that_the_link_names(tmp_path: Path, payload: Payload) -> None:
    seeder, bittern = Libtorrent(tmp_path / "seeder"), Bittern(tmp_path / "bittern", network=QUIET)
    with seeder, bittern:
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        bittern.give_links(link(payload, f"&x.pe={HOST}:{seeder.port}"))
        arrives(bittern, payload)


@pytest.mark.proof
def test_through_the_dht(tmp_path: Path, payload: Payload) -> None:
    router, seeder = Libtorrent(tmp_path / "router"), Libtorrent(tmp_path / "seeder")
    with router, seeder:
        router.dht()
        seeder.dht(f"{HOST}:{router.port}")
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        router.wait_names(payload.info_hash)
        network = QUIET | {"dht": True, "dht_bootstrap": [f"{HOST}:{router.port}"]}
        with Bittern(tmp_path / "bittern", network=network) as bittern:
            bittern.give_links(link(payload))
            arrives(bittern, payload)


@pytest.mark.proof
def test_through_neighbours(tmp_path: Path, payload: Payload) -> None:
    network = {"lsd": True, "listen": ["0.0.0.0", "::"]}
    with lan(2) as (_, [here, there]):
        seeder = Libtorrent(tmp_path / "seeder")
        leecher = Bittern(tmp_path / "leecher", network=network)
        seeder.host = here.v4
        with running(leecher, there):
            leecher.give_links(link(payload))
            leecher.wait("torrent.added")
            with here:
                seeder.launch()
            seeder.lsd()
            seeder.add(payload.torrent(tmp_path), payload.folder)
            arrives(leecher, payload)
            seeder.stop()


@pytest.mark.proof
def test_waits_over_a_kill(tmp_path: Path, payload: Payload) -> None:
    seeder, bittern = Libtorrent(tmp_path / "seeder"), Bittern(tmp_path / "bittern", network=QUIET)
    with seeder:
        bittern.start()
        bittern.give_links(link(payload, f"&x.pe={HOST}:{seeder.port}"))
        bittern.wait("drop.accepted")
        bittern.kill()
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        with bittern:
            assert bittern.wait("daemon.loaded")["torrents"] == 1
            arrives(bittern, payload)


@pytest.mark.proof
def test_libtorrent_gets_it_from_us(tmp_path: Path, payload: Payload) -> None:
    leecher, bittern = Libtorrent(tmp_path / "leecher"), Bittern(tmp_path / "bittern", network=QUIET)
    shutil.copy(payload.folder / payload.name, bittern.downloads / payload.name)
    with bittern, leecher:
        bittern.give(payload)
        bittern.wait("torrent.completed")
        leecher.add_magnet(link(payload, f"&x.pe={HOST}:{bittern.port}"), tmp_path / "got")
        leecher.wait_whole()
        # it writes when it likes
        got = tmp_path / "got" / payload.name
        wait_until(lambda: digest_of(got) == payload.digest, 120, "all of it on disk")


@pytest.mark.proof
def test_a_tied_file_of_links_that_is_removed(tmp_path: Path, payload: Payload) -> None:
    bittern = Bittern(tmp_path / "bittern", network=QUIET)
    bittern.tables["watch"] |= {"tie": True, "after_add": "keep"}
    bittern.write_config()
    with bittern:
        bittern.give_links(link(payload), f"magnet:?xt=urn:btih:{'ab' * 20}")
        bittern.wait("drop.accepted", links=2)
        (bittern.drop / "links.magnet").unlink()
        bittern.wait("torrent.removed", count=2)
        assert not bittern.records()
