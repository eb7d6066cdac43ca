"""libtorrent heeds that we are a partial seed (BEP 21)."""

from pathlib import Path

import pytest
import trio

from bittern.engine.events import Completed
from bittern.policy.selection import Choice
from tests.fakes.clients import Libtorrent
from tests.fakes.engine import running
from tests.fakes.torrents import make_torrent

PIECE = 64 * 1024


@pytest.mark.proof
async def test_libtorrent_takes_what_a_partial_seed_has_and_keeps_it_no_longer(tmp_path: Path) -> None:
    made = make_torrent("t", files=(("a", 4 * PIECE), ("b", 4 * PIECE)), piece_length=PIECE)
    (tmp_path / "t.torrent").write_bytes(made.blob)
    other = Libtorrent(tmp_path / "libtorrent")
    async with running(tmp_path / "bittern") as engine:
        made.write(engine.downloads)
        (engine.downloads / "t/b").unlink()
        await engine.add(made, selection=Choice(only=("a",)))
        await engine.until(Completed)
        with other:
            other.add(tmp_path / "t.torrent", tmp_path / "data")
            await trio.to_thread.run_sync(other.wait_for, "checked")
            other.connect(engine.address.port)
            with trio.fail_after(300):
                while other.shares()[0][1] < 4 * PIECE:
                    await trio.sleep(0.05)
                # it lacks b, and knows that we shall not have it
                while other.call("peers"):
                    await trio.sleep(0.05)
