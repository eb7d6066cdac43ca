"""Rate limits, over 10 s of a real transfer."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.payloads import MIB, Payload
from tests.fakes.processes import wait_until


@pytest.mark.proof
@pytest.mark.parametrize("rate", [300_000, 8 * MIB])
@pytest.mark.parametrize("direction", ["download", "upload"])
def test_a_rate_is_kept(
    tmp_path: Path, payload_of: Callable[..., Payload], direction: str, rate: int
) -> None:
    payload = payload_of("limited", 16 * rate, 65536)
    bittern = Bittern(tmp_path / "bittern", limits={f"{direction}_rate": rate})
    if direction == "upload":
        shutil.copy(payload.folder / payload.name, bittern.downloads)
    with Libtorrent(tmp_path / "peer") as peer, bittern:
        bittern.give(payload)
        bittern.wait("torrent.checked")
        folder = payload.folder if direction == "download" else peer.work / "got"
        peer.add(payload.torrent(tmp_path), folder)
        peer.connect(bittern.port)
        moved = "uploaded" if direction == "download" else "downloaded"
        wait_until(lambda: peer.status()[moved] > rate, 20, "the first second's worth")
        began, at = peer.status()[moved], time.monotonic()
        time.sleep(10)
        measured = (peer.status()[moved] - began) / (time.monotonic() - at)
        assert measured == pytest.approx(rate, rel=0.05)
