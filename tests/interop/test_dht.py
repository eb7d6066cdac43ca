"""The daemon without any tracker: peers come out of the DHT (BEP 5), ours and libtorrent's."""

import tomllib
from collections.abc import Callable
from pathlib import Path

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload, digest_of
from tests.fakes.processes import HOST

PayloadOf = Callable[..., Payload]


def test_a_trackerless_torrent_is_found_through_libtorrents_dht(
    tmp_path: Path, payload_of: PayloadOf
) -> None:
    payload = payload_of("without a tracker", 2 * MIB + 9, 65536)
    router = Libtorrent(tmp_path / "router")
    seeder = Libtorrent(tmp_path / "seeder")
    with router, seeder:
        router.dht()
        seeder.dht(f"{HOST}:{router.port}")
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        # Whoever finds nobody looks again after minutes.
        router.wait_names(payload.info_hash)
        network = {"dht": True, "dht_bootstrap": [f"{HOST}:{router.port}"], "dial_scope": "this-host"}
        bittern = Bittern(tmp_path / "bittern", network=network)
        with bittern:
            bittern.give(payload)
            bittern.wait("torrent.completed")
            assert digest_of(bittern.downloads / payload.name) == payload.digest
        saved = tomllib.loads((bittern.state / "dht.toml").read_text())
        assert saved["ipv4"]["nodes"]
