"""The daemon and libtorrent tell each other of peers (BEP 11)."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload
from tests.fakes.processes import wait_until

PayloadOf = Callable[..., Payload]


def clients_of(peer: Libtorrent) -> set[str]:
    return {str(one["client"]).split("/")[0].split(" ")[0] for one in peer.call("peers")}


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=pytest.mark.proof)])
def test_libtorrent_tells_us_and_we_tell_libtorrent(tmp_path: Path, payload_of: PayloadOf, host: str) -> None:
    payload = payload_of("told by peers", 32 * MIB, 65536)
    torrent = payload.torrent(tmp_path)
    seeder, between, other = (Libtorrent(tmp_path / name) for name in ("seeder", "between", "other"))
    # Neither tells nor hears; and so slow that all are downloading until the end, for seeds part with each other:
    # what is told comes once a minute.
    seeder.upload_limit = 30_000
    between.pex = other.pex = True
    for one in (seeder, between, other):
        one.host = host
    network = {"listen": [host], "dial_scope": "this-host", "lsd": False}
    bittern = Bittern(tmp_path / "bittern", network=network)
    with seeder, between, other, bittern:
        seeder.add(torrent, payload.folder)
        seeder.wait_whole()
        for leecher in (between, other):
            leecher.add(torrent, leecher.work / "data")
            leecher.wait_for("checked")
        between.connect(seeder.port)
        wait_until(lambda: clients_of(between), 120, "two who know each other")
        bittern.give(payload)
        bittern.wait("torrent.checked")
        between.connect(bittern.port)
        wait_until(lambda: "bittern" in clients_of(seeder), 300, "we have heard of the seeder")
        other.connect(bittern.port)
        wait_until(
            lambda: clients_of(other) == {"bittern", "libtorrent"}, 300, "who asked us has heard of others"
        )
