"""A download goes on, and memory does not grow, while somebody floods the DHT's port."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.bench.measure import peak_rss_bytes
from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.dht_flood import DhtFlood
from tests.fakes.payloads import MIB, Payload, digest_of

PER_S = 5000.0


@pytest.mark.proof
def test_a_flood_costs_little(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    payload = payload_of("flooded", 64 * MIB, 65536)
    peaks = {}
    for flooded in (False, True):
        bittern = Bittern(
            tmp_path / f"bittern{flooded}",
            network={"dht": True, "dht_bootstrap": [], "dial_scope": "this-host"},
        )
        seeder = Libtorrent(tmp_path / f"seeder{flooded}")
        seeder.upload_limit = 8 * MIB
        with seeder, bittern:
            seeder.add(payload.torrent(tmp_path), payload.folder)
            seeder.wait_whole()
            flood = DhtFlood(tmp_path / f"flood{flooded}", "flood", bittern.udp_port, PER_S if flooded else 1)
            with flood:
                bittern.give(payload)
                bittern.wait("torrent.checked")
                seeder.connect(bittern.port)
                bittern.wait("torrent.completed")
            peaks[flooded] = peak_rss_bytes(bittern.pid)
        assert digest_of(bittern.downloads / payload.name) == payload.digest
        assert not flooded or flood.told["sent"] > PER_S
    print(f"\npeak RSS {peaks[True] / MIB:.0f} MiB in a flood, {peaks[False] / MIB:.0f} MiB without")
    assert peaks[True] - peaks[False] < 24 * MIB
