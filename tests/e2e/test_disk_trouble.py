"""A full disk, a folder that is gone: that torrent rests with a reason, the others go on, and it heals by itself."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.bittern_process import Bittern
from tests.fakes.clients import Libtorrent
from tests.fakes.need import need
from tests.fakes.payloads import MIB, Payload, allocated, digest_of
from tests.fakes.processes import PATIENCE_S, wait_until


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
    bittern = Bittern(
        tmp_path / "bittern", paths={"downloads": str(small_disk)}, storage={"reserve": "256 KiB"}
    )
    bittern.tables["hook"]["on"] += ["disk-low"]
    bittern.write_config(f'[[watch]]\nfolder = "{other}"\ndownloads = "{bittern.downloads}"\n')
    with Libtorrent(tmp_path / "seeder") as seeder, bittern:
        for payload in (big, small):
            seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        bittern.give(big)
        held = bittern.wait("torrent.held", info_hash=big.info_hash)
        assert 2 * MIB < held["missing_bytes"] < 3 * MIB
        bittern.wait("disk.low", path=str(small_disk))
        told = bittern.wait_told("disk-low")
        assert told.stdin["path"] == told.argv[0] == str(small_disk)
        assert told.stdin["needed_bytes"] == int(told.env["BITTERN_NEEDED_BYTES"]) > 2 * MIB
        assert told.stdin["free_bytes"] < 2 * MIB
        # the others go on
        (other / "small.torrent").write_bytes(small.blob())
        bittern.wait("torrent.checked", info_hash=small.info_hash)
        completed(bittern, seeder, small)
        # and it heals when the cause is gone, having told of it once
        filler.unlink()
        bittern.wait("torrent.released", info_hash=big.info_hash)
        bittern.wait("torrent.checked", info_hash=big.info_hash)
        bittern.wait("disk.recovered")
        completed(bittern, seeder, big)
        assert digest_of(small_disk / big.name) == big.digest
        assert not bittern.events("torrent.failed")
    assert len(bittern.told("disk-low")) == 1


@pytest.mark.proof
def test_a_read_only_folder(
    tmp_path: Path, small_disk: Path, payload_of: Callable[..., Payload], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is connected: it is known from asking, not from a piece that cannot be written."""
    payload = payload_of("film", [300_000, 0, 200_000], 65536)
    monkeypatch.setenv("INVOCATION_ID", "as under systemd")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    bittern = Bittern(tmp_path / "bittern", paths={"downloads": str(small_disk)}, storage={"reserve": 0})
    with Libtorrent(tmp_path / "seeder") as seeder, bittern:
        seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        bittern.give(payload)
        failed = bittern.wait("torrent.failed", info_hash=payload.info_hash)
        assert f"ReadWritePaths={small_disk}" in failed["reason"]
        assert bittern.wait_told("failed").stdin["info_hash"] == payload.info_hash
        assert not bittern.events("torrent.checked")
        subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
        bittern.wait("torrent.checked")
        bittern.wait("torrent.recovered")
        completed(bittern, seeder, payload)
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
        assert bittern.wait("folder.away")["torrents"] == 1
        assert not bittern.downloads.exists()  # an unmounted disk is not made anew
        away.rename(bittern.downloads)
        bittern.wait("folder.back")
        assert not bittern.events("torrent.failed")
    assert digest_of(bittern.downloads / payload.name) == payload.digest


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A mountpoint whose 64 MiB disk keeps its data while it is not mounted there."""
    need("mount", "umount", root=True)
    device, mountpoint = tmp_path / "device", tmp_path / "disk"
    for folder in (device, mountpoint):
        folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", device], check=True)
    mount(mountpoint)
    yield mountpoint
    subprocess.run(["umount", "--lazy", mountpoint], check=False, capture_output=True)
    subprocess.run(["umount", "--lazy", device], check=True)


def mount(mountpoint: Path) -> None:
    subprocess.run(["mount", "--bind", mountpoint.with_name("device"), mountpoint], check=True)


def unmount(mountpoint: Path) -> None:
    subprocess.run(["umount", "--lazy", mountpoint], check=True)


def stays_bare(bittern: Bittern, mountpoint: Path) -> None:
    """The disk is away, and a few looks later still nothing was put in its place."""
    bittern.wait("folder.away", path=str(mountpoint))
    time.sleep(5)
    assert not list(mountpoint.iterdir())
    assert not bittern.events("folder.back", this_run=True)


@pytest.mark.proof
def test_a_disk_is_filled_freed_unmounted_and_mounted_again(
    tmp_path: Path, disk: Path, payload_of: Callable[..., Payload]
) -> None:
    seeded, first = payload_of("seeded", 4 * MIB, 65536), payload_of("first", 16 * MIB, 262144)
    second, late = payload_of("second", 20 * MIB, 65536), payload_of("late", 2 * MIB, 65536)
    filler = disk / "filler"
    bittern = Bittern(
        tmp_path / "bittern",
        paths={"downloads": str(disk)},
        storage={"reserve": "4 MiB"},
        limits={"download_rate": "4 MiB"},
    )
    shutil.copy2(seeded.folder / seeded.name, disk / seeded.name)
    filler.write_bytes(bytes(46 * MIB))
    with Libtorrent(tmp_path / "seeder") as seeder:
        for payload in (first, second, late):
            seeder.add(payload.torrent(tmp_path), payload.folder)
        seeder.wait_whole()
        with bittern:
            bittern.give(seeded)
            bittern.wait("torrent.completed", info_hash=seeded.info_hash)
            # no room from the start
            bittern.give(first)
            assert bittern.wait("torrent.held", info_hash=first.info_hash)["missing_bytes"] > 5 * MIB
            filler.unlink()
            bittern.wait("torrent.checked", info_hash=first.info_hash)
            completed(bittern, seeder, first)
            bittern.wait("disk.recovered")
            # filled up in the middle, to the last byte
            bittern.give(second)
            bittern.wait("torrent.checked", info_hash=second.info_hash)
            has(bittern, seeder, disk / second.name, 2 * MIB)
            fill(filler)
            bittern.wait("torrent.held", info_hash=second.info_hash)
            filler.unlink()
            bittern.wait("torrent.released", count=2)
            has(bittern, seeder, disk / second.name, allocated(disk / second.name) + MIB)
            # unmounted in the middle
            unmount(disk)
            stays_bare(bittern, disk)
            bittern.give(late)
            bittern.wait("torrent.added", info_hash=late.info_hash)
            time.sleep(3)
            assert not list(disk.iterdir())
            mount(disk)
            assert bittern.wait("folder.back")["torrents"] == 4
            bittern.wait("torrent.checked", info_hash=late.info_hash)
            completed(bittern, seeder, second, late)
        unmount(disk)
        with bittern:
            stays_bare(bittern, disk)
            mount(disk)
            assert bittern.wait("folder.back")["torrents"] == 4
            time.sleep(3)
            assert not bittern.events("torrent.checked", this_run=True), "nothing was read again"
            assert seeds(bittern, first, tmp_path / "leecher")
    assert not bittern.events("torrent.failed")
    for payload in (seeded, first, second, late):
        assert digest_of(disk / payload.name) == payload.digest
    unmount(disk)
    assert not list(disk.iterdir())


@pytest.mark.proof
def test_a_folder_bound_to_another_of_the_same_disk_goes_and_comes_back(
    tmp_path: Path, payload_of: Callable[..., Payload]
) -> None:
    """The bare mountpoint has the number of the very device that the data is on."""
    need("mount", "umount", root=True)
    seeded, download = payload_of("seeded", MIB, 65536), payload_of("download", 12 * MIB, 65536)
    device, folder = tmp_path / "device", tmp_path / "disk"
    for made in (device, folder):
        made.mkdir()
    shutil.copy2(seeded.folder / seeded.name, device / seeded.name)
    mount(folder)
    assert folder.stat().st_dev == tmp_path.stat().st_dev
    bittern = Bittern(
        tmp_path / "bittern", paths={"downloads": str(folder)}, limits={"download_rate": "2 MiB"}
    )
    try:
        with Libtorrent(tmp_path / "seeder") as seeder:
            seeder.add(download.torrent(tmp_path), download.folder)
            seeder.wait_whole()
            with bittern:
                for payload in (seeded, download):
                    bittern.give(payload)
                bittern.wait("torrent.completed", info_hash=seeded.info_hash)
                bittern.wait("torrent.checked", info_hash=download.info_hash)
                has(bittern, seeder, folder / download.name, MIB)
                unmount(folder)
                stays_bare(bittern, folder)
            with bittern:
                stays_bare(bittern, folder)
                mount(folder)
                assert bittern.wait("folder.back")["torrents"] == 2
                completed(bittern, seeder, download)
        assert not bittern.events("torrent.failed")
        assert digest_of(folder / download.name) == download.digest
    finally:
        unmount(folder)
    assert not list(folder.iterdir())


def completed(bittern: Bittern, seeder: Libtorrent, *payloads: Payload) -> None:
    """It is dialled until it has it all: who comes too soon is sent away, and would not come again for a minute."""

    def all_told() -> bool:
        seeder.connect(bittern.port)
        done = {event["info_hash"] for event in bittern.events("torrent.completed", this_run=True)}
        return done >= {payload.info_hash for payload in payloads}

    wait_until(all_told, PATIENCE_S, "all complete", 0.2)


def has(bittern: Bittern, seeder: Libtorrent, path: Path, size: int) -> None:
    def so_much() -> bool:
        if allocated(path) > size:
            return True
        seeder.connect(bittern.port)
        return False

    wait_until(so_much, PATIENCE_S, "some of it")


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(65536)):
            pass


def seeds(bittern: Bittern, payload: Payload, folder: Path) -> bool:
    with Libtorrent(folder) as leecher:
        leecher.add(payload.torrent(folder), folder)
        leecher.connect(bittern.port)
        leecher.wait_whole()
    return digest_of(folder / payload.name) == payload.digest
