"""SIGHUP: a file that can be used is taken up as a whole, another changes nothing."""

from collections.abc import Callable
from pathlib import Path

from tests.fakes.bittern_process import Bittern
from tests.fakes.payloads import Payload


def test_reload(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    first, second, third, fourth = (payload_of(f"reload {number}", 40_000, 16384) for number in range(4))
    other = tmp_path / "other"
    other.mkdir()
    bittern = Bittern(tmp_path / "bittern")
    with bittern:
        # A fault anywhere, and nothing of the file counts: the new watch folder neither.
        good = bittern.config.read_text()
        extra = f'[[watch]]\nfolder = "{other}"\nlabel = "late"\n'
        bittern.config.write_text(f"{good}{extra}[limits]\nupload_rate = -1\n")
        bittern.reload()
        rejected = bittern.wait("config.rejected")
        assert any("limits.upload_rate" in fault for fault in rejected["faults"])
        (other / "early.torrent").write_bytes(second.blob())
        bittern.give(first)
        bittern.wait("torrent.added", info_hash=first.info_hash)
        assert not bittern.events("torrent.added", info_hash=second.info_hash)

        bittern.config.write_text(f'{good}{extra}[limits]\nupload_rate = "1 MiB"\n')
        bittern.reload()
        reloaded = bittern.wait("config.reloaded")
        assert "limits.upload_rate" in reloaded["changed"]
        assert reloaded["needs_restart"] == []
        bittern.wait("torrent.added", info_hash=second.info_hash)
        bittern.wait_told("added", 2)
        labels = {told.env["BITTERN_INFO_HASH"]: told.env["BITTERN_LABEL"] for told in bittern.told("added")}
        assert labels == {first.info_hash: "", second.info_hash: "late"}

        # What needs a restart is said so, and goes on as it was.
        bittern.config.write_text(good.replace("port = 0", "port = 1"))
        bittern.reload()
        assert bittern.wait("config.reloaded", count=2)["needs_restart"] == ["network.port"]
        bittern.give(third)
        bittern.wait("torrent.added", info_hash=third.info_hash)

        # What torrents go through is told at the level of now.
        (other / "late.torrent").write_bytes(fourth.blob())
        bittern.config.write_text(f'{good}{extra}[log]\nlevel = "error"\n')
        bittern.reload()
        bittern.wait_told("added", 4)
        assert not bittern.events("torrent.added", info_hash=fourth.info_hash)

        # A file that vanished is a fault like any other.
        bittern.config.unlink()
        bittern.reload()
        bittern.wait("config.rejected", count=2)
