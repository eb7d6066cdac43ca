"""A full disk, a folder that is gone: that torrent rests with a reason, the others go on, and it heals by itself."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.need import need
from tests.fakes.payloads import MIB, Payload, digest_of


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    need("mount", "umount", root=True)
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", disk], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_full_disk(tmp_path: Path, small_disk: Path, payload_of: Callable[..., Payload]) -> None:
    big, small = payload_of("big", 4 * MIB, 65536), payload_of("small", 100_000, 16384)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(4 * MIB))
    other = tmp_path / "other"
    other.mkdir()
    bittern = Bittern(tmp_path / "bittern", paths={"downloads": str(small_disk)})
    bittern.write_config(f'[[watch]]\nfolder = "{other}"\ndownloads = "{bittern.downloads}"\n')
    with Libtorrent(tmp_path / "seeder") as seeder, bittern:
        for payload in (big, small):
            seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        bittern.give(big)
        bittern.wait("torrent.checked")
        seeder.connect(bittern.port)
        failed = bittern.wait("torrent.failed", info_hash=big.info_hash)
        assert "space" in failed["reason"]
        assert bittern.wait_told("failed").stdin["info_hash"] == big.info_hash
        # the others go on
        (other / "small.torrent").write_bytes(small.blob())
        bittern.wait("torrent.checked", info_hash=small.info_hash)
        seeder.connect(bittern.port)
        bittern.wait("torrent.completed", info_hash=small.info_hash)
        # and it heals when the cause is gone, having told of it once
        filler.unlink()
        bittern.wait("torrent.recovered", 60, info_hash=big.info_hash)
        seeder.connect(bittern.port)
        bittern.wait("torrent.completed", 60, info_hash=big.info_hash)
        assert digest_of(small_disk / big.name) == big.digest
        assert len(bittern.events("torrent.failed")) == 1
    assert len(bittern.told("failed")) == 1


@pytest.mark.proof
def test_a_read_only_folder(
    tmp_path: Path, small_disk: Path, payload_of: Callable[..., Payload], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is connected: it is known from asking, not from a piece that cannot be written."""
    payload = payload_of("film", [300_000, 0, 200_000], 65536)
    monkeypatch.setenv("INVOCATION_ID", "as under systemd")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    bittern = Bittern(tmp_path / "bittern", paths={"downloads": str(small_disk)})
    with Libtorrent(tmp_path / "seeder") as seeder, bittern:
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        bittern.give(payload)
        failed = bittern.wait("torrent.failed", info_hash=payload.info_hash)
        assert f"ReadWritePaths={small_disk}" in failed["reason"]
        assert bittern.wait_told("failed").stdin["info_hash"] == payload.info_hash
        assert not bittern.events("torrent.checked")
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        bittern.wait("torrent.checked", 60)
        bittern.wait("torrent.recovered")
        seeder.connect(bittern.port)
        bittern.wait("torrent.completed")
        assert digest_of(small_disk / payload.name) == payload.digest
        assert len(bittern.events("torrent.failed")) == 1
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with bittern:
        assert not bittern.events("torrent.failed", this_run=True)  # what is whole needs no leave to write


def test_a_data_folder_that_is_gone(tmp_path: Path, payload_of: Callable[..., Payload]) -> None:
    payload = payload_of("gone", [300_000, 200_000], 65536)
    bittern = Bittern(tmp_path / "bittern")
    shutil.copytree(payload.folder / payload.name, bittern.downloads / payload.name)
    away = tmp_path / "away"
    with bittern:
        bittern.give(payload)
        bittern.wait("torrent.completed")
    bittern.downloads.rename(away)
    with bittern:
        failed = bittern.wait("torrent.failed", info_hash=payload.info_hash)
        assert failed["retry_in_s"] > 0
        assert not bittern.downloads.exists()  # an unmounted disk is not made anew
        away.rename(bittern.downloads)
        bittern.wait("torrent.recovered", 60)
    assert digest_of(bittern.downloads / payload.name) == payload.digest
