"""A seed that rejects one request and stays unchoked, as Transmission does when its queue is full."""

import struct
from pathlib import Path

import pytest
import trio

from bittern.engine import requests
from bittern.engine.events import Checked, Completed
from bittern.proto import messages as m
from tests.fakes.engine import running
from tests.fakes.scripted_peer import connected
from tests.fakes.torrents import make_torrent


async def test_what_the_only_seed_rejects_once_is_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "REFUSED_S", 0.5)
    made = make_torrent(size=65536 * 4)
    async with running(tmp_path) as engine:
        await engine.add(made)
        await engine.until(Checked)
        async with connected(engine.address, made.info_hash, seed=1) as seed, trio.open_nursery() as nursery:
            await seed.say(m.HAVE_ALL, m.UNCHOKE)
            index, begin, length = struct.unpack(">III", await seed.hear_until("request"))
            await seed.say(m.pack_reject(index, begin, length))
            nursery.start_soon(seed.serve, made)
            await engine.until(Completed)
            nursery.cancel_scope.cancel()
        assert made.is_at(engine.downloads)
